"""Whether something came before, in 4 bytes a slot whatever comes: what is worth remembering is what comes a second time."""

from __future__ import annotations

from array import array

SLOTS = 1 << 14


class Met:
    """Tags by hash, the newest in each slot. It forgets by being written over, and takes one stranger in two thousand million for
    known: good for guessing what to remember, for nothing else. (Sets of hashes held 0.8 MiB each and were emptied in bursts.)"""

    __slots__ = ("_slots", "_tags")

    def __init__(self, slots: int = SLOTS) -> None:
        """``slots``: a power of two."""
        self._slots = slots
        self._tags = array("I", bytes(4 * slots))

    def is_first(self, mark: int) -> bool:
        """True if ``mark``, a hash, did not come lately; from now on it did."""
        slot = mark & (self._slots - 1)
        tag = (mark >> 15) & 0xFFFFFFFF | 1
        if self._tags[slot] == tag:
            return False
        self._tags[slot] = tag
        return True

    def knows(self, mark: int) -> bool:
        """True if ``mark`` came lately."""
        return self._tags[mark & (self._slots - 1)] == (mark >> 15) & 0xFFFFFFFF | 1

    def forget(self) -> None:
        self._tags = array("I", bytes(4 * self._slots))
