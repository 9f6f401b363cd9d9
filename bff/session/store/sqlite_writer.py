"""The one thread that writes to the session file. The loop never waits for a lock or a disk (F38, F40).

Writes that queue up while a commit waits for the disk share the next one: a burst costs a few fsyncs, not one each.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bff.base.errors import StoreUnavailable

V = TypeVar("V")
MAX_BATCH = 64
MAX_QUEUED = 5_000

Work = Callable[[sqlite3.Connection], V]


@dataclass(frozen=True, slots=True)
class _Job(Generic[V]):
    """``work`` runs inside a transaction and may run twice: it must do nothing but SQL."""

    work: Work[V]
    durable: bool
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[V]

    def succeed(self, value: V) -> None:
        self._tell(lambda: self.answer.set_result(value))

    def fail(self, error: BaseException) -> None:
        self._tell(lambda: self.answer.set_exception(error))

    def _tell(self, settle: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever asked
            self.loop.call_soon_threadsafe(lambda: None if self.answer.done() else settle())


class Writer:
    """Runs jobs in order on its own thread and connection. Bound: 5,000 queued jobs, then StoreUnavailable.

    ``connection`` opens or hands out the connection, before each batch, and may raise; ``committed`` is told of each
    durable commit and must not. Both are called on the thread.
    """

    def __init__(self, *, connection: Callable[[], sqlite3.Connection], committed: Callable[[sqlite3.Connection], None], name: str) -> None:
        self._connection = connection
        self._committed = committed
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closed = False

    def start(self) -> None:
        self._thread.start()

    async def run(self, work: Work[V], *, durable: bool = True) -> V:
        """The result of ``work`` once it is committed; with ``durable`` also once the disk has it.

        Raises what ``work`` or SQLite raised. A cancelled caller's work goes on.
        """
        if self._closed or self._jobs.qsize() >= MAX_QUEUED:
            raise StoreUnavailable("the session file's writer is closed or overrun")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        self._jobs.put(_Job(work, durable, loop, answer))
        return await answer

    async def close(self) -> None:
        """Finish what is queued, then end the thread."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, 10)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, last = self._gather(job)
            self._write(batch)
            if last:
                return

    def _gather(self, first: _Job[Any]) -> tuple[list[_Job[Any]], bool]:
        batch = [first]
        while len(batch) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _write(self, batch: list[_Job[Any]]) -> None:
        try:
            values = self._commit(batch)
        except sqlite3.IntegrityError as error:
            if len(batch) > 1:  # one bad apple: each on its own, so that only it fails
                for job in batch:
                    self._write([job])
                return
            batch[0].fail(error)
            return
        except Exception as error:
            for job in batch:
                job.fail(error)
            return
        for job, value in zip(batch, values, strict=True):
            job.succeed(value)

    def _commit(self, batch: list[_Job[Any]]) -> list[Any]:
        connection = self._connection()
        durable = any(job.durable for job in batch)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            values = [job.work(connection) for job in batch]
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        if durable:
            self._committed(connection)
        return values
