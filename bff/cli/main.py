"""The ``bff`` command and its subcommands that run, check and describe; the others are in their own files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bff import __version__
from bff.cli.doctor import doctor
from bff.cli.front_proxy import front_proxy
from bff.cli.health import healthcheck
from bff.cli.init import init
from bff.cli.keys import keys
from bff.cli.options import config_option, load
from bff.cli.report import OK, counted, guarded
from bff.cli.sessions import sessions

if TYPE_CHECKING:
    from bff.settings import Settings


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
    _warn(settings, config)
    from bff.serve import run

    return run(settings, config)


@cli.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port of the app on localhost.")
@click.option("--once", is_flag=True, help="Walk through login, call, refresh and logout without a browser; exit 0 only if all hold.")
@click.option("--open", "open_browser", is_flag=True, help="Open a browser.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 16), help="Worker processes.")
@click.option("--verbose", is_flag=True, help="Show the log of every part.")
def demo(port: int, once: bool, open_browser: bool, workers: int, verbose: bool) -> int:
    """Development provider, example API, app and BFF on loopback; no set-up."""
    from bff.demo import run

    return run(port=port, once=once, open_browser=open_browser, workers=workers, verbose=verbose)


@cli.command()
@config_option
def check(config: Path) -> int:
    """Tell all problems of the configuration at once, offline."""
    return _check(config)


def _check(config: Path) -> int:
    settings = load(config)
    warnings = _warn(settings, config)
    click.echo(f"ok    {config}: {counted(len(settings.routes), 'route')}, {counted(warnings, 'warning')}")
    return OK


def _warn(settings: Settings, config: Path) -> int:
    """Say what is allowed and unwise, dangerous switches among it; how many."""
    from bff.settings import find_warnings
    from bff.settings.files import find_config_warnings

    warnings = [*find_warnings(settings), *find_config_warnings(config)]
    for line in warnings:
        what, _, fix = line.rpartition("; fix: ")
        click.echo(f"warn  {what}\n      fix: {fix}", err=True)
    return len(warnings)


@cli.command()
def schema() -> int:
    """Print the JSON Schema of the configuration."""
    from bff.settings.reference import schema_text

    click.echo(schema_text())
    return OK


for command in (init, doctor, keys, sessions, healthcheck, front_proxy):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """The whole program: parse ``arguments``, run the command, return its exit code. Never raises."""
    debug = "--debug" in arguments or bool(os.environ.get("BFF_DEBUG"))
    return guarded(lambda: _invoke(arguments), debug=debug)


def _invoke(arguments: Sequence[str]) -> int:
    outcome = cli.main(args=list(arguments), prog_name="bff", standalone_mode=False)
    return outcome if isinstance(outcome, int) else OK
