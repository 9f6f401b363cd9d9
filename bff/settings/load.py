"""``load_settings``: every source read, every value checked, every problem told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bff.base.errors import ConfigError
from bff.base.secret import Secret
from bff.settings import checks
from bff.settings.model import Provider, Settings
from bff.settings.sources import Gathered, Place, did_you_mean, gather, known_keys, problem, read_bounded, spell

_PATH_KEYS = (
    "tls_cert_file",
    "tls_key_file",
    "client_secret_file",
    "private_key_file",
    "client_cert_file",
    "client_key_file",
    "ca_file",
    "keys_file",
)

_DEFAULT_FILES = {"store": "sqlite:sessions.db", "keys_file": "keys.json"}


def load_settings(path: Path | None, env: Mapping[str, str]) -> Settings:
    """The settings of ``path`` (None: environment alone) and ``env``, completely checked offline.

    Raises ConfigError whose ``problems`` are lines such as ``bff.toml: routes[1].upstream: …; fix: …``. Relative
    paths are resolved against the folder of ``path``. Nothing is started, nothing is written, no network is touched.
    """
    gathered = gather(path, env)
    if path is not None and not gathered.raw and gathered.problems:
        raise ConfigError(*gathered.problems)
    base = path.resolve().parent if path else Path.cwd()
    raw = _tuples(_with_paths(gathered.raw, base))
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        gathered.problems += _explain(gathered, raw, error)
        raise ConfigError(*gathered.problems) from None
    settings = _with_secret(gathered, settings)
    gathered.problems += _cross_check(gathered, settings)
    if gathered.problems:
        raise ConfigError(*gathered.problems)
    return settings


def _cross_check(gathered: Gathered, settings: Settings) -> list[str]:
    return [problem(gathered.origin(found.place), spell(found.place), found.what, found.fix) for found in checks.check(settings)]


def _explain(gathered: Gathered, raw: dict[str, Any], error: ValidationError) -> list[str]:
    """Every field's problem, and the cross-checks of what is left once the broken fields are set aside."""
    details = list(_each_key(error.errors(include_url=False, include_input=False)))
    lines = {_place(found): _translate(gathered, found) for found in details}
    kept: Any = raw
    for found in details:
        stand_in = _STAND_INS.get(_place(found)) if found["type"] != "extra_forbidden" else None
        kept = _without(kept, _place(found), stand_in)
    try:
        settings = Settings.model_validate(kept)
    except ValidationError:
        return list(lines.values())
    more = [found for found in checks.check(settings) if not any(broken[: len(found.place)] == found.place for broken in lines)]
    return [*lines.values(), *(problem(gathered.origin(found.place), spell(found.place), found.what, found.fix) for found in more)]


def _each_key(details: Iterable[ErrorDetails]) -> Iterator[ErrorDetails]:
    """A section that is missing as what is required of it: a section is no setting and has no environment variable."""
    for found in details:
        place = _place(found)
        missing: Any = Settings.model_fields[spell(place)].annotation if len(place) == 1 and found["type"] == "missing" else None
        if missing is None:
            yield found
            continue
        for key in (key for key, field in missing.model_fields.items() if field.is_required()):
            yield {**found, "loc": (*place, key)}


_STAND_INS: dict[Place, str] = {
    ("server", "public_origin"): "https://unknown.invalid",
    ("provider", "issuer"): "https://unknown-provider.invalid",
    ("provider", "client_id"): "unknown",
}


def _without(value: Any, place: Place, stand_in: str | None) -> Any:
    """A copy of ``value`` without what is at ``place``, or with ``stand_in`` there."""
    first, rest = place[0], place[1:]
    if isinstance(value, tuple) and isinstance(first, int) and first < len(value):
        middle = (_without(value[first], rest, stand_in),) if rest else ()
        return (*value[:first], *middle, *value[first + 1 :])
    if not isinstance(value, dict):
        return value
    if rest:
        return {**value, first: _without(value.get(first, {}), rest, stand_in)}
    others = {key: item for key, item in value.items() if key != first}
    return others if stand_in is None else {**others, first: stand_in}


