"""Two instances on one SQLite store, behind a small TCP balancer that asks ``/readyz`` or on one inherited socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.flow import ROUTE, Flow
from tests.harness.background import Background
from tests.harness.product import Product
from tests.harness.programs import free_port
from tests.harness.world import World, build_world

LOOK_S = 0.2


@dataclass(slots=True)
class Balancer:
    """Pipes each connection to the next instance that says it is ready; an instance that refuses to connect is passed over."""

    background: Background
    products: list[Product] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)
    port: int = field(default_factory=free_port)
    _turn: int = 0
    _watch: asyncio.Future[None] | None = None
    _server: asyncio.Server | None = None

    def start(self) -> None:
        self.background.run(self._listen())

    def stop(self) -> None:
        if self._server is not None:
            self.background.loop.call_soon_threadsafe(self._server.close)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self._watch = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while True:
            for product in list(self.products):
                if await _is_ready(product.manage_port):
                    self.ready.add(product.port)
                else:
                    self.ready.discard(product.port)
            await asyncio.sleep(LOOK_S)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = [product.port for product in self.products]
        self._turn += 1
        order = ports[self._turn % len(ports) :] + ports[: self._turn % len(ports)]
        for port in sorted(order, key=lambda port: port not in self.ready):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await self._connect()
            await asyncio.gather(_pump(reader, onward), _pump(back, writer))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            for one in (writer, onward):
                if one is not None:
                    one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.close()
            return b" 200 " in line
    except (OSError, TimeoutError):
        return False


@dataclass(slots=True)
class Fleet:
    """``app`` is the origin that browsers see: the balancer's, or that of the one socket both instances inherit."""

    world: World
    flow: Flow
    products: list[Product]
    app: str


def _config(app: str, folder: Path, flow: Flow) -> dict[str, Any]:
    return {
        "server": {"public_origin": app, "drain_delay": "1s", "grace": "10s"},
        "session": {"store": f"sqlite:{folder}/sessions.db", "keys_file": f"{folder}/keys.json"},
        "spa": {"directory": f"{folder}/web"},
        "log": {"level": "warning", "access": False},
        "routes": [{"path": "/flow/", "upstream": f"{flow.url}/", **ROUTE}],
    }


@contextmanager
def fleet(*, workers: int = 1) -> Iterator[Fleet]:
    """Two instances of ``workers`` processes each behind a balancer, started; everything stopped at the end."""
    background = Background()
    balancer = Balancer(background)
    with _fleet(background, f"http://localhost:{balancer.port}", {"workers": workers}) as made:
        balancer.products = made.products
        made.products[1].start()
        try:
            balancer.start()
            yield made
        finally:
            balancer.stop()


@contextmanager
def heirs(*, workers: int = 2) -> Iterator[Fleet]:
    """One instance on a socket that it inherits, as from systemd, and another, not yet started, that would inherit it too."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=4096) as door:
        server = {"workers": workers, "listen": f"fd://{door.fileno()}", "drain_delay": "0s"}
        with _fleet(Background(), f"http://localhost:{door.getsockname()[1]}", server) as made:
            yield made


@contextmanager
def _fleet(background: Background, app: str, server: dict[str, Any]) -> Iterator[Fleet]:
    """The first of two instances runs; both are stopped at the end."""
    flow = Flow(background).start()
    with TemporaryDirectory(prefix="bff-fleet-") as made:
        first, second = Path(made) / "one", Path(made) / "two"
        first.mkdir()
        second.mkdir()
        client = {
            "redirect_uris": [f"{app}/bff/callback"],
            "post_logout_redirect_uris": [f"{app}/"],
            "backchannel_logout_uri": f"{app}/bff/backchannel-logout",
        }
        config = _config(app, first, flow)
        config["server"] |= server
        world = build_world(first, background, config=config, client=client)
        other = Product(folder=second, config=world.product.config, start=False)
        try:
            yield Fleet(world, flow, [world.product, other], app)
        finally:
            if other.program is not None:
                other.stop(5)
            world.stop()
            flow.stop()
            background.close()
