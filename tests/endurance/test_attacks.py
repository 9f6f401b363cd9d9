"""Cheap requests, dear work: slow heads, slow bodies, slow readers, header bombs, many connections, floods of pipelined requests.

Each runs against a real worker while a control user's calls are timed: all served, each within a second (ALIVE).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from bench.flow import Peak, Run, running
from bench.memory import raise_file_limit
from tests.harness.http import Wire
from tests.harness.programs import PYTHON, ROOT

# Attackers leave without closing; their sockets are the collector's.
pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
HEAD_S, BODY_S = 3.0, 3.0


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    raise_file_limit()
    with running(config={"server": {"workers": 1, "head_timeout": "3s", "keep_alive": "5s", "max_connections": 3000}}) as made:
        yield made


@contextlib.asynccontextmanager
async def controlled(run: Run, path: str = "/bff/user") -> AsyncIterator[None]:
    """Somebody signed in calls every 50 ms, each time on a new connection, until the block ends: each served within a second.

    ``/bff/user`` needs no upstream: ours lives in this very process, which the attack keeps busy.
    """
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "tests.endurance.control", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    head = run.head(path, ("Connection", "close")).decode("latin-1")
    assert process.stdin is not None
    process.stdin.write(json.dumps({"port": run.world.product.port, "head": head}).encode() + b"\n")
    await process.stdin.drain()
    await asyncio.sleep(0.3)  # it is up and calling
    try:
        yield
        await asyncio.sleep(0.3)
    finally:
        said, complaint = await process.communicate(b"")
    assert process.returncode == 0, complaint[-800:]
    took = json.loads(said)
    assert len(took) >= 3
    assert max(took) < 1.0, (max(took), statistics.median(took))


async def seconds_until_closed(wire: Wire, timeout_s: float) -> float:
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(timeout_s):
            while await wire.reader.read(65_536):
                continue
    await wire.close()
    return time.monotonic() - begun


async def slowhttptest(run: Run, *options: str) -> str:
    """Debian's slowhttptest; its text report."""
    command = ["slowhttptest", "-u", f"{run.world.app}/free/json", "-r", "400", "-c", "800", "-l", "8", "-p", "1", *options]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


SLOW = {
    "slow heads (slowloris)": ("-H", "-i", "1"),
    "slow bodies": ("-B", "-i", "1", "-s", "8192"),
    "slow readers": ("-X", "-w", "64", "-y", "128", "-n", "1", "-z", "16"),
}


@pytest.mark.row("D9")
@pytest.mark.parametrize("kind", SLOW)
async def test_slowhttptest_leaves_a_control_user_unharmed(kind: str, run: Run) -> None:
    if shutil.which("slowhttptest") is None:
        missing = "slowhttptest is missing (Debian: apt-get install slowhttptest)"
        if "slowhttptest" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(missing)
        pytest.skip(missing)
    with Peak(run.worker) as peak:
        async with controlled(run):
            report = await slowhttptest(run, *SLOW[kind])
    assert "service available" in report.lower(), report[-1500:]
    assert peak.grown_mib <= 16


@pytest.mark.row("D9")
async def test_a_slow_head_is_dropped_by_its_deadline_however_it_drips(run: Run) -> None:
    wires = [await Wire.open(run.address) for _ in range(200)]
    for wire in wires:
        await wire.send(b"GET /free/json HTTP/1.1\r\nHost: x\r\n")

    async def drip(wire: Wire) -> None:
        with contextlib.suppress(OSError):
            for _ in range(40):
                await wire.send(b"X-A: b\r\n")
                await asyncio.sleep(0.5)

    drips = [asyncio.ensure_future(drip(wire)) for wire in wires]
    async with controlled(run):
        took = await asyncio.gather(*(seconds_until_closed(wire, 12) for wire in wires))
    for task in drips:
        task.cancel()
    await asyncio.gather(*drips, return_exceptions=True)
    assert max(took) < HEAD_S + 4, max(took)


