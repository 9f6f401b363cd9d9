"""Bulk in shares: what takes long waits for a turn of the loop that has time for it, so that a small request never waits for much more.

Without it one connection may hold the loop for seconds: uvloop reads up to 32 times 256,000 bytes from a socket before it looks at the
next, and 256,000 bytes hold 40,000 chunks or WebSocket frames of one byte each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BUDGET_S = 0.003
NEWCOMER_S = 0.0002
"""What a new connection takes of it: while many wait to be accepted, bulk is down to one share in a turn, so that they wait no longer."""


class Turns:
    """Owner: the upstream pool, shared by all doors of a worker. Bound: an entry or two for each connection."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = BUDGET_S
        self._called = False

    @property
    def over(self) -> bool:
        """This turn has no time left, or others wait for the next already."""
        return self._left <= 0 or bool(self._waiting)

    def take(self, work: Callable[[], None]) -> None:
        """Do ``work`` now if this turn has time for it, else in a later one, in order."""
        if self.over:
            self.later(work)
        else:
            self._do(work)

    def later(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        self._call()

    def spend(self, seconds: float) -> None:
        """Count what was done without asking. What is spent beyond this turn's time is missing in the next."""
        self._left -= seconds
        self._call()

    def _do(self, work: Callable[[], None]) -> None:
        begun = self.monotonic()
        try:
            work()
        finally:
            self.spend(self.monotonic() - begun)

    def _call(self) -> None:
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._called = False
        self._left = BUDGET_S + min(0.0, max(self._left, -BUDGET_S))
        count = len(self._waiting)
        try:
            while count:
                count -= 1
                self._do(self._waiting.popleft())
                if self._left <= 0:
                    break
        finally:
            if self._waiting:
                self._call()
