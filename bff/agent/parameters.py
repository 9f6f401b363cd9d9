"""What a browser may say in the query of login and callback: read strictly, before anything else looks at it.

Pure. A wrong query is a ``ParameterError``; nothing in it is repaired and nothing in it is echoed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from bff.policy.return_path import safe_return

Pairs = Sequence[tuple[str, str]]

MAX_RETURN_CHARS = 1024

_MAX_FIELDS = 32
_PROMPTS = frozenset({"none", "login", "consent", "select_account", "create"})
_NUMBER = re.compile(r"[0-9]{1,9}")
_LOCALES = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*( [A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*){0,9}")
_HINT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_KNOWN = frozenset({"return_to", "acr_values", "max_age", "prompt", "login_hint", "ui_locales", "scope"})


class ParameterError(ValueError):
    """A query we will not act on. ``name`` is the parameter, one of ours; ``reason`` a sentence that may be shown."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LoginWish:
    """What a page asked of a login, all of it allowed. ``return_to`` is a safe same-origin path."""

    return_to: str
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    prompt: str = ""
    login_hint: str = ""
    ui_locales: str = ""
    scopes: tuple[str, ...] = ()

    @property
    def step_up(self) -> bool:
        return bool(self.acr_values) or self.max_age is not None or bool(self.scopes)


def read_query(query: str | None) -> Pairs:
    """The query as pairs, order kept. ParameterError for more fields than anything needs, or for broken UTF-8 (L8)."""
    try:
        return parse_qsl(query or "", keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise ParameterError("query", "The address holds a query that cannot be read.") from None


def find_repeated(pairs: Pairs) -> str | None:
    """The first name that comes twice: whoever takes the last value and whoever takes the first would see two requests."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None


def read_login(
    query: str | None, *, prefix: str, default_return: str, acr_values: Iterable[str], optional_scopes: frozenset[str]
) -> LoginWish:
    """Read /login's query against the allow-list (AUTHZ-8, STEPUP-3). An unsafe ``return_to`` becomes the default (REDIR-2)."""
    pairs = read_query(query)
    repeated = find_repeated(pairs)
    if repeated is not None:
        raise ParameterError(repeated if repeated in _KNOWN else "query", "A parameter is given twice.")
    given = dict(pairs)
    if not given.keys() <= _KNOWN:
        raise ParameterError("query", "The address holds a parameter that a login does not take.")
    return LoginWish(
        return_to=_read_return(given.get("return_to"), prefix, default_return),
        acr_values=_read_words("acr_values", given.get("acr_values"), frozenset(acr_values)),
        max_age=_read_max_age(given.get("max_age")),
        prompt=_read_prompt(given.get("prompt")),
        login_hint=_read_matching("login_hint", given.get("login_hint"), _HINT),
        ui_locales=_read_matching("ui_locales", given.get("ui_locales"), _LOCALES),
        scopes=_read_words("scope", given.get("scope"), optional_scopes),
    )


def _read_return(value: str | None, prefix: str, default: str) -> str:
    # Judged whole: a value that is cut first and judged then is how R4 happened. It must also fit its cookie.
    if value is not None and len(value) > MAX_RETURN_CHARS:
        raise ParameterError("return_to", "return_to is too long.")
    return safe_return(value, prefix=prefix) or default


def _read_words(name: str, value: str | None, allowed: frozenset[str]) -> tuple[str, ...]:
    words = tuple((value or "").split(" ")) if value else ()
    if not allowed.issuperset(words):
        raise ParameterError(name, f"{name} holds a value that is not configured here.")
    return words


def _read_max_age(value: str | None) -> int | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise ParameterError("max_age", "max_age must be a whole number of seconds.")
    return int(value)


def _read_prompt(value: str | None) -> str:
    words = (value or "").split(" ") if value else []
    if not _PROMPTS.issuperset(words) or ("none" in words and len(words) > 1):
        raise ParameterError("prompt", "prompt must be none, or some of login, consent, select_account and create.")
    return " ".join(words)


def _read_matching(name: str, value: str | None, pattern: re.Pattern[str]) -> str:
    if value is None:
        return ""
    if not pattern.fullmatch(value):
        raise ParameterError(name, f"{name} cannot be used.")
    return value
