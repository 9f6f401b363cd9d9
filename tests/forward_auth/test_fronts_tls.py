"""The same five with TLS: to browsers, over HTTP/1.1 and HTTP/2, and to APIs whose certificate has an authority of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.forward_auth.conftest import browser_through, need
from tests.forward_auth.fronts import PROGRAMS, FrontProxy, find_program, start_front
from tests.forward_auth.http2 import send_h2, trusting
from tests.forward_auth.judging import SESSION, Outcome, at_the_door
from tests.forward_auth.secure import SecureWorld, build_secure_world
from tests.harness.background import Background
from tests.harness.http import HeaderList
from tests.harness.jar import Jar
from tests.harness.upstream import RecordingUpstream
from tests.harness.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

OWN: HeaderList = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("x-csrf", "1")]


@pytest.fixture(scope="module")
def shared_secure(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[SecureWorld]:
    made = build_secure_world(tmp_path_factory.mktemp("secure"), background)
    yield made
    made.stop()


@pytest.fixture
def secure(shared_secure: SecureWorld) -> SecureWorld:
    shared_secure.world.quiet()
    for api in (*shared_secure.apis.values(), shared_secure.by_address):
        api.clear()
    return shared_secure


@pytest.fixture(scope="module")
def start_tls(shared_secure: SecureWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], FrontProxy]]:
    running: dict[str, FrontProxy] = {}

    def find(name: str) -> FrontProxy:
        need(name)
        if name not in running:
            tls = trusting(shared_secure.authority.cert_pem.bytes(), "http/1.1")
            running[name] = start_front(name, shared_secure.world.product, tmp_path_factory.mktemp(f"tls-{name}"), tls=tls)
        return running[name]

    yield find
    for one in running.values():
        one.stop()


@pytest.fixture(params=PROGRAMS)
def front(request: pytest.FixtureRequest, secure: SecureWorld, start_tls: Callable[[str], FrontProxy]) -> FrontProxy:
    return start_tls(request.param)


@pytest.fixture(scope="module")
def cookie(shared_secure: SecureWorld, start_tls: Callable[[str], FrontProxy]) -> str:
    """Ada's, signed in once, through TLS."""
    name = next((name for name in PROGRAMS if find_program(name)), "nginx")
    browser = browser_through(start_tls(name), shared_secure.world, Jar())
    page = asyncio.run(shared_secure.world.sign_in(browser))
    assert page.status == 200, (page.url, page.text[:600])
    return browser.jar.header(f"{shared_secure.world.app}/")


VERSIONS = ("http/1.1", "h2")


async def through_tls(
    front: FrontProxy, secure: SecureWorld, version: str, method: str, target: str, headers: HeaderList, body: bytes | None = None
) -> Outcome:
    recorder: RecordingUpstream = secure.world.recorder
    recorder.clear()
    if version == "http/1.1":
        answer = await front.ask(method, target, headers, body)
    else:
        address = front.address
        tls = trusting(secure.authority.cert_pem.bytes(), "h2")
        answer = await send_h2(type(address)(address.host, address.port, tls, "localhost"), front.authority, method, target, headers, body)
    return Outcome(answer, tuple(recorder.seen))


every_version = pytest.mark.parametrize("version", VERSIONS)


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
async def test_over_tls_the_verdict_is_the_doors(front: FrontProxy, secure: SecureWorld, cookie: str, version: str) -> None:
    world, different, passed = secure.world, [], 0
    for method, target, headers, body in samples(world, cookie):
        door = await at_the_door(world, method, target, [*headers, ("X-Forwarded-Proto", "https")], body)
        here = await through_tls(front, secure, version, method, target, headers, body)
        passed += len(here.seen)
        if door.meaning != here.meaning:
            different.append((method, target, headers, door.meaning, here.meaning))
    assert different == [] and passed > 5


@every_version
async def test_an_api_hears_the_public_origin_and_the_browser_hsts(
    front: FrontProxy, secure: SecureWorld, cookie: str, version: str
) -> None:
    here = await through_tls(front, secure, version, "GET", "/record/x", [*OWN, ("cookie", cookie), ("x-forwarded-proto", "http")])
    (seen,) = here.seen
    assert seen.all("x-forwarded-proto") == ["https"] and seen.all("x-forwarded-host") == [secure.world.app.partition("://")[2]]
    assert seen.all("x-user") == ["ada-7c1f04"] and not any(seen.all("cookie"))
    assert here.answer.all("strict-transport-security") == ["max-age=31536000; includeSubDomains"]


@pytest.mark.row("T10")
@every_version
async def test_an_api_behind_tls_is_reached_if_its_certificate_is_the_right_one(
    front: FrontProxy, secure: SecureWorld, cookie: str, version: str
) -> None:
    headers = [*OWN, ("cookie", cookie)]
    here = await through_tls(front, secure, version, "POST", "/tls-right/x?y", headers, b'{"a":1}')
    assert here.answer.status == 200, here.answer
    (seen,) = secure.apis["right"].seen
    assert (seen.line, seen.claims["sub"], seen.body) == ("POST /up/x?y HTTP/1.1", "ada-7c1f04", b'{"a":1}')
    assert seen.all("host") == [f"localhost:{secure.apis['right'].port}"] and not any(seen.all("cookie"))
    for name in ("other_name", "stranger"):
        here = await through_tls(front, secure, version, "GET", f"/tls-{name}/x", headers)
        assert here.answer.status in (500, 502, 503) and not secure.apis[name].seen, (name, here.answer)


async def test_an_api_behind_tls_may_be_named_by_its_address(front: FrontProxy, secure: SecureWorld, cookie: str) -> None:
    here = await through_tls(front, secure, "http/1.1", "GET", "/tls-address/x", [*OWN, ("cookie", cookie)])
    assert here.answer.status == 200, here.answer
    (seen,) = secure.by_address.seen
    assert seen.claims["sub"] == "ada-7c1f04" and not any(seen.all("cookie"))
