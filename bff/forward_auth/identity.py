"""Claims as header values, for APIs that want them beside the token. Only a validated session speaks here (H9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from bff.policy.target import claim_values
from bff.session.model import Session

MAX_VALUE_BYTES: Final = 2048
_PLAIN: Final = "!#$&'()*+-./:;<=>?@[]^_`{|}~ "
"""Printable ASCII without ``%`` (which escapes), ``,`` (which divides) and the two that quote."""

Identity = tuple[tuple[str, bytes], ...]


def build_identity(headers: Sequence[tuple[str, str]], session: Session | None) -> Identity:
    """A value for each ``(header, claim)``, empty where the session has none: all of them, always (H4).

    Several values are joined by commas. Commas, quotes, percent signs, control characters and everything outside ASCII are
    percent-encoded as UTF-8, so that no claim can add a value or a line (H13). What would be too long for a header is left out whole.
    """
    return tuple((name, b"" if session is None else _spell(claim, session)) for name, claim in headers)


def _spell(claim: str, session: Session) -> bytes:
    value = {"sub": session.subject, "iss": session.issuer, "sid": session.sid, "acr": session.acr}.get(claim) or session.claims.get(claim)
    spelled = ",".join(_escape(item) for item in claim_values(value))
    return spelled.encode("ascii") if len(spelled) <= MAX_VALUE_BYTES else b""


def _escape(text: str) -> str:
    inner = quote(text, safe=_PLAIN, errors="replace")
    stripped = inner.strip(" ")
    return inner if stripped == inner else quote(text, safe=_PLAIN.replace(" ", ""), errors="replace")
