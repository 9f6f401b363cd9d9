"""One raw request, cut in two at many places, each cut on a connection of its own and followed by a hidden second request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count

from tests.harness.raw import Outcome, exchange, split_at
from tests.strict.conftest import Stage
from tests.strict.requests import Raw

AT_ONCE = 40
PAUSE_S = 0.004
HANG_S = 5.0
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Cut:
    """What came of one cut. ``hidden``: how often the upstream saw the request behind it."""

    offset: int
    statuses: tuple[int, ...]
    closed: bool
    hidden: int


def request_bytes(raw: Raw, host: bytes) -> bytes:
    return raw.data.replace(b"HOST", b"Host: " + host, 1) if raw.data.count(b"HOST") == 1 else raw.data.replace(b"HOST", b"Host: " + host)


def hidden_bytes(stage: Stage, number: int) -> bytes:
    """A complete request of a signed-in user, as RC6 wants it; the last on its connection."""
    lines = (b"Host: " + stage.host, b"Cookie: " + stage.cookie.encode(), b"X-CSRF: 1", b"Connection: close")
    return b"\r\n".join((b"GET /hidden/%d HTTP/1.1" % number, *lines)) + b"\r\n\r\n"


def offsets_for(data: bytes, *, every: bool) -> list[int]:
    """Every byte of the first 200; or, for the quick run, the bytes around line ends and each thirteenth."""
    last = min(len(data) - 1, 200)
    if every:
        return list(range(last + 1))
    edges = {at + step for at in range(last) if data[at] in b"\r\n:" for step in (0, 1)}
    return sorted({0, last, *range(3, last, 13), *(at for at in edges if at <= last)})


async def run_cuts(stage: Stage, raw: Raw, *, every: bool) -> list[Cut]:
    data = request_bytes(raw, stage.host)
    gate = asyncio.Semaphore(AT_ONCE)
    seen_before = len(stage.upstream.seen)

    async def one(offset: int) -> tuple[int, int, Outcome]:
        number = next(_NUMBERS)
        async with gate, asyncio.timeout(3 * HANG_S):
            pieces = split_at(data + hidden_bytes(stage, number), offset)
            return offset, number, await exchange(stage.address, pieces, pause_s=PAUSE_S, wait_s=HANG_S)

    outcomes = await asyncio.gather(*(one(offset) for offset in offsets_for(data, every=every)))
    targets = [seen.target for seen in stage.upstream.seen[seen_before:]]
    return [Cut(at, tuple(out.statuses), out.closed, targets.count(f"/hidden/{number}")) for at, number, out in outcomes]
