"""Two instances behind one front proxy, restarted in turn: no request that may be repeated fails."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forward_auth.conftest import IDENTITY, browser_through, need
from tests.forward_auth.fronts import FrontProxy, start_front
from tests.harness.background import Background
from tests.harness.http import Wire
from tests.harness.product import Product
from tests.harness.programs import free_port
from tests.harness.world import World, build_world

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

CLIENTS, ROUNDS = 3, 4
METADATA = ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[tuple[World, list[Product]]]:
    """A second instance that shares store and keys with the world's own."""
    folder = tmp_path_factory.mktemp("pair")
    server = {"listen": f"127.0.0.1:{free_port()}", "trusted_proxies": ["127.0.0.1/32"], "workers": 1, "grace": "5s"}
    world = build_world(folder, background, config={"server": server, "forward_auth": {"identity_headers": IDENTITY}})
    (folder / "second").mkdir()
    config = {
        **world.product.config,
        "server": {**server, "listen": f"127.0.0.1:{free_port()}"},
        "session": {"store": f"sqlite:{folder}/sessions.db", "keys_file": f"{folder}/keys.json"},
        "spa": {"directory": f"{folder}/web"},
    }
    second = Product(folder=folder / "second", config=config, start=False)
    second.origin = world.product.origin
    second.start()
    yield world, [world.product, second]
    second.stop(5)
    world.stop()


class Client:
    """GETs one after another on one connection, as a browser's page would. No second try of its own."""

    def __init__(self, front: FrontProxy, cookie: str) -> None:
        self.front, self.cookie = front, cookie
        self.outcomes: collections.Counter[str] = collections.Counter()

    async def run(self, stop: asyncio.Event) -> None:
        targets = ("/record/x", "/open/x", "/bff/user", "/record/y?z")
        wire = await Wire.open(self.front.address)
        for number in range(1_000_000):
            if stop.is_set():
                break
            target = targets[number % len(targets)]
            lines = [f"GET {target} HTTP/1.1", f"Host: {self.front.authority}", f"Cookie: {self.cookie}", "X-CSRF: 1", *METADATA, "", ""]
            try:
                async with asyncio.timeout(8):
                    await wire.send("\r\n".join(lines).encode())
                    answer = await wire.read_answer("GET")
                self.outcomes[str(answer.status) if answer.complete else "truncated"] += 1
                closes = (answer.header("connection") or "").lower() == "close"
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as failure:
                self.outcomes[type(failure).__name__ + " " + target] += 1
                closes = True
            if closes:
                await wire.close()
                wire = await Wire.open(self.front.address)
            await asyncio.sleep(0.02)
        await wire.close()


@pytest.mark.row("F47", "OPS-6")
@pytest.mark.parametrize("name", ["nginx", "haproxy", "caddy", "envoy"])
async def test_a_rolling_restart_behind_a_front_proxy_fails_no_get(name: str, pair: tuple[World, list[Product]], tmp_path: Path) -> None:
    need(name)
    world, products = pair
    doors = [word for product in products for word in ("--door", product.config["server"]["listen"])]
    front = start_front(name, world.product, tmp_path / name, *doors)
    try:
        browser = browser_through(front, world)
        assert (await world.sign_in(browser)).status == 200
        clients = [Client(front, browser.jar.header(f"{world.app}/")) for _ in range(CLIENTS)]
        stop = asyncio.Event()
        running = [asyncio.create_task(client.run(stop)) for client in clients]
        for number in range(ROUNDS):
            await asyncio.to_thread(products[number % 2].restart)
            await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*running)
        outcomes = sum((client.outcomes for client in clients), collections.Counter())
        assert set(outcomes) == {"200"}, outcomes
        assert outcomes["200"] > 50, outcomes
    finally:
        front.stop()
