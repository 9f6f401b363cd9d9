"""Behind the five front proxies: what a hostile browser sends never reaches an API as more than a browser's word."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from bff.policy.path import decode_fully
from tests.forward_auth.conftest import IDENTITY, browser_through
from tests.forward_auth.fronts import FrontProxy, print_config, start_front
from tests.forward_auth.judging import SESSION, at_the_door, door_of, through
from tests.harness import raw
from tests.harness.http import HeaderList
from tests.harness.jar import Jar
from tests.harness.programs import free_port
from tests.harness.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

OWN: HeaderList = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), ("X-CSRF", "1")]


@pytest.fixture
def call(world: World, adas_jar: Jar) -> HeaderList:
    """A good call's headers."""
    return [*OWN, ("Cookie", adas_jar.header(f"{world.app}/"))]


SPOOFED = {
    "X-User": "admin", "X-Department": "board", "Remote-User": "admin", "X-Forwarded-User": "admin", "X-Forwarded-Email": "a@b",
    "X-Forwarded-Groups": "admins", "X-Forwarded-Prefix": "/admin", "X-Forwarded-Port": "1", "X-Forwarded-Uri": "/open/x",
    "X-Forwarded-Method": "GET", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.example;proto=https", "X-Real-Ip": "6.6.6.6", "X-Original-URL": "/open/x",
    "X-Original-URI": "/open/x", "X-Original-Method": "GET", "X-Rewrite-URL": "/open/x", "X-Auth-Request-User": "admin",
    "X-Auth-Request-Redirect": "/open/x", "Client-Cert": ":AAAA:", "X-SSL-Client-Cert": "x", "Authorization": "Bearer junk",
    "Proxy-Authorization": "Basic eDp5", "BFF-Route": "/open/", "BFF-Forward-Auth": "junk", "bff-handoff": "junk",
    "X-Access-Token": "junk", "True-Client-Ip": "6.6.6.6", "Via": "1.0 evil", "X-HTTP-Method-Override": "DELETE",
    "X-Envoy-Original-Path": "/x", "X-Envoy-Internal": "true",
}  # fmt: skip
TRUE = {"x-user": "ada-7c1f04", "x-department": "sales"}
SET_BY_THE_FRONT = {
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "via",
}


@pytest.mark.row("H1", "H2", "H4", "H5", "H8", "P3", "REQH-5", "REQH-6", "REQH-7", "S6")
async def test_no_spoofed_header_reaches_an_api_or_changes_a_verdict(front: FrontProxy, world: World, call: HeaderList) -> None:
    for name, value in SPOOFED.items():
        for spelling in (name, name.lower(), name.upper()):
            here = await through(front, world, "POST", "/record/x", [*call, (spelling, value)], b"{}")
            assert here.answer.status == 200, (name, here.answer.text)
            (seen,) = here.seen
            assert seen.claims["sub"] == "ada-7c1f04" and seen.line == "POST /up/x HTTP/1.1", name
            for field, told in seen.headers:
                lower = field.lower()
                assert lower not in ("cookie", "origin", "referer", "x-csrf") and not lower.startswith(("sec-", "bff-")), (name, field)
                if lower == name.lower() and lower not in ("authorization", "via"):
                    assert told == TRUE.get(lower, told) and (lower in TRUE or lower in SET_BY_THE_FRONT), (name, field, told)
                assert "6.6.6.6" not in told and "evil" not in told.replace("1.0 evil", "") and told not in ("admin", "junk"), (
                    name,
                    field,
                    told,
                )


@pytest.mark.row("H4", "H9")
async def test_without_a_session_no_identity_reaches_an_api(front: FrontProxy, world: World) -> None:
    spoofed = [(name, "admin") for name in IDENTITY]
    for cookie in ("", "__Host-Http-bff=forged"):
        headers = [*OWN, *spoofed, ("Authorization", "Bearer junk"), *([("Cookie", cookie)] if cookie else [])]
        here = await through(front, world, "GET", "/open/x", headers)
        assert here.answer.status == 200
        (seen,) = here.seen
        assert not [value for name in IDENTITY for value in seen.all(name) if value]
        assert not any(seen.all("authorization")) and not any(seen.all("cookie"))
        assert (await through(front, world, "GET", "/record/x", headers)).answer.status == 401


