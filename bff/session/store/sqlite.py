"""Sessions in one SQLite file, shared by the worker processes of one host.

Reads run in the loop (10 µs). Writes run on one thread per process (bff.session.store.sqlite_writer): WAL, BEGIN
IMMEDIATE, synchronous=FULL for sessions, so that an acknowledged logout or rotated refresh token survives a power cut
too (0.4 ms on the disk we measured, against 0.04 with NORMAL, which a killed process survives but a power cut does
not). Touches, leases and what may be used once use NORMAL: losing one costs nothing. The last two go at once and in the loop where
nobody else is writing (bff.session.store.sqlite_shortcut); touches come by the thousand and go by the thread.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from bff.base.clock import Clock
from bff.base.errors import StoreUnavailable
from bff.session.store import sqlite_schema as schema
from bff.session.store.port import Changes, Row
from bff.session.store.sqlite_mark import Mark
from bff.session.store.sqlite_shortcut import Shortcut, prepare_shortcut
from bff.session.store.sqlite_writer import Writer

V = TypeVar("V")
Rows = builtins.list[tuple[Any, ...]]
FILE_CHECK_S = 0.25
WRITE_DEADLINE_S = 5.0
PURGE_BATCH = 500
CHANGES_READ = 5_000
CHANGES_KEPT_S = 120.0
LONGEST_LEASE_FACTOR = 4
"""A lease that claims to last longer than this many of the asker's was written under another clock: it is over (F49)."""

_COLUMNS = "s.key, s.version, s.sealed, s.created_at, s.seen_at, s.expires_at, (SELECT group_concat(hex(idx)) FROM blind WHERE key = s.key)"


