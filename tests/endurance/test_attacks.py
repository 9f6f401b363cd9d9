"""Cheap requests, dear work: slow heads, slow bodies, slow readers, header bombs, many connections, floods of every kind.

Each runs against a real worker while a control user's calls are timed, to our own endpoint and to an API: all served, each within a
second (ALIVE). The floods are in tests.endurance.attackers; ``python -m tests.endurance.siege`` shows them as a table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from bench.flow import Peak, Run
from tests.endurance import siege
from tests.endurance.attackers import ATTACKS
from tests.endurance.siege import TLS_ATTACKS, TOGETHER, Outcome, besiege, stage
from tests.harness.http import Wire

# Attackers leave without closing; their sockets are the collector's.
pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
HEAD_S, BODY_S = 3.0, 3.0
SECONDS = 3.0
MAY_HOLD_MIB = {"never reading": 200 * 0.3, "pipelining unread": 200 * 0.4, "slow reading": 200 * 0.3, "unfinished handshakes": 60}
MAY_HOLD_MIB |= dict.fromkeys(TOGETHER, 100)
"""What an attack may cost in memory where each of its connections may hold some: 256 KiB for a reader (F55), one read and 64 KiB for
whoever pipelines (D4). The others: 24 MiB."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with stage() as made:
        yield made


@contextlib.asynccontextmanager
async def controlled(run: Run) -> AsyncIterator[None]:
    """Somebody signed in calls both paths until the block ends: each call served within a second."""
    async with siege.controlled(run) as found:
        yield
    check_served(found[0])


def check_served(outcome: Outcome) -> None:
    assert not outcome.failed, (len(outcome.failed), outcome.failed[:3])
    for path, took in outcome.took.items():
        assert len(took) >= 3, path
        assert max(took) < 1.0, (path, max(took), statistics.median(took))


@pytest.mark.row("D3", "D4", "D9", "D11", "D15", "F52", "F55")
@pytest.mark.parametrize("name", [*(name for name in ATTACKS if name not in TLS_ATTACKS), *TOGETHER])
async def test_a_control_user_is_served_within_a_second_throughout(name: str, run: Run) -> None:
    outcome = await besiege(run, name, seconds=SECONDS)
    assert all(outcome.done.values())
    check_served(outcome)
    assert outcome.grown_mib <= MAY_HOLD_MIB.get(name, 24), outcome.grown_mib


@pytest.fixture(scope="module")
def secure() -> Iterator[Run]:
    with stage(tls=True) as made:
        yield made


@pytest.mark.row("D9", "D15", "F52")
@pytest.mark.parametrize("name", TLS_ATTACKS)
async def test_handshakes_without_end_leave_a_control_user_unharmed_and_cost_little(name: str, secure: Run) -> None:
    """Silent ones cost a socket; 43 KiB each only those that have begun, of which there are no more than 512."""
    outcome = await besiege(secure, name, seconds=SECONDS, tls=True)
    assert all(outcome.done.values())
    check_served(outcome)
    assert outcome.grown_mib <= MAY_HOLD_MIB.get(name, 24), outcome.grown_mib


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
