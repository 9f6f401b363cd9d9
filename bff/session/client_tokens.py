"""The client's own tokens (client credentials, RFC 6749 §4.4): one per audience and scope set, for all users of a worker."""

from __future__ import annotations

from typing import Protocol

from bff.base.clock import Clock
from bff.base.errors import GrantRefused, ProviderError, ProviderUnavailable
from bff.base.events import Event, EventKind, Probe
from bff.base.flight import Flights
from bff.oauth.types import TokenSet
from bff.session.backoff import Backoff, still_failing
from bff.session.model import Credential, Grant
from bff.session.renewal import SHORTEST_LIFE_S, build_credential

MAX_HELD = 1000

Slot = tuple[str, frozenset[str]]


class ClientTokenSource(Protocol):
    async def client_token(self, *, audience: str, scopes: tuple[str, ...]) -> TokenSet: ...


class ClientTokens:
    """Cached per (audience, scopes) and nothing less (T2): the tuple is the key, no joined text (T6). Bound: 1000."""

    def __init__(self, *, client: ClientTokenSource, clock: Clock, probe: Probe, margin_s: float, backoff: Backoff) -> None:
        self._client = client
        self._clock = clock
        self._probe = probe
        self._margin_s = margin_s
        self._backoff = backoff
        self._held: dict[Slot, Grant] = {}
        self._flights: Flights[Slot, Credential] = Flights()

    def at_hand(self, audience: str, scopes: frozenset[str]) -> Credential | None:
        grant = self._held.get((audience, scopes))
        if grant is None:
            return None
        until = grant.expires_at - min(self._margin_s, (grant.expires_at - grant.issued_at) / 2)
        return build_credential(grant, audience, until=until) if self._clock.now() < until else None

    async def issue(self, audience: str, scopes: frozenset[str]) -> Credential:
        """A fresh one, else the old while it lives. ProviderUnavailable, GrantRefused."""
        ready = self.at_hand(audience, scopes)
        if ready is not None:
            return ready
        return await self._flights.join((audience, scopes), lambda: self._fetch((audience, scopes)))

    def holds(self, stale: Credential) -> bool:
        return any(_sends(grant, stale) for grant in self._held.values())

    async def renew(self, stale: Credential) -> Credential:
        """Another one than ``stale``, which an API refused. Fetched once, however many ask."""
        for slot, grant in list(self._held.items()):
            if _sends(grant, stale):
                del self._held[slot]
                return await self.issue(*slot)
        return await self.issue(stale.audience, stale.scopes)

    async def drain(self, timeout_s: float) -> None:
        await self._flights.drain(timeout_s)

    async def _fetch(self, slot: Slot) -> Credential:
        audience, scopes = slot
        wait_s = self._backoff.wait_s(("client", slot))
        if wait_s > 0:
            return self._fallback(slot, still_failing(self._backoff.because(("client", slot)), wait_s))
        try:
            tokens = await self._client.client_token(audience=audience, scopes=tuple(sorted(scopes)))
        except ProviderError as error:
            return self._failed(slot, error)
        self._backoff.succeeded(("client", slot))
        grant = self._keep(slot, tokens)
        return self.at_hand(audience, scopes) or build_credential(grant, audience, until=grant.expires_at)

    def _keep(self, slot: Slot, tokens: TokenSet) -> Grant:
        now = self._clock.now()
        granted = frozenset(slot[1] if tokens.scopes is None else tokens.scopes)
        grant = Grant(tokens.access_token, max(tokens.expires_at, now + SHORTEST_LIFE_S), granted, tokens.token_type, issued_at=now)
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[slot] = grant
        return grant

    def _failed(self, slot: Slot, error: ProviderError) -> Credential:
        wish_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        refused = error.error if isinstance(error, GrantRefused) else ""
        wait_s = self._backoff.failed(("client", slot), wish_s, because=refused)
        self._probe(Event(EventKind.CLIENT_CREDENTIAL_REFUSED, outcome=error.code, fields={"audience": slot[0]}))
        return self._fallback(slot, error if refused else ProviderUnavailable(error.detail, retry_after_s=wait_s))

    def _fallback(self, slot: Slot, error: ProviderError) -> Credential:
        grant, now = self._held.get(slot), self._clock.now()
        if grant is None or now >= grant.expires_at:
            raise error
        wait_s = (error.retry_after_s if isinstance(error, ProviderUnavailable) else None) or 1.0
        return build_credential(grant, slot[0], until=min(grant.expires_at, now + wait_s))


def _sends(grant: Grant, credential: Credential) -> bool:
    return credential.authorization.endswith(b" " + grant.access_token.reveal().encode())
