"""The agent with fakes around it: what the door, the provider and the session store would say, said by the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quart import Quart, Response

from bff.agent.app import build_agent
from bff.agent.options import AgentOptions
from bff.agent.routes import agent_routes
from bff.base.clock import FakeClock
from bff.base.errors import LoginFailed, LoginReason, SealBroken, StoreUnavailable
from bff.base.events import Event
from bff.base.secret import Secret
from bff.oauth.types import Identity, LogoutNotice, PendingLogin, Provider, TokenSet
from bff.policy.facts import Facts, Header
from bff.policy.handoff import Handed
from bff.policy.routes import Route
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Grant, Live, Session
from bff.session.store.port import Row

ORIGIN = "https://app.example.test"
NOW = 1_800_000_000.0


class FakeCookie:
    session_name = "__Host-Http-bff"

    def set_session(self, value: str) -> str:
        return f"__Host-Http-bff={value}; Path=/; Secure; HttpOnly; SameSite=Strict"

    def clear_session(self) -> str:
        return "__Host-Http-bff=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict"


class FakePending:
    """Pending logins by state, without the sealing; the cookie's value is the state."""

    def __init__(self) -> None:
        self.kept: dict[str, PendingLogin] = {}
        self.expired: set[str] = set()

    def keep(self, pending: PendingLogin, cookies: Sequence[tuple[str, str]]) -> list[str]:
        self.kept[pending.state] = pending
        return [f"__Host-Http-bff-login-{pending.state}={pending.state}; Path=/; Secure; HttpOnly; SameSite=Lax"]

    def take(self, state: str, cookies: Sequence[tuple[str, str]]) -> PendingLogin:
        if state in self.expired:
            raise LoginFailed(LoginReason.EXPIRED)
        if (f"__Host-Http-bff-login-{state}", state) not in cookies or state not in self.kept:
            raise LoginFailed(LoginReason.UNKNOWN)
        return self.kept[state]

    def clear(self, state: str) -> str:
        return f"__Host-Http-bff-login-{state}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"

    def clear_all(self, cookies: Sequence[tuple[str, str]]) -> list[str]:
        return [self.clear(name.rpartition("-")[2]) for name, _ in cookies if name.startswith("__Host-Http-bff-login-")]


class FakeSigner:
    def sign(self, purpose: str, value: Any) -> str:
        return f"{purpose}.{value}.signed"

    def check(self, purpose: str, text: str, max_age_s: float) -> Any:
        if not (text.startswith(f"{purpose}.") and text.endswith(".signed")):
            raise SealBroken
        return text.removeprefix(f"{purpose}.").removesuffix(".signed")


class FakeStore:
    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.leases: dict[bytes, bytes] = {}
        self.down = False

    def _up(self) -> None:
        if self.down:
            raise StoreUnavailable

    async def once(self, name: bytes, until: float) -> bool:
        self._up()
        first = name not in self.seen
        self.seen.add(name)
        return first

    async def acquire(self, name: bytes, holder: bytes, ttl_s: float) -> bool:
        self._up()
        return self.leases.setdefault(name, holder) == holder

    async def release(self, name: bytes, holder: bytes) -> None:
        if self.leases.get(name) == holder:
            del self.leases[name]


