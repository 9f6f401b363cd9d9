"""What several commands share: where the configuration is, and reading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

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
    """The checked settings of ``config`` and the environment. ConfigError."""
    from bff.settings import load_settings

    return load_settings(config, os.environ)
