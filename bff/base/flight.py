"""Single flight: however many callers ask for the same thing at once, the work is done once and all get its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Joins concurrent calls by key. A caller that is cancelled leaves; the work goes on for the others and for itself
    (a refresh whose caller hung up must still be stored: RFC 6749 §6 with rotation). Bound: one entry per running work.
    """

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """Await the running work for ``key``, or start ``work()``. Its exception reaches every caller."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(self._run(work))
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing runs, at most ``timeout_s``; what still runs then is cancelled."""
        tasks = list(self._running.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()

    @staticmethod
    async def _run(work: Callable[[], Awaitable[V]]) -> V:
        return await work()

    def _forget(self, key: K, done: asyncio.Task[V]) -> None:
        if self._running.get(key) is done:
            del self._running[key]
        if not done.cancelled():
            done.exception()  # marks it retrieved: every caller may have left before the work failed
