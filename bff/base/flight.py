"""Single flight: however many callers ask for the same thing at once, the work is done once and all get its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Joins concurrent calls by key. A caller that is cancelled leaves; the work goes on for the others and for itself
    (a refresh whose caller hung up must still be stored: RFC 6749 §6 with rotation). Bound: one entry per running work.
    """

    def __init__(self) -> None:
        self._running: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """Await the running work for ``key``, or start ``work()``. Its exception reaches every caller."""
        flight = self._running.get(key)
        if flight is None:
            flight = self._running[key] = _Flight()
            flight.task = asyncio.ensure_future(self._run(key, flight, work))
            flight.task.add_done_callback(lambda task: self._land(key, flight, _fate(task)))  # cancelled, perhaps before it began
        waiting: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        flight.waiting[waiting] = None
        try:
            return await waiting
        finally:
            flight.waiting.pop(waiting, None)

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing runs, at most ``timeout_s``; what still runs then is cancelled."""
        tasks = [flight.task for flight in self._running.values() if flight.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()

    async def _run(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> None:
        """The outcome goes straight to those who wait: by ``asyncio.shield`` it took them another turn of the loop."""
        try:
            value = await work()
        except Exception as error:
            failure = error
            self._land(key, flight, lambda waiting: waiting.set_exception(failure))
        else:
            self._land(key, flight, lambda waiting: waiting.set_result(value))

    def _land(self, key: K, flight: _Flight[V], tell: Callable[[asyncio.Future[V]], object]) -> None:
        if self._running.get(key) is flight:
            del self._running[key]
        for waiting in list(flight.waiting):
            if not waiting.done():
                tell(waiting)


class _Flight(Generic[V]):
    """One piece of running work and the callers who have not left."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.waiting: dict[asyncio.Future[V], None] = {}


def _fate(task: asyncio.Task[None]) -> Callable[[asyncio.Future[Any]], object]:
    """What callers are told whom ``_run`` has not told: the work was cancelled, or failed with what is no Exception."""
    failure = None if task.cancelled() else task.exception()
    if failure is None:
        return asyncio.Future.cancel
    told = failure
    return lambda waiting: waiting.set_exception(told)
