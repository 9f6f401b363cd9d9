"""WebSockets and event streams through the real process: wire rules, close codes, large messages with flat memory, the session's end."""

from __future__ import annotations

import asyncio
import os
import statistics
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bench.flow import MIB, ROUTE, Flow, Peak, Run, running
from tests.harness.browser import Browser, Page, Socket
from tests.harness.http import Answer, Wire, address_of, head_bytes

pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def routes(flow: Flow) -> list[dict[str, Any]]:
    here = {"upstream": f"{flow.url}/", **ROUTE}
    return [{"path": "/flow/", **here}, {"path": "/small/", **here, "max_websocket_message": "1MiB"}]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with running(routes=routes) as made:
        yield made


@pytest.fixture(scope="module")
def people(run: Run) -> Browser:
    return asyncio.run(run.world.signed_in("ben"))


@pytest.fixture
def ben(run: Run, people: Browser) -> Browser:
    browser = Browser(people.jar.copy())
    browser.page = Page(f"{run.world.app}/", Answer(200, (), b""))
    return browser


@pytest.fixture
async def socket(run: Run, ben: Browser) -> AsyncIterator[Socket]:
    async with ben.websocket(f"{run.world.app}/flow/ws") as made:
        assert made.status == 101
        yield made


def frame(first: int, payload: bytes = b"", *, masked: bool = True, length: bytes | None = None) -> bytes:
    """A frame whose first byte, mask bit and length may be as wrong as one likes."""
    size = len(payload)
    told = length if length is not None else bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    told = bytes([told[0] | (0x80 if masked else 0)]) + told[1:]
    key = os.urandom(4) if masked else b""
    return bytes([first]) + told + key + (bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if masked else payload)


