"""Revoking tokens behind the user's back: logout never waits for it, and it is tried until the provider has heard
(RFC 7009 §2.2.1, REV-2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bff.base.clock import Clock
from bff.base.errors import ProviderError, ProviderUnavailable
from bff.base.events import Event, EventKind, Probe
from bff.base.secret import Secret
from bff.session.backoff import Backoff
from bff.session.lease import Pause
from bff.session.model import Session

MAX_WAITING = 1000
CONCURRENT = 8
ATTEMPTS = 24
LONGEST_WAIT_S = 30.0


class TokenRevoker(Protocol):
    async def revoke(self, token: Secret, token_type_hint: str) -> None: ...


class Revocations:
    """Background revocations. Bound: 1000 waiting, 8 at a time; what does not fit is given up, with an event."""

    def __init__(
        self, *, client: TokenRevoker, clock: Clock, probe: Probe, pause: Pause, names_of: Callable[[Session], tuple[str, str]]
    ) -> None:
        self._client = client
        self._clock = clock
        self._probe = probe
        self._pause = pause
        self._names_of = names_of
        self._places = asyncio.Semaphore(CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, session: Session) -> None:
        """Revoke the refresh token, then the access tokens that are not JWTs: those end by themselves (REV-1)."""
        tokens = [(session.refresh_token, "refresh_token")] if session.refresh_token else []
        tokens += [(grant.access_token, "access_token") for grant in session.grants.values() if _is_opaque(grant.access_token)]
        if not tokens:
            return
        if len(self._tasks) >= MAX_WAITING:
            self._tell(EventKind.TOKEN_REVOCATION_FAILED, session, "queue_full")
            return
        task = asyncio.ensure_future(self._revoke_all(session, tokens))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout_s: float) -> None:
        """Let them finish for at most ``timeout_s``; what is left is given up."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _revoke_all(self, session: Session, tokens: list[tuple[Secret, str]]) -> None:
        try:
            for token, hint in tokens:
                await self._revoke(token, hint)
        except asyncio.CancelledError:
            self._tell(EventKind.TOKEN_REVOCATION_FAILED, session, "shutdown")
            raise
        except ProviderError as error:
            self._tell(EventKind.TOKEN_REVOCATION_FAILED, session, error.code)
        else:
            self._tell(EventKind.TOKEN_REVOKED, session, "ok")

    async def _revoke(self, token: Secret, hint: str) -> None:
        backoff = Backoff(clock=self._clock, most_s=LONGEST_WAIT_S)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._places:
                    await self._client.revoke(token, hint)
                return
            except ProviderUnavailable as error:
                if attempt == ATTEMPTS:
                    raise
                wait_s = backoff.failed(hint, error.retry_after_s)
            await self._pause(wait_s)

    def _tell(self, kind: EventKind, session: Session, outcome: str) -> None:
        name, subject = self._names_of(session)
        self._probe(Event(kind, outcome=outcome, session=name, subject=subject))


def _is_opaque(token: Secret) -> bool:
    return bool(token) and token.reveal().count(".") != 2
