"""``bff keys``: the key ring file."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bff.base.errors import ConfigError
from bff.cli.files import PRIVATE, replace, write_new
from bff.cli.report import CONFIG, OK, USAGE, Stop, counted

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
    chosen = config or _default_config()
    session = _read_session(chosen, needed=config is not None)
    return Path("keys.json") if session is None else _named_ring(chosen, session)


def _default_config() -> Path:
    return Path(os.environ.get("BFF_CONFIG", "bff.toml"))


def _read_session(chosen: Path, *, needed: bool) -> dict[str, Any] | None:
    """The section of that configuration; None where there is no file that can be read, or Stop if it is needed."""
    try:
        session = tomllib.loads(chosen.read_text(encoding="utf-8")).get("session", {})
    except (OSError, ValueError) as error:
        if needed:
            raise Stop(USAGE, f"{chosen} cannot be read ({error})", "name the key ring file itself: bff keys new PATH") from None
        return None
    return session if isinstance(session, dict) else {}


def _named_ring(chosen: Path, session: Mapping[str, Any]) -> Path:
    return chosen.parent / str(session.get("keys_file", "keys.json"))


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
    "--drop-older",
    default="",
    metavar="DURATION",
    help='Also remove keys that have not sealed for this long, such as "30d". At least session.max: whoever they know is signed out.',
)
@click.option(
    "--after",
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="When the new key begins to seal. Every instance must have read it by then, or it knows nobody whom the others have sealed anew.",
)
def rotate(path: Path | None, named: Path | None, config: Path | None, drop_older: str, after: str) -> int:
    """Put a new key in front; the old ones still open, so nobody is signed out.

    In an emergency --after 0s seals with it at once. A key of an earlier rotation whose time would come later than the new one's
    stands back: it still opens, but it will not seal.
    """
    dropped_s = _read_option("--drop-older", drop_older) if drop_older else 0.0
    seals_from = time.time() + _read_option("--after", after)
    target = find_ring_file(path, named, config)
    ring = _read_ring(target)
    removed = 0
    if drop_older:
        _check_drop(dropped_s, target, config)
        kept = ring.without_older(ring.sealer_at(time.time() - dropped_s).created_at)
        removed = len(ring.kids) - len(kept.kids)
        ring = kept
    waiting = ring.begins_after(seals_from)
    text = ring.rotated(now=seals_from).to_json()
    _read_back(target, text)
    replace(target, text, mode=target.stat().st_mode & 0o777)
    begins = time.strftime("%H:%M:%S", time.gmtime(seals_from))
    click.echo(f"{target} has a new key in front, which seals from {begins} UTC on; by then give every instance the file and SIGHUP")
    for kid in waiting:
        click.echo(f"key {kid} had not begun to seal and stands back: it still opens, but it will not seal")
    if drop_older:
        click.echo(f"{counted(removed, 'old key')} removed, {counted(len(ring.kids), 'old key')} kept")
    return OK


def _check_drop(dropped_s: float, target: Path, config: Path | None) -> None:
    """Stop where the configuration is known and sessions live longer than the keys that open them would."""
    from bff.settings.model import Session
    from bff.settings.values import Unusable, read_duration

    chosen = config or _default_config()
    session = _read_session(chosen, needed=config is not None)
    if session is None or (config is None and _named_ring(chosen, session).resolve() != target.resolve()):
        return
    try:
        longest = read_duration(os.environ.get("BFF_SESSION__MAX") or session.get("max", Session.model_fields["max"].default))
    except Unusable as error:
        raise Stop(CONFIG, f"{chosen}: session.max: {error.what}", error.fix) from None
    if dropped_s < longest:
        raise Stop(
            USAGE,
            f"--drop-older is shorter than session.max in {chosen}: people whose sessions are sealed with those keys would be signed out",
            f"use at least {longest:.0f}s; to sign everybody out: bff keys new --force",
        )


def _read_back(target: Path, text: str) -> None:
    """Stop before a file that every instance would refuse takes the place of one that works."""
    from bff.session.sealing import KeyRing

    try:
        KeyRing.from_json(text)
    except ConfigError as error:
        what = f"the new key ring could not be read again and {target} is as it was: {'; '.join(error.problems)}"
        raise Stop(CONFIG, what, "restore the file from your secret store and rotate that one") from None


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
        may_not = isinstance(error, PermissionError)
        fix = "correct its owner or mode, or run this as its owner" if may_not else "name the key ring file, or write one with bff keys new"
        raise Stop(CONFIG, f"{path.absolute()} cannot be read ({error.strerror or type(error).__name__})", fix) from None
    except (UnicodeDecodeError, ConfigError) as error:
        what = "; ".join(error.problems) if isinstance(error, ConfigError) else "it is not text"
        fix = "restore it from your secret store; bff keys new signs everybody out"
        raise Stop(CONFIG, f"{path} is not a key ring: {what}", fix) from None
