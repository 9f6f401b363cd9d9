"""What the processes of an instance tell each other without asking: a few numbers in memory that all of them share.

Each child writes a sign of life a few times a second, from its loop; the supervisor looks for silence and the agent for who serves.
Made before the first fork. A number is eight bytes at an aligned address, so nobody reads half of one.
"""

from __future__ import annotations

import mmap

BEAT_S = 0.25
LATELY_S = 5.0
_HEAD, _EACH = 1, 2


class Board:
    """One row for each of ``count`` children; a row is written by its child alone, ``draining`` by the supervisor. Times are monotonic
    seconds, which all processes of a machine share."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._cells = memoryview(mmap.mmap(-1, 8 * (_HEAD + _EACH * count))).cast("d")

    @property
    def draining(self) -> bool:
        """SIGTERM has come. Whoever is started from now on gets no signal of its own."""
        return bool(self._cells[0])

    def drain(self) -> None:
        self._cells[0] = 1.0

    @property
    def hurrying(self) -> bool:
        """Somebody at a terminal wants it to end: nobody is waited for any more."""
        return self._cells[0] > 1.0

    def hurry(self) -> None:
        self._cells[0] = 2.0

    def beat(self, number: int, now: float, lag_s: float = 0.0) -> None:
        """A sign of life of child ``number``, whose loop was late by ``lag_s`` of late."""
        self._cells[_HEAD + _EACH * number + 1] = lag_s
        self._cells[_HEAD + _EACH * number] = now

    def beat_at(self, number: int) -> float:
        """When child ``number`` gave its last sign of life; 0 before its first."""
        return self._cells[_HEAD + _EACH * number]

    def lag_s(self, number: int) -> float:
        return self._cells[_HEAD + _EACH * number + 1]

    def lives(self, number: int, now: float) -> bool:
        """Whether child ``number`` has given a sign of life of late."""
        return now - self.beat_at(number) < LATELY_S

    def late_s(self, now: float) -> float:
        """How late the slowest loop is or was of late; one that is silent is late by its silence."""
        begun = [number for number in range(self.count) if self.beat_at(number)]
        return max((max(self.lag_s(number), now - self.beat_at(number) - BEAT_S) for number in begun), default=0.0)

    def clear(self, number: int) -> None:
        """Another process has this place now."""
        self.beat(number, 0.0)
