"""The session as the rest of the program sees it: opened, frozen, without a way to reach its seal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from bff.base.secret import Secret

TokenKind = Literal["user", "client", "user_or_client", "user_or_none", "none"]
"""What goes out with a call: the session's token, the client's own, or none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The access token held for one audience ("" is the login's own). ``issued_at`` and ``expires_at`` in epoch seconds."""

    access_token: Secret
    expires_at: float
    scopes: frozenset[str]
    token_type: str = "Bearer"  # noqa: S105
    issued_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser. A change makes a new value with a higher ``version``.

    ``key`` is SHA-256 of the session id: what stores, logs and administrators may see. ``expires_at`` is absolute and
    never moves (SESS-5). ``claims`` holds only the allow-listed ones (PRIV-2).
    """

    key: bytes
    version: int
    issuer: str
    subject: str
    created_at: float
    expires_at: float
    sid: str = ""
    acr: str = ""
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    refresh_token: Secret = field(default_factory=lambda: Secret(""))
    id_token: Secret = field(default_factory=lambda: Secret(""))


class EndReason(Enum):
    LOGOUT = "logout"
    BACKCHANNEL = "backchannel_logout"
    ADMINISTRATOR = "administrator"
    IDLE = "idle"
    EXPIRED = "expired"
    REVOKED = "grant_revoked"
    REPLACED = "replaced"
    IDENTITY_CHANGED = "identity_changed"
    ELSEWHERE = "ended_elsewhere"
    """Another worker ended it and the store does not say why."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Live:
    """A session held in a worker's first-level cache: the one mutable thing about it. Owner: the Keeper.

    ``session`` is replaced when the record changes and None once it has ended; the hot path remembers the ``Session``
    it judged and compares by identity, so any change sends the next request down the slow path.
    ``seen_at`` is the last user activity (epoch seconds); ``renew_cookie`` is a fresh cookie value to hand out because
    the presented one was sealed with an old key, else "". ``watchers`` are called once when the session ends.

    There is one Live per session and worker for as long as anybody holds it, so who watches must hold it. ``half`` is
    the ticket's half of the record key; ``checked_at`` (monotonic) is when the store last vouched for it;
    ``known_at`` (monotonic) is when this version of the session became known; ``stored_seen_at`` is the last activity
    that the store knows of. ``attached`` is the door's, for as long as the session lives: what it last sent along for it.
    """

    session: Session | None
    seen_at: float
    idle_s: float
    renew_cookie: str = ""
    watchers: set[Any] = field(default_factory=set)
    key: bytes = b""
    half: bytes = field(default=b"", repr=False)
    checked_at: float = float("-inf")
    known_at: float = float("-inf")
    stored_seen_at: float = float("-inf")
    attached: Any = field(default=None, repr=False)

    @property
    def idle_until(self) -> float:
        return self.seen_at + self.idle_s


@dataclass(frozen=True, slots=True)
class Credential:
    """What is attached to one upstream call: the value of its Authorization header, and until when it may be used."""

    authorization: bytes = field(repr=False)
    fresh_until: float
    audience: str = ""
    scopes: frozenset[str] = frozenset()
