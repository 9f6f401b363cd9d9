"""How the door hands a judged request to the agent, which is another process: as a signed note in one header field.

The agent is an ordinary HTTP server on a private socket, so what the door decided must not travel as headers that somebody could
forge. The note is signed with a key that only this instance's processes know and that is made anew at each start. Whoever reaches
the agent's socket without the door has no note and gets nowhere.

It says which route was matched, what the door read of the request, and whose session it found; the agent looks the session up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from bff.base.errors import SealBroken
from bff.policy.facts import Facts
from bff.policy.routes import Route
from bff.policy.verdict import Admitted

HANDOFF_HEADER: Final = b"bff-handoff"
ENDED_HEADER: Final = b"bff-ended"
"""In an answer of the agent's: a session ended that the request did not come with. For the door; no browser sees it."""
PURPOSE: Final = "handoff"
MAX_AGE_S: Final = 60.0


class Signs(Protocol):
    """bff.session.signing.Signer."""

    def sign_bytes(self, purpose: str, data: bytes) -> bytes: ...
    def check_bytes(self, purpose: str, signed: bytes, max_age_s: float) -> bytes: ...


class _Note(msgspec.Struct, frozen=True, array_like=True):
    route: str
    method: str
    path: str
    query: str | None
    host: str
    cookies: list[tuple[str, str]]
    fetch_mode: str | None
    accept: str | None
    content_type: str | None
    client_ip: str
    request_id: str
    session: str
    seen_at: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Note)


@dataclass(frozen=True, slots=True)
class Handed:
    """A verdict as it arrived: ``admitted`` is still without its session, whose ``key`` (b"": none) and last activity came along."""

    admitted: Admitted
    key: bytes
    seen_at: float


class Handoff:
    """``write`` at the door, ``read`` at the agent. ``routes`` are the agent's own, by name; the door needs none."""

    def __init__(self, *, signer: Signs, routes: Mapping[str, Route] | None = None) -> None:
        self._signer = signer
        self._routes = routes or {}

    def write(self, admitted: Admitted) -> bytes:
        """The note for one judged request: a header field's value."""
        facts, live = admitted.facts, admitted.live
        note = _Note(
            route=admitted.route.name,
            method=facts.method,
            path=facts.path,
            query=facts.query,
            host=facts.host,
            cookies=list(facts.cookies),
            fetch_mode=facts.fetch_mode,
            accept=facts.accept,
            content_type=facts.content_type,
            client_ip=facts.client_ip,
            request_id=facts.request_id,
            session="" if live is None else live.key.hex(),
            seen_at=0.0 if live is None else live.seen_at,
        )
        return self._signer.sign_bytes(PURPOSE, _encoder.encode(note))

    def read(self, text: bytes) -> Handed | None:
        """The verdict that ``write`` was given, if it is one of ours and at most a minute old."""
        try:
            note = _decoder.decode(self._signer.check_bytes(PURPOSE, text, MAX_AGE_S))
        except (SealBroken, msgspec.MsgspecError):
            return None
        route = self._routes.get(note.route)
        if route is None:
            return None
        facts = Facts(
            method=note.method,
            path=note.path,
            query=note.query,
            host=note.host,
            headers=(),
            cookies=tuple(note.cookies),
            fetch_mode=note.fetch_mode,
            accept=note.accept,
            content_type=note.content_type,
            client_ip=note.client_ip,
            request_id=note.request_id,
        )
        return Handed(Admitted(facts, route, None), bytes.fromhex(note.session), note.seen_at)
