"""The credential desk: a token for one call, renewed when it has to be, once per session however many ask (TOKEN-6).

A refresh token is redeemed under a turn (this process), a store lease (all instances) and after reading the record again;
what comes back is stored before anybody proceeds (TOKEN-7) and is written only if the record still holds the token
that was redeemed. Nobody's disconnect stops it (TOKEN-8). Only invalid_grant ends a session (TOKEN-9).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from bff.base.clock import Clock
from bff.base.errors import (
    BffError,
    GrantRefused,
    GrantRevoked,
    ProviderError,
    ProviderUnavailable,
    SessionGone,
    StoreUnavailable,
    TokenInvalid,
)
from bff.base.events import Event, EventKind, Probe, no_probe
from bff.base.flight import Flights
from bff.base.secret import Secret
from bff.oauth.types import Identity, TokenSet
from bff.session.backoff import Backoff, Breaker, still_failing
from bff.session.client_tokens import ClientTokens, ClientTokenSource
from bff.session.keeper import Keeper
from bff.session.lease import Lease, Pause, Turns
from bff.session.model import Credential, EndReason, Live, Session, TokenKind
from bff.session.renewal import Renewal, Superseded, build_credential, find_credential, fresh_until
from bff.session.revocation import Revocations, TokenRevoker
from bff.session.store.port import SessionStore

LEASE_S = 20.0
POLL_FIRST_S = 0.02
POLL_MOST_S = 0.25
DOUBT_SHARE = 0.25
"""How much of the waiting time a revoked grant is doubted, when another worker may hold newer tokens that it cannot write."""

FORCED_EVERY_S = 5.0
PROVIDER_CALLS = 32
SAVE_WAITS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
MAX_UNSAVED = 1000
ROUTE_FAULTS = frozenset({"invalid_target", "invalid_scope"})
NOTHING = b""


class TokenClient(ClientTokenSource, TokenRevoker, Protocol):
    """The part of the OAuth client that the desk uses."""

    async def refresh(
        self,
        *,
        issuer: str,
        subject: str,
        auth_time: int | None,
        nonce: str = "",
        refresh_token: Secret,
        audience: str = "",
        scopes: tuple[str, ...] = (),
    ) -> tuple[TokenSet, Identity | None]: ...


class CredentialDesk:
    """Credentials for an instance's sessions, in its agent's process. ``margin_s``: how long before its end a token is renewed;
    ``wait_s``: how long a request waits for another process's renewal. The lease outlives the provider's time-out and is renewed besides.
    ``holder`` names us in leases, by default at random; a process that takes a dead one's place may take its leases with its name.

    Mutable state, all owned here: flights and turns (running work), back-off (10,000), revocations (1000), renewals that
    the store would not take (1000), the client's own tokens (1000).
    """

    def __init__(
        self,
        *,
        keeper: Keeper,
        client: TokenClient,
        store: SessionStore,
        clock: Clock,
        probe: Probe = no_probe,
        margin_s: float = 30.0,
        wait_s: float = 10.0,
        lease_s: float = LEASE_S,
        holder: bytes = b"",
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._keeper = keeper
        self._client = client
        self._store = store
        self._clock = clock
        self._probe = probe
        self._margin_s = margin_s
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._pause = pause
        self._flights: Flights[tuple[bytes, str, bytes], Credential] = Flights()
        self._turns = Turns()
        self._holder = holder or secrets.token_bytes(16)
        self._backoff = Backoff(clock=clock)
        self._forced = Backoff(clock=clock, first_s=FORCED_EVERY_S, most_s=FORCED_EVERY_S)
        self._breaker = Breaker(clock=clock)
        self._calls = asyncio.Semaphore(PROVIDER_CALLS)
        self._unsaved: dict[bytes, Renewal] = {}
        self._clients = ClientTokens(client=client, clock=clock, probe=probe, margin_s=margin_s, backoff=self._backoff)
        self._revocations = Revocations(client=client, clock=clock, probe=probe, pause=pause, names_of=keeper.names_of)

    def at_hand(
        self, session: Session | None, *, token: TokenKind, audience: str, scopes: frozenset[str] = frozenset()
    ) -> Credential | None:
        """The credential, if a fresh one is here: the hot path. None means await ``issue``. ``scopes`` are for client tokens.

        For "none" it is one with an empty ``authorization``: nothing to attach.
        """
        if token == "none":  # noqa: S105 - a kind of token
            return Credential(b"", float("inf"))
        if session is None or token == "client":  # noqa: S105
            return None if token == "user" else self._clients.at_hand(audience, scopes)  # noqa: S105
        return find_credential(session, audience, now=self._clock.now(), margin_s=self._margin_s)

    async def issue(self, live: Live | None, *, token: TokenKind, audience: str, scopes: frozenset[str] = frozenset()) -> Credential:
        """A credential for one call: fresh; or the old one while it lives, when the provider cannot be asked.

        ProviderUnavailable (with a wait), GrantRevoked (the session has ended), SessionGone, GrantRefused (the route asks
        for what the provider does not give, or the provider wants to see the person), StoreUnavailable. A cancelled caller
        leaves the renewal running.
        """
        user = None if live is None or token == "client" else _alive(live)  # noqa: S105
        ready = self.at_hand(user, token=token, audience=audience, scopes=scopes)
        if ready is not None:
            return ready
        if token == "client" or (live is None and token == "user_or_client"):  # noqa: S105
            return await self._clients.issue(audience, scopes)
        if live is None:
            raise SessionGone("no session")
        return await self._fly(live, audience, NOTHING)

    async def renew(self, live: Live | None, *, audience: str, stale: Credential) -> Credential:
        """Another credential than ``stale``, which an API refused (TOKEN-10). Errors as for ``issue``.

        The answer may be ``stale`` itself when there is none newer to be had: no refresh token, or forced renewals in
        quick succession (one per session, audience and 5 s). Then do not repeat the call.
        """
        if live is None or self._clients.holds(stale):
            slot = ("client", stale.audience, stale.scopes)
            if self._clients.holds(stale):  # else there is a newer one, and nobody has to be asked
                if self._forced.wait_s(slot) > 0:
                    return stale
                self._forced.failed(slot)
            return await self._clients.renew(stale)
        current = self._ready(_alive(live), audience, stale.authorization)
        if current is not None:
            return current
        if self._forced.wait_s((live.key, audience)) > 0:
            return stale
        return await self._fly(live, audience, stale.authorization)

    def revoke_later(self, session: Session) -> None:
        """Revoke an ended session's tokens in the background: bounded, retried, never in anybody's way (REV-2)."""
        self._revocations.add(session)
        unsaved = self._unsaved.pop(session.key, None)
        if unsaved is not None:
            self._revocations.add(unsaved.orphan())

    async def close(self, timeout_s: float) -> None:
        """Let renewals finish (their tokens must reach the store), then revocations; at most ``timeout_s`` together."""
        started = self._clock.monotonic()
        await self._flights.drain(timeout_s)
        left_s = max(0.0, timeout_s - (self._clock.monotonic() - started))
        await asyncio.gather(self._revocations.drain(left_s), self._clients.drain(left_s))

    async def _fly(self, live: Live, audience: str, stale: bytes) -> Credential:
        """Join or start the renewal, and wait for it no longer than ``wait_s`` (F2): it goes on without us."""
        _alive(live)
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._flights.join((live.key, audience, stale), lambda: self._renew(live, audience, stale))
        except TimeoutError:
            late = ProviderUnavailable("renewal takes too long", retry_after_s=1.0)
            return self._fallback(_alive(live), audience, stale, late)

    async def _renew(self, live: Live, audience: str, stale: bytes) -> Credential:
        async with self._turns.take(live.key):
            try:
                await self._save_again(live)
                return await self._renew_in_turn(live, audience, stale)
            except StoreUnavailable as error:
                # Not renewed, or not written down: the old token does no harm while it lives (F41).
                return self._fallback(_alive(live), audience, stale, error)

    async def _renew_in_turn(self, live: Live, audience: str, stale: bytes) -> Credential:
        session = _alive(live)
        ready = self._ready(session, audience, stale)
        if ready is not None:
            return ready
        if not session.refresh_token:
            return await self._last_use(live, session, audience)
        wait_s = self._backoff.wait_s((live.key, audience))
        if wait_s > 0:
            return self._fallback(session, audience, stale, still_failing(self._backoff.because((live.key, audience)), wait_s))
        return await self._renew_alone(live, audience, stale)

    async def _renew_alone(self, live: Live, audience: str, stale: bytes) -> Credential:
        """Under the session's lease. While another worker has it, its result is looked for in the record."""
        lease = Lease(store=self._store, name=b"refresh:" + live.key, holder=self._holder, ttl_s=self._lease_s, pause=self._pause)
        deadline = self._clock.monotonic() + self._wait_s
        poll_s, waited = POLL_FIRST_S, False
        while not await lease.acquire():
            waited = True
            if self._clock.monotonic() >= deadline:
                late = ProviderUnavailable("another worker is renewing", retry_after_s=1.0)
                return self._fallback(_alive(live), audience, stale, late)
            await self._pause(poll_s)
            poll_s = min(poll_s * 2, POLL_MOST_S)
            ready = self._ready(await self._keeper.reread(live), audience, stale)
            if ready is not None:
                return ready
        async with lease.held():
            session = await self._keeper.reread(live)
            ready = self._ready(session, audience, stale)
            return ready if ready is not None else await self._redeem(live, session, audience, stale, doubtful=waited)

    async def _redeem(self, live: Live, session: Session, audience: str, stale: bytes, *, doubtful: bool) -> Credential:
        """``doubtful``: another worker had the lease before us and left no tokens; perhaps it has them and cannot write."""
        if not self._breaker.admit():
            return self._fallback(session, audience, stale, ProviderUnavailable("provider is down", retry_after_s=1.0))
        if stale:
            self._forced.failed((live.key, audience))
        try:
            async with self._calls:
                tokens, identity = await self._client.refresh(
                    issuer=session.issuer,
                    subject=session.subject,
                    auth_time=session.auth_time,
                    refresh_token=session.refresh_token,
                    audience=audience,
                )
        except GrantRevoked as error:
            self._breaker.succeeded()
            return await self._revoked(live, session, audience, stale, error, doubtful=doubtful)
        except ProviderError as error:
            return await self._failed(live, session, audience, stale, error)
        self._breaker.succeeded()
        self._backoff.succeeded((live.key, audience))
        claims = None if identity is None else self._keeper.allowed(identity.claims)
        renewal = Renewal(session, audience, tokens, identity, claims, self._clock.now())
        return await self._settle(live, renewal, audience, stale)

    async def _settle(self, live: Live, renewal: Renewal, audience: str, stale: bytes) -> Credential:
        try:
            session = await self._save(live, renewal)
        except Superseded:
            late = ProviderUnavailable("another worker was first", retry_after_s=1.0)
            theirs = _alive(live)
            return self._ready(theirs, audience, stale) or self._fallback(theirs, audience, stale, late)
        self._tell(EventKind.TOKEN_REFRESHED, session, "ok", audience)
        grant = session.grants[audience]
        return build_credential(grant, audience, until=fresh_until(session, grant, margin_s=self._margin_s))

    async def _save(self, live: Live, renewal: Renewal, waits: Sequence[float] = SAVE_WAITS_S) -> Session:
        """Store a renewal, through some trouble; what the store will not take is kept for the next try (F39).

        SessionGone: logout was first and wins; the new tokens are revoked (F10). Superseded, StoreUnavailable.
        """
        for wait_s in (*waits, None):
            try:
                return await self._keeper.update(live, renewal.apply)
            except SessionGone:
                self._revocations.add(renewal.orphan())
                raise
            except StoreUnavailable:
                if wait_s is not None:
                    await self._pause(wait_s)
        if len(self._unsaved) < MAX_UNSAVED:
            self._unsaved[live.key] = renewal
        raise StoreUnavailable("renewed tokens could not be stored")

    async def _save_again(self, live: Live) -> None:
        unsaved = self._unsaved.pop(live.key, None)
        if unsaved is not None:
            with suppress(Superseded):
                await self._save(live, unsaved, waits=())

    async def _revoked(
        self, live: Live, session: Session, audience: str, stale: bytes, error: GrantRevoked, *, doubtful: bool
    ) -> Credential:
        """invalid_grant: believed only if nobody put a newer refresh token into the record (F5)."""
        deadline = self._clock.monotonic() + (self._wait_s * DOUBT_SHARE if doubtful else 0.0)
        while True:
            newer = await self._keeper.reread(live)
            if newer.refresh_token != session.refresh_token:
                ready = self._ready(newer, audience, stale)
                return ready or await self._redeem(live, newer, audience, stale, doubtful=False)
            if self._clock.monotonic() >= deadline:
                break
            await self._pause(POLL_MOST_S)
        self._tell(EventKind.TOKEN_REFRESH_FAILED, session, error.code, audience, in_doubt=doubtful)
        await self._keeper.end(live.key, EndReason.REVOKED)
        raise error

    async def _failed(self, live: Live, session: Session, audience: str, stale: bytes, error: ProviderError) -> Credential:
        """Everything but invalid_grant: keep the session, wait, and use the old token while it lives."""
        self._tell(EventKind.TOKEN_REFRESH_FAILED, session, error.code, audience)
        if isinstance(error, TokenInvalid) and error.rule in ("iss", "sub"):
            ended = await self._keeper.end(live.key, EndReason.IDENTITY_CHANGED)
            self.revoke_later(ended or session)
            raise SessionGone("the provider answered for somebody else") from error
        wish_s = None
        if isinstance(error, ProviderUnavailable):
            self._breaker.failed()
            wish_s = error.retry_after_s
        refused = error.error if isinstance(error, GrantRefused) and (error.needs_person or error.error in ROUTE_FAULTS) else ""
        wait_s = self._backoff.failed((live.key, audience), wish_s, because=refused)
        told = error if refused else ProviderUnavailable(error.detail, retry_after_s=wait_s)
        return self._fallback(session, audience, stale, told)

    async def _last_use(self, live: Live, session: Session, audience: str) -> Credential:
        """Without a refresh token: a token is used to its end, and the session ends with it (SESS-8)."""
        grant = session.grants.get(audience)
        if grant is None:
            raise GrantRefused("invalid_target", "no refresh token to ask for another audience with")
        if self._clock.now() < grant.expires_at:
            return build_credential(grant, audience, until=grant.expires_at)
        await self._keeper.end(live.key, EndReason.REVOKED)
        raise GrantRevoked("invalid_grant", "the token has expired and there is no refresh token")

    def _ready(self, session: Session, audience: str, stale: bytes) -> Credential | None:
        ready = self.at_hand(session, token="user", audience=audience)  # noqa: S106
        return ready if ready is not None and ready.authorization != stale else None

    def _fallback(self, session: Session, audience: str, stale: bytes, error: BffError) -> Credential:
        """The old token to its real end, never the one an API has just refused; else ``error``. To be asked for again soon."""
        grant, now = session.grants.get(audience), self._clock.now()
        if grant is not None and now < grant.expires_at:
            wait_s = (error.retry_after_s if isinstance(error, ProviderUnavailable) else None) or 1.0
            old = build_credential(grant, audience, until=min(grant.expires_at, now + wait_s))
            if old.authorization != stale:
                return old
        raise error

    def _tell(self, kind: EventKind, session: Session, outcome: str, audience: str, *, in_doubt: bool = False) -> None:
        """``in_doubt``: whoever had the lease before us left no tokens; perhaps it redeemed the refresh token and died (F7)."""
        name, subject = self._keeper.names_of(session)
        fields: dict[str, str | bool] = {"audience": audience, **({"in_doubt": True} if in_doubt else {})}
        self._probe(Event(kind, outcome=outcome, session=name, subject=subject, fields=fields))


def _alive(live: Live) -> Session:
    if live.session is None:
        raise SessionGone("ended")
    return live.session
