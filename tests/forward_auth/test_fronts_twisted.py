"""Behind the five front proxies, over HTTP/1.1 and HTTP/2: cookies, targets, hosts, methods and trailers that no browser would send so."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.forward_auth.fronts import FrontProxy
from tests.forward_auth.judging import SESSION, Outcome
from tests.forward_auth.secure import SecureWorld, through_tls
from tests.harness import raw
from tests.harness.http import HeaderList

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

OWN: HeaderList = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("x-csrf", "1")]
LOGIN = f"{SESSION}-login-abc=1"

every_version = pytest.mark.parametrize("version", ("http/1.1", "h2"))


async def attempt(
    front: FrontProxy, secure: SecureWorld, version: str, method: str, target: str, headers: HeaderList, body: bytes | None = None
) -> Outcome | None:
    """None where the connection or the stream was reset: a refusal too."""
    try:
        return await through_tls(front, secure, version, method, target, headers, body)
    except (ConnectionError, asyncio.IncompleteReadError):
        assert not secure.world.recorder.seen
        return None


@pytest.mark.row("REQH-4", "H15", "COOKIE-21")
@every_version
async def test_however_cookies_are_spelled_an_api_sees_the_listed_ones_alone(
    tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str
) -> None:
    """One line, several lines or HTTP/2 crumbs (RFC 9113 §8.2.3), any case of the name, login cookies among them."""
    crumbs = ["a=1", tls_cookie, LOGIN, "theme=dark", "b=2"]
    spellings = {
        "line": [("cookie", "; ".join(crumbs))],
        "crumbs": [("cookie", crumb) for crumb in crumbs],
        "pairs": [("cookie", "; ".join(crumbs[:2])), ("cookie", "; ".join(crumbs[2:]))],
        "upper": [("COOKIE", "; ".join(crumbs))],
        "mixed": [("CoOkIe", crumbs[0]), *(("cookie", crumb) for crumb in crumbs[1:])],
        "older": [("cookie", "; ".join(crumbs)), ("cookie2", tls_cookie)],
    }
    for path, wanted in (("/record/x", []), ("/cookies/x", ["theme=dark"])):
        for name, cookies in spellings.items():
            here = await attempt(tls_front, secure, version, "GET", path, [*OWN, *cookies])
            upper = name in ("upper", "mixed")
            if here is None or here.answer.status != 200:
                # Upper case is malformed in HTTP/2; Envoy joins lines of HTTP/1.1 by commas, so that none of them is our cookie.
                assert (upper and version == "h2") or (tls_front.name == "envoy" and len(cookies) > 1 and version == "http/1.1"), (
                    name,
                    here,
                )
                continue
            (seen,) = here.seen
            assert seen.claims["sub"] == "ada-7c1f04" and [value for value in seen.all("cookie") if value] == wanted, (name, seen.head)
            assert SESSION not in seen.head.decode("latin-1") and not seen.all("cookie2"), name


@pytest.mark.row("COOKIE-21")
@every_version
async def test_our_cookie_twice_is_nobodys(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str) -> None:
    for cookies in ([("cookie", tls_cookie)] * 2, [("cookie", f"{tls_cookie}; {tls_cookie}")], [("cookie", f"a=1, {tls_cookie}")]):
        here = await attempt(tls_front, secure, version, "GET", "/record/x", [*OWN, *cookies])
        assert here is not None and here.answer.status == 401 and not here.seen
    here = await attempt(tls_front, secure, version, "GET", "/record/x", [*OWN, ("cookie", tls_cookie)])
    assert here is not None and here.answer.status == 200


@pytest.mark.row("ROUTE-4", "H5")
@every_version
async def test_no_other_form_of_target_and_no_other_host_passes(
    tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str
) -> None:
    """RFC 9112 §3.2.2 lets a proxy accept our own absolute form: what is sent on is the path that was judged."""
    call = [*OWN, ("cookie", tls_cookie)]
    own = secure.world.app
    for target in ("http://evil.example/record/x", f"{own}/open/../record/x", "*", "record/x", "", "?/record/x", "//localhost/record/x",
                   f"{own}/record/x", "/record/x\ty", "/record/x#/open", "/record/x%2f..%2fopen", "/record/..%3b/x"):  # fmt: skip
        here = await attempt(tls_front, secure, version, "GET", target, call)
        for seen in here.seen if here else ():
            # Traefik takes HTTP/2's authority from :authority and the path alone from such a :path.
            assert seen.line == "GET /up/x HTTP/1.1" and target.endswith("/record/x"), (target, seen.line)
            assert target.startswith(own) or (tls_front.name == "traefik" and version == "h2"), (target, seen.line)
    for host in ("evil.example", "localhost", "localhost:1", f"{own.partition('://')[2]}, evil.example"):
        if version == "http/1.1":
            here = await attempt(tls_front, secure, version, "GET", "/record/x", [*call, ("host", host)])
            assert here is None or (here.answer.status in (400, 421) and not here.seen), host
        else:
            # Beside :authority it is refused or ignored; either way an API gets its own name.
            here = await attempt(tls_front, secure, version, "GET", "/record/x", [*call, ("host", host)])
            for seen in here.seen if here else ():
                assert seen.all("host") == [secure.world.recorder.url.partition("://")[2]], host


@pytest.mark.row("ROUTE-3", "REQH-15")
@every_version
async def test_methods_that_nobody_serves_pass_nowhere(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str) -> None:
    call = [*OWN, ("cookie", tls_cookie)]
    for method in ("TRACE", "TRACK", "CONNECT", "get", "BREW", "PRI"):
        here = await attempt(tls_front, secure, version, method, "/record/x", call)
        assert here is None or (here.answer.status >= 400 and not here.seen), (method, here)


@pytest.mark.row("H1", "H3", "REQH-2", "REQH-6")
@every_version
async def test_no_field_that_the_front_proxy_sets_can_be_named_doubled_or_misspelled(
    tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str
) -> None:
    call = [*OWN, ("cookie", tls_cookie)]
    set_here = "X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-User, Authorization"
    ours = "BFF-Forward-Auth, BFF-Route, X-Original-URI, X-Original-Method, X-Forwarded-Uri, X-Forwarded-Method"
    for more in (
        [("connection", f"close, {set_here}")],
        [("connection", f"close, {ours}")],
        [("authorization", "Bearer junk"), ("authorization", "Bearer more")],
        [("x-user", "admin"), ("x-user", "root")],
        [("x_user", "admin")],
        [("x_forwarded_proto", "http")],
        [("te", "trailers, deflate")],
        [("x-envoy-made-up", "admin")],
    ):
        here = await attempt(tls_front, secure, version, "GET", "/record/x", [*call, *more])
        for seen in here.seen if here else ():
            told = {name.lower(): seen.all(name) for name, _ in seen.headers}
            assert told["x-user"] == ["ada-7c1f04"] and seen.claims["sub"] == "ada-7c1f04", (more, seen.head)
            assert told["x-forwarded-proto"] == ["https"] and told["x-forwarded-for"] == ["127.0.0.1"], (more, seen.head)
            assert not {"x_user", "x_forwarded_proto", "te", "x-envoy-made-up"} & set(told), (more, seen.head)
            assert b"junk" not in seen.head and b"admin" not in seen.head, more


@pytest.mark.row("H1", "FRAME-13", "REQH-3")
async def test_trailers_end_at_the_front_proxy(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str) -> None:
    """Some servers put them among the headers."""
    fields = [*OWN, ("cookie", tls_cookie), ("transfer-encoding", "chunked"), ("trailer", "x-user, cookie")]
    head = [f"POST /record/x HTTP/1.1\r\nHost: {tls_front.authority}", *(f"{name}: {value}" for name, value in fields)]
    for end, bodies in (("", [b"{}"]), ("X-User: admin\r\nCookie: a=b\r\n", [b"{}"])):
        secure.quiet()
        sent = ("\r\n".join(head) + f"\r\n\r\n2\r\n{{}}\r\n0\r\n{end}\r\n").encode()
        outcome = await raw.exchange(tls_front.address, [sent], wait_s=0.5)
        assert outcome.statuses == [200], end
        # What followed the last chunk would be the next request's head at this recorder.
        assert [seen.body for seen in secure.world.recorder.seen] == bodies
        assert all("admin" not in seen.head.decode("latin-1").lower() for seen in secure.world.recorder.seen)


@pytest.mark.row("H1", "FRAME-13", "REQH-3")
async def test_trailers_of_http2_do_too(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str) -> None:
    headers = [*OWN, ("cookie", tls_cookie), ("content-type", "application/json")]
    here = await through_tls(tls_front, secure, "h2", "POST", "/record/x", headers, b"{}")
    assert here.answer.status == 200 and [seen.body for seen in here.seen] == [b"{}"]
    for more, method in itertools.product(([], [("content-length", "2")]), ("POST", "GET")):
        if tls_front.name == "haproxy" and method == "GET" and not more:
            continue  # before 3.2 it cannot: as the document says
        try:
            await through_tls(
                tls_front, secure, "h2", method, "/record/x", [*headers, *more], b"{}", [("x-user", "admin"), ("cookie", "a=b")]
            )
        except ConnectionError:
            assert tls_front.name == "nginx"  # which knows none in HTTP/2
        for seen in secure.world.recorder.seen:
            assert seen.body == b"{}" and seen.claims.get("sub") == "ada-7c1f04", (more, method, seen)


@pytest.mark.row("M2", "WS-1")
async def test_an_upgrade_to_several_protocols_reaches_no_api(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str) -> None:
    socket = [("connection", "Upgrade"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
    for offered in ("h2c, websocket", "websocket, h2c", "websocket"):
        fields = [*OWN, ("cookie", tls_cookie), *socket, ("upgrade", offered), ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")]
        head = [f"GET /record/x HTTP/1.1\r\nHost: {tls_front.authority}", *(f"{name}: {value}" for name, value in fields)]
        secure.quiet()
        outcome = await raw.exchange(tls_front.address, [("\r\n".join(head) + "\r\n\r\n").encode()], wait_s=0.3)
        assert outcome.statuses and 101 not in outcome.statuses, offered
        for seen in secure.world.recorder.seen:
            assert not seen.all("upgrade") and not seen.all("http2-settings") and seen.all("x-forwarded-proto") == ["https"], seen.head
