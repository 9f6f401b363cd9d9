"""What the test suites of Duende BFF (remote APIs), nextjs-auth0 (proxy handler), oauth2-proxy (upstreams, headers) and Curity's
proxy expect between browser and API, said in our contract (docs/peers-test-cases.md has the whole list)."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.browser import Browser
from tests.harness.http import Answer, address_of, ask
from tests.harness.provider import sub_of
from tests.harness.raw import exchange
from tests.harness.upstream import Line, Seen, response, sending, stall
from tests.harness.world import World

NAVIGATION = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


async def get(world: World, browser: Browser, path: str, headers: dict[str, str], method: str = "GET") -> Answer:
    """Exactly these headers beside the cookies: no second User-Agent or Origin from the browser model."""
    cookie = browser.jar.header(f"{world.app}{path}", initiator=f"{world.app}/", navigation=False)
    return await ask(method, f"{world.app}{path}", headers=[("Cookie", cookie), *headers.items()])


# -- methods, paths, bodies -------------------------------------------------------------------------------------------


@pytest.mark.row("BODY-1")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
async def test_every_method_reaches_the_api_with_its_body(world: World, ada: Browser, method: str) -> None:
    bodies = {"GET": None, "HEAD": None, "OPTIONS": None, "DELETE": b""}
    body = bodies.get(method, b'{"a": 1}')
    answer = await ada.fetch("/record/x", method=method, body=body, headers={"Content-Type": "application/json"})
    (seen,) = world.recorder.seen
    assert answer.status == 200 and seen.line == f"{method} /up/x HTTP/1.1" and seen.body == (body or b"")
    assert seen.header("content-type") == "application/json" and seen.claims["sub"] == sub_of("ada")


@pytest.mark.parametrize(("method", "status"), [("TRACE", 405), ("PURGE", 501), ("FOO", 501), ("get", 501)])
async def test_a_method_that_no_api_here_has_is_refused_before_it(world: World, ada: Browser, method: str, status: int) -> None:
    assert (await ada.fetch("/record/x", method=method)).status == status and not world.recorder.seen


@pytest.mark.row("ROUTE-4")
@pytest.mark.parametrize(
    "path",
    ["", "a/b/c/", "x?", "x??", "x?a=1&a=2&b=%20+&c", "x%20y", "%C3%A9", "a;b=c/d", "a%3Bb", "x?q=%2F..%2F", "x?u=http://a/b?c",
     "a:b@c!$&'()*+,=~", "%41", "x?a=[1]&b={2}|^`"],
)  # fmt: skip
async def test_path_and_query_arrive_byte_for_byte(world: World, ada: Browser, path: str) -> None:
    cookie = ada.jar.header(f"{world.app}/", initiator=f"{world.app}/")
    head = f"GET /record/{path} HTTP/1.1\r\nHost: {world.app[7:]}\r\nCookie: {cookie}\r\nX-CSRF: 1\r\nConnection: close\r\n\r\n"
    outcome = await exchange(address_of(world.app), [head.encode()])
    assert outcome.statuses == [200] and [seen.target for seen in world.recorder.seen] == [f"/up/{path}"]


async def test_a_route_is_not_the_path_without_its_slash(world: World, ada: Browser) -> None:
    answer = await ada.fetch("/record")
    assert (answer.status, answer.code) == (404, "route_unknown") and not world.recorder.seen


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("REQH-1", "REQH-6", "REQH-13", "H1")
async def test_what_an_api_needs_arrives_and_who_somebody_claims_to_be_does_not(world: World, ada: Browser) -> None:
    needed = {
        "User-Agent": "Test/1.0", "Accept": "application/json", "Accept-Language": "en-US", "X-Correlation-Id": "corr-456",
        "X-Custom-Header": "c", "If-None-Match": '"a"', "Range": "bytes=0-1", "Idempotency-Key": "k", "Accept-Encoding": "gzip",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }  # fmt: skip
    claimed = [
        "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
        "X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Access-Token", "X-Remote-User", "Remote-User", "X-WEBAUTH-USER",
        "X-User-Id", "X-Pomerium-Claim-Email", "X-Pomerium-Jwt-Assertion", "X-Vouch-User", "X-Authentik-Username", "X-Amzn-Oidc-Data",
        "X-Goog-Authenticated-User-Email", "X-Ms-Client-Principal", "X-Consumer-Username", "X-Client-DN", "X-SSL-Client-S-DN",
        "Client-Cert",
        "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Host", "X-Forwarded-For", "X-Real-IP", "DPoP",
    ]  # fmt: skip
    answer = await get(world, ada, "/record/x", {**needed, **dict.fromkeys(claimed, "forged-value"), "X-CSRF": "1", "X-Request-Id": "mine"})
    (seen,) = world.recorder.seen
    assert answer.status == 200 and "forged-value" not in str(seen.headers)
    assert {name: seen.header(name) for name in needed} == needed
    assert seen.header("host") == world.recorder.url.removeprefix("http://") and seen.header("x-request-id") not in (None, "mine")
    told = {name: seen.header(f"x-forwarded-{name}") for name in ("for", "proto", "host")}
    assert told == {"for": "127.0.0.1", "proto": "http", "host": world.app.removeprefix("http://")}


@pytest.mark.row("RESP-1", "RESP-5", "RESP-6", "CORS-1")
async def test_what_a_page_needs_comes_back_and_what_would_act_on_our_origin_does_not(world: World, ada: Browser) -> None:
    passes = {
        "X-Rate-Limit": "100",
        "ETag": '"q"',
        "Link": "</x>; rel=next",
        "Content-Disposition": "attachment",
        "Content-Encoding": "gzip",
    }
    stays = {
        "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Clear-Site-Data": '"cookies"',
        "Refresh": "0; url=//e",
        "Strict-Transport-Security": "max-age=0", "Server": "x", "X-Powered-By": "x", "Alt-Svc": "h3=:443", "Set-Cookie": "a=b",
    }  # fmt: skip
    world.recorder.behaviours["/up/x"] = sending(response(200, b"x", *passes.items(), *stays.items()))
    answer = await ada.fetch("/record/x")
    assert {name: answer.header(name) for name in passes} == passes and not [name for name in stays if answer.header(name)]


@pytest.mark.row("RESP-9", "BODY-5")
@pytest.mark.parametrize("status", [201, 204, 299, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503, 599])
async def test_every_answer_of_an_api_is_passed_on_as_it_is(world: World, ada: Browser, status: int) -> None:
    body = b"" if status == 204 else b'{"error": "its own"}'
    world.recorder.behaviours["/up/x"] = sending(response(status, body, ("Content-Type", "application/json"), ("Retry-After", "3")))
    answer = await ada.fetch("/record/x")
    assert (answer.status, answer.body, answer.header("retry-after")) == (status, body, "3") and len(world.recorder.seen) == 1
    assert answer.header("bff-error") is None and (await ada.fetch("/bff/user")).status == 200


async def test_head_and_not_modified_keep_what_they_say_about_the_body(world: World, ada: Browser) -> None:
    world.recorder.behaviours |= {
        "/up/head": sending(b'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: "a"\r\n\r\n'),
        "/up/same": sending(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: "a"\r\n\r\n'),
        "/up/early": sending(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(200, b"ok")),
    }
    head = await ada.fetch("/record/head", method="HEAD")
    assert (head.header("content-length"), head.header("etag"), head.body) == ("1234", '"a"', b"")
    assert (await ada.fetch("/record/same")).header("etag") == '"a"'
    assert (await ada.fetch("/record/early")).body == b"ok"


@pytest.mark.row("RESP-3", "REDIR-4", "K3")
@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/up/orders/17?a=b", "/files/orders/17?a=b"), ("{recorder}/up/y", "/files/y"), ("{app}/up/y", "/files/y"), ("?page=2", "?page=2"),
        ("https://files.example.com/signed?x=1", "https://files.example.com/signed?x=1"), ("next", "next"),
        ("https://evil.example/", None), ("//evil.example/", None), ("/bff/logout", None), ("{app}/bff/logout", None),
        ("/up/../bff/login", None),
    ],
)  # fmt: skip
async def test_a_location_leads_into_the_routes_own_tree_or_a_listed_origin(
    world: World, ada: Browser, location: str, leads_to: str | None
) -> None:
    written = location.replace("{app}", world.app).replace("{recorder}", world.recorder.url)
    for status in (201, 302, 307):
        world.recorder.behaviours["/up/x"] = sending(response(status, b"", ("Location", written)))
        answer = await ada.fetch("/files/x")
        assert (answer.status, answer.header("location")) == (status, leads_to)
    assert len(world.recorder.seen) == 3, "a redirect was followed here"


# -- whose token ------------------------------------------------------------------------------------------------------


@pytest.mark.row("ZTA-4", "ROUTE-12")
@pytest.mark.parametrize(
    ("path", "signed_in", "nobody"),
    [
        ("/record/x", "ada", 401),
        ("/greeting/x", "ada", ""),
        ("/either/x", "ada", "spa"),
        ("/machine/x", "spa", "spa"),
        ("/open/x", "", ""),
    ],
)
async def test_each_kind_of_route_sends_its_kind_of_token(world: World, ada: Browser, path: str, signed_in: str, nobody: str | int) -> None:
    await ada.fetch(path)
    subject = sub_of("ada") if signed_in == "ada" else signed_in
    assert world.recorder.seen.pop().claims.get("sub", "") == subject
    for cookie in ("", "__Host-Http-bff=broken"):
        answer = await ask(
            "GET", f"{world.app}{path}", headers=[("X-CSRF", "1"), ("Authorization", "Bearer own"), ("Cookie", cookie or "a=b")]
        )
        if isinstance(nobody, int):
            assert answer.status == nobody and not world.recorder.seen
            continue
        seen = world.recorder.seen.pop()
        assert answer.status == 200 and seen.claims.get("sub", "") == nobody and seen.token != "own"


@pytest.mark.row("CSRF-1")
async def test_the_header_is_asked_for_wherever_any_token_may_go_out(world: World, ada: Browser) -> None:
    for path in ("/record/x", "/greeting/x", "/either/x", "/machine/x"):
        answer = await ada.fetch(path, csrf=False)
        assert (answer.status, answer.code) == (403, "csrf_header_missing")
    assert not world.recorder.seen
    for method, body in (("GET", None), ("POST", b"{}")):
        assert (await ada.fetch("/open/x", csrf=False, method=method, body=body)).status == 200


@pytest.mark.row("ZTA-4", "TOKEN-9")
async def test_a_signed_in_person_is_never_taken_for_a_stranger(world: World) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in()
    world.provider.fault("token", status=500)
    await asyncio.sleep(1.1)
    for path in ("/greeting/x", "/either/x"):
        assert (await browser.fetch(path)).status == 503
    assert not world.recorder.seen


async def test_a_bearer_of_the_browsers_own_opens_nothing(world: World) -> None:
    answer = await ask("GET", f"{world.app}/record/x", headers=[("Authorization", "Bearer own"), ("X-CSRF", "1")])
    assert (answer.status, answer.code) == (401, "unauthenticated") and not world.recorder.seen


# -- time and streams -------------------------------------------------------------------------------------------------


@pytest.mark.row("F54")
async def test_a_silent_api_is_a_504_and_one_that_stops_half_way_a_visible_cut(world: World, ada: Browser) -> None:
    async def half(_: Seen, line: Line) -> bool:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        return await stall(_, line)

    world.recorder.behaviours |= {"/up/silent": stall, "/up/half": half}
    answer = await ada.fetch("/quick/silent")
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert not (await ada.fetch("/quick/half")).complete
    assert (await ada.fetch("/quick/fine")).status == 200


@pytest.mark.row("WS-1", "WS-3")
async def test_a_websocket_without_a_session_is_a_401_and_plain_http_on_its_path_an_ordinary_call(world: World, ada: Browser) -> None:
    socket_url = world.app.replace("http", "ws")
    async with Browser().websocket(f"{socket_url}/api/echo", page=f"{world.app}/") as socket:
        assert (socket.status, socket.answer.code) == (401, "unauthenticated")
    async with ada.websocket(f"{socket_url}/record/not-a-socket") as socket:
        assert socket.status == 200 and socket.answer.json()["sub"] == sub_of("ada")


# -- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("RESP-7", "ARCH-5")
async def test_an_api_opened_as_a_page_is_refused_and_a_download_route_sends_a_stranger_to_sign_in(world: World, ada: Browser) -> None:
    assert (await get(world, ada, "/record/x", NAVIGATION)).status == 403 and not world.recorder.seen
    assert (await get(world, ada, "/files/x", NAVIGATION)).status == 200
    page = await ask("GET", f"{world.app}/files/x", headers=list(NAVIGATION.items()))
    assert page.status == 401 and 'href="/bff/login?return_to=/files/x"' in page.text.replace("%2F", "/")


async def test_the_index_answers_deep_links_and_nothing_else(world: World) -> None:
    for path, status in (("/", 200), ("/orders/17", 200), ("/app.js", 404), ("/.env", 404), ("/..%2f..%2fetc/passwd", 400)):
        assert (await ask("GET", f"{world.app}{path}", headers=list(NAVIGATION.items()))).status == status, path
    assert (await ask("GET", f"{world.app}/orders/17", headers=[("Accept", "*/*")])).code == "route_unknown"
    assert (await ask("POST", f"{world.app}/", body=b"x")).status == 405
    first = await ask("GET", f"{world.app}/", headers=list(NAVIGATION.items()))
    again = [*NAVIGATION.items(), ("If-None-Match", first.header("etag") or "")]
    assert (await ask("GET", f"{world.app}/", headers=again)).status == 304
