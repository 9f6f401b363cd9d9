"""The same five with TLS: to browsers, over HTTP/1.1 and HTTP/2, and to APIs whose certificate has an authority of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forward_auth.conftest import browser_through
from tests.forward_auth.fronts import FrontProxy
from tests.forward_auth.judging import SESSION, at_the_door
from tests.forward_auth.secure import SecureWorld, through_tls
from tests.harness.http import HeaderList
from tests.harness.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

OWN: HeaderList = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("x-csrf", "1")]


every_version = pytest.mark.parametrize("version", ("http/1.1", "h2"))


def samples(world: World, cookie: str) -> Iterator[tuple[str, str, HeaderList, bytes | None]]:
    """Signed in, not signed in, forged, and what the CSRF rules refuse."""
    bare = [(name, value) for name, value in OWN if name != "x-csrf"]
    foreign = [("sec-fetch-site", "cross-site"), *OWN[1:]]
    for sent in (cookie, "", f"{SESSION}=forged"):
        jar = [("cookie", sent)] if sent else []
        for headers in (OWN, bare, foreign, [*OWN, ("origin", "https://evil.example")], [*OWN, ("origin", world.app)], []):
            yield "GET", "/record/x?y=%2F&z", [*headers, *jar], None
            yield "POST", "/record/x", [*headers, *jar], b'{"a":1}'
        for target in ("/open/x", "/get/x", "/writers/x", "/sales/x", "/nowhere", "/bff/user", "/record/../open/x", "/record/%2e%2e/x"):
            yield "GET", target, [*OWN, *jar], None


@pytest.mark.row("CSRF-1", "CSRF-2", "CSRF-3", "CSRF-4", "CSRF-5", "ZTA-2")
@every_version
async def test_over_tls_the_verdict_is_the_doors(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str) -> None:
    world, different, passed = secure.world, [], 0
    for method, target, headers, body in samples(world, tls_cookie):
        door = await at_the_door(world, method, target, [*headers, ("X-Forwarded-Proto", "https")], body)
        here = await through_tls(tls_front, secure, version, method, target, headers, body)
        passed += len(here.seen)
        if door.meaning != here.meaning:
            different.append((method, target, headers, door.meaning, here.meaning))
    assert different == [] and passed > 5


@every_version
async def test_an_api_hears_the_public_origin_and_the_browser_hsts(
    tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str
) -> None:
    here = await through_tls(tls_front, secure, version, "GET", "/record/x", [*OWN, ("cookie", tls_cookie), ("x-forwarded-proto", "http")])
    (seen,) = here.seen
    assert seen.all("x-forwarded-proto") == ["https"] and seen.all("x-forwarded-host") == [secure.world.app.partition("://")[2]]
    assert seen.all("x-user") == ["ada-7c1f04"] and not any(seen.all("cookie"))
    nobody = await through_tls(tls_front, secure, version, "GET", "/record/x", OWN)
    assert nobody.answer.status == 401
    for answer in (here.answer, nobody.answer):
        assert answer.all("strict-transport-security") == ["max-age=31536000; includeSubDomains"]


@pytest.mark.row("ROUTE-10")
@every_version
async def test_an_api_behind_tls_is_reached_if_its_certificate_is_the_right_one(
    tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str, version: str
) -> None:
    headers = [*OWN, ("cookie", tls_cookie)]
    here = await through_tls(tls_front, secure, version, "POST", "/tls-right/x?y", headers, b'{"a":1}')
    assert here.answer.status == 200, here.answer
    (seen,) = secure.apis["right"].seen
    assert (seen.line, seen.claims["sub"], seen.body) == ("POST /up/x?y HTTP/1.1", "ada-7c1f04", b'{"a":1}')
    assert seen.all("host") == [f"localhost:{secure.apis['right'].port}"] and not any(seen.all("cookie"))
    for name in ("other_name", "stranger"):
        here = await through_tls(tls_front, secure, version, "GET", f"/tls-{name}/x", headers)
        assert here.answer.status in (500, 502, 503) and not secure.apis[name].seen, (name, here.answer)


async def test_an_api_behind_tls_may_be_named_by_its_address(tls_front: FrontProxy, secure: SecureWorld, tls_cookie: str) -> None:
    here = await through_tls(tls_front, secure, "http/1.1", "GET", "/tls-address/x", [*OWN, ("cookie", tls_cookie)])
    assert here.answer.status == 200, here.answer
    (seen,) = secure.by_address.seen
    assert seen.claims["sub"] == "ada-7c1f04" and not any(seen.all("cookie"))


@pytest.mark.row("WS-1", "M12", "SESS-10")
async def test_sign_in_websocket_and_sign_out_through_tls(tls_front: FrontProxy, secure: SecureWorld) -> None:
    world = secure.world
    browser = browser_through(tls_front, world)
    assert (await world.sign_in(browser)).status == 200
    address = world.app.replace("https", "wss")
    async with browser.websocket(f"{address}/api/echo", origin="https://evil.example") as socket:
        assert socket.status == 403, socket.answer.raw_head
    async with browser.websocket(f"{address}/api/echo") as socket:
        assert socket.status == 101
        await socket.send("hello")
        assert "hello" in await socket.receive()
    thief = browser.stolen_copy()
    assert (await thief.fetch("/record/x", page=f"{world.app}/")).status == 200
    assert (await browser.fetch("/bff/logout", method="POST")).status in (200, 303)
    assert (await thief.fetch("/record/x", page=f"{world.app}/")).status == 401
