"""One product for all of them, and each front proxy before it at a port of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest

from tests.forward_auth.fronts import HINTS, PROGRAMS, FrontProxy, find_program, start_front
from tests.forward_auth.http2 import trusting
from tests.forward_auth.judging import Door
from tests.forward_auth.secure import SecureWorld, build_secure_world
from tests.harness.background import Background
from tests.harness.browser import Browser
from tests.harness.jar import Jar
from tests.harness.programs import free_port
from tests.harness.world import World, build_world

IDENTITY = {"X-User": "sub", "X-Department": "department"}


def need(name: str) -> None:
    """Skip without the program; fail where BFF_TEST_REQUIRE names frontproxy."""
    if find_program(name) is None:
        reason = f"{name} is missing: {HINTS[name]}"
        if "frontproxy" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[World]:
    """A product behind front proxies: its door is not at the port of its public origin."""
    server = {"listen": f"127.0.0.1:{free_port()}", "trusted_proxies": ["127.0.0.1/32"], "workers": 1, "grace": "3s"}
    folder = tmp_path_factory.mktemp("front")
    made = build_world(folder, background, config={"server": server, "forward_auth": {"identity_headers": IDENTITY}})
    up = made.recorder.url
    made.product.config["routes"] += [
        {"path": "/cookies/", "upstream": f"{up}/cookies/", "forward_cookies": ["theme"]},
        {"path": "/exact", "exact": True, "upstream": f"{up}/one"},
        {"path": "/slashes/", "upstream": f"{up}/slashes/", "encoded_slash": True},
        {"path": "/returning/", "upstream": f"{up}/returning/", "return_cookies": ["theme"]},
        {"path": "/get/", "upstream": f"{up}/get/", "methods": ["GET"]},
    ]
    made.product.restart()
    yield made
    made.stop()


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.quiet()
    return shared_world


@pytest.fixture(scope="session")
def start(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., FrontProxy]]:
    """Starts a front proxy once for each way of asking for it."""
    running: dict[tuple[str, ...], FrontProxy] = {}

    def find(name: str, *words: str) -> FrontProxy:
        need(name)
        if (name, *words) not in running:
            running[name, *words] = start_front(name, shared_world.product, tmp_path_factory.mktemp(name), *words)
        return running[name, *words]

    yield find
    for one in running.values():
        one.stop()


@pytest.fixture(params=PROGRAMS)
def front(request: pytest.FixtureRequest, world: World, start: Callable[..., FrontProxy]) -> FrontProxy:
    return start(request.param)


@pytest.fixture(scope="session")
def door() -> Door:
    return Door()


def browser_through(front: FrontProxy, world: World, jar: Jar | None = None) -> Browser:
    """A browser for which the public origin is this front proxy."""
    return Browser(jar or Jar(), via={world.app: front.address})


@pytest.fixture(scope="session")
def adas_jar(shared_world: World, start: Callable[..., FrontProxy]) -> Jar:
    """Ada signed in once, through a front proxy that is there."""
    name = next((name for name in PROGRAMS if find_program(name)), "nginx")
    browser = browser_through(start(name), shared_world)
    page = asyncio.run(shared_world.sign_in(browser))
    assert page.status == 200, (page.url, page.text[:600])
    return browser.jar


# ── the same with TLS ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def shared_secure(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[SecureWorld]:
    made = build_secure_world(tmp_path_factory.mktemp("secure"), background)
    yield made
    made.stop()


@pytest.fixture
def secure(shared_secure: SecureWorld) -> SecureWorld:
    shared_secure.quiet()
    return shared_secure


@pytest.fixture(scope="session")
def start_tls(shared_secure: SecureWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], FrontProxy]]:
    running: dict[str, FrontProxy] = {}

    def find(name: str) -> FrontProxy:
        need(name)
        if name not in running:
            tls = trusting(shared_secure.authority_pem, "http/1.1")
            running[name] = start_front(name, shared_secure.world.product, tmp_path_factory.mktemp(f"tls-{name}"), tls=tls)
        return running[name]

    yield find
    for one in running.values():
        one.stop()


@pytest.fixture(params=PROGRAMS)
def tls_front(request: pytest.FixtureRequest, secure: SecureWorld, start_tls: Callable[[str], FrontProxy]) -> FrontProxy:
    return start_tls(request.param)


@pytest.fixture(scope="session")
def tls_cookie(shared_secure: SecureWorld, start_tls: Callable[[str], FrontProxy]) -> str:
    """Ada's, signed in once, through TLS."""
    name = next((name for name in PROGRAMS if find_program(name)), "nginx")
    browser = browser_through(start_tls(name), shared_secure.world)
    page = asyncio.run(shared_secure.world.sign_in(browser))
    assert page.status == 200, (page.url, page.text[:600])
    return browser.jar.header(f"{shared_secure.world.app}/")
