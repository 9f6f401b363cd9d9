"""What a worker's desk and the agent's desk say to each other: msgpack frames over a private Unix socket.

A frame is four bytes of length and a message. Both ends are this program in the same version, started together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from bff.base.errors import (
    BffError,
    GrantRefused,
    GrantRevoked,
    ProviderError,
    ProviderMisbehaved,
    ProviderUnavailable,
    SessionGone,
    StoreUnavailable,
    TokenInvalid,
)
from bff.session.model import Credential, TokenKind

MAX_FRAME = 1 << 20


class Message(msgspec.Struct, frozen=True):
    """Of all that is said here nothing is for logs (PRIV-1)."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Hello(Message, frozen=True):
    """The first frame of a connection: proof that the caller is one of our own processes."""

    secret: bytes


class Told(Message, frozen=True, array_like=True):
    """A credential."""

    authorization: bytes
    fresh_until: float
    audience: str
    scopes: list[str]

    @classmethod
    def of(cls, credential: Credential) -> Told:
        return cls(credential.authorization, credential.fresh_until, credential.audience, sorted(credential.scopes))

    def credential(self) -> Credential:
        return Credential(self.authorization, self.fresh_until, self.audience, frozenset(self.scopes))


class Holder(Message, frozen=True, array_like=True):
    """Whose credential: the session's key and this browser's half of the record's key, which only travel here; and its last activity."""

    key: bytes
    half: bytes
    seen_at: float = 0.0


class Wish(Message, frozen=True, array_like=True):
    """One call of ``issue``, or of ``renew`` where ``stale`` is given."""

    number: int
    holder: Holder | None
    token: TokenKind
    audience: str
    scopes: list[str]
    stale: Told | None = None


class Failure(Message, frozen=True, array_like=True):
    """An exception of ours: its class by name, its code, and what decisions look at."""

    kind: str
    code: str
    detail: str = ""
    error: str = ""
    retry_after_s: float | None = None


class Answer(Message, frozen=True, array_like=True):
    number: int
    credential: Told | None = None
    failure: Failure | None = None


_KINDS: Final[Mapping[str, Callable[[Failure], BffError]]] = {
    "GrantRevoked": lambda told: GrantRevoked(told.error, told.detail),
    "GrantRefused": lambda told: GrantRefused(told.error, told.detail),
    "TokenInvalid": lambda told: TokenInvalid(told.error, told.detail),
    "ProviderUnavailable": lambda told: ProviderUnavailable(told.detail, retry_after_s=told.retry_after_s),
    "ProviderMisbehaved": lambda told: ProviderMisbehaved(told.detail),
    "ProviderError": lambda told: ProviderError(told.detail),
    "SessionGone": lambda told: SessionGone(told.detail),
    "StoreUnavailable": lambda told: StoreUnavailable(told.detail),
    "BffError": lambda told: BffError(told.detail),
}


def failure_of(error: BffError) -> Failure:
    """``error`` as a message."""
    kind = next(one.__name__ for one in type(error).__mro__ if one.__name__ in _KINDS)
    reason = error.error if isinstance(error, GrantRefused) else error.rule if isinstance(error, TokenInvalid) else ""
    wait_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
    return Failure(kind, error.code, error.detail, reason, wait_s)


def error_of(failure: Failure) -> BffError:
    """The exception that ``failure_of`` was given: of its class, or of the nearest ancestor that is known here."""
    error = _KINDS.get(failure.kind, _KINDS["BffError"])(failure)
    error.code = failure.code
    return error


def frame(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message's bytes. EOFError at the end of the connection, ValueError for a frame over the bound."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME:
            raise ValueError("a frame over the bound")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise EOFError from error
