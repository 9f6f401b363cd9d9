"""A session store whose calls are timed, for ``bff_store_duration_seconds``. Adds nothing else: same answers, same errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from bff.session.store.port import Changes, Row, SessionStore

T = TypeVar("T")


class TimedStore:
    """Wraps any SessionStore. ``observe`` gets the method's name and seconds of every call, the failed and cancelled too."""

    def __init__(self, store: SessionStore, *, observe: Callable[[str, float], None], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._observe = observe
        self._monotonic = monotonic

    async def insert(self, row: Row) -> None:
        await self._timed("insert", self._store.insert(row))

    async def get(self, key: bytes) -> Row | None:
        return await self._timed("get", self._store.get(key))

    async def replace(self, row: Row, *, expected_version: int) -> bool:
        return await self._timed("replace", self._store.replace(row, expected_version=expected_version))

    async def touch(self, key: bytes, seen_at: float) -> None:
        await self._timed("touch", self._store.touch(key, seen_at))

    async def delete(self, key: bytes) -> bool:
        return await self._timed("delete", self._store.delete(key))

    async def find(self, index: bytes) -> list[Row]:
        return await self._timed("find", self._store.find(index))

    async def list(self, *, after: bytes = b"", limit: int = 100) -> list[Row]:
        return await self._timed("list", self._store.list(after=after, limit=limit))

    async def once(self, name: bytes, until: float) -> bool:
        return await self._timed("once", self._store.once(name, until))

    async def acquire(self, name: bytes, holder: bytes, ttl_s: float) -> bool:
        return await self._timed("acquire", self._store.acquire(name, holder, ttl_s))

    async def release(self, name: bytes, holder: bytes) -> None:
        await self._timed("release", self._store.release(name, holder))

    async def changes(self, cursor: int) -> Changes:
        return await self._timed("changes", self._store.changes(cursor))

    async def purge(self, now: float, *, seen_before: float = float("-inf")) -> int:
        return await self._timed("purge", self._store.purge(now, seen_before=seen_before))

    async def count(self) -> int:
        return await self._timed("count", self._store.count())

    async def ping(self) -> None:
        await self._timed("ping", self._store.ping())

    async def close(self) -> None:
        await self._store.close()

    async def _timed(self, op: str, call: Awaitable[T]) -> T:
        started = self._monotonic()
        try:
            return await call
        finally:
            self._observe(op, self._monotonic() - started)
