"""Leases and turns: at most one worker, and in it one task, does a thing for a session at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from bff.base.errors import StoreUnavailable
from bff.session.store.port import SessionStore

Pause = Callable[[float], Awaitable[None]]


class Turns:
    """A lock per key, for as long as somebody wants it. Bound: one entry per running piece of work."""

    def __init__(self) -> None:
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def take(self, key: bytes) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users > 1:
                self._locks[key] = (lock, users - 1)
            else:
                del self._locks[key]


class Lease:
    """A store lease. ``holder`` is a random token of this worker: what outlived its lease can neither renew nor release
    another's (F2, C6), and where the answer to an acquisition got lost, the next one of this worker still succeeds (F39).
    """

    def __init__(self, *, store: SessionStore, name: bytes, holder: bytes, ttl_s: float, pause: Pause) -> None:
        self._store = store
        self._name = name
        self._ttl_s = ttl_s
        self._pause = pause
        self._holder = holder

    async def acquire(self) -> bool:
        return await self._store.acquire(self._name, self._holder, self._ttl_s)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep an acquired lease alive while the block runs, however slow, and give it back."""
        keeping = asyncio.ensure_future(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            with suppress(StoreUnavailable):  # it ends by itself
                await self._store.release(self._name, self._holder)

    async def _keep(self) -> None:
        while True:
            await self._pause(self._ttl_s / 3)
            with suppress(StoreUnavailable):
                if not await self._store.acquire(self._name, self._holder, self._ttl_s):
                    return  # lost: what we bring is checked against the record before it is written
