"""One real product before a raw recording upstream, with two people signed in, for everything in this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.harness.background import Background
from tests.harness.browser import Browser, Page
from tests.harness.http import Address, Answer
from tests.harness.world import World, build_world
from tests.strict.hostile import HostileUpstream


@dataclass(slots=True)
class Stage:
    """``cookie``: Ada's Cookie header value. ``host``: the Host header's."""

    world: World
    upstream: HostileUpstream
    cookie: str
    ben: Browser

    @property
    def host(self) -> bytes:
        return f"localhost:{self.world.product.port}".encode()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.world.product.port)

    def targets(self) -> list[str]:
        return [seen.target for seen in self.upstream.seen]


def routes_to(upstream: HostileUpstream) -> list[dict[str, object]]:
    base = upstream.url
    return [
        {"path": "/x", "upstream": f"{base}/x", "token": "none"},
        {"path": "/hidden/", "upstream": f"{base}/hidden/"},
        {"path": "/up/", "upstream": f"{base}/up/", "idle_timeout": "3s", "head_timeout": "3s"},
        {"path": "/up/strong", "upstream": f"{base}/up/strong", "acr": ["mfa"]},
        {"path": "/api/", "upstream": f"{base}/api/", "token": "none"},
        {"path": "/auth/", "upstream": f"{base}/auth/", "token": "none"},
    ]


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_stage(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[Stage]:
    upstream = HostileUpstream(background).start()
    config = {"routes": routes_to(upstream), "log": {"level": "warning", "format": "json"}}
    world = build_world(tmp_path_factory.mktemp("strict"), background, config=config)
    ada = asyncio.run(world.signed_in("ada"))
    ben = asyncio.run(world.signed_in("ben"))
    ben.page = Page(f"{world.app}/", Answer(200, (), b""))
    yield Stage(world, upstream, ada.jar.header(f"{world.app}/") or "", ben)
    world.stop()
    upstream.stop()


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    shared_stage.upstream.clear()
    return shared_stage
