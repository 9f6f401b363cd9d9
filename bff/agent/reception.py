"""Where requests arrive from the door: the note is read, the session looked up, and the verdict stands as the door gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from bff.policy.handoff import Handed, Handoff, Signs
from bff.policy.routes import Route
from bff.policy.verdict import Admitted
from bff.session.cookies import CookiePolicy, find_cookie
from bff.session.model import Live


class Sessions(Protocol):
    """The part of bff.session.keeper.Keeper that is needed here."""

    async def find(self, cookie_value: str, *, seen_at: float) -> Live | None: ...


class Reception:
    """``routes`` are the agent's own, by name."""

    def __init__(self, *, signer: Signs, sessions: Sessions, cookie: CookiePolicy, routes: Mapping[str, Route]) -> None:
        self._handoff = Handoff(signer=signer, routes=routes)
        self._sessions = sessions
        self._cookie_name = cookie.session_name

    def read(self, note: bytes) -> Handed | None:
        """The verdict in a note of the door; None for anything else."""
        return self._handoff.read(note)

    async def seat(self, handed: Handed) -> Admitted:
        """The verdict with its session, as the store has it now. One that has ended on the way is no session. StoreUnavailable."""
        admitted = handed.admitted
        value = find_cookie(admitted.facts.cookies, self._cookie_name) if handed.key else None
        live = await self._sessions.find(value, seen_at=handed.seen_at) if value is not None else None
        if live is None or live.key != handed.key:
            return admitted
        live.seen_at = max(live.seen_at, handed.seen_at)
        return replace(admitted, live=live, judged=live.session)
