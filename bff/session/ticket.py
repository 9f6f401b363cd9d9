"""The ticket: all that the browser holds of its session. Two random halves and an end, sealed, always the same size."""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass, field

from bff.base.errors import SealBroken
from bff.session.cookies import CookiePolicy
from bff.session.sealing import KeyRing, join_prefixed

PURPOSE = "ticket"
HALF_BYTES = 32
TEXT_LENGTH = 140
_LAYOUT = struct.Struct(">32s32sd")


@dataclass(frozen=True, slots=True)
class Ticket:
    """``session_id`` finds the record, ``half`` is this browser's half of the record's key; ``expires_at`` epoch seconds."""

    session_id: bytes = field(repr=False)
    half: bytes = field(repr=False)
    expires_at: float

    @property
    def key(self) -> bytes:
        """What stores and logs may see: no way leads from here back to a ticket (SESS-13)."""
        return hashlib.sha256(self.session_id).digest()


def build_ticket(expires_at: float) -> Ticket:
    """A new identifier, 256 bits from the operating system (SESS-1, C7)."""
    return Ticket(secrets.token_bytes(HALF_BYTES), secrets.token_bytes(HALF_BYTES), expires_at)


def seal_ticket(ticket: Ticket, *, ring: KeyRing, cookie: CookiePolicy) -> str:
    plain = _LAYOUT.pack(ticket.session_id, ticket.half, ticket.expires_at)
    return ring.seal(PURPOSE, plain, _context(cookie))


def open_ticket(text: str, *, ring: KeyRing, cookie: CookiePolicy) -> tuple[Ticket, bool]:
    """The ticket, and whether the newest key sealed it. SealBroken."""
    if len(text) != TEXT_LENGTH:
        raise SealBroken("not the size of a ticket")
    plain, newest = ring.open(PURPOSE, text, _context(cookie))
    try:
        return Ticket(*_LAYOUT.unpack(plain)), newest
    except struct.error:
        raise SealBroken("not a ticket") from None


def _context(cookie: CookiePolicy) -> bytes:
    return join_prefixed(cookie.session_name.encode(), cookie.instance.encode())
