"""The store for one process: tests, the demo, a single worker that may forget. Its methods never wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bff.base.clock import Clock
from bff.base.errors import StoreUnavailable
from bff.session.store.port import Changes, Row

PURGE_BATCH = 500
CHANGES_KEPT = 10_000


class MemoryStore:
    """Everything in dictionaries. Bound: live sessions, plus 10,000 remembered changes."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[bytes, Row] = {}
        self._indexes: dict[bytes, set[bytes]] = {}
        self._once: dict[bytes, float] = {}
        self._leases: dict[bytes, tuple[bytes, float]] = {}
        self._changed: deque[bytes] = deque(maxlen=CHANGES_KEPT)
        self._sequence = 1

    async def insert(self, row: Row) -> None:
        if row.key in self._rows:
            raise StoreUnavailable("this key is taken")
        self._put(row)

    async def get(self, key: bytes) -> Row | None:
        return self._rows.get(key)

    async def replace(self, row: Row, *, expected_version: int) -> bool:
        old = self._rows.get(row.key)
        if old is None or old.version != expected_version:
            return False
        self._drop(row.key)
        self._put(replace(row, seen_at=max(row.seen_at, old.seen_at)))
        self._note(row.key)
        return True

    async def touch(self, key: bytes, seen_at: float) -> None:
        row = self._rows.get(key)
        if row is not None and seen_at > row.seen_at:
            self._rows[key] = replace(row, seen_at=seen_at)

    async def delete(self, key: bytes) -> bool:
        return self._end(key)

    async def find(self, index: bytes) -> list[Row]:
        return [self._rows[key] for key in sorted(self._indexes.get(index, ()))]

    async def list(self, *, after: bytes = b"", limit: int = 100) -> list[Row]:
        return [self._rows[key] for key in sorted(key for key in self._rows if key > after)[:limit]]

    async def once(self, name: bytes, until: float) -> bool:
        if self._once.get(name, float("-inf")) > self._clock.now():
            return False
        self._once[name] = until
        return True

    async def acquire(self, name: bytes, holder: bytes, ttl_s: float) -> bool:
        now = self._clock.monotonic()
        owner, until = self._leases.get(name, (holder, now))
        if owner != holder and until > now:
            return False
        self._leases[name] = (holder, now + ttl_s)
        return True

    async def release(self, name: bytes, holder: bytes) -> None:
        if self._leases.get(name, (b"", 0.0))[0] == holder:
            del self._leases[name]

    async def changes(self, cursor: int) -> Changes:
        missed = self._sequence - cursor
        if cursor == 0 or missed == 0:
            return Changes(self._sequence, ())
        if not 0 < missed <= len(self._changed):
            return Changes(self._sequence, None)
        recent = [self._changed[-place] for place in range(missed, 0, -1)]
        return Changes(self._sequence, tuple(dict.fromkeys(recent)))

    async def purge(self, now: float, *, seen_before: float = float("-inf")) -> int:
        over = [row.key for row in self._rows.values() if row.expires_at <= now or row.seen_at < seen_before][:PURGE_BATCH]
        for key in over:
            self._end(key)
        _discard(self._once, [name for name, until in self._once.items() if until <= now])
        monotonic = self._clock.monotonic()
        _discard(self._leases, [name for name, (_, until) in self._leases.items() if until <= monotonic])
        return len(over)

    async def count(self) -> int:
        now = self._clock.now()
        return sum(row.expires_at > now for row in self._rows.values())

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    def _put(self, row: Row) -> None:
        self._rows[row.key] = row
        for index in row.indexes:
            self._indexes.setdefault(index, set()).add(row.key)

    def _end(self, key: bytes) -> bool:
        if not self._drop(key):
            return False
        self._note(key)
        return True

    def _drop(self, key: bytes) -> bool:
        row = self._rows.pop(key, None)
        if row is None:
            return False
        for index in row.indexes:
            keys = self._indexes[index]
            keys.discard(key)
            if not keys:
                del self._indexes[index]
        return True

    def _note(self, key: bytes) -> None:
        self._sequence += 1
        self._changed.append(key)


def _discard(table: dict[bytes, Any], names: Iterable[bytes]) -> None:
    for name in names:
        del table[name]