BROKEN = {
    "unmasked": (frame(0x81, b"hi", masked=False), 1002),
    "rsv1": (frame(0xC1, b"hi"), 1002),
    "rsv2": (frame(0xA1, b"hi"), 1002),
    "rsv3": (frame(0x91, b"hi"), 1002),
    "opcode_3": (frame(0x83, b"hi"), 1002),
    "opcode_b": (frame(0x8B, b"hi"), 1002),
    "continuation_of_nothing": (frame(0x80, b"hi"), 1002),
    "text_inside_a_message": (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
    "fragmented_ping": (frame(0x09, b"a"), 1002),
    "oversize_ping": (frame(0x89, b"a" * 126), 1002),
    "oversize_close": (frame(0x88, b"\x03\xe8" + b"a" * 124), 1002),
    "length_not_shortest": (frame(0x81, b"hi", length=b"\x7e\x00\x02"), 1002),
    "length_64_bit_sign": (frame(0x82, b"", length=b"\x7f" + b"\xff" * 8), 1002),
    "close_of_one_byte": (frame(0x88, b"\x03"), 1002),
    "close_999": (frame(0x88, struct.pack("!H", 999)), 1002),
    "close_1005": (frame(0x88, struct.pack("!H", 1005)), 1002),
    "close_1006": (frame(0x88, struct.pack("!H", 1006)), 1002),
    **{f"close_{code}": (frame(0x88, struct.pack("!H", code)), 1002) for code in (0, 1004, 1015, 1016, 2999, 65_535)},
    "close_5000": (frame(0x88, struct.pack("!H", 5000)), 1002),
    "close_reason_not_utf8": (frame(0x88, b"\x03\xe8\xff\xff"), 1007),
    "message_too_big": (frame(0x82, b"", length=b"\x7f" + struct.pack("!Q", 65 * MIB)), 1009),
}


@pytest.mark.row("WS-7", "WS-8", "M6")
@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_frame_ends_the_socket_with_the_code_it_earns(case: str, socket: Socket) -> None:
    data, code = BROKEN[case]
    await socket.wire.send(data + b"GET /flow/json HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await socket.wait_close(5) == code


@pytest.mark.row("WS-7")
@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_fragments_with_control_frames_between_them_pass_however_they_are_cut(step: int, socket: Socket) -> None:
    data = frame(0x01, b"one ") + frame(0x89, b"ping") + frame(0x00, b"two ") + frame(0x8A, b"unasked") + frame(0x80, b"three")
    for at in range(0, len(data), step):
        await socket.wire.send(data[at : at + step])
    received = [await socket.receive_frame() for _ in range(4)]
    assert received == [(0x1, b"one "), (0xA, b"ping"), (0x0, b"two "), (0x0, b"three")]


@pytest.mark.row("WS-7")
@pytest.mark.parametrize("payload", [b"\x0f\xa1why", b"\x03\xe8", b"", b"\x03\xf3", b"\x0b\xb8"], ids=["4001", "1000", "-", "1011", "3000"])
async def test_a_close_passes_with_its_code_or_without_one(payload: bytes, socket: Socket) -> None:
    await socket.wire.send(frame(0x88, payload) + frame(0x81, b"too late") + frame(0x89, b"x") + b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(socket.receive_frame(), 5) == (0x8, payload)


@pytest.mark.row("BODY-2", "WS-8")
async def test_a_message_of_64_mib_streams_with_flat_memory(run: Run, ben: Browser) -> None:
    piece = os.urandom(MIB)
    async with ben.websocket(f"{run.world.app}/flow/ws") as warm:
        await warm.send_frame(0x2, piece)
        await warm.receive_frame()
    async with ben.websocket(f"{run.world.app}/flow/ws") as socket:
        with Peak(run.worker) as peak:
            reading = asyncio.ensure_future(socket.receive_frame())
            await socket.wire.send(b"\x82\xff" + struct.pack("!Q", 64 * MIB) + b"\x00\x00\x00\x00")
            for _ in range(64):
                await socket.wire.send(piece)
            opcode, payload = await asyncio.wait_for(reading, 60)
    assert opcode == 0x2
    assert payload == piece * 64
    assert peak.grown_mib <= 12


@pytest.mark.row("WS-8", "D11")
async def test_a_message_over_the_routes_limit_is_a_1009(run: Run, ben: Browser) -> None:
    async with ben.websocket(f"{run.world.app}/small/ws") as socket:
        await socket.wire.send(frame(0x02, b"", length=b"\x7f" + struct.pack("!Q", MIB)) + bytes(MIB) + frame(0x80, b"one more"))
        assert await socket.wait_close(10) == 1009


@pytest.mark.row("D11")
async def test_a_flood_of_tiny_fragments_is_a_1009(run: Run, ben: Browser) -> None:
    async with ben.websocket(f"{run.world.app}/flow/ws") as socket:
        closing = asyncio.ensure_future(socket.wait_close(30))
        await socket.wire.send(frame(0x01, b"a"))
        tiny = frame(0x00, b"a") * 1000
        with Peak(run.worker) as peak:
            for _ in range(80):
                if closing.done():
                    break
                await socket.wire.send(tiny)
            assert await closing in (1009, 1006)
    assert peak.grown_mib <= 20


@pytest.mark.row("F56", "WS-10", "SSE-4")
async def test_sockets_and_event_streams_end_within_five_seconds_of_the_logout(run: Run) -> None:
    browser = await run.world.signed_in("chloe")
    async with browser.websocket(f"{run.world.app}/flow/ws") as socket, browser.events(f"{run.world.app}/flow/events") as stream:
        assert len(await stream.read(2)) == 2
        begun = time.monotonic()
        assert (await browser.fetch(f"{run.world.app}/bff/logout", method="POST")).status == 200
        assert await socket.wait_close(5) == 4401
        await stream.wait_end(5)
        assert time.monotonic() - begun < 5


@pytest.mark.row("SSE-1")
async def test_events_arrive_at_most_two_milliseconds_later_than_without_us(run: Run, ben: Browser) -> None:
    """Sender, both readers and the clock are in one process: what differs is the way through the worker. Medians of 150 each."""
    direct = await Wire.open(address_of(run.flow.url))
    await direct.send(head_bytes("GET", f"{run.flow.url}/events", []))
    await direct.read_head()
    async with ben.events(f"{run.world.app}/flow/events") as stream:
        through, plain = await asyncio.gather(_delays(stream.wire, 150), _delays(direct, 150))
    await direct.close()
    added_ms = (statistics.median(through) - statistics.median(plain)) / 1e6
    assert added_ms <= 2.0, added_ms


async def _delays(wire: Wire, count: int) -> list[int]:
    """Nanoseconds from the sending of an event to its arrival."""
    found: list[int] = []
    async for piece in wire.chunks():
        now = time.perf_counter_ns()
        found += [now - int(line[6:]) for line in piece.split(b"\n") if line.startswith(b"data: ")]
        if len(found) >= count:
            return found
    return found
