"""The stage of the endurance runs: an upstream that sends and swallows without end, a product before it, and readings from /proc."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.harness.background import Background
from tests.harness.browser import Browser
from tests.harness.http import Address, head_bytes
from tests.harness.programs import children_of
from tests.harness.world import World, build_world

PIECE = b"\xa5" * 65_536
MIB = 1024 * 1024


@dataclass(slots=True)
class Flow:
    """``/big?N`` sends N bytes, ``/drip?N,S`` sends them over S seconds, ``/pieces?N,S`` the same in chunks,
    ``/sink`` counts a body read at ``sink_rate`` bytes a second, ``/slow?S`` answers after S seconds,
    ``/events`` sends the time each ``event_s``, ``/fail`` answers 500, ``/counted`` counts by key, everything else is small JSON."""

    background: Background
    sink_rate: float = 80e6
    event_s: float = 0.02
    port: int = 0
    requests: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    def start(self) -> Flow:
        self.background.run(self._listen())
        return self

    def stop(self) -> None:
        if self._server is not None:
            self.background.loop.call_soon_threadsafe(self._server.close)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=256 * 1024, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.requests += 1
                fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:-2])}
                await self._answer(head.split(" ")[1], fields, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, fields: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path, _, query = target.partition("?")
        count = await self._swallow(fields, reader, self.sink_rate if path.endswith("/sink") else 1e12)
        if path.endswith("/big"):
            await self._send_big(int(query), writer)
        elif path.endswith(("/drip", "/pieces")):
            size, seconds = query.split(",")
            await _send_slowly(int(size), float(seconds), writer, chunked=path.endswith("/pieces"))
        elif path.endswith("/events"):
            await self._send_events(writer)
        elif path.endswith("/ws") and fields.get("upgrade"):
            await _echo_frames(fields, reader, writer)
        else:
            if path.endswith("/slow"):
                await asyncio.sleep(float(query))
            if path.endswith("/counted"):
                self.keys[query] = self.keys.get(query, 0) + 1
            await _send_json(writer, {"bytes": count, "path": path}, 500 if path.endswith("/fail") else 200)

    async def _swallow(self, fields: dict[str, str], reader: asyncio.StreamReader, rate: float) -> int:
        """Read the body, counting, no faster than ``rate``."""
        begun, count = time.monotonic(), 0
        chunked = fields.get("transfer-encoding") == "chunked"
        left = int(fields.get("content-length", 0))
        while chunked or left:
            if chunked:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                await reader.readexactly(size + 2)
                if size == 0:
                    break
            else:
                piece = await reader.read(min(left, 65_536))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                size = len(piece)
                left -= size
            count += size
            ahead = count / rate - (time.monotonic() - begun)
            if ahead > 0.005:
                await asyncio.sleep(ahead)
        return count

    async def _send_big(self, size: int, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n".encode())
        while size > 0:
            writer.write(PIECE[:size])
            size -= len(PIECE)
            await writer.drain()

    async def _send_events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            event = f"data: {time.perf_counter_ns()}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(self.event_s)


async def _send_slowly(size: int, seconds: float, writer: asyncio.StreamWriter, *, chunked: bool, steps: int = 20) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n".encode())
    for step in range(steps):
        piece = PIECE[:1] * (size * (step + 1) // steps - size * step // steps)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
        await asyncio.sleep(seconds / steps)
    writer.write(b"0\r\n\r\n" if chunked else b"")
    await writer.drain()


async def _send_json(writer: asyncio.StreamWriter, told: Mapping[str, Any], status: int) -> None:
    body = json.dumps(told).encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def _echo_frames(fields: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept a WebSocket and send every payload back in one frame; a Close is returned and ends it."""
    import base64
    import hashlib

    digest = hashlib.sha1(fields["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    accept = base64.b64encode(digest).decode()
    switch = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    writer.write(switch.encode())
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        key = await reader.readexactly(4)
        payload = await reader.readexactly(size)
        plain = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if size < 4096 else payload
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65_536 else b"\x7f" + size.to_bytes(8, "big")
        if first & 0x0F != 0xA:
            writer.write(bytes([first & 0xF0 | (0xA if first & 0x0F == 0x9 else first & 0x0F)]) + length + plain)
            await writer.drain()
        if first & 0x0F == 0x8:
            raise ConnectionResetError


# -- the product ----------------------------------------------------------------------------------------------------------

ROUTE = {"idle_timeout": "60s", "max_body": "1GiB", "total_timeout": "5m"}


@dataclass(slots=True)
class Run:
    """A running product before a ``Flow``, and somebody signed in."""

    world: World
    flow: Flow
    cookie: str

    @property
    def worker(self) -> int:
        return self.world.product.workers()[0]

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.world.product.port)

    def head(self, path: str, *more: tuple[str, str], method: str = "GET") -> bytes:
        return head_bytes(method, f"{self.world.app}{path}", [("Cookie", self.cookie), ("X-CSRF", "1"), *more])


def flow_routes(flow: Flow) -> list[dict[str, Any]]:
    here = {"upstream": f"{flow.url}/", **ROUTE}
    return [{"path": "/flow/", **here}, {"path": "/free/", "token": "none", **here}]


@contextmanager
def running(
    *,
    config: Mapping[str, Any] | None = None,
    routes: Callable[[Flow], list[dict[str, Any]]] = flow_routes,
    sign_in: bool = True,
) -> Iterator[Run]:
    """Everything started on loopback, stopped at the end."""
    background = Background()
    flow = Flow(background).start()
    settings = {"routes": routes(flow), "log": {"level": "warning", "access": False}, **(config or {})}
    with TemporaryDirectory(prefix="bff-endurance-") as made:
        world = build_world(Path(made), background, config=settings)
        try:
            browser = asyncio.run(world.signed_in("ada")) if sign_in else Browser()
            yield Run(world, flow, browser.jar.header(f"{world.app}/") or "")
        finally:
            world.stop()
            flow.stop()
            background.close()


# -- readings ---------------------------------------------------------------------------------------------------------------


def rss_mib(pid: int) -> float:
    """Resident memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def cpu_s(pid: int) -> float:
    """User and system seconds used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def tree_of(pid: int) -> list[int]:
    return [pid, *(grandchild for child in children_of(pid) for grandchild in tree_of(child))]


class Peak:
    """Resident memory of one process, looked at every 20 ms in a thread: ``start_mib`` and ``top_mib``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start_mib = self.top_mib = rss_mib(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown_mib(self) -> float:
        return self.top_mib - self.start_mib

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.top_mib = max(self.top_mib, rss_mib(self.pid))
