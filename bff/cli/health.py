"""``bff healthcheck``: for containers without curl. Imports next to nothing: it runs every few seconds."""

from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path

import click

from bff.cli.raw import Http, Unreachable, ask_unix
from bff.cli.report import CONFIG, OK, UNAVAILABLE, Stop

_DEFAULT = "127.0.0.1:9464"


@click.command()
@click.option(
    "--config", envvar="BFF_CONFIG", default="bff.toml", show_default=True, type=click.Path(path_type=Path), help="Configuration file."
)
@click.option("--live", is_flag=True, help="Ask only whether it is alive, not whether it is ready.")
def healthcheck(config: Path, live: bool) -> int:
    """Exit 0 if the running instance is ready, 69 if not."""
    listen = _find_listen(config)
    target = "/livez" if live else "/readyz"
    try:
        reply = (
            ask_unix(listen.removeprefix("unix:"), target)
            if listen.startswith("unix:")
            else Http().get(f"http://{_reachable(listen)}{target}")
        )
    except Unreachable as error:
        raise Stop(UNAVAILABLE, f"the management listener gives no answer: {error}", "look at the log of bff serve") from None
    click.echo(reply.body[:500].decode("utf-8", "replace"))
    return OK if reply.status == 200 else UNAVAILABLE


def _find_listen(config: Path) -> str:
    """manage_listen as the environment or the file has it, without loading and checking the rest."""
    if named := os.environ.get("BFF_SERVER__MANAGE_LISTEN"):
        return named
    raw: object = {}
    with contextlib.suppress(OSError, ValueError):
        raw = tomllib.loads(config.read_text(encoding="utf-8"))
    server = raw.get("server") if isinstance(raw, dict) else None
    found = server.get("manage_listen", _DEFAULT) if isinstance(server, dict) else _DEFAULT
    if not isinstance(found, str) or found.startswith("fd:"):
        raise Stop(CONFIG, "server.manage_listen cannot be reached from here", "use host:port or unix:/path")
    return found


def _reachable(listen: str) -> str:
    """An address to connect to, for one to listen on."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else listen  # noqa: S104 - compared, not bound
