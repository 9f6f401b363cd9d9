"""The SQLite store's tables, and the checks a file must pass before it is believed.

A file that was copied, restored or swapped may hold sessions that have been logged out since (attack F42). It is
known by its inode, which the file remembers, or by a change log that is behind what a second file (sqlite_mark) or a
running process remembers: its sessions are dropped and its epoch moves on. Not noticed: both files put back in place
while nothing runs. Restore the key ring only, never the sessions.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path

from bff.base.errors import StoreUnavailable

SCHEMA_VERSION = 1
EPOCH_SHIFT = 40
"""A change cursor is epoch << 40 | sequence: one number that never goes backwards. Epochs are milliseconds of their start."""

READ_BUSY_MS = 200
WRITE_BUSY_MS = 2000
WAL_PAUSE_S = 0.005
WAL_LIMIT_BYTES = 16 * 1024 * 1024
CACHE_KIB = 256
"""Of the file in each connection's memory, in each process; the system's page cache has the rest. SQLite would take 2 MiB each."""

_TABLES = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE sessions (key BLOB PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL,"
    " created_at REAL NOT NULL, seen_at REAL NOT NULL, expires_at REAL NOT NULL)",
    "CREATE INDEX sessions_by_end ON sessions (expires_at)",
    "CREATE INDEX sessions_by_activity ON sessions (seen_at)",
    "CREATE TABLE blind (idx BLOB NOT NULL, key BLOB NOT NULL, PRIMARY KEY (idx, key)) WITHOUT ROWID",
    "CREATE INDEX blind_by_key ON blind (key)",
    "CREATE TABLE changed (seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, at REAL NOT NULL)",
    "CREATE TABLE once (name BLOB PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE leases (name BLOB PRIMARY KEY, holder BLOB NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
    "INSERT INTO changed (key, at) VALUES (x'', 0)",
    "INSERT INTO facts VALUES ('epoch', 0), ('inode', 0), ('ping', 0)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def create_file(path: Path) -> int:
    """Make sure the file is there, readable by its owner alone, and return its inode. OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Never open() a path that this process may have open through SQLite: closing any descriptor of a file drops all
        # of the process's POSIX locks on it (sqlite.org/howtocorrupt.html, 2.2). So: made under another name, then linked.
        fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    status = path.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        path.chmod(0o600)
    return status.st_ino


def open_connection(path: Path, *, busy_ms: int) -> sqlite3.Connection:
    """A connection in autocommit mode. ``secure_delete`` overwrites what is deleted (PRIV-4)."""
    connection = sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        _enter_wal(connection, time.monotonic() + busy_ms / 1000)
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """SQLite does not wait for the lock that the change to WAL needs (no busy handler is asked there), so two workers that open a
    new file at the same moment would take each other for a failure."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(WAL_PAUSE_S)
        else:
            return


def prepare(connection: sqlite3.Connection, *, inode: int, mark: int, now: float) -> None:
    """Create the tables, or check that they are ours, belong to this very file and are not behind ``mark``.

    A file that is as it should be is not written to: a reader can open it while another process holds the lock.
    sqlite3.Error, StoreUnavailable.
    """
    if _schema_of(connection) and _is_trusted(connection, inode, mark):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _schema_of(connection):
            for statement in _TABLES:
                connection.execute(statement)
        elif not _is_trusted(connection, inode, mark) and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StoreUnavailable("the session file is damaged")
        if not _is_trusted(connection, inode, mark):
            forget_sessions(connection, after=mark, now=now)
            connection.execute("UPDATE facts SET value = ? WHERE name = 'inode'", (inode,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def forget_sessions(connection: sqlite3.Connection, *, after: int, now: float) -> None:
    """Drop every session of a file whose past we cannot trust, and start an epoch later than position ``after``: cursors
    of before become "anything may have changed"."""
    connection.execute("DELETE FROM sessions")
    connection.execute("DELETE FROM blind")
    epoch = max(int(now * 1000), max(after, read_position(connection)) // (1 << EPOCH_SHIFT) + 1)
    connection.execute("UPDATE facts SET value = ? WHERE name = 'epoch'", (epoch,))


def read_position(connection: sqlite3.Connection) -> int:
    """The newest cursor."""
    epoch, sequence = connection.execute(
        "SELECT (SELECT value FROM facts WHERE name = 'epoch'), (SELECT seq FROM sqlite_sequence WHERE name = 'changed')"
    ).fetchone()
    return int(epoch) << EPOCH_SHIFT | int(sequence)


def _schema_of(connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA_VERSION):
        raise StoreUnavailable(f"the session file has schema {version}, this release reads {SCHEMA_VERSION}")
    return version


def _is_trusted(connection: sqlite3.Connection, inode: int, mark: int) -> bool:
    known = connection.execute("SELECT value FROM facts WHERE name = 'inode'").fetchone()[0]
    return bool(known == inode and read_position(connection) >= mark)
