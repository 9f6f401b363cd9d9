"""``python -m bench.memory``: what large bodies and idle connections cost the worker, in MiB of resident memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import time
from dataclasses import dataclass

from bench.flow import MIB, PIECE, Peak, Run, rss_mib, running
from tests.harness.http import Wire


@dataclass(frozen=True, slots=True)
class Reading:
    """``ok``: everything arrived. ``grown_mib``: the highest resident memory meanwhile, over that at the start."""

    what: str
    before_mib: float
    grown_mib: float
    seconds: float
    ok: bool

    def __str__(self) -> str:
        return f"| {self.what} | {self.before_mib:.0f} | +{self.grown_mib:.1f} | {self.seconds:.1f} | {'yes' if self.ok else 'NO'} |"


async def _warm(run: Run) -> None:
    """A few MiB each way first, so that buffers every worker ends up with are not counted as growth."""
    for _ in range(3):
        await _download(run, 4 * MIB, 1e9)
        await _upload(run, 4 * MIB, chunked=False)
        await _upload(run, 4 * MIB, chunked=True)


async def _download(run: Run, size: int, rate: float) -> bool:
    wire = await Wire.open(run.address)
    await wire.send(run.head(f"/flow/big?{size}", ("Connection", "close")))
    await wire.read_head()
    begun, count = time.monotonic(), 0
    while piece := await wire.reader.read(65_536):
        count += len(piece)
        ahead = count / rate - (time.monotonic() - begun)
        if ahead > 0.005:
            await asyncio.sleep(ahead)
    await wire.close()
    return count == size


async def _upload(run: Run, size: int, *, chunked: bool) -> bool:
    wire = await Wire.open(run.address)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))
    await wire.send(run.head("/flow/sink", framing, method="POST"))
    for _ in range(size // len(PIECE)):
        await wire.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
    if chunked:
        await wire.send(b"0\r\n\r\n")
    answer = await wire.read_answer("POST")
    await wire.close()
    return answer.status == 200 and json.loads(answer.body)["bytes"] == size


def measure_bodies(run: Run, mib: int, rate: float) -> list[Reading]:
    """``mib`` MiB down to a reader and up to an upstream that take ``rate`` bytes a second."""
    size = mib * MIB
    run.flow.sink_rate = 1e9
    asyncio.run(_warm(run))
    run.flow.sink_rate = rate
    readings = []
    works = {
        f"{mib} MiB down, slow reader": lambda: _download(run, size, rate),
        f"{mib} MiB up, slow upstream": lambda: _upload(run, size, chunked=False),
        f"{mib} MiB up in chunks, slow upstream": lambda: _upload(run, size, chunked=True),
    }
    for what, work in works.items():
        begun = time.monotonic()
        with Peak(run.worker) as peak:
            ok = asyncio.run(work())
        readings.append(Reading(what, peak.start_mib, peak.grown_mib, time.monotonic() - begun, ok))
    return readings


def measure_idle(run: Run, count: int) -> Reading:
    """``count`` kept-alive connections, each of which has had one answer. ``before_mib`` + ``grown_mib`` is the total with all of them."""
    raise_file_limit()
    request = run.head("/flow/json")
    before = rss_mib(run.worker)
    begun = time.monotonic()
    held: list[socket.socket] = []
    ok = True
    try:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", run.world.product.port), 10)
            held.append(sock)
            sock.sendall(request)
            ok = ok and sock.recv(4096).startswith(b"HTTP/1.1 200")
        top = rss_mib(run.worker)
        held[0].sendall(request)
        ok = ok and held[0].recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for sock in held:
            sock.close()
    return Reading(f"{count} idle connections", before, top - before, time.monotonic() - begun, ok)


def raise_file_limit() -> None:
    """This process needs a socket for each connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=200, help="size of each body (200)")
    parser.add_argument("--rate", type=float, default=40e6, help="bytes a second the slow side takes (40e6)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (10000)")
    asked = parser.parse_args()
    print("| what | MiB before | growth | s | whole |\n|---|---|---|---|---|")
    with running(config={"server": {"workers": 1, "max_connections": asked.idle + 100}}) as run:
        for reading in measure_bodies(run, asked.mib, asked.rate):
            print(reading, flush=True)
    with running(config={"server": {"workers": 1, "max_connections": asked.idle + 100, "keep_alive": "5m"}}) as run:
        print(measure_idle(run, asked.idle))


if __name__ == "__main__":
    main()
