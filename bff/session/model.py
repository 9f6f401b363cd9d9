"""The session as the rest of the program sees it: opened, frozen, without a way to reach its seal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Literal

from bff.base.secret import WITHHELD, Secret

TokenKind = Literal["user", "client", "user_or_client", "user_or_none", "none"]
"""What goes out with a call: the session's token, the client's own, or none."""

AUTHORIZATION: Final = b"\r\nAuthorization: "
"""How the line begins that ends a request head to an API."""
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Grant:
    """The access token held for one audience ("" is the login's own). ``issued_at`` and ``expires_at`` in epoch seconds.

    A worker holds the token only as what it sends (``held_to_send``): ``ending``, its line and the end of a request head.
    """

    access_token: Secret
    expires_at: float
    scopes: frozenset[str]
    token_type: str = "Bearer"  # noqa: S105
    issued_at: float = 0.0
    ending: bytes = field(default=b"", repr=False)

    def authorization(self) -> bytes:
        """The value of an Authorization header (RFC 6750 §2.1). DPoP and others announce themselves by token_type; "bearer" in any
        spelling is Bearer (TOKEN-1)."""
        if self.ending:
            return self.ending[len(AUTHORIZATION) : -len(_END)]
        scheme = "Bearer" if self.token_type.lower() == "bearer" else self.token_type
        return f"{scheme} {self.access_token.reveal()}".encode()

    def held_to_send(self) -> Grant:
        """The same without the token by itself."""
        return replace(self, access_token=WITHHELD, ending=AUTHORIZATION + self.authorization() + _END)


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

    def held_to_send(self) -> Session:
        """The same with what a worker has use for: access tokens as they are sent, of the others only whether there are any. It can't
        be written down again."""
        return replace(
            self,
            grants={audience: grant.held_to_send() for audience, grant in self.grants.items()},
            refresh_token=self.refresh_token and WITHHELD,
            id_token=self.id_token and WITHHELD,
        )


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
    that the store knows of. ``cookie`` is the value it was last found by, as whoever holds that value too should hold it.
    """

    session: Session | None
    seen_at: float
    idle_s: float
    renew_cookie: str = ""
    watchers: frozenset[Any] = frozenset()
    key: bytes = b""
    half: bytes = field(default=b"", repr=False)
    checked_at: float = float("-inf")
    known_at: float = float("-inf")
    stored_seen_at: float = float("-inf")
    cookie: str = field(default="", repr=False)

    @property
    def idle_until(self) -> float:
        return self.seen_at + self.idle_s

    def watch(self, watcher: Any) -> None:
        """Call it with the reason when the session ends."""
        self.watchers |= {watcher}

    def leave(self, watcher: Any) -> None:
        self.watchers -= {watcher}


@dataclass(frozen=True, slots=True)
class Credential:
    """What is attached to one upstream call: the value of its Authorization header, and until when it may be used."""

    authorization: bytes = field(repr=False)
    fresh_until: float
    audience: str = ""
    scopes: frozenset[str] = frozenset()