@pytest.mark.row("H1", "REQH-6")
async def test_other_spellings_of_identity_headers_are_refused_or_removed(front: FrontProxy, world: World, call: HeaderList) -> None:
    for name in ("X_User", "X_Forwarded_User", "X-Forwarded_Email", "X.User", "X-Auth-Something-New", "X-User-Invented", "X-Oidc-Made-Up",
                 "X-Forwarded-Whatever"):  # fmt: skip
        here = await through(front, world, "GET", "/record/x", [*call, (name, "admin")])
        assert here.answer.status in (200, 400), (name, here.answer.status)
        for seen in here.seen:
            assert "admin" not in [value for _, value in seen.headers], (name, seen.head)


@pytest.mark.row("H3", "REQH-2")
async def test_connection_cannot_remove_what_we_add_or_check(front: FrontProxy, world: World, call: HeaderList) -> None:
    for named in ("close, Authorization", "close, authorization, X-User", "close, Cookie", "close, X-CSRF", "close, Host", "close, Origin"):
        here = await through(front, world, "GET", "/record/x", [*call, ("Connection", named)])
        for seen in here.seen:
            assert seen.claims.get("sub") == "ada-7c1f04" and seen.header("x-user") == "ada-7c1f04", named
        bare = [(name, value) for name, value in call if name != "X-CSRF"]
        foreign = await through(
            front, world, "POST", "/record/x", [*bare, ("Connection", named), ("Origin", "https://evil.example")], b"{}"
        )
        assert foreign.answer.status in (400, 403) and not foreign.seen, named


@pytest.mark.row("H6", "H10")
async def test_a_doubled_single_valued_header_never_passes(front: FrontProxy, world: World, call: HeaderList) -> None:
    for name, values in {"Origin": (world.app, "https://evil.example"), "Sec-Fetch-Site": ("same-origin", "cross-site")}.items():
        for order in (values, values[::-1]):
            base = [(field, value) for field, value in call if field != name]
            here = await through(front, world, "POST", "/record/x", [*base, *((name, value) for value in order)], b"{}")
            assert here.answer.status in (400, 403) and not here.seen, (name, order)


@pytest.mark.row("P4")
async def test_no_user_agent_opens_a_door(front: FrontProxy, world: World) -> None:
    for agent in ("kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Prometheus/2.0", "Envoy/HC", "curl/8"):
        here = await through(front, world, "GET", "/record/x", [*OWN, ("User-Agent", agent)])
        assert here.answer.status == 401 and not here.seen


