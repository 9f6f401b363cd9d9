"""The clients of ``bench.restarts``, each as strict as a browser: callers, posters, downloads, event streams, WebSockets."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from tests.harness.browser import Socket, close_code
from tests.harness.http import Answer, Wire, address_of, head_bytes

BIG = 3 * 1024 * 1024
SILENT_S = 15.0
CLOSE, GOING_AWAY = 0x8, 1001
LOST = (OSError, asyncio.IncompleteReadError, TimeoutError)


@dataclass(slots=True)
class Tally:
    """What the clients saw. ``in_hands``: requests and streams open at the moments of the kills, the most that may be lost."""

    seen: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    in_flight: int = 0
    in_hands: int = 0
    turns: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    posts: dict[str, str] = field(default_factory=dict)

    def fail(self, what: str) -> None:
        self.seen["failed"] += 1
        self.failures.append(what)

    def lines(self) -> list[str]:
        counted = " · ".join(f"{name} {number}" for name, number in sorted(self.seen.items()))
        return [f"{self.seconds:.0f} s, {self.turns} turns: {counted} · longest short call {self.longest_s:.2f} s", *self.failures[:10]]


class Client:
    """One browser tab: a kept-alive connection and a session."""

    def __init__(self, app: str, cookie: str, tally: Tally) -> None:
        self.app, self.cookie, self.tally = app, cookie, tally
        self.wire: Wire | None = None

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer | None:
        """The answer, or None if there was none (an idempotent request was repeated where a browser would)."""
        if self.wire is not None and self.wire.reader.at_eof():
            await self.close()  # the server closed it between two requests: every client looks before it sends
        fresh = self.wire is None
        answer = await self._once(method, path, body)
        if answer is None and not fresh and method == "GET":
            self.tally.seen["repeated"] += 1
            answer = await self._once(method, path, body)
        return answer

    async def _once(self, method: str, path: str, body: bytes) -> Answer | None:
        self.tally.in_flight += 1
        try:
            async with asyncio.timeout(30):
                if self.wire is None:
                    self.wire = await Wire.open(address_of(self.app))
                headers = [("Cookie", self.cookie), ("X-CSRF", "1"), ("Content-Length", str(len(body)))]
                await self.wire.send(head_bytes(method, f"{self.app}{path}", headers if body else headers[:2]) + body)
                answer = await self.wire.read_answer(method)
        except LOST:
            await self.close()
            return None
        finally:
            self.tally.in_flight -= 1
        if (answer.header("connection") or "").lower() == "close" or not answer.complete:
            await self.close()
        return answer

    async def close(self) -> None:
        wire, self.wire = self.wire, None
        if wire is not None:
            await wire.close()


def judge(tally: Tally, path: str, answer: Answer | None, size: int | None = None, name: str = "ok") -> None:
    """200 and whole, or it failed. A 200 that looks whole and is not is ``truncated``, which nothing excuses."""
    if answer is None:
        tally.fail(f"{path}: no answer")
    elif answer.status == 401:
        tally.fail(f"{path}: session lost")
    elif answer.status != 200:
        tally.fail(f"{path}: {answer.status} {answer.code}")
    elif not answer.complete:
        tally.seen["cut visibly"] += 1
        tally.fail(f"{path}: a 200 cut visibly after {len(answer.body)} bytes")
    elif size is not None and len(answer.body) != size:
        tally.seen["truncated"] += 1
        tally.fail(f"{path}: a 200 that looks whole with {len(answer.body)} of {size} bytes")
    else:
        tally.seen[name] += 1


async def get(client: Client, until: float, path: str, pause_s: float, size: int | None = None) -> None:
    """Idempotent calls: each must be answered 200, whole."""
    while time.monotonic() < until:
        asked = time.monotonic()
        judge(client.tally, path.partition("?")[0], await client.call("GET", path), size)
        if path == "/flow/json":
            client.tally.longest_s = max(client.tally.longest_s, time.monotonic() - asked)
        await asyncio.sleep(pause_s)
    await client.close()


async def download(client: Client, until: float, kind: str, chance: random.Random, size: int = 600_000) -> None:
    """Answers of 1 to 5 seconds, with a length (``drip``) or in chunks (``pieces``), so that many span a restart."""
    while time.monotonic() < until:
        answer = await client.call("GET", f"/flow/{kind}?{size},{chance.uniform(1, 5):.2f}")
        judge(client.tally, f"/flow/{kind}", answer, size, f"{kind} ok")
    await client.close()


async def sip(app: str, cookie: str, tally: Tally, until: float, size: int = 4 * 1024 * 1024) -> None:
    """A reader of 2 MB/s with a small window: what the door has written is still on its way when the drain begins."""
    address = address_of(app)
    while time.monotonic() < until:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        sock.setblocking(False)
        got, status = 0, 0
        try:
            async with asyncio.timeout(30), _held(tally):
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
                wire = Wire(*await asyncio.open_connection(sock=sock, limit=64 * 1024))
                await wire.send(head_bytes("GET", f"{app}/flow/big?{size}", [("Cookie", cookie), ("X-CSRF", "1")]))
                status, _, _ = await wire.read_head()
                while got < size and (piece := await wire.reader.read(64 * 1024)):
                    got += len(piece)
                    await asyncio.sleep(0.03)
                await wire.close()
        except LOST:
            sock.close()
        if status == 200 and got == size:
            tally.seen["slow readers ok"] += 1
        else:
            tally.fail(f"slow reader: {status or 'no answer'}, {got} of {size} bytes")


async def post(client: Client, until: float, numbers: count[int], own: str) -> None:
    """Calls that must not be repeated: done once or not at all, and a 200 means once."""
    while time.monotonic() < until:
        key = f"{own}-{next(numbers)}"
        answer = await client.call("POST", f"/flow/counted?{key}", b"x" * 100)
        client.tally.posts[key] = "none" if answer is None else str(answer.status)
        client.tally.seen["post ok" if answer is not None and answer.status == 200 else "post unanswered"] += 1
        await asyncio.sleep(0.2)
    await client.close()


# -- streams --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _held(tally: Tally) -> AsyncIterator[None]:
    tally.in_flight += 1
    try:
        yield
    finally:
        tally.in_flight -= 1


async def listen(app: str, cookie: str, tally: Tally, until: float) -> None:
    """An EventSource: opened again as soon as the stream ends, which it must do where the client sees it, between two events."""
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(SILENT_S):
                wire = await Wire.open(address_of(app))
                headers = [("Cookie", cookie), ("X-CSRF", "1"), ("Accept", "text/event-stream")]
                await wire.send(head_bytes("GET", f"{app}/flow/events", headers))
                status, _, _ = await wire.read_head()
        except LOST as error:
            tally.fail(f"event stream not opened: {type(error).__name__}")
            await asyncio.sleep(0.1)
            continue
        if status != 200:
            tally.fail(f"event stream: {'session lost' if status == 401 else status}")
        else:
            tally.seen["event streams"] += 1
            async with _held(tally):
                await _follow(wire, tally, until)
        await wire.close()


async def _follow(wire: Wire, tally: Tally, until: float) -> None:
    text = b"\n\n"
    chunks = aiter(wire.chunks())
    try:
        while time.monotonic() < until:
            async with asyncio.timeout(SILENT_S):
                text = (text + await anext(chunks))[-64:]
    except StopAsyncIteration:
        tally.seen["event streams completed"] += 1
        tally.fail("an event stream was completed that its API had not ended")
    except TimeoutError:
        tally.fail("an event stream fell silent without an end")
    except (OSError, asyncio.IncompleteReadError):
        tally.seen["event streams ended visibly"] += 1
        tally.seen["event streams ended inside an event"] += not text.endswith(b"\n\n")


async def talk(app: str, cookie: str, tally: Tally, until: float) -> None:
    """A WebSocket with an echo every 0.3 s: a restart closes it with 1001, and another is to be had at once with the same session."""
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(SILENT_S):
                socket = await _open_socket(app, cookie)
        except LOST as error:
            tally.fail(f"WebSocket not opened: {type(error).__name__}")
            await asyncio.sleep(0.1)
            continue
        if socket.status != 101:
            tally.fail(f"WebSocket: {'session lost' if socket.status == 401 else socket.status}")
        else:
            tally.seen["WebSockets"] += 1
            async with _held(tally):
                await _converse(socket, tally, until)
        await socket.wire.close()


async def _open_socket(app: str, cookie: str) -> Socket:
    wire = await Wire.open(address_of(app))
    key = base64.b64encode(os.urandom(16)).decode()
    opening = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    await wire.send(head_bytes("GET", f"{app}/flow/ws", [*opening, ("Origin", app), ("Cookie", cookie)]))
    return Socket(await wire.read_answer("GET"), wire)


async def _converse(socket: Socket, tally: Tally, until: float) -> None:
    try:
        while time.monotonic() < until:
            await socket.send("still there?")
            async with asyncio.timeout(SILENT_S):
                opcode, payload = await socket.receive_frame()
            if opcode == CLOSE:
                code = close_code(payload)
                tally.seen[f"WebSockets closed with {code}"] += 1
                if code != GOING_AWAY:
                    tally.fail(f"a WebSocket was closed with {code}")
                return
            await asyncio.sleep(0.3)
    except LOST as error:
        tally.seen["WebSockets closed with 1006"] += 1
        tally.fail(f"a WebSocket ended without a Close: {type(error).__name__}")
