"""Where values come from: TOML file < secrets directory < ``BFF_SECTION__KEY_FILE`` < ``BFF_SECTION__KEY``.

Everything is gathered as plain data with a note of its origin; nothing is validated here except that each name exists
(an ignored typo is a security setting that is off: attack C3).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from bff.settings.model import Settings
from bff.settings.values import shown

Place = tuple[str | int, ...]

OUR_OTHER_NAMES = frozenset({"BFF_CONFIG", "BFF_SECRETS_DIR", "BFF_DEBUG"})
"""Environment names that are ours without being settings."""
OTHER_PREFIXES = ("BFF_TEST_", "BFF_BENCH_")
DEFAULT_SECRETS_DIR = "/run/secrets"
LARGEST_FILE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Gathered:
    """Raw values, where each came from, and what was wrong on the way."""

    file: str
    raw: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def complain(self, where: str, key: str, what: str, fix: str) -> None:
        self.problems.append(problem(where, key, what, fix))

    def origin(self, place: Place) -> str:
        """The source of the value at ``place`` or of what holds it."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]]
        return self.file


def problem(where: str, key: str, what: str, fix: str) -> str:
    """One ready-to-print line: file or variable, key, what is wrong, how to mend it."""
    return f"{where}: {key}: {what}; fix: {fix}" if key else f"{where}: {what}; fix: {fix}"


def spell(place: Place) -> str:
    """``routes[1].upstream`` for ("routes", 1, "upstream")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The fix for an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else "remove it; docs/settings.md lists what exists"


def gather(path: Path | None, env: Mapping[str, str]) -> Gathered:
    """Read every source. Problems are collected, never raised."""
    gathered = Gathered(file=str(path) if path else "environment")
    if path is not None:
        _read_toml(gathered, path)
        if gathered.problems:
            return gathered  # what the environment adds to a file that nobody could read would only raise false alarms
    _read_secrets_dir(gathered, env)
    _read_environment(gathered, env)
    return gathered


def _read_toml(gathered: Gathered, path: Path) -> None:
    try:
        text = read_bounded(path)
    except OSError as error:
        gathered.complain(
            gathered.file, "", f"cannot be read ({error.strerror})", "name an existing file with --config, or write one with bff init"
        )
        return
    except ValueError:
        gathered.complain(gathered.file, "", "is not UTF-8 text below 1 MiB", "save it as a TOML file in UTF-8")
        return
    try:
        gathered.raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        gathered.complain(gathered.file, "", f"is not TOML: {str(error)[:120]}", "correct the line named")


def read_bounded(path: Path) -> str:
    """The text of a small file. OSError, or ValueError when it is too big or not UTF-8."""
    with path.open("rb") as stream:
        data = stream.read(LARGEST_FILE_BYTES + 1)
    if len(data) > LARGEST_FILE_BYTES:
        raise ValueError("too big")
    return data.decode()


def _read_secrets_dir(gathered: Gathered, env: Mapping[str, str]) -> None:
    """Files named ``bff_section__key`` in the secrets directory (Docker, systemd credentials)."""
    named = env.get("BFF_SECRETS_DIR") or env.get("CREDENTIALS_DIRECTORY")
    folder = Path(named or DEFAULT_SECRETS_DIR)
    try:
        files = sorted(entry for entry in folder.iterdir() if re.match(r"bff_.*__", entry.name, re.IGNORECASE))
    except OSError as error:
        if named:
            gathered.complain("BFF_SECRETS_DIR", "", f"names a directory that cannot be read ({error.strerror})", "correct or unset it")
        return
    for entry in files:
        place = _find_place(gathered, entry.name.upper())
        if place is None:
            gathered.complain(str(entry), "", "is not named after a setting", did_you_mean(entry.name.upper(), known_names(gathered)))
        else:
            _set_from_file(gathered, place, str(entry), entry)


def _read_environment(gathered: Gathered, env: Mapping[str, str]) -> None:
    values: list[tuple[Place, str]] = []
    for name in sorted(name for name in env if name.upper().startswith("BFF_")):
        if name in OUR_OTHER_NAMES or name.startswith(OTHER_PREFIXES):
            continue
        if place := _find_place(gathered, name):
            values.append((place, name))
        elif name.endswith("_FILE") and (place := _find_place(gathered, name.removesuffix("_FILE"))):
            _set_from_file(gathered, place, name, Path(env[name]))
        else:
            gathered.complain("environment", name, "is not a setting", did_you_mean(name.upper(), known_names(gathered)))
    for place, name in values:
        _set(gathered, place, name, env[name])


def _set_from_file(gathered: Gathered, place: Place, source: str, path: Path) -> None:
    try:
        text = read_bounded(path).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a small text file"
        gathered.complain(source, spell(place), f"names a file that cannot be read ({why})", "correct the path or the file's permissions")
        return
    if not text:
        gathered.complain(source, spell(place), "names an empty file", "put the value there, or unset it")
        return
    _set(gathered, place, source, text)


def _set(gathered: Gathered, place: Place, source: str, text: str) -> None:
    """Put the value of ``text``, read as the setting's type wants it, at ``place``."""
    try:
        value = _read_text(_annotation(place), text)
    except ValueError as error:
        gathered.complain(source, spell(place), f"cannot be used: {error}", "write it as docs/settings.md says")
        return
    holder: Any = gathered.raw
    for index, part in enumerate(place[:-1]):
        holder = _descend(holder, part, place[index + 1])
        if holder is None:
            gathered.complain(
                source, spell(place), "has nothing to belong to", "number routes from 0 without a gap, after those in the file"
            )
            return
    holder[place[-1]] = value
    gathered.origins[place] = source


