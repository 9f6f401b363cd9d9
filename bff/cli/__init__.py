"""The command line. Commands import what they need when they run: ``bff healthcheck`` stays small."""

from bff.cli.main import run

__all__ = ["run"]
