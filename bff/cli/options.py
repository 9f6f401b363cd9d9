"""What several commands share: where the configuration is, and reading it."""

from __future__ import annotations

import os
import sys
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


def started_as() -> str:
    """What to type for ``bff`` here, as far as that can be known: from a clone it is dev.py, which tells us."""
    module = Path(sys.argv[0]).parts[-2:] == ("bff", "__main__.py")
    return os.environ.get("DEV_STARTED_AS") or (f"{Path(sys.executable).name} -m bff" if module else "bff")
