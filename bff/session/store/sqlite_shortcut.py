"""Small writes that need not wait for the disk, at once and in the loop, where nobody else is writing.

Through the writer's thread such a write costs three to four times as much (measured: 0.041 to 0.072 CPU-ms instead of 0.013 to 0.016):
two threads are woken, on two cores. Here it is a few pages for the system's cache: no lock is waited for and nothing is synced. Whoever
meets a lock, and each 64th, takes the thread's way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from bff.session.store.sqlite_writer import Work

V = TypeVar("V")

LONGEST_RUN: Final = 64
"""So many in a row; then one by the thread, which also moves the log's pages into the file: here that would sync (F40)."""


class Shortcut:
    """``connection`` opens or hands out the loop's writing connection and may raise."""

    def __init__(self, *, connection: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connection
        self._run = 0

    def write(self, work: Work[V]) -> tuple[V] | None:
        """The result of ``work``, committed but not synced; None when it must go by the thread. sqlite3.Error."""
        self._run += 1
        if self._run > LONGEST_RUN:
            self._run = 0
            return None
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return None
            raise
        try:
            value = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return (value,)


def prepare_shortcut(connection: sqlite3.Connection) -> None:
    """No wait and no sync in the loop: for no lock, not at a commit, and no checkpoint after it. And no memory for what is written once."""
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -128")