def _with_secret(gathered: Gathered, settings: Settings) -> Settings:
    """``settings`` with the content of ``client_secret_file`` in ``client_secret`` (C3: never silently without it)."""
    name = settings.provider.client_secret_file
    if not name:
        return settings
    if settings.provider.client_secret:
        _complain(gathered, "client_secret_file", "is given beside client_secret", "keep one of them")
        return settings
    try:
        text = read_bounded(Path(name)).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a small text file"
        # The whole path: a relative one starts at the configuration's folder, which surprises in an environment variable.
        what = f"names {name}, a file that cannot be read ({why})"
        fix = "correct its owner or mode" if isinstance(error, PermissionError) else "correct the path or the file's permissions"
        _complain(gathered, "client_secret_file", what, fix)
        return settings
    if not text or any(char < " " for char in text):
        _complain(gathered, "client_secret_file", "names a file that does not hold one line", "put the secret there, alone")
        return settings
    provider: Provider = settings.provider.model_copy(update={"client_secret": Secret(text)})
    return settings.model_copy(update={"provider": provider})


def _complain(gathered: Gathered, key: str, what: str, fix: str) -> None:
    place: Place = ("provider", key)
    gathered.complain(gathered.origin(place), spell(place), what, fix)


def _with_paths(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """A copy of ``raw`` with relative file names made absolute, those of the defaults too."""
    session = raw.get("session", {})
    if isinstance(session, dict):
        raw = {**raw, "session": {**_DEFAULT_FILES, **session}}
    return {section: _resolved(section, table, base) for section, table in raw.items()}


def _resolved(section: str, value: Any, base: Path) -> Any:
    if isinstance(value, list):
        return [_resolved(section, item, base) for item in value]
    if not isinstance(value, dict):
        return value
    done = dict(value)
    for key in _PATH_KEYS + (("directory",) if section == "spa" else ()):
        if isinstance(done.get(key), str) and done[key]:
            done[key] = str(base / done[key])
    if section == "session" and isinstance(done.get("store"), str):
        done["store"] = _resolved_store(done["store"], base)
    return done


def _resolved_store(store: str, base: Path) -> str:
    """``sqlite:name`` as an absolute path beside the file; anything else stays as written."""
    name = store.removeprefix("sqlite:")
    return f"sqlite://{base / name}" if name != store and name and not name.startswith("/") else store


def _tuples(value: Any) -> Any:
    """Lists as tuples all the way down: the models are strict and frozen."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def _place(details: ErrorDetails) -> Place:
    return tuple(part for part in details["loc"] if part != "[key]")


def _translate(gathered: Gathered, details: ErrorDetails) -> str:
    """pydantic's finding as our line. The input is never repeated: it may be a secret (PRIV-1)."""
    place = _place(details)
    context = details.get("ctx", {})
    kind = details["type"]
    if kind == "bff":
        what, fix = context["what"], context["fix"]
    elif kind == "missing":
        what, fix = "is required", f"set it, or BFF_{'__'.join(map(str, place)).upper()}"
    elif kind == "extra_forbidden":
        what, fix = "is not a setting", did_you_mean(str(place[-1]), known_keys(place[:-1]))
    elif kind == "literal_error":
        what, fix = "is not one of the choices", f"use {context['expected']}"
    elif kind in ("greater_than_equal", "less_than_equal"):
        what, fix = "is out of range", f"use a number {'from' if 'ge' in context else 'up to'} {context.get('ge', context.get('le'))}"
    elif kind in ("string_too_short", "too_short"):
        what, fix = "is empty", "put a value there"
    else:
        what, fix = _MESSAGES.get(kind, ("cannot be used", "write it as docs/settings.md says"))
    return problem(gathered.origin(place), spell(place), what, fix)


_MESSAGES = {
    "bool_type": ("is neither true nor false", "write true or false, without quotes"),
    "int_type": ("is not a whole number", "write a whole number, without quotes"),
    "string_type": ("is not text", 'write it in quotes: "..."'),
    "tuple_type": ("is not a list", 'write a list: ["a", "b"]'),
    "dict_type": ("is not a table", "write a table: { name = ... }"),
    "model_type": ("is not a section", "write it as a [section] with keys"),
}