class FakeClient:
    """The provider's side. Set ``failure`` to raise it at the next step; ``identity`` is who comes back."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.identity = Identity(issuer="https://id.test", subject="alice", sid="s1", auth_time=int(NOW))
        self.failure: Exception | None = None
        self.begun: list[dict[str, Any]] = []
        self.redeemed: list[Sequence[tuple[str, str]]] = []
        self.notice: LogoutNotice | Exception | None = None
        self.end_session = "https://id.test/end"
        self.prompts: tuple[str, ...] = ()
        self.logout_calls: list[dict[str, Any]] = []

    async def provider(self) -> Provider:
        if self.failure is not None:
            raise self.failure
        url = "https://id.test/x"
        return Provider("https://id.test", url, url, url, prompt_values_supported=self.prompts)

    async def begin_login(self, **wish: Any) -> tuple[PendingLogin, str]:
        if self.failure is not None:
            raise self.failure
        self.begun.append(wish)
        state = f"st{len(self.begun)}"
        names = ("redirect_uri", "scopes", "return_to", "acr_values", "max_age", "prompt", "subject", "previous")
        pending = PendingLogin(
            issuer="https://id.test", state=state, nonce="n", code_verifier="v", created_at=self.clock.now(), **{k: wish[k] for k in names}
        )
        return pending, f"https://id.test/authorize?state={state}"

    async def finish_login(self, pending: PendingLogin, parameters: Sequence[tuple[str, str]]) -> tuple[TokenSet, Identity]:
        self.redeemed.append(parameters)
        if self.failure is not None:
            raise self.failure
        return TokenSet(Secret("CANARY-AT"), "Bearer", self.clock.now() + 300, Secret("CANARY-RT"), Secret("CANARY-ID")), self.identity

    async def end_session_url(self, **wish: Any) -> str:
        self.logout_calls.append(wish)
        if self.failure is not None:
            raise self.failure
        return self.end_session and f"{self.end_session}?state={wish['state']}"

    async def check_logout_token(self, token: str) -> LogoutNotice:
        if isinstance(self.notice, Exception):
            raise self.notice
        assert self.notice is not None
        return self.notice


class FakeKeeper:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.sessions: dict[bytes, Live] = {}
        self.ended: list[tuple[bytes, EndReason]] = []
        self.searches: list[dict[str, Any]] = []
        self.down = False

    def add(self, name: str, **changes: Any) -> Live:
        session = Session(
            key=name.encode().ljust(32, b"."),
            version=1,
            issuer="https://id.test",
            subject="alice",
            created_at=self.clock.now(),
            expires_at=self.clock.now() + 43_200,
            sid="s1",
            claims={"name": "Alice", "email": "a@x.test"},
            grants={"": Grant(Secret("CANARY-AT"), self.clock.now() + 300, frozenset({"openid", "offline_access"}))},
            refresh_token=Secret("CANARY-RT"),
            id_token=Secret("CANARY-ID"),
        )
        live = Live(session=replace(session, **changes), seen_at=self.clock.now(), idle_s=1800)
        assert live.session is not None
        self.sessions[live.session.key] = live
        return live

    async def begin(
        self, identity: Identity, tokens: TokenSet, *, scopes: Sequence[str] = (), previous: Sequence[bytes] = ()
    ) -> tuple[Live, str]:
        if self.down:
            raise StoreUnavailable
        name = f"new{len(self.sessions)}"
        return self.add(name, subject=identity.subject, sid=identity.sid), f"ticket-{name}"

    async def end(self, key: bytes, reason: EndReason) -> Session | None:
        if self.down:
            raise StoreUnavailable
        self.ended.append((key, reason))
        live = self.sessions.pop(key, None)
        if live is None:
            return None
        session, live.session = live.session, None
        return session

    async def end_where(self, **wish: Any) -> list[Session]:
        if self.down:
            raise StoreUnavailable
        self.searches.append(wish)
        found = [live.session for live in self.sessions.values() if live.session is not None and _fits(live.session, wish)]
        for session in found:
            await self.end(session.key, wish["reason"])
        return found

    async def find_rows(self, *, issuer: str = "", subject: str = "", sid: str = "", after: bytes = b"", limit: int = 100) -> list[Row]:
        found = [live.session for live in self.sessions.values() if live.session is not None and live.session.subject == subject]
        rows = [Row(s.key, s.version, b"", s.created_at, s.created_at, s.expires_at) for s in found if s.key > after]
        return sorted(rows, key=lambda row: row.key)[:limit]


def _fits(session: Session, wish: dict[str, Any]) -> bool:
    """As the keeper's index decides: with both, the person's sessions with that sid and those that never had one."""
    if session.issuer != wish["issuer"] or (wish["subject"] and session.subject != wish["subject"]):
        return False
    return not wish["sid"] or session.sid == wish["sid"] or (bool(wish["subject"]) and not session.sid)


class FakeDesk:
    def __init__(self) -> None:
        self.revoked: list[Session] = []

    def revoke_later(self, session: Session) -> None:
        self.revoked.append(session)


class FakeReception:
    def __init__(self) -> None:
        self.kept: dict[str, Admitted] = {}

    def read(self, note: bytes) -> Handed | None:
        admitted = self.kept.pop(note.decode(), None)
        return None if admitted is None else Handed(admitted, b"", 0.0)

    async def seat(self, handed: Handed) -> Admitted:
        return handed.admitted


@dataclass
class World:
    """One agent. ``ask`` plays the door: it makes the verdict that the gatekeeper would have made and hands it over."""

    options: AgentOptions = field(default_factory=lambda: AgentOptions(public_origin=ORIGIN, cookie=FakeCookie()))  # type: ignore[arg-type]
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))

    def __post_init__(self) -> None:
        self.client, self.keeper = FakeClient(self.clock), FakeKeeper(self.clock)
        self.desk, self.pending, self.store, self.handoff = FakeDesk(), FakePending(), FakeStore(), FakeReception()
        self.numbers = itertools.count()
        self.events: list[Event] = []
        self.cookies: dict[str, str] = {}
        self.routes = {route.path: route for route in agent_routes(self.options.prefix)}
        self.app: Quart = build_agent(
            options=self.options,
            client=self.client,
            keeper=self.keeper,
            desk=self.desk,
            pending=self.pending,
            signer=FakeSigner(),
            verdicts=self.handoff,
            store=self.store,
            clock=self.clock,
            probe=self.events.append,
            pseudonym=lambda *parts: f"P({parts[0]})",
        )

    def route(self, path: str) -> Route:
        return self.routes.get(path) or self.routes["/"]

    async def ask(
        self,
        method: str,
        target: str,
        *,
        live: Live | None = None,
        page: bool = True,
        body: bytes = b"",
        content_type: str | None = None,
        client_ip: str = "192.0.2.1",
        headers: tuple[Header, ...] = (),
        ranged: str = "",
        change: Callable[[Admitted], Admitted] = lambda admitted: admitted,
    ) -> Response:
        path, mark, query = target.partition("?")
        facts = Facts(
            method=method,
            path=path,
            query=query if mark else None,
            host="app.example.test",
            headers=headers,
            cookies=tuple(self.cookies.items()),
            fetch_mode="navigate" if page else "cors",
            accept="text/html" if page else "application/json",
            content_type=content_type,
            client_ip=client_ip,
            request_id="req-1",
        )
        admitted = Admitted(facts, self.route(path), None, live=live, judged=None if live is None else live.session)
        token = f"token-{next(self.numbers)}"
        self.handoff.kept[token] = change(admitted)
        sent = {"bff-handoff": token} | ({"content-type": content_type} if content_type else {})
        sent |= {"range": ranged} if ranged else {}
        answer = await self.app.test_client().open(target, method=method, headers=sent, data=body)
        assert isinstance(answer, Response)
        self._store_cookies(answer)
        return answer

    def _store_cookies(self, answer: Response) -> None:
        for value in answer.headers.getlist("Set-Cookie"):
            name, _, rest = value.partition("=")
            if "Max-Age=0" in rest:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = rest.partition(";")[0]

    async def start(self, query: str = "", live: Live | None = None) -> str:
        """Start a login; returns its state."""
        answer = await self.ask("GET", f"/bff/login{query}", live=live)
        assert answer.status_code == 302, await answer.get_data(as_text=True)
        return answer.headers["Location"].partition("state=")[2]

    async def come_back(self, state: str, more: str = "&code=c&iss=https%3A%2F%2Fid.test", live: Live | None = None) -> Response:
        return await self.ask("GET", f"/bff/callback?state={state}{more}", live=live)

    def outcomes(self, kind: Any) -> list[str]:
        return [event.outcome for event in self.events if event.kind is kind]
