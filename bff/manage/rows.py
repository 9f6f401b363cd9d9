"""Session rows as administrators see them, and the search terms they may give. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bff.base.errors import BffError
from bff.session.store.port import Row

TERMS = frozenset({"session", "subject", "sid", "issuer", "after", "limit"})
MOST_ROWS = 1000
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadSearch(BffError):
    """Search terms that mean nothing; ``public`` says what is expected."""

    code = "bad_search"
    status_hint = 400


@dataclass(frozen=True, slots=True)
class Search:
    """Which sessions: one by ``key``, or all of a subject or provider sid at ``issuer``, or all (listing only)."""

    key: bytes = b""
    issuer: str = ""
    subject: str = ""
    sid: str = ""
    after: bytes = b""
    limit: int = 100

    @property
    def everything(self) -> bool:
        return not (self.key or self.subject or self.sid)


def read_search(terms: Iterable[tuple[str, str]], *, issuer: str) -> Search:
    """The search that ``terms`` ask for; ``issuer`` where they name none. BadSearch."""
    pairs = list(terms)
    given = dict(pairs)
    if len(given) < len(pairs):
        raise BadSearch(public="Each search term may be given once.")
    if unknown := sorted(set(given) - TERMS):
        raise BadSearch(public=f"Unknown search term; known are {', '.join(sorted(TERMS))}.", detail=f"{len(unknown)} unknown")
    if any(not value for value in given.values()):
        raise BadSearch(public="A search term is empty.")
    if "session" in given and len(given) > 1:
        raise BadSearch(public="session stands alone.")
    return Search(
        key=_read_key(given.get("session", "")),
        issuer=given.get("issuer", issuer),
        subject=given.get("subject", ""),
        sid=given.get("sid", ""),
        after=_read_key(given.get("after", "")),
        limit=_read_limit(given.get("limit", "100")),
    )


def _read_key(text: str) -> bytes:
    if text and not _KEY.fullmatch(text):
        raise BadSearch(public="A session is named by its key: 64 lower-case hex characters, as listed.")
    return bytes.fromhex(text)


def _read_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 0 < int(text) <= MOST_ROWS:
        raise BadSearch(public=f"limit is a number from 1 to {MOST_ROWS}.")
    return int(text)


def describe_row(row: Row, pseudonym: Callable[[str], str]) -> Mapping[str, Any]:
    """What may be known of a session without its cookie: times and its name in the logs. Never who it is."""
    return {
        "session": row.key.hex(),
        "log_name": pseudonym(row.key.hex()),
        "created_at": int(row.created_at),
        "seen_at": int(row.seen_at),
        "expires_at": int(row.expires_at),
        "version": row.version,
    }
