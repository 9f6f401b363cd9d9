"""``bff keys``: the key ring file."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bff.base.errors import ConfigError
from bff.cli.files import PRIVATE, replace, write_new
from bff.cli.report import CONFIG, OK, USAGE, Stop

if TYPE_CHECKING:
    from bff.session.sealing import KeyRing


@click.group()
def keys() -> None:
    """The key ring: seals cookies and records. Whoever has it and the store still can't open a session without its cookie."""


path_argument = click.argument("path", required=False, type=click.Path(path_type=Path))
file_option = click.option("--output", "--file", "named", type=click.Path(path_type=Path), help="The key ring file; the same as PATH.")
config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="Take the file that session.keys_file of this configuration names. [default: bff.toml where there is one, else keys.json]",
)


def find_ring_file(path: Path | None, named: Path | None, config: Path | None) -> Path:
    """The file that is meant: named outright, or by the configuration. Read leniently: the keys may be all that it lacks."""
    if path or named:
        return path or named or Path()
    chosen = config or Path(os.environ.get("BFF_CONFIG", "bff.toml"))
    try:
        session = tomllib.loads(chosen.read_text(encoding="utf-8")).get("session", {})
    except (OSError, ValueError) as error:
        if config is not None:
            raise Stop(USAGE, f"{config} cannot be read ({error})", "name the key ring file itself: bff keys new PATH") from None
        return Path("keys.json")
    name = session.get("keys_file", "keys.json") if isinstance(session, dict) else "keys.json"
    return chosen.parent / str(name)


@keys.command()
@path_argument
@file_option
@config_option
@click.option("--force", is_flag=True, help="Replace an existing file. Everybody is signed out.")
def new(path: Path | None, named: Path | None, config: Path | None, force: bool) -> int:
    """Write a new key ring (mode 0600); PATH "-" prints it."""
    from bff.session.sealing import KeyRing

    target = find_ring_file(path, named, config)
    text = KeyRing.generate().to_json()
    if str(target) == "-":
        click.echo(text, nl=False)
        return OK
    write_new(target, text, mode=PRIVATE, force=force)
    click.echo(f"wrote {target} (mode 0600); keep it in your secret store, never in an image or a repository")
    return OK


@keys.command()
@path_argument
@file_option
@config_option
@click.option(
    "--drop-older", default="", metavar="DURATION", help='Also remove keys older than this, such as "30d". Longer than session.max.'
)
@click.option(
    "--after",
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="When the new key begins to seal. Every instance must have read it by then, or it knows nobody whom the others have sealed anew.",
)
def rotate(path: Path | None, named: Path | None, config: Path | None, drop_older: str, after: str) -> int:
    """Put a new key in front; the old ones still open, so nobody is signed out."""
    dropped_before = time.time() - _read_option("--drop-older", drop_older) if drop_older else 0.0
    seals_from = time.time() + _read_option("--after", after)
    target = find_ring_file(path, named, config)
    ring = _read_ring(target)
    if drop_older:
        ring = ring.without_older(dropped_before)
    replace(target, ring.rotated(now=seals_from).to_json(), mode=target.stat().st_mode & 0o777)
    begins = time.strftime("%H:%M:%S", time.gmtime(seals_from))
    click.echo(f"{target} has a new key in front, which seals from {begins} UTC on; by then give every instance the file and SIGHUP")
    return OK


def _read_option(name: str, text: str) -> float:
    from bff.settings.values import Unusable, read_duration

    try:
        return read_duration(text)
    except Unusable as error:
        raise Stop(USAGE, f"{name} {error.what}", error.fix) from None


def _read_ring(path: Path) -> KeyRing:
    """The ring in ``path``. Stop (78) where there is none that can be read: trying again later would not help."""
    from bff.session.sealing import KeyRing

    try:
        return KeyRing.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        fix = "name the key ring file, or write one with bff keys new"
        raise Stop(CONFIG, f"{path} cannot be read ({error.strerror or type(error).__name__})", fix) from None
    except (UnicodeDecodeError, ConfigError) as error:
        what = "; ".join(error.problems) if isinstance(error, ConfigError) else "it is not text"
        fix = "restore it from your secret store; bff keys new signs everybody out"
        raise Stop(CONFIG, f"{path} is not a key ring: {what}", fix) from None