def _descend(holder: Any, part: str | int, following: str | int) -> Any:
    fresh: Any = [] if isinstance(following, int) else {}
    if isinstance(part, int):
        if not isinstance(holder, list) or part > len(holder):
            return None
        if part == len(holder):
            holder.append(fresh)
        found = holder[part]
    else:
        found = holder.setdefault(part, fresh)
    return found if isinstance(found, type(fresh)) else None


# --- names ---------------------------------------------------------------------------------------------------------


def _find_place(gathered: Gathered, name: str) -> Place | None:
    """("routes", 0, "upstream") for BFF_ROUTES__0__UPSTREAM; None when no setting has that name."""
    parts = name.removeprefix("BFF_").split("__")
    place: list[str | int] = []
    model: Any = Settings
    for part in parts:
        element = _element(model)
        if element is not None and part.isascii() and part.isdigit() and len(part) <= 4:
            place.append(int(part))
            model = element
            continue
        field_name = part.lower()
        fields = _fields(model)
        if part != part.upper() or field_name not in fields:
            return None
        place.append(field_name)
        model = fields[field_name]
    whole_section = _fields(model) and len(place) == 1
    return None if whole_section else tuple(place)


def known_names(gathered: Gathered) -> list[str]:
    """Every environment name that means something, for suggestions."""
    names = [f"BFF_{section}__{key}" for section, annotation in _fields(Settings).items() for key in _fields(annotation)]
    routes = gathered.raw.get("routes")
    count = len(routes) if isinstance(routes, list) else 0
    element = _element(_fields(Settings)["routes"])
    names += [f"BFF_routes__{index}__{key}" for index in range(count + 1) for key in _fields(element)]
    names += [f"{name}_file" for name in names]
    return sorted({name.upper() for name in names} | OUR_OTHER_NAMES)


def known_keys(place: Place) -> list[str]:
    """The keys that exist where ``place`` points."""
    return sorted(_fields(_annotation(place)))


def _annotation(place: Place) -> Any:
    annotation: Any = Settings
    for part in place:
        annotation = _element(annotation) if isinstance(part, int) else _fields(annotation).get(part)
    return annotation


def _unwrap(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (types.UnionType, Union):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return _unwrap(kinds[0])
    return annotation


def _fields(annotation: Any) -> dict[str, Any]:
    model = _unwrap(annotation)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {name: info.annotation for name, info in model.model_fields.items()}
    return {}


def _element(annotation: Any) -> Any:
    kind = _unwrap(annotation)
    return get_args(kind)[0] if get_origin(kind) is tuple else None


# --- environment text as values ------------------------------------------------------------------------------------


def _read_text(annotation: Any, text: str) -> Any:
    kind = _unwrap(annotation)
    if kind is bool:
        return _read_bool(text)
    if kind is int and re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        return int(text)
    if get_origin(kind) is tuple:
        return _read_list(kind, text)
    if get_origin(kind) is dict or _fields(kind):
        return _read_json(text, dict)
    return text


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{shown(text)} is neither true nor false")
    return text == "true"


def _read_list(kind: Any, text: str) -> Sequence[Any]:
    if text.startswith("["):
        items: Sequence[Any] = _read_json(text, list)
        return items
    if _fields(_element(kind)):
        raise ValueError("it is not a JSON array")
    return [item.strip() for item in text.split(",")] if text else []


def _read_json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"it is not a JSON {'object' if kind is dict else 'array'}")
    return value