@pytest.mark.row("D9")
async def test_silent_connections_are_dropped_after_the_keep_alive_time(run: Run) -> None:
    wires = [await Wire.open(run.address) for _ in range(300)]
    async with controlled(run):
        took = await asyncio.gather(*(seconds_until_closed(wire, 15) for wire in wires))
    assert max(took) < 9


@pytest.mark.row("D3")
async def test_header_bombs_are_refused_cheaply(run: Run) -> None:
    bombs = {
        b"GET /free/json HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(2000)) + b"\r\n": 431,
        b"GET /free/json HTTP/1.1\r\nX-A: " + b"a" * 100_000: 431,
        b"GET /" + b"a" * 1_000_000: 414,
        b"GET /free/json HTTP/1.1\r\nCookie: " + b"a=b; " * 20_000: 431,
    }

    async def throw(bomb: bytes, wanted: int) -> None:
        wire = await Wire.open(run.address)
        with contextlib.suppress(OSError):
            await wire.send(bomb)
        async with asyncio.timeout(10):
            assert (await wire.read_answer("GET")).status == wanted
        await wire.close()

    with Peak(run.worker) as peak:
        async with controlled(run):
            for _ in range(10):
                await asyncio.gather(*(throw(bomb, wanted) for bomb, wanted in bombs.items() for _ in range(5)))
    assert peak.grown_mib <= 8


@pytest.mark.row("D3", "M4")
@pytest.mark.parametrize("endless", [b"3;" + b"a" * 1000, b"0\r\n" + b"X-A: b\r\n" * 100])
async def test_an_endless_chunk_line_or_trailer_is_refused(endless: bytes, run: Run) -> None:
    wire = await Wire.open(run.address)
    await wire.send(run.head("/flow/sink", ("Transfer-Encoding", "chunked"), method="POST"))
    with contextlib.suppress(OSError):
        for _ in range(100):
            await wire.send(endless)
    assert (await wire.read_answer("POST")).status == 400
    await wire.close()


@pytest.mark.row("D4")
async def test_ten_thousand_pipelined_requests_wait_outside(run: Run) -> None:
    wire = await Wire.open(run.address)
    request = run.head("/flow/json")
    with Peak(run.worker) as peak:
        async with controlled(run):
            sending = asyncio.ensure_future(_send_all(wire, request, 10_000))
            for _ in range(3000):
                assert (await wire.read_answer("GET")).status == 200
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    wire.writer.transport.abort()
    assert peak.grown_mib <= 10


async def _send_all(wire: Wire, request: bytes, count: int) -> None:
    for _ in range(count // 100):
        await wire.send(request * 100)


@pytest.mark.row("D4", "F55")
async def test_whoever_never_reads_what_they_asked_for_costs_little(run: Run) -> None:
    """50 readers that never read a large answer: the kernel's buffers fill, ours do not."""
    wires = []
    with Peak(run.worker) as peak:
        async with controlled(run):
            for _ in range(50):
                wire = await Wire.open(run.address)
                wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await wire.send(run.head(f"/free/big?{200 * 1024 * 1024}"))
                wires.append(wire)
            await asyncio.sleep(2)
    assert peak.grown_mib <= 16, peak.grown_mib  # at most 256 KiB for each, F55
    for wire in wires:
        wire.writer.transport.abort()


@pytest.mark.row("D9")
async def test_a_storm_of_connections_leaves_room_for_the_control_user(run: Run) -> None:
    async with controlled(run):
        for _ in range(5):
            wires = await asyncio.gather(*(Wire.open(run.address) for _ in range(400)))
            for wire in wires:
                wire.writer.transport.abort()


@pytest.mark.row("D5", "D8")
async def test_nothing_is_inflated_on_the_way(run: Run) -> None:
    """A compressed body is opaque: it costs what it weighs."""
    wire = await Wire.open(run.address)
    bomb = b"\x1f\x8b" + b"\x00" * 100_000
    with Peak(run.worker) as peak:
        await wire.send(run.head("/flow/sink", ("Content-Encoding", "gzip"), ("Content-Length", str(len(bomb))), method="POST") + bomb)
        assert (await wire.read_answer("POST")).json()["bytes"] == len(bomb)
    await wire.close()
    assert peak.grown_mib <= 4