class SqliteStore:
    """One file, opened at first use. Every sqlite3 or file error is StoreUnavailable, and the next call tries again.

    Without ``durable`` nothing waits for the disk: for sessions that need not outlive the machine.
    """

    def __init__(self, path: Path, *, clock: Clock, durable: bool = True) -> None:
        self._path = path
        self._clock = clock
        self._durable = durable
        self._mark = Mark(path.with_name(path.name + ".mark"))
        self._reader: sqlite3.Connection | None = None
        self._written: sqlite3.Connection | None = None
        self._quick: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._shortcut = Shortcut(connection=self._writing_quickly)
        self._reader_inode = 0
        self._writer_inode = 0
        self._checked_at = float("-inf")
        self._data_version: tuple[int, int] | None = None
        self._closed = False

    async def insert(self, row: Row) -> None:
        def work(db: sqlite3.Connection) -> None:
            values = (row.key, row.version, row.sealed, row.created_at, row.seen_at, row.expires_at)
            db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", values)
            _put_indexes(db, row)

        await self._write(work)

    async def get(self, key: bytes) -> Row | None:
        rows = self._read(f"SELECT {_COLUMNS} FROM sessions s WHERE s.key = ?", (key,))  # noqa: S608 - constants
        return _row(rows[0]) if rows else None

    async def replace(self, row: Row, *, expected_version: int) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            changed = db.execute(
                "UPDATE sessions SET version = ?, sealed = ?, seen_at = max(seen_at, ?), expires_at = ? WHERE key = ? AND version = ?",
                (row.version, row.sealed, row.seen_at, row.expires_at, row.key, expected_version),
            ).rowcount
            if changed:
                db.execute("DELETE FROM blind WHERE key = ?", (row.key,))
                _put_indexes(db, row)
                self._note(db, row.key)
            return changed > 0

        return await self._write(work)

    async def touch(self, key: bytes, seen_at: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE sessions SET seen_at = ? WHERE key = ? AND seen_at < ?", (seen_at, key, seen_at))

        await self._write(work, durable=False, at_once=False)

    async def delete(self, key: bytes) -> bool:
        return await self._write(lambda db: self._delete(db, key))

    async def find(self, index: bytes) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM blind b JOIN sessions s ON s.key = b.key WHERE b.idx = ? ORDER BY s.key"  # noqa: S608 - constants
        return [_row(values) for values in self._read(query, (index,))]

    async def list(self, *, after: bytes = b"", limit: int = 100) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM sessions s WHERE s.key > ? ORDER BY s.key LIMIT ?"  # noqa: S608 - constants
        return [_row(values) for values in self._read(query, (after, limit))]

    async def once(self, name: bytes, until: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            taken = db.execute(
                "INSERT INTO once VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET until = excluded.until WHERE until <= ?",
                (name, until, self._clock.now()),
            )
            return taken.rowcount > 0

        # Only a power cut could undo it, and what is used once is short-lived and used up at the provider as well.
        return await self._write(work, durable=False)

    async def acquire(self, name: bytes, holder: bytes, ttl_s: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            now = self._clock.now()
            taken = db.execute(
                "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until"
                " WHERE holder = excluded.holder OR until <= ? OR until > ?",
                (name, holder, now + ttl_s, now, now + LONGEST_LEASE_FACTOR * ttl_s),
            )
            return taken.rowcount > 0

        return await self._write(work, durable=False)

    async def release(self, name: bytes, holder: bytes) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))

        await self._write(work, durable=False)

    async def changes(self, cursor: int) -> Changes:
        data_version = self._read("PRAGMA data_version", ())[0][0]
        if cursor and self._data_version == (data_version, cursor):
            return Changes(cursor, ())
        newest, keys = self._changed_since(cursor)
        if newest < cursor:
            newest, keys = await self._write(lambda db: _disown(db, cursor, self._clock.now()), at_once=False), None
        self._data_version = (data_version, newest)
        return Changes(newest, keys)

    async def purge(self, now: float, *, seen_before: float = float("-inf")) -> int:
        def work(db: sqlite3.Connection) -> int:
            over = db.execute(
                "SELECT key FROM sessions WHERE expires_at <= ? UNION SELECT key FROM sessions WHERE seen_at < ? LIMIT ?",
                (now, seen_before, PURGE_BATCH),
            ).fetchall()
            for (key,) in over:
                self._delete(db, key)
            db.execute("DELETE FROM once WHERE until <= ?", (now,))
            db.execute("DELETE FROM leases WHERE until <= ?", (now,))
            db.execute("DELETE FROM changed WHERE at < ?", (now - CHANGES_KEPT_S,))
            return len(over)

        return await self._write(work, at_once=False)

    async def count(self) -> int:
        now = self._clock.now()
        count = "SELECT count(*) FROM sessions WHERE expires_at > ?"
        return await self._write(lambda db: int(db.execute(count, (now,)).fetchone()[0]), at_once=False)

    async def ping(self) -> None:
        self._read("SELECT 1 FROM facts", ())
        await self._write(lambda db: db.execute("UPDATE facts SET value = value + 1 WHERE name = 'ping'"), durable=False, at_once=False)

    async def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            await self._writer.close()
        for connection in (self._written, self._quick, self._reader):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._written = self._quick = None

    def _changed_since(self, cursor: int) -> tuple[int, Sequence[bytes] | None]:
        with _translated():
            position = schema.read_position(self._reading())
        epoch = position >> schema.EPOCH_SHIFT
        if cursor in (0, position):
            return position, ()
        if cursor >> schema.EPOCH_SHIFT != epoch:
            return position, None
        sequence = cursor & ((1 << schema.EPOCH_SHIFT) - 1)
        rows = self._read("SELECT seq, key FROM changed WHERE seq > ? ORDER BY seq LIMIT ?", (sequence, CHANGES_READ))
        if not rows or rows[0][0] != sequence + 1 or len(rows) == CHANGES_READ:
            return position, None
        return epoch << schema.EPOCH_SHIFT | int(rows[-1][0]), tuple(dict.fromkeys(key for _, key in rows))

    def _delete(self, db: sqlite3.Connection, key: bytes) -> bool:
        if not db.execute("DELETE FROM sessions WHERE key = ?", (key,)).rowcount:
            return False
        db.execute("DELETE FROM blind WHERE key = ?", (key,))
        self._note(db, key)
        return True

    def _note(self, db: sqlite3.Connection, key: bytes) -> None:
        db.execute("INSERT INTO changed (key, at) VALUES (?, ?)", (key, self._clock.now()))

    def _read(self, query: str, values: tuple[object, ...]) -> Rows:
        with _translated():
            return self._reading().execute(query, values).fetchall()

    async def _write(self, work: Callable[[sqlite3.Connection], V], *, durable: bool = True, at_once: bool = True) -> V:
        """``at_once`` is for a few rows, and holds for what need not be durable."""
        if self._closed:
            raise StoreUnavailable("the session store is closed")
        durable = durable and self._durable
        if at_once and not durable:
            with _translated():
                written = self._shortcut.write(work)
            if written is not None:
                return written[0]
        if self._writer is None:
            self._writer = Writer(connection=self._writing, committed=self._committed, name="bff-sessions")
            self._writer.start()
        with _translated():
            async with asyncio.timeout(WRITE_DEADLINE_S):
                return await self._writer.run(work, durable=durable)

    def _reading(self) -> sqlite3.Connection:
        """The loop's connection; every quarter of a second it makes sure that the path still means this file."""
        if self._closed:
            raise StoreUnavailable("the session store is closed")
        now = self._clock.monotonic()
        if now - self._checked_at >= FILE_CHECK_S and self._reader is not None and _inode(self._path) != self._reader_inode:
            self._reader.close()
            self._reader = None
            if self._quick is not None:
                self._quick.close()
                self._quick = None
        if self._reader is None:
            self._reader, self._reader_inode = self._open(busy_ms=schema.READ_BUSY_MS)
            self._reader.execute("PRAGMA query_only = ON")
            self._data_version = None
        self._checked_at = now
        return self._reader

    def _writing_quickly(self) -> sqlite3.Connection:
        """The loop's connection for small writes, to the file that the reader looks at. A lock is waited for by nobody here."""
        self._reading()
        if self._quick is None:
            self._quick = schema.open_connection(self._path, busy_ms=schema.READ_BUSY_MS)
            prepare_shortcut(self._quick)
        return self._quick

    def _writing(self) -> sqlite3.Connection:
        """The thread's connection, checked the same way before each batch. Runs on the writer's thread."""
        if self._written is not None and _inode(self._path) != self._writer_inode:
            self._written.close()
            self._written = None
        if self._written is None:
            self._written, self._writer_inode = self._open(busy_ms=schema.WRITE_BUSY_MS)
        return self._written

    def _committed(self, db: sqlite3.Connection) -> None:
        """After each durable commit, on the writer's thread. A mark that cannot be set detects less; nothing else fails."""
        with suppress(OSError):
            self._mark.note(schema.read_position(db))

    def _open(self, *, busy_ms: int) -> tuple[sqlite3.Connection, int]:
        inode = schema.create_file(self._path)
        connection = schema.open_connection(self._path, busy_ms=busy_ms)
        try:
            schema.prepare(connection, inode=inode, mark=self._mark.read(), now=self._clock.now())
        except BaseException:
            connection.close()
            raise
        return connection, inode


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"sqlite: {getattr(error, 'sqlite_errorname', type(error).__name__)}") from error
    except TimeoutError as error:
        raise StoreUnavailable("the session file's disk is too slow") from error
    except OSError as error:
        raise StoreUnavailable(f"session file: {errno.errorcode.get(error.errno or 0, 'OSError')}") from error


def _inode(path: Path) -> int:
    """Which file the path means now; 0 when it means none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _disown(db: sqlite3.Connection, cursor: int, now: float) -> int:
    """The change log went backwards: an older copy was put in place. Forget its sessions, once for all processes."""
    if schema.read_position(db) < cursor:
        schema.forget_sessions(db, after=cursor, now=now)
    return schema.read_position(db)


def _put_indexes(db: sqlite3.Connection, row: Row) -> None:
    db.executemany("INSERT OR IGNORE INTO blind VALUES (?, ?)", [(index, row.key) for index in row.indexes])


def _row(values: tuple[Any, ...]) -> Row:
    key, version, sealed, created_at, seen_at, expires_at, indexes = values
    return Row(key, version, sealed, created_at, seen_at, expires_at, tuple(map(bytes.fromhex, indexes.split(","))) if indexes else ())
