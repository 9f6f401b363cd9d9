"""What the session tests are built from: a provider that records what it is asked, and quick ways to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bff.base.clock import FakeClock
from bff.base.errors import GrantRevoked, StoreUnavailable
from bff.base.events import Event, EventKind
from bff.base.secret import Secret
from bff.oauth.types import Identity, TokenSet
from bff.session.cookies import CookiePolicy
from bff.session.credentials import CredentialDesk
from bff.session.keeper import Keeper
from bff.session.model import Live
from bff.session.sealing import KeyRing
from bff.session.store.memory import MemoryStore
from bff.session.store.port import Changes, Row, SessionStore

ISSUER = "https://id.example.com"
IDLE_S = 1800.0
MAX_S = 43200.0
LIFE_S = 300.0
ALICE = Identity(
    issuer=ISSUER, subject="alice", sid="sid-1", acr="1", amr=("pwd",), auth_time=1_799_999_990, claims={"name": "Alice", "email": "a@x"}
)
BOB = Identity(issuer=ISSUER, subject="bob", sid="sid-2", claims={"name": "Bob"})


class Trouble:
    """A store that fails, stalls or loses leases on command, in front of a real one."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.down: set[str] = set()
        self.after: set[str] = set()
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}

    def __getattr__(self, name: str) -> object:
        method = getattr(self.store, name)

        async def call(*args: object, **named: object) -> object:
            self.calls.append(name)
            if name in self.down or "*" in self.down:
                raise StoreUnavailable("down")
            if name in self.before:
                await self.before.pop(name)()
            answer = await method(*args, **named)
            if name in self.after:
                raise StoreUnavailable("done, but the answer got lost")
            return answer

        return call


@dataclass
class ScriptedProvider:
    """A token endpoint with strict rotation: a refresh token used twice revokes its family (RFC 9700 §4.14.2)."""

    clock: FakeClock
    life_s: float = LIFE_S
    rotate: bool = True
    audiences: list[str] = field(default_factory=list)
    redeemed: list[str] = field(default_factory=list)
    revoked: list[tuple[str, str]] = field(default_factory=list)
    client_calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    revoke_failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    identity: Identity | None = None
    scopes: tuple[str, ...] | None = None
    token_type: str = "Bearer"
    session_max_s: float | None = None
    good: set[str] = field(default_factory=set)
    reuse: int = 0
    made: int = 0
    concurrent: int = 0
    most_concurrent: int = 0

    def login(self, *, refresh: bool = True, opaque: bool = False) -> TokenSet:
        return self._tokens("", refresh=refresh, opaque=opaque)

    def _tokens(self, audience: str, *, refresh: bool = True, opaque: bool = False) -> TokenSet:
        self.made += 1
        token = f"opaque-{self.made}" if opaque else f"h.{audience or 'own'}-{self.made}.s"
        name = f"rt-{self.made}" if refresh else ""
        if refresh:
            self.good.add(name)
        return TokenSet(
            Secret(token),
            self.token_type,
            self.clock.now() + self.life_s,
            refresh_token=Secret(name),
            id_token=Secret(f"id-{self.made}"),
            scopes=self.scopes,
            session_max_s=self.session_max_s,
        )

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
    ) -> tuple[TokenSet, Identity | None]:
        self.redeemed.append(refresh_token.reveal())
        self.audiences.append(audience)
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.concurrent -= 1
        if self.failures:
            raise self.failures.pop(0)
        if refresh_token.reveal() not in self.good:
            self.reuse += 1
            self.good.clear()
            raise GrantRevoked("invalid_grant")
        if not self.rotate:
            return self._tokens(audience, refresh=False), self.identity
        self.good.discard(refresh_token.reveal())
        return self._tokens(audience), self.identity

    async def client_token(self, *, audience: str, scopes: tuple[str, ...]) -> TokenSet:
        self.client_calls.append((audience, scopes))
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return self._tokens(f"client-{audience}-{'+'.join(scopes)}", refresh=False)

    async def revoke(self, token: Secret, token_type_hint: str) -> None:
        await asyncio.sleep(0)
        if self.revoke_failures:
            raise self.revoke_failures.pop(0)
        self.revoked.append((token.reveal(), token_type_hint))


class World:
    """A store, a clock, a ring, and any number of workers (keeper and desk) over them."""

    def __init__(self, store: SessionStore | None = None, *, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.store = Trouble(store or MemoryStore(clock=self.clock))
        self.ring = KeyRing.generate()
        self.cookie = CookiePolicy(instance="https://app.example.com")
        self.provider = ScriptedProvider(self.clock)
        self.events: list[Event] = []
        self.pauses: list[float] = []
        self.keeper = self.new_keeper()
        self.desk = self.new_desk(self.keeper)

    async def pause(self, seconds: float) -> None:
        """A wait that takes no time but the clock's. The lease's keeper waits for thirds of 20 s: those do not move it."""
        self.pauses.append(seconds)
        if seconds > 6:
            await asyncio.Event().wait()
        self.clock.advance(seconds)
        with suppress(StoreUnavailable):
            await self.store.store.ping()  # what the store's thread was given is done meanwhile, as it would be in that time
        await asyncio.sleep(0)

    def new_keeper(self, *, store: object = None, ring: KeyRing | None = None, **changes: object) -> Keeper:
        options: dict[str, object] = {
            "store": store or self.store,
            "ring": ring or self.ring,
            "cookie": self.cookie,
            "clock": self.clock,
            "idle_s": IDLE_S,
            "max_s": MAX_S,
            "claims": frozenset({"name", "groups"}),
            "probe": self.events.append,
        }
        return Keeper(**{**options, **changes})  # type: ignore[arg-type]

    def new_desk(self, keeper: Keeper, *, store: object = None, **changes: object) -> CredentialDesk:
        options: dict[str, object] = {
            "keeper": keeper,
            "client": self.provider,
            "store": store or self.store,
            "clock": self.clock,
            "probe": self.events.append,
            "pause": self.pause,
        }
        return CredentialDesk(**{**options, **changes})  # type: ignore[arg-type]

    async def sign_in(
        self,
        identity: Identity = ALICE,
        *,
        keeper: Keeper | None = None,
        previous: Sequence[bytes] = (),
        refresh: bool = True,
        opaque: bool = False,
    ) -> tuple[Live, str]:
        tokens = self.provider.login(refresh=refresh, opaque=opaque)
        return await (keeper or self.keeper).begin(identity, tokens, previous=previous, scopes=("openid", "orders"))

    def kinds(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]


async def tick(keeper: Keeper) -> None:
    """One background round of a worker."""
    await keeper._rounds.step()


async def breathe(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


__all__ = [
    "ALICE",
    "BOB",
    "IDLE_S",
    "ISSUER",
    "LIFE_S",
    "MAX_S",
    "Changes",
    "Row",
    "ScriptedProvider",
    "Trouble",
    "World",
    "breathe",
    "tick",
]
