"""Who may knock: samples of the CSRF truth table over sockets, each refusal before anything else is touched."""

from __future__ import annotations

import pytest

from tests.harness.browser import Browser
from tests.harness.http import Answer, ask
from tests.harness.world import World


async def call(world: World, browser: Browser, headers: dict[str, str], *, method: str = "GET", path: str = "/record/x") -> Answer:
    """A request with this browser's cookies and exactly these headers."""
    cookie = browser.jar.header(f"{world.app}{path}", initiator=f"{world.app}/", navigation=False)
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    return await ask(method, f"{world.app}{path}", headers=[("Cookie", cookie), *headers.items()], body=body)


OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


@pytest.mark.row("CSRF-1", "CSRF-2", "CSRF-3", "CSRF-4", "CSRF-5")
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({**OWN, "X-CSRF": "1"}, True),
        ({**OWN}, False),
        ({**OWN, "X-CSRF": "0"}, False),
        ({**OWN, "X-CSRF": "1", "Sec-Fetch-Site": "same-site"}, False),
        ({**OWN, "X-CSRF": "1", "Sec-Fetch-Site": "cross-site"}, False),
        ({**OWN, "X-CSRF": "1", "Origin": "null"}, False),
        ({"X-CSRF": "1", "Origin": "{app}"}, True),
        ({"X-CSRF": "1", "Origin": "{app}.evil.example"}, False),
        ({"X-CSRF": "1", "Origin": "https://localhost"}, False),
        ({"X-CSRF": "1", "Origin": "null"}, False),
        ({"X-CSRF": "1", "Referer": "https://evil.example/"}, False),
        ({"X-CSRF": "1", "Referer": "{app}/page"}, True),
        ({"Origin": "{app}"}, False),
        ({}, False),
    ],
    ids=lambda value: ", ".join(f"{k}={v}" for k, v in value.items()) or "bare" if isinstance(value, dict) else str(value),
)
async def test_a_call_passes_only_with_the_header_and_from_our_own_pages(
    world: World, headers: dict[str, str], passes: bool, method: str, ada: Browser
) -> None:
    filled = {name: value.replace("{app}", world.app) for name, value in headers.items()}
    answer = await call(world, ada, filled, method=method)
    assert (answer.status == 200) is passes and len(world.recorder.seen) == int(passes)
    if not passes:
        assert answer.status == 403 and answer.code in ("csrf_header_missing", "cross_origin", "destination_refused")


@pytest.mark.row("CSRF-7")
async def test_a_refused_call_causes_no_refresh_and_no_upstream_request(world: World) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in()
    before = world.provider.requests("token")
    world.provider.fault("token", delay_s=0.0)
    import asyncio

    await asyncio.sleep(1.1)
    assert (await call(world, browser, {})).status == 403
    assert world.provider.requests("token") == before and not world.recorder.seen
    assert (await browser.fetch("/record/x")).status == 200
    assert world.provider.requests("token") == before + 1


@pytest.mark.row("CSRF-5")
async def test_a_forged_host_does_not_move_the_origin(world: World, ada: Browser) -> None:
    forged = {"Host": "evil.example", "Origin": "http://evil.example", "X-CSRF": "1", "X-Forwarded-Host": "evil.example"}
    answer = await call(world, ada, forged)
    assert answer.status in (400, 403, 421) and not world.recorder.seen


@pytest.mark.row("CORS-1", "CORS-4")
async def test_no_cross_origin_header_is_ever_sent(world: World, ada: Browser) -> None:
    for method in ("OPTIONS", "GET"):
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-csrf"}
        answer = await call(world, ada, headers, method=method)
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]
    assert not world.recorder.seen


@pytest.mark.row("CSRF-9")
async def test_only_our_own_pages_sign_out(world: World) -> None:
    browser = await world.signed_in()
    for method, headers in (
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("POST", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("POST", {"Origin": "null"}),
        ("POST", {}),
    ):
        answer = await call(world, browser, headers, method=method, path="/bff/logout")
        assert answer.status in (403, 405)
    assert (await browser.fetch("/bff/user")).status == 200


@pytest.mark.row("RESP-7")
@pytest.mark.parametrize("dest", ["document", "iframe", "script", "style", "embed", "object", "worker"])
async def test_an_api_answer_cannot_be_loaded_as_a_page_frame_or_script(world: World, ada: Browser, dest: str) -> None:
    mode = "navigate" if dest in ("document", "iframe", "embed", "object") else "no-cors"
    headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert (await call(world, ada, headers)).status == 403 and not world.recorder.seen


@pytest.mark.row("WS-1", "SSE-1", "CSRF-11")
async def test_websocket_and_event_stream_open_for_our_own_origin_alone(world: World, ada: Browser) -> None:
    for origin in ("https://evil.example", "null", world.app + ".evil.example"):
        async with ada.websocket(f"{world.app.replace('http', 'ws')}/api/echo", origin=origin) as socket:
            assert socket.status == 403
    async with ada.websocket(f"{world.app.replace('http', 'ws')}/api/echo") as socket:
        assert socket.status == 101
    async with ada.events(f"{world.app}/api/ticks", page="http://localhost:1/") as stream:
        assert stream.status == 403
    async with ada.events(f"{world.app}/api/ticks") as stream:
        assert stream.status == 200


@pytest.mark.row("CSRF-3")
async def test_a_client_without_fetch_metadata_is_judged_by_header_and_origin(world: World) -> None:
    browser = Browser(fetch_metadata=False)
    page = await world.sign_in(browser)
    assert page.status == 200, page.text[:300]
    assert (await browser.fetch("/record/x")).status == 200
    assert (await browser.fetch("/record/x", csrf=False)).status == 403
    assert (await browser.fetch(f"{world.app}/record/x", method="POST", page="https://evil.example/")).status in (401, 403)
