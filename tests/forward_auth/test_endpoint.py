"""The endpoint without any front proxy: who may ask, what is judged, how each dialect is answered."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.forward_auth.answer import Rendering, admitted_bytes, cache_seconds, refused_bytes
from bff.forward_auth.dialects import CADDY, DIALECTS, ENVOY, HAPROXY, NGINX, TRAEFIK, Dialect
from bff.forward_auth.generate import PROGRAMS
from bff.forward_auth.identity import build_identity
from bff.forward_auth.inquiry import ForwardAuth
from bff.forward_auth.original import build_original
from bff.forward_auth.stripping import FAMILIES, NAMES, find_stubborn
from bff.policy.facts import Facts
from bff.policy.routes import Admission, Route, Upstream
from bff.policy.verdict import Admitted, Refusal, Target
from bff.proxy.edge import Edge
from bff.proxy.head import read_facts
from bff.proxy.headers import HeaderRules
from bff.proxy.lines import may_pass
from bff.session.model import Credential, Session

SECRET = "0123456789abcdef" * 4
RULES = HeaderRules(own_cookies="__Host-Http-bff", public_origin="https://app.example.com")
RENDERING = Rendering(rules=RULES, prefix="/bff", https=True, clear_cookies=("__Host-Http-bff=; Max-Age=0",))
TRUSTED = Edge(peer_ip="10.0.0.7", tls=False, trusted=(ipaddress.ip_network("10.0.0.0/8"),), hosts=frozenset({"app.example.com"}))
STRANGER = Edge(peer_ip="192.0.2.1", tls=False, trusted=TRUSTED.trusted, hosts=TRUSTED.hosts)
ASKED = ForwardAuth(secrets=lambda: [SECRET, "f" * 64], rendering=RENDERING)


def block(
    dialect: Dialect, *lines: str, method: str = "GET", target: str = "/api/x?y", secret: str = SECRET, host: str = "app.example.com"
) -> bytes:
    """A good question."""
    own = [f"BFF-Forward-Auth: {secret}", "BFF-Route: /api/"]
    own += [f"{dialect.method_header}: {method}", f"{dialect.target_header}: {target}"] if dialect.method_header else []
    where = f"/bff/forward-auth/{dialect.name}" + ("" if dialect.target_header else target)
    start = f"{'GET' if dialect.method_header else method} {where} HTTP/1.1"
    return "\r\n".join([start, f"Host: {host}", *own, *lines, "", ""]).encode("latin-1")


def original(dialect: Dialect, *lines: str, **how: str) -> Facts | Refusal:
    question = read_facts(block(dialect, *lines, **how), edge=TRUSTED)
    if isinstance(question, Refusal):
        return question
    rebuilt = build_original(question, dialect, endpoint=f"/bff/forward-auth/{dialect.name}")
    return rebuilt if isinstance(rebuilt, Refusal) else read_facts(rebuilt, edge=TRUSTED)


every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def test_endpoint_and_generators_know_the_same_front_proxies() -> None:
    assert set(DIALECTS) == set(PROGRAMS)


@pytest.mark.row("P3", "H5")
@every_dialect
def test_only_a_trusted_peer_with_the_secret_asks(dialect: Dialect) -> None:
    assert ASKED.find_dialect(block(dialect), TRUSTED) is dialect
    assert ASKED.find_dialect(block(dialect, secret="f" * 64), TRUSTED) is dialect  # an older key
    assert ASKED.find_dialect(block(dialect), STRANGER) is None
    assert ASKED.find_dialect(block(dialect), replace(TRUSTED, trusted=())) is None
    for wrong in ("", "x", SECRET[:-1], SECRET + "0", SECRET.upper()):
        assert ASKED.find_dialect(block(dialect, secret=wrong), TRUSTED) is None
    assert ASKED.find_dialect(block(dialect, f"BFF-Forward-Auth: {SECRET}"), TRUSTED) is None  # twice: whose is it?
    assert ASKED.find_dialect(block(dialect).replace(b"/forward-auth/", b"/forward-auth/x"), TRUSTED) is None
    assert (
        ASKED.find_dialect(b"GET /x?a= /bff/forward-auth/nginx HTTP/1.1\r\nBFF-Forward-Auth: " + SECRET.encode() + b"\r\n\r\n", TRUSTED)
        is None
    )


@pytest.mark.row("P3")
@every_dialect
def test_the_original_is_what_the_dialect_says_and_nobody_elses_header(dialect: Dialect) -> None:
    foreign = [
        f"{name}: /open"
        for name in ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Rewrite-URL")
        if name != dialect.target_header
    ] + [f"{name}: DELETE" for name in ("X-Original-Method", "X-Forwarded-Method") if name != dialect.method_header]
    facts = original(dialect, *foreign, "Cookie: a=b", "Origin: https://app.example.com", method="POST", target="/api/x?/open")
    assert isinstance(facts, Facts)
    assert (facts.method, facts.path, facts.query) == ("POST", "/api/x", "/open")
    assert facts.cookies == (("a", "b"),) and facts.origin == "https://app.example.com"
    names = {name.lower() for name, _ in facts.headers}
    assert not names & dialect.own_headers


@pytest.mark.row("P2", "P5", "P10", "ROUTE-4")
@every_dialect
@pytest.mark.parametrize(
    "target", ["/api/../x", "//api/x", "/api/x#y", "/api/%2e%2e/x", "http://x/api", "*", "/a b", "api", "/api/%zz", "/\u00e9"]
)
def test_what_the_reader_refuses_is_refused_here(dialect: Dialect, target: str) -> None:
    refusal = original(dialect, target=target)
    assert isinstance(refusal, Refusal) and refusal.status == 400


@every_dialect
@pytest.mark.parametrize("method", ["get", "TRACE", "CONNECT", "GET /x HTTP/1.1", "BREW"])
def test_a_method_we_do_not_serve_is_refused(dialect: Dialect, method: str) -> None:
    assert isinstance(original(dialect, method=method), Refusal)


@pytest.mark.parametrize("dialect", [NGINX, TRAEFIK, CADDY, HAPROXY], ids=lambda dialect: dialect.name)
def test_a_question_that_says_it_twice_or_not_at_all_is_refused(dialect: Dialect) -> None:
    assert isinstance(original(dialect, f"{dialect.target_header}: /open"), Refusal)
    assert isinstance(original(dialect, f"{dialect.method_header}: GET"), Refusal)
    assert isinstance(original(dialect, target=""), Refusal)


@every_dialect
def test_a_body_or_an_upgrade_of_the_question_never_becomes_the_originals(dialect: Dialect) -> None:
    assert isinstance(original(dialect, "Content-Length: 3"), Refusal)
    assert isinstance(original(dialect, "Transfer-Encoding: chunked"), Refusal)
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    facts = original(dialect, *upgrade)
    assert isinstance(facts, Facts) and not facts.websocket and facts.keep_alive


@pytest.mark.row("H11")
@every_dialect
def test_the_browser_is_found_behind_the_front_proxy(dialect: Dialect) -> None:
    facts = original(dialect, "X-Forwarded-For: 6.6.6.6, 198.51.100.9, 10.0.0.3", "X-Forwarded-Proto: http")
    assert isinstance(facts, Facts) and facts.client_ip == "198.51.100.9" and facts.insecure
    wrong = original(dialect, "X-Forwarded-Host: evil.example")
    assert isinstance(wrong, Refusal) and wrong.status == 421


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

API = Upstream("http", "api", 80, "/v1/")


def admitted(*, cookies: tuple[tuple[str, str], ...] = (), credential: bool = True, **more: object) -> Admitted:
    route = Route("api", "/api/", Admission.API, frozenset({"GET"}), upstream=API, forward_cookies=frozenset({"theme"}))
    facts = Facts("GET", "/api/x", None, "app.example.com", (), cookies=cookies)
    given = Credential(b"Bearer t", 10.0) if credential else None
    return replace(Admitted(facts, route, Target(API, "/v1/x"), credential=given), **more)  # type: ignore[arg-type]


def fields(answer: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.row("H4", "REQH-4")
@every_dialect
def test_a_yes_says_everything_the_api_may_know(dialect: Dialect) -> None:
    cookies = (("theme", "dark"), ("__Host-Http-bff", "x"), ("__host-http-bff-login-1", "y"), ("other", "z"), ("", "nameless"))
    answer = admitted_bytes(admitted(cookies=cookies), (("X-User", b"ada"), ("X-None", b"")), dialect, rules=RULES, keep_alive=True)
    found = fields(answer)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n")
    assert found["authorization"] == ["Bearer t"] and found["cookie"] == ["theme=dark"] and found["x-user"] == ["ada"]
    assert found["cache-control"] == ["no-store"] and found["content-length"] == ["0"]
    assert found.get("x-none") == ([""] if dialect.writes_empty else None)
    nobody = fields(admitted_bytes(admitted(credential=False), (("X-User", b""),), dialect, rules=RULES, keep_alive=True))
    for name in ("authorization", "cookie", "x-user"):
        assert nobody.get(name) == ([""] if dialect.writes_empty else None)


def test_only_a_front_proxy_that_repeats_is_told_for_how_long() -> None:
    def told(verdict: Admitted, asked: str, now: float = 100.0) -> list[str] | None:
        seconds = cache_seconds(verdict, asked=asked, now=now)
        return fields(admitted_bytes(verdict, (), NGINX, rules=RULES, keep_alive=True, cache_s=seconds)).get("x-accel-expires")

    assert told(admitted(), "5") == ["5"]
    assert told(admitted(valid_until=103.9), "5") == ["3"]
    assert told(admitted(valid_until=100.0), "5") is None
    assert told(admitted(), "100000") == ["60"]
    assert told(admitted(set_cookies=("a=b",)), "5") == ["0"]
    for junk in ("", "-1", "x", "1e9", "5 ", "9" * 30):
        assert told(admitted(), junk) is None


REFUSALS = [
    Refusal(400, "target_refused", "no", close=True),
    Refusal(401, "unauthenticated", "no", clear_cookie=True),
    Refusal(403, "cross_origin", "no"),
    Refusal(404, "route_unknown", "no"),
    Refusal(405, "method_refused", "no", allow=("GET",)),
    Refusal(421, "host_unknown", "no"),
    Refusal(503, "store_unavailable", "no", retry_after_s=3),
    Refusal(204, "forwards_exhausted", "", allow=("GET",)),
]


@every_dialect
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_no_refusal_looks_like_a_yes(dialect: Dialect, refusal: Refusal) -> None:
    facts = Facts("GET", "/api/x", None, "app.example.com", (), fetch_mode="cors")
    answer = refused_bytes(refusal, facts, dialect, RENDERING, question=facts, request_id="r1", keep_alive=True)
    status = int(answer[9:12])
    found = fields(answer)
    meant = 403 if refusal.status == 204 else refusal.status
    assert "authorization" not in found and found["bff-error"] == [refusal.code]
    if dialect.relays:
        assert status == meant
        assert answer.partition(b"\r\n\r\n")[2].startswith(b"{")
    else:
        assert status in (401, 403) and found["bff-status"] == [str(meant)]
        assert found["bff-problem"][0].startswith("{") and f'"code":"{refusal.code}"' in found["bff-problem"][0]
    assert ("set-cookie" in found) is refusal.clear_cookie


def test_the_answer_to_a_question_by_get_has_a_body_even_for_a_head_request() -> None:
    """Else the front proxy waits for the length that was announced."""
    head = Facts("HEAD", "/api/x", None, "app.example.com", (), fetch_mode="cors")
    asked = replace(head, method="GET")
    for question, has_body in ((asked, True), (head, False)):
        answer = refused_bytes(REFUSALS[1], head, ENVOY, RENDERING, question=question, request_id="r", keep_alive=True)
        assert bool(answer.partition(b"\r\n\r\n")[2]) is has_body


# ── identity ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def session(**claims: object) -> Session:
    return Session(b"k", 1, "https://id.example.com", "ada", 0.0, 1.0, claims=MappingProxyType(claims))


@pytest.mark.row("H13", "H9")
@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_no_claim_makes_another_header_or_another_value(value: object) -> None:
    ((name, spelled),) = build_identity([("X-Roles", "roles")], session(roles=value))
    assert name == "X-Roles"
    assert all(0x20 <= byte < 0x7F for byte in spelled) and b'"' not in spelled and spelled.strip() == spelled
    texts = value if isinstance(value, list) else [value]
    if all(isinstance(text, str | int) for text in texts) and spelled:
        assert len(spelled.split(b",")) == max(len(texts), 1)


@pytest.mark.row("H4", "H13")
def test_every_configured_header_has_a_value_or_is_empty() -> None:
    wanted = [("X-User", "sub"), ("X-Roles", "roles"), ("X-None", "nothing"), ("X-Long", "long")]
    claims = session(roles=["a,b", "c\r\nX-Admin: 1", "\u00e9", "100%"], long="x" * 20_000)
    assert build_identity(wanted, claims) == (
        ("X-User", b"ada"), ("X-Roles", b"a%2Cb,c%0D%0AX-Admin: 1,%C3%A9,100%25"), ("X-None", b""), ("X-Long", b""),
    )  # fmt: skip
    assert build_identity(wanted, None) == tuple((name, b"") for name, _ in wanted)


# ── stripping ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.row("H1", "REQH-6")
def test_everything_that_the_door_strips_is_removed_by_name_or_refused() -> None:
    """For a front proxy that removes by name: nothing that may not pass is neither removed nor refused."""
    for family in FAMILIES:
        for member in ("", "-user", "user", "made-up", "-made-up"):
            name = (family + member).encode()
            facts = Facts("GET", "/", None, "h", ((name, b"x"),))
            if not may_pass(name) and not name.startswith((b"sec-", b"access-control-request-")) and name.decode() not in NAMES:
                assert find_stubborn(facts, "x-csrf"), name
    dotted = Facts("GET", "/", None, "h", ((b"X.User", b"x"),))
    assert find_stubborn(dotted, "x-csrf") == "X.User"


def test_what_browsers_send_is_never_refused_for_it() -> None:
    names = ("Accept", "Accept-Language", "User-Agent", "Cookie", "Sec-Fetch-Site", "Sec-CH-UA-Brand-New", "X-CSRF", "Origin", "Priority",
             "If-None-Match", "Range", "X-Requested-With", "Last-Event-ID", "traceparent", "Authorization", "X-Forwarded-For")  # fmt: skip
    assert find_stubborn(Facts("GET", "/", None, "h", tuple((name.encode(), b"x") for name in names)), "x-csrf") == ""
