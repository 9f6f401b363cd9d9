"""A raw socket client: byte-exact requests, split at any offset, and a count of the responses that come back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.harness.http import Address, Answer, Wire


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything one connection gave back. ``closed``: the server ended it before the wait was over."""

    answers: tuple[Answer, ...]
    closed: bool
    rest: bytes = b""

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


async def exchange(
    address: Address,
    pieces: Sequence[bytes],
    *,
    pause_s: float = 0.0,
    wait_s: float = 1.0,
    methods: Iterable[str] = (),
    half_close: bool = False,
) -> Outcome:
    """Write ``pieces`` one by one, then collect answers until the server closes or is silent for ``wait_s``."""
    wire = await Wire.open(address)
    answers: list[Answer] = []
    expected = iter(methods)
    closed = False
    try:
        await _write(wire, pieces, pause_s, half_close)
        while True:
            async with asyncio.timeout(wait_s):
                answers.append(await wire.read_answer(next(expected, "GET")))
    except TimeoutError:
        pass
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        closed = True
    finally:
        await wire.close()
    return Outcome(tuple(answers), closed)


async def _write(wire: Wire, pieces: Sequence[bytes], pause_s: float, half_close: bool) -> None:
    try:
        for piece in pieces:
            await wire.send(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        if half_close:
            wire.writer.write_eof()
    except (ConnectionError, OSError):
        return  # refused early: the answer may still be readable


def split_at(data: bytes, *offsets: int) -> list[bytes]:
    """``data`` cut at the offsets."""
    edges = [0, *sorted({min(max(offset, 0), len(data)) for offset in offsets}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]
