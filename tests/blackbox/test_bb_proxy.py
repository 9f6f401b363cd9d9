"""What the API gets and what the browser gets back."""

from __future__ import annotations

import json

import pytest

from tests.harness.browser import Browser
from tests.harness.http import address_of
from tests.harness.provider import sub_of
from tests.harness.raw import exchange
from tests.harness.upstream import cut_after, reset, response, sending
from tests.harness.world import World


@pytest.mark.row("REQH-1", "TOKEN-5", "ARCH-2")
async def test_the_cookie_becomes_a_token_and_nothing_of_ours_goes_along(world: World, ada: Browser) -> None:
    extra = {
        "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil.example", "Forwarded": "for=1.2.3.4", "X-Real-IP": "1.2.3.4",
        "X-User": "root", "Proxy-Authorization": "Basic eDp5", "TE": "trailers", "bff-handoff": "stolen", "Authorization": "Bearer own",
    }
    answer = await ada.fetch("/record/a/b?x=%2Fy&z", headers=extra)
    (seen,) = world.recorder.seen
    assert answer.status == 200 and seen.line == "GET /up/a/b?x=%2Fy&z HTTP/1.1" and seen.claims["sub"] == sub_of("ada")
    names = [name.lower() for name, _ in seen.headers]
    assert names.count("authorization") == 1 and seen.token != "own"
    assert not {"cookie", "x-csrf", "proxy-authorization", "bff-handoff", "x-real-ip", "te"} & set(names)
    assert "1.2.3.4" not in str(seen.headers) and "evil.example" not in str(seen.headers)


@pytest.mark.row("REQH-6", "H1")
@pytest.mark.parametrize("name", ["X_Forwarded_For", "X_User", "x_csrf", "Authorization_"])
async def test_a_header_in_the_underscore_spelling_never_reaches_the_api(world: World, ada: Browser, name: str) -> None:
    answer = await ada.fetch("/record/x", headers={name: "canary-value"})
    assert answer.status in (200, 400) and not any("canary-value" in str(seen.headers) for seen in world.recorder.seen)


@pytest.mark.row("ROUTE-4", "ROUTE-5", "ROUTE-6", "P5", "P7", "P10")
@pytest.mark.parametrize(
    "target",
    [
        "/record/../api/x", "/record/%2e%2e/x", "/record//x", "/record/./x", "/record/..%2fx", "/record/%2fx", "/record/a\\b",
        "/record/%5cx", "/record/x#y", "/record/%00", "//record/x", "/record/..;/x", "/record/%252e%252e/x", "/record/%zz", "/RECORD/x",
        "/recordx", "/record%2fx", "http://evil.example/record/x", "*",
    ],
)
async def test_a_path_that_is_not_canonical_never_reaches_the_api(world: World, ada: Browser, target: str) -> None:
    cookie = ada.jar.header(f"{world.app}/", initiator=f"{world.app}/")
    host = world.app.removeprefix("http://")
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nX-CSRF: 1\r\nOrigin: {world.app}\r\n\r\n"
    outcome = await exchange(address_of(world.app), [head.encode("latin-1")], wait_s=0.4)
    targets = [seen.target for seen in world.recorder.seen]
    assert not [target for target in targets if not target.startswith("/up/") or ".." in target or "//" in target]
    assert outcome.statuses and outcome.statuses[0] in (200, 400, 401, 404, 421), outcome.statuses
    if outcome.statuses[0] == 200 and world.recorder.seen:
        assert target == "/record/%252e%252e/x", f"{target} was passed on as {world.recorder.seen[0].target}"
    assert (await ada.fetch("/record/fine")).status == 200


@pytest.mark.row("RESP-1", "RESP-2", "COOKIE-18")
async def test_the_apis_cookies_and_hop_headers_stay_behind_and_the_rest_comes_through(world: World, ada: Browser) -> None:
    headers = (
        ("Set-Cookie", "api=1; Path=/"), ("Set-Cookie", "__Host-Http-bff=evil; Path=/; Secure; HttpOnly"), ("X-Good", "yes"),
        ("Connection", "X-Hop"), ("X-Hop", "1"), ("Content-Type", "text/plain"), ("Cache-Control", "public, max-age=600"),
    )
    world.recorder.behaviours["/up/x"] = sending(response(200, b"hello", *headers))
    before = ada.jar.get("__Host-Http-bff")
    answer = await ada.fetch("/record/x")
    assert answer.text == "hello" and answer.header("x-good") == "yes" and answer.header("x-hop") is None
    assert not answer.all("set-cookie") and ada.jar.get("__Host-Http-bff") == before
    assert "public" not in (answer.header("cache-control") or "public")