@pytest.mark.row("REQH-4", "H15")
async def test_of_cookies_only_the_listed_ones_reach_an_api(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    ours = adas_jar.header(f"{world.app}/")
    lookalike = "__host-http-bff-login-x=1"
    jar = f"a=1; theme=dark; {ours}; {lookalike}; b=2"
    for path, wanted in (("/record/x", []), ("/open/x", []), ("/cookies/x", ["theme=dark"]), ("/returning/x", []), ("/sales/x", [])):
        here = await through(front, world, "GET", path, [*OWN, ("Cookie", jar)])
        assert here.answer.status == 200, (path, here.answer.text)
        (seen,) = here.seen
        assert [value for value in seen.all("cookie") if value] == wanted, (path, seen.head)
        assert SESSION not in seen.head.decode("latin-1")
    here = await through(front, world, "GET", "/cookies/x", [*OWN, ("Cookie", ours)])
    assert not any(here.seen[0].all("cookie"))


@pytest.mark.row("RESP-2", "RESP-4", "RESP-5", "RESP-6", "CACHE-1")
async def test_an_api_cannot_set_our_cookie_or_act_on_the_origin(front: FrontProxy, world: World, call: HeaderList) -> None:
    from tests.harness.upstream import response, sending

    hostile = [
        ("Set-Cookie", f"{SESSION}=stolen; Path=/; Secure; HttpOnly"), ("Access-Control-Allow-Origin", "*"),
        ("Clear-Site-Data", '"*"'), ("Access-Control-Allow-Credentials", "true"), ("Service-Worker-Allowed", "/"),
        ("Refresh", "0; url=https://evil.example"), ("Strict-Transport-Security", "max-age=0"), ("X-Powered-By", "x"),
        ("WWW-Authenticate", 'Basic realm="x"'), ("X-Accel-Redirect", "/secret"), ("X-Sendfile", "/etc/passwd"),
        ("BFF-Error", "forged"), ("Alt-Svc", 'h3=":1"'), ("Cache-Control", "public, max-age=600"),
    ]  # fmt: skip
    world.recorder.default = sending(response(200, b"{}", *hostile))
    answer = await front.ask("GET", "/record/x", call)
    assert answer.status == 200 and answer.body == b"{}"
    names = {name.lower() for name, _ in answer.headers}
    dropped = {name.lower() for name, _ in hostile} - {"cache-control"}
    assert sorted(names & dropped) == []
    assert answer.all("cache-control") == ["private, no-cache"] and "cookie" in ",".join(answer.all("vary")).lower()
    assert answer.all("x-content-type-options") == ["nosniff"]
    assert "sandbox" in (answer.header("content-security-policy") or "")


PATHS = [
    "/open/../record/x", "/record/../open/x", "/open/%2e%2e/record/x", "/open/.%2e/record/x", "/open/%252e%252e/record/x",
    "/open/..;/record/x", "/open/..%5crecord/x", "/open%2f..%2frecord/x", "//record/x", "/record//x", "/./record/x", "/record/./x",
    "/record/x/..", "/record/x/.", "/RECORD/x", "/%72ecord/x", "/record%2fx", "/record/%2e%2e/%2e%2e/admin", "/record..%2fadmin",
    "/record../admin", "/record/x%00", "/record/x%0d%0aX-User:%20admin", "/record/x%5c..%5cy", "/record/;/x", "/record/x;a=b",
    "/record/a%20b", "/record/%61", "/record/a+b", "/record/~a'(b)*!", "/record/%C3%A9", "/record/%c0%af", "/record/%zz", "/record/x%",
    "/record/x?/open", "/record/x?../open", "/record/x%3f/open", "/record/x%23/open", "/record/x#/open", "/open/x#/record/x",
    "/record/x?a=%2F&b=%00&c=;&d[]=|", "/slashes/a%2fb", "/slashes/a%2Fb%2fc?x", "/record/x%252fy", "/record/%25",
    "/exact/../record/x", "/exact%2f", "/cookies/%2e", "/get//x", "/bff/forward-auth/nginx", "/bff/forward-auth/traefik",
    "/bff/forward-auth/envoy/record/x", "/bff/forward-auth", "/bff/../record/x", "/record/x/", "/record/",
]  # fmt: skip
BASES = {"/record": "/up/", "/open": "/open/", "/slashes": "/slashes/", "/exact": "/one", "/cookies": "/cookies/", "/get": "/get/"}

# Traefik decodes what needs no encoding, and a semicolon in a query becomes an ampersand. It does so before it asks us: what is judged
# is what is sent.
REWRITTEN = {
    ("traefik", target)
    for target in (
        "/%72ecord/x",
        "/record/%61",
        "/record/x%3f/open",
        "/record/x?a=%2F&b=%00&c=;&d[]=|",
        "/slashes/a%2fb",
        "/slashes/a%2Fb%2fc?x",
    )
}


@pytest.mark.row("P1", "P2", "P5", "P6", "P7", "P8", "P10", "ROUTE-4", "ROUTE-5", "ROUTE-6", "ROUTE-8")
async def test_every_path_is_judged_as_it_is_sent(front: FrontProxy, world: World, call: HeaderList) -> None:
    """The door's verdict; what reaches an API lies in the tree that was judged."""
    for target, signed_in in itertools.product(PATHS, (True, False)):
        headers = call if signed_in else OWN
        door = await at_the_door(world, "GET", target, headers)
        here = await through(front, world, "GET", target, headers)
        if door.meaning == here.meaning:
            continue
        for seen in here.seen:
            path = decode_fully(seen.target.partition("?")[0].encode("latin-1"))
            assert ".." not in path.split("/") and "//" not in path and path.startswith(tuple(BASES.values())), (target, seen.line)
            if path.startswith("/up/"):
                assert signed_in and seen.claims["sub"] == "ada-7c1f04", (target, seen.line)
        if (front.name, target) in REWRITTEN:
            continue
        assert here.answer.status == door.answer.status and len(here.seen) == len(door.seen) == 0, (target, door.meaning, here.meaning)


@pytest.mark.row("P3", "T1")
async def test_the_endpoint_is_nobodys_but_the_front_proxys(front: FrontProxy, world: World, call: HeaderList) -> None:
    """A browser that gets this answer has the access token."""
    config = print_config(world.product, "nginx")
    secret = next(line.split()[2].rstrip(";") for line in config.splitlines() if "BFF-Forward-Auth" in line and '""' not in line)
    for name in ("nginx", "envoy", "traefik", "caddy", "haproxy"):
        for given in ("", "junk", secret):
            asked = [
                ("X-Original-Method", "GET"), ("X-Original-URI", "/record/x"), ("X-Forwarded-Method", "GET"),
                ("X-Forwarded-Uri", "/record/x"), ("BFF-Route", "/record/"), *([("BFF-Forward-Auth", given)] if given else []),
            ]  # fmt: skip
            for target in (
                f"/bff/forward-auth/{name}",
                f"/bff/forward-auth/{name}/record/x",
                f"/bff//forward-auth/{name}",
                f"/BFF/forward-auth/{name}",
            ):
                here = await through(front, world, "GET", target, [*call, *asked])
                assert here.answer.status in (200, 301, 307, 308, 400, 404) and not here.answer.all("authorization"), (name, target)
                assert b"Bearer" not in here.answer.raw_head + here.answer.body and not here.seen
                if here.answer.status == 200:
                    assert b"The app" in here.answer.body  # a path of the app, as far as anybody can tell


@pytest.mark.row("P3", "H5")
async def test_the_secret_alone_opens_nothing_from_elsewhere(world: World, call: HeaderList) -> None:
    """The same question to the door from an address that is not trusted."""
    config = print_config(world.product, "nginx")
    secret = next(line.split()[2].rstrip(";") for line in config.splitlines() if "BFF-Forward-Auth" in line and '""' not in line)
    question = [
        *call,
        ("X-Original-Method", "GET"),
        ("X-Original-URI", "/record/x"),
        ("BFF-Route", "/record/"),
        ("BFF-Forward-Auth", secret),
    ]
    answer = (await at_the_door(world, "GET", "/bff/forward-auth/nginx", question)).answer
    assert answer.status == 200 and (answer.header("authorization") or "").startswith("Bearer ")
    world.product.config["server"]["trusted_proxies"] = ["192.0.2.0/24"]
    world.product.restart()
    try:
        answer = (await at_the_door(world, "GET", "/bff/forward-auth/nginx", question)).answer
        assert answer.status == 404 and not answer.all("authorization")
    finally:
        world.product.config["server"]["trusted_proxies"] = ["127.0.0.1/32"]
        world.product.restart()


@pytest.mark.row("M2", "RC7", "FRAME-15")
async def test_h2c_is_never_tunnelled(front: FrontProxy, world: World, call: HeaderList) -> None:
    authority = world.app.partition("://")[2]
    settings = "AAMAAABkAAQAoAAAAAIAAAAA"
    for target, connection in itertools.product(("/record/x", "/open/x", "/bff/user", "/"), ("Upgrade, HTTP2-Settings", "Upgrade")):
        lines = [f"GET {target} HTTP/1.1", f"Host: {authority}", f"Connection: {connection}", "Upgrade: h2c", f"HTTP2-Settings: {settings}"]
        lines += [f"{name}: {value}" for name, value in call]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        world.recorder.clear()
        outcome = await raw.exchange(front.address, [head], wait_s=0.5)
        assert outcome.answers and 101 not in outcome.statuses, (target, outcome.statuses)
        for seen in world.recorder.seen:
            assert not seen.all("upgrade") and not seen.all("http2-settings")


@pytest.mark.row("M2", "RC7")
async def test_http2_by_prior_knowledge_denies_what_is_denied(front: FrontProxy, world: World) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    wire_reader, wire_writer = await asyncio.open_connection(front.address.host, front.address.port)
    hpack = b"\x82\x86\x04\x09/record/x\x01\x09localhost"
    wire_writer.write(preface + len(hpack).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01" + hpack)
    data = b""
    try:
        async with asyncio.timeout(1.5):
            while piece := await wire_reader.read(65536):
                data += piece
    except (TimeoutError, ConnectionError):
        pass
    wire_writer.close()
    assert not world.recorder.seen and b"HTTP/1.1 101" not in data


@pytest.mark.row("WS-1", "M12")
async def test_websockets_open_for_our_own_origin_and_end_with_the_session(front: FrontProxy, world: World) -> None:
    browser = browser_through(front, world)
    await world.sign_in(browser)
    address = world.app.replace("http", "ws")
    for origin in ("https://evil.example", "null", f"{world.app}.evil.example"):
        async with browser.websocket(f"{address}/api/echo", origin=origin) as socket:
            assert socket.status == 403, socket.answer.raw_head
    async with browser.websocket(f"{address}/api/echo") as socket:
        assert socket.status == 101
        await socket.send("hello")
        assert "hello" in await socket.receive()
        assert (await browser.fetch("/bff/logout", method="POST")).status in (200, 303)
        async with asyncio.timeout(8):
            while True:
                opcode, _ = await socket.receive_frame()
                if opcode == 8:
                    break
    async with browser_through(front, world).websocket(f"{address}/api/echo", page=f"{world.app}/") as socket:
        assert socket.status == 401


@pytest.mark.row("SSE-1")
async def test_event_streams_pass_as_they_come(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    browser = browser_through(front, world, adas_jar.copy())
    async with browser.events(f"{world.app}/api/ticks", page=f"{world.app}/") as stream:
        assert stream.status == 200 and len(await stream.read(2)) == 2
    async with browser.events(f"{world.app}/api/ticks", page="http://localhost:1/") as stream:
        assert stream.status == 403


@pytest.mark.row("SESS-10", "ZTA-2")
async def test_a_sign_out_holds_at_once_for_the_old_cookie(front: FrontProxy, world: World) -> None:
    browser = browser_through(front, world)
    await world.sign_in(browser)
    thief = browser.stolen_copy()
    assert (await thief.fetch("/record/x", page=f"{world.app}/")).status == 200
    assert (await browser.fetch("/bff/logout", method="POST")).status in (200, 303)
    assert (await thief.fetch("/record/x", page=f"{world.app}/")).status == 401


@pytest.mark.row("H11")
async def test_the_client_address_is_what_the_front_proxy_saw(front: FrontProxy, world: World, call: HeaderList) -> None:
    for chain in ("6.6.6.6", "6.6.6.6, 7.7.7.7", "127.0.0.1", "::1", "junk", ", ,", "6.6.6.6," * 40 + "8.8.8.8"):
        here = await through(front, world, "GET", "/record/x", [*call, ("X-Forwarded-For", chain)])
        assert here.answer.status == 200, (chain, here.answer.text)
        assert [value for value in here.seen[0].all("x-forwarded-for") if value] == ["127.0.0.1"], chain


async def test_a_request_through_one_connection_after_another_keeps_them_apart(front: FrontProxy, world: World, call: HeaderList) -> None:
    """Keep-alive from the browser to the front proxy: the second, without a cookie, gets nothing of the first."""
    authority = world.app.partition("://")[2]

    def head(headers: HeaderList) -> bytes:
        return ("\r\n".join(["GET /record/x HTTP/1.1", f"Host: {authority}", *(f"{n}: {v}" for n, v in headers)]) + "\r\n\r\n").encode()

    outcome = await raw.exchange(front.address, [head(call), head(OWN), head(call)], wait_s=1.0, pause_s=0.2)
    assert outcome.statuses == [200, 401, 200]


async def test_without_us_nothing_passes(front: FrontProxy, world: World, call: HeaderList, tmp_path: Path) -> None:
    """The door is gone: an error, and the API hears nothing."""
    silent = world.product.config.setdefault("forward_auth", {})
    silent["door"] = f"127.0.0.1:{free_port()}"
    world.product.write_config()
    alone = None
    try:
        alone = _start_deaf(front.name, world, tmp_path)
        for path in ("/record/x", "/open/x", "/cookies/x"):
            here = await through(alone, world, "GET", path, call)
            assert here.answer.status >= 500 and not here.seen, (path, here.answer.status)
    finally:
        del silent["door"]
        world.product.write_config()
        if alone is not None:
            alone.stop()


def _start_deaf(name: str, world: World, folder: Path) -> FrontProxy:
    return start_front(name, world.product, folder / name)


async def test_the_door_is_where_the_world_says(world: World) -> None:
    """The other tests compare with it: it must not be the front proxy's port."""
    assert door_of(world).port != world.product.port
