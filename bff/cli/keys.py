"""``bff keys``: the key ring file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from bff.cli.files import PRIVATE, replace, write_new
from bff.cli.report import OK, USAGE, Stop


@click.group()
def keys() -> None:
    """The key ring: seals cookies and records. Whoever has it and the store still can't open a session without its cookie."""


@keys.command()
@click.option("--output", default="keys.json", show_default=True, help='File to write (mode 0600), or "-" to print.')
@click.option("--force", is_flag=True, help="Replace an existing file. Everybody is signed out.")
def new(output: str, force: bool) -> int:
    """Write a new key ring."""
    from bff.session.sealing import KeyRing

    text = KeyRing.generate().to_json()
    if output == "-":
        click.echo(text, nl=False)
        return OK
    write_new(Path(output), text, mode=PRIVATE, force=force)
    click.echo(f"wrote {output} (mode 0600); keep it in your secret store, never in an image or a repository")
    return OK


@keys.command()
@click.option("--file", "path", default="keys.json", show_default=True, type=click.Path(path_type=Path), help="The key ring file.")
@click.option(
    "--drop-older", default="", metavar="DURATION", help='Also remove keys older than this, such as "30d". Longer than session.max.'
)
def rotate(path: Path, drop_older: str) -> int:
    """Put a new key in front; the old ones still open, so nobody is signed out."""
    from bff.session.sealing import KeyRing
    from bff.settings.values import Unusable, read_duration

    try:
        dropped_before = time.time() - read_duration(drop_older) if drop_older else 0.0
    except Unusable as error:
        raise Stop(USAGE, f"--drop-older {error.what}", error.fix) from None
    ring = KeyRing.from_json(path.read_text(encoding="utf-8"))
    if drop_older:
        ring = ring.without_older(dropped_before)
    replace(path, ring.rotated().to_json(), mode=path.stat().st_mode & 0o777)
    click.echo(f"{path} has a new key in front; now send SIGHUP to every instance, after all of them have the file")
    return OK
