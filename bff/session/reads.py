"""Reading a row while others write: an answer from before a change that we have heard of is not taken for the present."""

from __future__ import annotations

from bff.base.clock import Clock
from bff.session.store.port import Row, SessionStore

READ_ATTEMPTS = 5


class Reads:
    """Reads under way, by key. Bound: one entry per running read."""

    def __init__(self, *, store: SessionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._marks: dict[bytes, object] = {}

    async def get(self, key: bytes) -> tuple[Row | None, float]:
        """The row, and when it was asked for (monotonic): the answer is true of some moment after that. StoreUnavailable."""
        for _ in range(READ_ATTEMPTS):
            asked_at = self._clock.monotonic()
            mark = self._marks[key] = object()
            try:
                row = await self._store.get(key)
            finally:
                unchanged = self._marks.pop(key, None) is mark
            if unchanged:
                break
        return row, asked_at

    def was_changed(self, key: bytes | None) -> None:
        """Reads of ``key`` (None: of any) that are under way may bring what was before the change: they read again."""
        if key is None:
            self._marks.clear()
        else:
            self._marks.pop(key, None)
