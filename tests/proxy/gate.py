"""A gatekeeper with a fake keeper and a fake desk, and the requests that are put to it."""

from __future__ import annotations

from typing import Any

from bff.base.clock import FakeClock
from bff.base.events import Event
from bff.base.secret import Secret
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Policy, Route, TokenKind, Upstream
from bff.policy.table import RouteTable
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.gatekeeper import Gatekeeper
from bff.session.cookies import CookiePolicy
from bff.session.model import Credential, Grant, Live, Session

ORIGIN = "https://a.test"
COOKIE = CookiePolicy()
NAME = COOKIE.session_name
UPSTREAM = Upstream("https", "api.internal", 443, "/v1/")
SCOPES = frozenset({"orders:read"})


class Sessions:
    """A keeper that knows some sessions at once (``warm``), some after asking the store (``cold``)."""

    def __init__(self) -> None:
        self.warm: dict[str, Live] = {}
        self.cold: dict[str, Live] = {}
        self.asked: list[str] = []
        self.touched: list[Live] = []
        self.failure: Exception | None = None

    def recall(self, cookie_value: str) -> Live | None:
        self.asked.append(cookie_value)
        return self.warm.get(cookie_value)

    async def find(self, cookie_value: str) -> Live | None:
        if self.failure is not None:
            raise self.failure
        return self.warm.get(cookie_value) or self.cold.get(cookie_value)

    def touch(self, live: Live) -> None:
        self.touched.append(live)


class Desk:
    """A credential desk: ``ready`` tokens by (kind, audience); ``issue`` gives what ``later`` holds or raises ``failure``."""

    def __init__(self) -> None:
        self.ready: dict[tuple[str, str], Credential] = {}
        self.later: dict[tuple[str, str], Credential] = {}
        self.issued: list[tuple[Live | None, str, str, frozenset[str]]] = []
        self.failure: Exception | None = None
        self.meanwhile: Any = None

    def at_hand(self, session: Session | None, *, token: TokenKind, audience: str, scopes: frozenset[str]) -> Credential | None:
        return None if session is None and token == "user" else self.ready.get((token, audience))

    async def issue(self, live: Live | None, *, token: TokenKind, audience: str, scopes: frozenset[str]) -> Credential:
        self.issued.append((live, token, audience, scopes))
        if self.failure is not None:
            raise self.failure
        if self.meanwhile is not None:
            self.meanwhile()
        return self.later.get((token, audience)) or self.ready[token, audience]


def route(path: str = "/api/", **more: Any) -> Route:
    given: dict[str, Any] = {
        "name": path,
        "path": path,
        "admission": Admission.API,
        "methods": METHODS,
        "upstream": UPSTREAM,
        "token": "user",
        "session": True,
    }
    return Route(**given | more)


ROUTES = [
    route(),
    route("/get/", methods=frozenset({"GET", "HEAD"})),
    route("/scoped/", policy=Policy(scopes=SCOPES)),
    route("/sales/", policy=Policy(claims={"department": frozenset({"sales"})})),
    route("/fresh/", policy=Policy(max_age_s=300)),
    route("/orders/", audience="orders", policy=Policy(scopes=SCOPES)),
    route("/machine/", token="client", session=False),
    route("/either/", token="user_or_client", session=False),
    route("/greeting/", token="user_or_none", session=False),
    route("/public/", token="none", session=False),
    route("/quiet/", activity=False),
    route("/files/", encoded_slash=True),
    route("/flat"),
    route("/cookies/", forward_cookies=frozenset({"theme"})),
    route("/region/", upstream=None, by_claim={"eu": UPSTREAM}, claim="region"),
    route(
        "/bff/login",
        admission=Admission.NAVIGATION,
        upstream=None,
        token="none",
        session=False,
        exact=True,
        methods=frozenset({"GET"}),
        activity=False,
    ),
    route(
        "/bff/logout",
        admission=Admission.FORM,
        upstream=None,
        token="none",
        session=False,
        exact=True,
        methods=frozenset({"POST"}),
        activity=False,
    ),
    route("/bff/user", upstream=None, token="none", exact=True, methods=frozenset({"GET"}), activity=False),
    route("/bff/maybe", upstream=None, token="none", exact=True, session_optional=True),
    route(
        "/bff/backchannel-logout",
        admission=Admission.MACHINE,
        upstream=None,
        token="none",
        session=False,
        exact=True,
        methods=frozenset({"POST"}),
    ),
    route("/", admission=Admission.OPEN, upstream=None, token="none", session=False, methods=frozenset({"GET", "HEAD"})),
]


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(2000.0)
        self.keeper = Sessions()
        self.desk = Desk()
        self.events: list[Event] = []
        self.session = Session(
            b"k" * 32, 1, "https://id.test", "alice", 1000.0, 9000.0, auth_time=1900, claims={"department": "sales"},
            grants={"": Grant(Secret("t"), 3000.0, SCOPES)},
        )  # fmt: skip
        self.live = Live(self.session, seen_at=1990.0, idle_s=600.0)
        self.keeper.warm["alice"] = self.live
        self.credential = Credential(b"Bearer t", 3000.0, scopes=SCOPES)
        self.desk.ready["user", ""] = self.credential
        self.gatekeeper = Gatekeeper(
            table=RouteTable(ROUTES),
            keeper=self.keeper,
            desk=self.desk,
            origin=ORIGIN,
            cookie=COOKIE,
            clock=self.clock,
            probe=self.events.append,
            pseudonym=lambda *parts: "~" + parts[0],
        )

    def now(self, facts: Facts) -> Admitted | Refusal | None:
        return self.gatekeeper.judge_now(facts)

    def refused(self, facts: Facts, status: int, code: str) -> Refusal:
        verdict = self.now(facts)
        assert isinstance(verdict, Refusal), verdict
        assert (verdict.status, verdict.code) == (status, code)
        return verdict

    def admitted(self, facts: Facts) -> Admitted:
        verdict = self.now(facts)
        assert isinstance(verdict, Admitted), verdict
        return verdict


def ask(path: str = "/api/x", method: str = "GET", *, cookies: tuple[str, ...] = ("alice",), **more: Any) -> Facts:
    given: dict[str, Any] = {
        "csrf_header": "1",
        "fetch_site": "same-origin",
        "query": None,
        "host": "a.test",
        "headers": (),
        "request_id": "r-1",
    }
    return Facts(method=method, path=path, cookies=tuple((NAME, value) for value in cookies), **given | more)
