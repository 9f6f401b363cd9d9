"""The ``bff`` command and its subcommands that run, check and describe; the others are in their own files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bff import __version__
from bff.cli.report import CONFIG, OK, TEMPORARY, USAGE, guarded, say_error, say_problem

if TYPE_CHECKING:
    from bff.settings import Settings

config_option = click.option(
    "--config",
    "config",
    envvar="BFF_CONFIG",
    default="bff.toml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Configuration file; also BFF_CONFIG.",
)


def load(config: Path) -> Settings:
    """The checked settings of ``config`` and the environment."""
    from bff.settings import load_settings

    return load_settings(config, os.environ)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bff")
@click.option("--debug", is_flag=True, envvar="BFF_DEBUG", help="Show the traceback of an unexpected error.")
def cli(debug: bool) -> None:
    """The token handler for browser apps: sign-in, sessions and tokens on the server, an opaque cookie in the browser."""


@cli.command()
@config_option
@click.option("--check", "check_only", is_flag=True, help="Check the configuration and stop.")
def serve(config: Path, check_only: bool) -> int:
    """Run it."""
    if check_only:
        return _check(config)
    settings = load(config)
    from bff.serve import run

    return run(settings, config)


@cli.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port of the app on localhost.")
@click.option("--once", is_flag=True, help="Walk through login, call, refresh and logout without a browser; exit 0 only if all hold.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def demo(port: int, once: bool, no_browser: bool) -> int:
    """Development provider, example API, app and BFF on loopback; no set-up."""
    from bff.demo import run

    return run(port=port, once=once, open_browser=not no_browser)


@cli.command()
@config_option
def check(config: Path) -> int:
    """Tell all problems of the configuration at once, offline."""
    return _check(config)


def _check(config: Path) -> int:
    from bff.settings import find_warnings

    settings = load(config)
    warnings = find_warnings(settings)
    for line in warnings:
        what, _, fix = line.rpartition("; fix: ")
        click.echo(f"warn  {what}\n      fix: {fix}", err=True)
    click.echo(f"ok    {config}: {len(settings.routes)} routes, {len(warnings)} warnings")
    return OK


@cli.command()
def schema() -> int:
    """Print the JSON Schema of the configuration."""
    from bff.settings.reference import schema_text

    click.echo(schema_text())
    return OK


def run(arguments: Sequence[str]) -> int:
    """The whole program: parse ``arguments``, run the command, return its exit code. Never raises."""
    debug = "--debug" in arguments or bool(os.environ.get("BFF_DEBUG"))
    return guarded(lambda: _invoke(arguments), debug=debug)


def _invoke(arguments: Sequence[str]) -> int:
    outcome = cli.main(args=list(arguments), prog_name="bff", standalone_mode=False)
    return outcome if isinstance(outcome, int) else OK


__all__ = ["CONFIG", "OK", "TEMPORARY", "USAGE", "cli", "config_option", "load", "run", "say_error", "say_problem"]