@pytest.mark.row("BODY-1", "FRAME-4")
@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_bodies_arrive_whole_in_both_directions(world: World, ada: Browser, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    world.recorder.behaviours["/up/x"] = sending(response(200, body))
    answer = await ada.fetch("/record/x", method="POST", body=body, headers={"Content-Type": "application/octet-stream"})
    assert answer.body == body and answer.complete and world.recorder.seen[-1].body == body


@pytest.mark.row("F54", "BODY-5")
async def test_an_upstream_that_breaks_gives_502_before_the_head_and_a_visible_end_after_it(world: World, ada: Browser) -> None:
    world.recorder.behaviours |= {
        "/up/reset": reset,
        "/up/garbage": sending(b"NOT HTTP AT ALL\r\n\r\n"),
        "/up/cut": cut_after(response(200, b"x" * 5000), 2000),
        "/up/both": sending(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    }
    for path in ("reset", "garbage", "both"):
        answer = await ada.fetch(f"/record/{path}")
        assert answer.status == 502 and answer.code.startswith("upstream_"), path
    assert not (await ada.fetch("/record/cut")).complete
    for _ in range(5):
        assert (await ada.fetch("/record/fine")).json()["sub"] == sub_of("ada")


@pytest.mark.row("F54")
async def test_an_upstream_that_is_not_there_is_a_502_problem(world: World, ada: Browser) -> None:
    answer = await ada.fetch("/gone/x")
    assert answer.status == 502 and answer.code == "upstream_unreachable"


@pytest.mark.row("ZTA-1", "ROUTE-1")
async def test_routes_ask_for_claims_scopes_and_methods(world: World) -> None:
    ada, chloe = await world.signed_in("ada"), await world.signed_in("chloe")
    assert (await ada.fetch("/sales/x")).status == 200
    refused = await chloe.fetch("/sales/x")
    assert (refused.status, refused.code) == (403, "claim_required")
    assert (await ada.fetch("/writers/x")).status == 200
    scope = await chloe.fetch("/writers/x")
    assert (scope.status, scope.code) == (403, "insufficient_scope")
    assert [seen.claims["sub"] for seen in world.recorder.seen] == [sub_of("ada")] * 2


@pytest.mark.row("ROUTE-12")
async def test_people_are_routed_by_a_claim_from_a_closed_table(world: World) -> None:
    for person, where in (("ada", "/eu/x"), ("ben", "/us/x")):
        world.recorder.clear()
        browser = await world.signed_in(person)
        assert (await browser.fetch("/region/x")).status == 200
        assert world.recorder.seen[0].target == where


@pytest.mark.row("TOKEN-12", "RES-1")
async def test_each_audience_gets_a_token_of_its_own(world: World) -> None:
    browser = await world.signed_in()
    await browser.fetch("/record/x")
    await browser.fetch("/other/x")
    await browser.fetch("/record/y")
    audiences = [seen.claims["aud"] for seen in world.recorder.seen]
    assert audiences == ["https://api.example.com", "https://other.example.com", "https://api.example.com"]


async def test_a_route_with_the_clients_token_needs_no_person_and_an_open_one_no_token(world: World, ada: Browser) -> None:
    nobody = Browser()
    await nobody.navigate(f"{world.app}/")
    answer = await nobody.fetch("/machine/x")
    assert answer.status == 200 and world.recorder.seen[-1].claims["sub"] == "spa"
    assert (await nobody.fetch("/open/x")).status == 200 and world.recorder.seen[-1].token == ""
    await ada.fetch("/open/x")
    assert world.recorder.seen[-1].token == "" and world.recorder.seen[-1].header("cookie") is None


@pytest.mark.row("STEPUP-2", "STEPUP-4", "STEPUP-6", "RS-7")
async def test_step_up_is_a_401_that_says_how_and_the_same_person_comes_back_stronger(world: World) -> None:
    browser = await world.signed_in()
    refused = await browser.fetch("/api/payments")
    problem = refused.json()
    assert refused.status == 401 and problem["code"] == "step_up_required" and "mfa" in json.dumps(problem)
    assert world.provider.requests("token") == 1 and (await browser.fetch("/bff/user")).status == 200
    page = await world.sign_in(browser, "ada", query="&acr_values=mfa", return_to="/paid")
    assert page.url == f"{world.app}/paid" and (await browser.fetch("/api/payments")).status == 200


@pytest.mark.row("STEPUP-4")
async def test_another_person_at_step_up_does_not_take_over_the_session(world: World) -> None:
    browser = await world.signed_in()
    page = await world.sign_in(browser, "ben", query="&acr_values=mfa")
    assert page.status >= 400, page.url
    assert (await browser.fetch("/bff/user")).json()["sub"] == sub_of("ada")
    assert (await browser.fetch("/api/payments")).status == 401


@pytest.mark.row("TOKEN-10", "STEPUP-7")
async def test_an_upstream_that_says_401_gets_one_renewal_and_one_repeat(world: World) -> None:
    browser = await world.signed_in()
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    world.recorder.behaviours["/up/x"] = sending(response(401, b"{}", challenge, reason="Unauthorized"))
    before = world.provider.requests("token")
    answer = await browser.fetch("/record/x")
    assert answer.status == 401 and len(world.recorder.seen) == 2 and world.provider.requests("token") == before + 1
    assert world.recorder.seen[0].token != world.recorder.seen[1].token
    assert (await browser.fetch("/bff/user")).status == 200


@pytest.mark.row("WS-2", "SSE-2")
async def test_websocket_and_events_work_through_the_door(world: World, ada: Browser) -> None:
    async with ada.websocket(f"{world.app.replace('http', 'ws')}/api/echo") as socket:
        hello = json.loads(await socket.receive())
        assert hello == {"hello": sub_of("ada"), "cookie_arrived": False}
        for text in ("hello", "x" * 200_000):
            await socket.send(text)
            assert await socket.receive() == text
    async with ada.events(f"{world.app}/api/ticks") as stream:
        events = await stream.read(3)
        assert [event["id"] for event in events] == ["1", "2", "3"]
    async with ada.events(f"{world.app}/api/ticks", last_event_id="41") as stream:
        assert (await stream.read(1))[0]["id"] == "42"


@pytest.mark.row("M1", "FRAME-1")
@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 6\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 6", "Content-Length: +6",
        "Content-Length: 6\r\nContent-Length: 7", "Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked",
        "Content-Length: 6, 6", "Transfer-Encoding : chunked", "Transfer-Encoding:\x0bchunked",
    ],
)
async def test_no_second_request_hides_behind_odd_framing(world: World, ada: Browser, framing: str) -> None:
    cookie = ada.jar.header(f"{world.app}/", initiator=f"{world.app}/")
    common = f"Host: {world.app.removeprefix('http://')}\r\nCookie: {cookie}\r\nX-CSRF: 1\r\nOrigin: {world.app}\r\n"
    hidden = f"GET /record/canary HTTP/1.1\r\n{common}\r\n"
    data = f"POST /record/x HTTP/1.1\r\n{common}{framing}\r\n\r\n0\r\n\r\n{hidden}".encode("latin-1")
    outcome = await exchange(address_of(world.app), [data], wait_s=0.5)
    assert not [seen for seen in world.recorder.seen if "canary" in seen.target]
    assert len(outcome.answers) <= 1 and outcome.closed and outcome.statuses in ([400], [501], [])
    assert (await ada.fetch("/record/fine")).status == 200


@pytest.mark.row("M2")
async def test_h2c_upgrade_is_not_accepted(world: World, ada: Browser) -> None:
    headers = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    answer = await ada.fetch("/record/x", headers=headers)
    assert answer.status != 101 and all(seen.header("upgrade") is None for seen in world.recorder.seen)


