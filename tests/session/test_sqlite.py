"""SQLite's own promises: what is acknowledged survives, what is wrong with the file is noticed, the loop never waits."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import ConfigError, StoreUnavailable
from bff.session.store import MemoryStore, Row, SqliteStore, open_store, sqlite_writer
from bff.session.store.sqlite_writer import Writer

NOW = FakeClock().now()

CRASHING_WRITER = """
import asyncio, os, sys
from pathlib import Path
from bff.base.clock import FakeClock
from bff.session.store import Row, SqliteStore

async def main():
    clock = FakeClock()
    store = SqliteStore(Path(sys.argv[1]), clock=clock)
    while True:
        row = Row(os.urandom(32), 1, os.urandom(500), clock.now(), clock.now(), clock.now() + 3600, (b"person",))
        await store.insert(row)
        await store.replace(Row(row.key, 2, b"two", row.created_at, row.seen_at, row.expires_at, (b"person",)), expected_version=1)
        print("kept", row.key.hex(), flush=True)
        await store.delete(row.key) if row.key[0] % 2 else None
        print("gone" if row.key[0] % 2 else "done", row.key.hex(), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store" / "sessions.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(path: Path, clock: FakeClock) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(path, clock=clock)
    yield made
    await made.close()


def row(**changes: object) -> Row:
    base = Row(os.urandom(32), 1, os.urandom(200), NOW, NOW, NOW + 3600, (b"person",))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.row("F7", "F48", "SESS-15")
@pytest.mark.parametrize("round_", range(3))
async def test_whatever_was_acknowledged_before_kill_nine_is_there_afterwards(path: Path, clock: FakeClock, round_: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", CRASHING_WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(40 + round_ * 7)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    told = [line.split() for line in lines if line.endswith("\n")]
    gone = {key for word, key in told if word == "gone"}
    done = {key for word, key in told if word == "done"}
    assert gone
    assert done
    store = SqliteStore(path, clock=clock)
    for key in done:
        found = await store.get(bytes.fromhex(key))
        assert found is not None
        assert (found.version, found.sealed) == (2, b"two")
    assert [await store.get(bytes.fromhex(key)) for key in gone] == [None] * len(gone)
    found_by_index = {each.key.hex() for each in await store.find(b"person")}
    assert found_by_index >= done
    assert not found_by_index & gone
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.row("SESS-13")
async def test_file_and_directory_are_for_their_owner_alone(store: SqliteStore, path: Path) -> None:
    await store.insert(row())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for each in path.parent.iterdir():
        assert each.stat().st_mode & 0o777 == 0o600


@pytest.mark.row("SESS-13")
async def test_a_file_that_others_could_read_is_closed_to_them(path: Path, clock: FakeClock) -> None:
    path.parent.mkdir(parents=True)
    path.touch(0o644)
    path.chmod(0o644)
    store = SqliteStore(path, clock=clock)
    await store.ping()
    assert path.stat().st_mode & 0o777 == 0o600
    await store.close()


@pytest.mark.row("F40")
async def test_a_short_lock_of_another_process_is_waited_for_off_the_loop(store: SqliteStore, path: Path) -> None:
    first = row()
    await store.insert(first)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.insert(row()))
    longest = 0.0
    for _ in range(20):
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - before)
        assert await store.get(first.key) is not None, "reads go on"
    assert not writing.done()
    other.execute("COMMIT")
    await writing
    other.close()
    assert longest < 1.0, "the loop was not held up: a wait in it would last as long as the lock"


async def written_by_the_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From here on: the name of each thread that commits."""
    threads: list[str] = []
    commit = Writer._commit

    def counting(writer: Writer, batch: list[object]) -> list[object]:
        threads.append(threading.current_thread().name)
        return commit(writer, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "_commit", counting)
    return threads


async def test_a_lease_is_written_at_once_and_what_must_be_durable_by_the_thread(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.ping()
    threads = await written_by_the_thread(path, monkeypatch)
    assert await store.acquire(b"l", b"a", 10)
    assert not await store.acquire(b"l", b"b", 10)
    await store.release(b"l", b"a")
    assert await store.once(b"state", NOW + 60)
    assert not await store.once(b"state", NOW + 60)
    assert threads == []
    await store.insert(row())
    assert threads == ["bff-sessions"]


@pytest.mark.row("F40")
async def test_a_lease_waits_for_another_process_s_lock_off_the_loop(store: SqliteStore, path: Path) -> None:
    first = row()
    await store.insert(first)
    assert await store.acquire(b"l", b"a", 10)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    taking = asyncio.ensure_future(store.acquire(b"m", b"a", 10))
    for _ in range(10):
        await asyncio.sleep(0.005)
        assert await store.get(first.key) is not None, "reads go on"
    assert not taking.done()
    other.execute("COMMIT")
    other.close()
    assert await taking


@pytest.mark.row("F40")
async def test_the_log_of_small_writes_alone_stays_bounded(store: SqliteStore, path: Path) -> None:
    for number in range(4000):
        assert await store.once(b"state %d" % number, NOW + 60)
    assert path.with_name(path.name + "-wal").stat().st_size < 16 * 1024 * 1024


@pytest.mark.row("F42")
async def test_a_small_write_goes_to_the_file_that_the_path_means_now(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    assert await store.once(b"state", NOW + 60)
    for file in path.parent.iterdir():
        file.unlink()
    clock.advance(0.3)
    assert await store.once(b"state", NOW + 60), "the new file does not know it"
    other = SqliteStore(path, clock=clock)
    assert not await other.once(b"state", NOW + 60), "another process reads what was written"
    await other.close()


@pytest.mark.row("F40", "C6")
async def test_a_long_lock_is_store_unavailable_and_then_all_is_well_again(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bff.session.store.sqlite_schema.WRITE_BUSY_MS", 50)
    await store.insert(row())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(store.acquire(b"l", bytes([n]), 10) for n in range(8)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results), "a lock that was not got is never reported as got"
    other.execute("COMMIT")
    other.close()
    assert await store.acquire(b"l", b"a", 10)


@pytest.mark.row("F38")
async def test_a_disk_that_hangs_is_store_unavailable_within_its_deadline(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert(row())
    monkeypatch.setattr("bff.session.store.sqlite.WRITE_DEADLINE_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await store.insert(row())
    other.execute("COMMIT")
    other.close()


@pytest.mark.row("F40")
async def test_a_burst_of_writes_shares_commits_and_all_are_acknowledged(store: SqliteStore, path: Path) -> None:
    rows = [row() for _ in range(300)]
    await asyncio.gather(*(store.insert(each) for each in rows))
    assert await store.count() == 300
    assert path.with_name("sessions.db-wal").stat().st_size < 64 * 1024 * 1024


async def test_one_refused_write_in_a_burst_fails_alone(store: SqliteStore) -> None:
    rows = [row() for _ in range(20)]
    await store.insert(rows[0])
    results = await asyncio.gather(*(store.insert(each) for each in rows), return_exceptions=True)
    assert isinstance(results[0], StoreUnavailable)
    assert results[1:] == [None] * 19
    assert await store.count() == 20


@pytest.mark.row("F41")
async def test_a_full_disk_keeps_reads_and_heals_without_a_restart(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = row()
    await store.insert(first)
    assert store._written is not None
    pages = store._written.execute("PRAGMA page_count").fetchone()[0]
    store._written.execute(f"PRAGMA max_page_count = {pages}")
    results = await asyncio.gather(*(store.insert(row(sealed=os.urandom(50_000))) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert await store.get(first.key) is not None
    assert await store.count() == 1, "nothing half-written"
    store._written.execute("PRAGMA max_page_count = 1000000")
    await store.insert(row(sealed=os.urandom(50_000)))
    assert await store.count() == 2


@pytest.mark.row("F41")
async def test_a_file_that_cannot_be_made_is_store_unavailable(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "blocked").write_text("a file where the directory should be")
    store = SqliteStore(tmp_path / "blocked" / "sessions.db", clock=clock)
    for call in (store.get(b"k"), store.insert(row()), store.ping(), store.changes(0), store.count()):
        with pytest.raises(StoreUnavailable):
            await call
    (tmp_path / "blocked").unlink()
    await store.ping()
    await store.close()


@pytest.mark.row("F42")
async def test_a_copy_put_in_place_of_the_file_brings_no_session_back(
    store: SqliteStore, path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    logged_out, kept = row(), row()
    await store.insert(logged_out)
    await store.insert(kept)
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"VACUUM INTO '{backup}'")
    await store.delete(logged_out.key)
    cursor = (await store.changes(0)).cursor
    for extra in path.parent.glob("sessions.db-*"):
        extra.unlink()
    backup.replace(path)
    clock.advance(0.3)
    assert await store.get(logged_out.key) is None
    assert await store.get(kept.key) is None, "nobody can tell which of them were ended: all of them are"
    assert (await store.changes(cursor)).keys is None
    new = row()
    await store.insert(new)
    assert await store.get(new.key) is not None


@pytest.mark.row("F42")
async def test_a_copy_is_known_also_by_a_process_that_starts_with_it(path: Path, clock: FakeClock, tmp_path: Path) -> None:
    store = SqliteStore(path, clock=clock)
    old = row()
    await store.insert(old)
    await store.close()
    inode = path.stat().st_ino
    shutil.copy(path, tmp_path / "copy.db")
    path.unlink()
    (tmp_path / "taker").touch()  # takes the freed inode, where file systems hand it out again
    shutil.copy(tmp_path / "copy.db", path)
    again = SqliteStore(path, clock=clock)
    try:
        if path.stat().st_ino == inode:
            pytest.skip("the file system gave the copy the old inode: the mark's test covers this")
        assert await again.get(old.key) is None
    finally:
        await again.close()


@pytest.mark.row("F42")
async def test_an_older_copy_written_over_the_same_inode_is_known_by_the_mark(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(path, clock=clock)
    logged_out = row()
    await store.insert(logged_out)
    await store.close()
    backup = path.read_bytes()
    store = SqliteStore(path, clock=clock)
    await store.delete(logged_out.key)
    await store.close()
    path.write_bytes(backup)
    again = SqliteStore(path, clock=clock)
    assert await again.get(logged_out.key) is None
    new = row()
    await again.insert(new)
    await again.close()
    once_more = SqliteStore(path, clock=clock)
    assert await once_more.get(new.key) is not None
    await once_more.close()


def mark_of(path: Path) -> int:
    return int(path.with_name(path.name + ".mark").read_bytes())


async def at_rest(store: SqliteStore, path: Path, first: Row) -> int:
    """The mark of a store that holds ``first``, has opened all it opens, and has committed since."""
    await store.changes(0)
    await store.insert(first)
    await store.insert(row())
    return mark_of(path)


@pytest.mark.row("F42")
@pytest.mark.parametrize("change", ["delete", "replace", "purge"])
async def test_the_mark_has_moved_when_a_change_is_acknowledged(store: SqliteStore, path: Path, clock: FakeClock, change: str) -> None:
    old = row(expires_at=NOW + 10)
    before = await at_rest(store, path, old)
    await store.touch(old.key, NOW + 1)
    assert await store.acquire(b"l", b"a", 10) and await store.once(b"state", NOW + 60)
    assert mark_of(path) == before == (await store.changes(0)).cursor
    if change == "delete":
        assert await store.delete(old.key)
    elif change == "replace":
        assert await store.replace(replace(old, version=2), expected_version=1)
    else:
        assert await store.purge(NOW + 20) == 1
    assert mark_of(path) == (await store.changes(0)).cursor > before


@pytest.mark.row("F42")
async def test_a_change_in_a_batch_of_others_moves_the_mark(store: SqliteStore, path: Path) -> None:
    old = row()
    before = await at_rest(store, path, old)
    twice = row()
    results = await asyncio.gather(
        store.insert(twice), store.insert(twice), store.delete(old.key), store.touch(twice.key, NOW + 1), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), StoreUnavailable, bool, type(None)]
    assert mark_of(path) > before


@pytest.mark.row("F42")
async def test_the_mark_moves_on_with_the_epoch_when_an_older_copy_was_forgotten(
    store: SqliteStore, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    old = row()
    await at_rest(store, path, old)
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        live.backup(backup)
        await store.delete(old.key)
        cursor = (await store.changes(0)).cursor
        backup.backup(live)
    await store.insert(row())
    heard = await store.changes(cursor)
    assert heard.keys is None
    assert mark_of(path) == heard.cursor > cursor


@pytest.mark.row("F42")
async def test_the_mark_belongs_to_the_file_that_took_the_place_of_another(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    await store.insert(row())
    cursor = (await store.changes(0)).cursor
    for each in path.parent.glob("sessions.db*"):
        if not each.name.endswith(".mark"):
            each.unlink()
    clock.advance(0.3)
    await store.insert(row())
    assert mark_of(path) == (await store.changes(0)).cursor > cursor


async def put_back(path: Path, content: bytes) -> None:
    """In place, under the inode it had, while nothing runs."""
    for extra in path.parent.glob(path.name + "-*"):
        extra.unlink()
    path.write_bytes(content)


async def lives_on(store: SqliteStore, path: Path, content: bytes, old: Row, clock: FakeClock) -> bool:
    """Whether a copy that is put back, while nothing runs, brings ``old`` back."""
    await store.close()
    await put_back(path, content)
    again = SqliteStore(path, clock=clock)
    found = await again.get(old.key)
    await again.close()
    return found is not None


def copied(path: Path, to: Path) -> bytes:
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(to)) as backup:
        live.backup(backup)
    return to.read_bytes()


@pytest.mark.row("F42", "F41")
async def test_a_mark_that_could_not_be_set_is_set_with_the_next_commit(
    store: SqliteStore, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    """No descriptor left, no room left: for a moment, and just when somebody logs out."""
    old = row()
    await at_rest(store, path, old)
    content = copied(path, tmp_path / "backup.db")
    mark = path.with_name(path.name + ".mark")
    mark.rename(mark.with_name("aside"))
    mark.mkdir()
    await store.delete(old.key)
    mark.rmdir()
    mark.with_name("aside").rename(mark)
    await store.insert(row())
    assert not await lives_on(store, path, content, old, clock)


@pytest.mark.row("F42")
async def test_a_mark_that_another_process_set_back_or_did_not_live_to_set_is_set_within_a_minute(
    store: SqliteStore, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    old = row()
    behind = await at_rest(store, path, old)
    other = SqliteStore(path, clock=clock)
    await at_rest(other, path, row())
    content = copied(path, tmp_path / "backup.db")
    await other.delete(old.key)
    mark = path.with_name(path.name + ".mark")
    mark.write_bytes(f"{behind:>39}\n".encode())
    await other.close()
    await store.purge(clock.now())
    assert not await lives_on(store, path, content, old, clock)


async def test_the_same_file_keeps_its_sessions_over_a_restart(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(path, clock=clock)
    old = row()
    await store.insert(old)
    await store.close()
    again = SqliteStore(path, clock=clock)
    assert await again.get(old.key) is not None
    await again.close()


@pytest.mark.row("F42")
async def test_content_restored_in_place_is_noticed_by_its_change_log(
    store: SqliteStore, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    old = row()
    await store.insert(old)
    backup = sqlite3.connect(tmp_path / "backup.db")
    live = sqlite3.connect(path)
    live.backup(backup)
    await store.delete(old.key)
    cursor = (await store.changes(0)).cursor
    other = SqliteStore(path, clock=clock)
    assert (await other.changes(0)).cursor == cursor
    backup.backup(live)
    assert await store.get(old.key) is not None, "the restored row is there until the next look"
    heard = await store.changes(cursor)
    assert heard.keys is None
    assert heard.cursor > cursor
    assert await store.get(old.key) is None
    new = row()
    await store.insert(new)
    assert (await other.changes(cursor)).keys is None
    assert await other.get(new.key) is not None, "the second process does not forget again"
    await other.close()
    live.close()
    backup.close()


@pytest.mark.row("F42")
async def test_a_deleted_file_is_noticed_and_no_session_is_served_from_its_ghost(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    old = row()
    await store.insert(old)
    cursor = (await store.changes(0)).cursor
    for each in list(path.parent.iterdir()):
        each.unlink()
    clock.advance(0.3)
    assert await store.get(old.key) is None
    assert (await store.changes(cursor)).cursor > cursor
    await store.insert(row())
    assert path.exists()
    assert await store.count() == 1


@pytest.mark.row("F42")
async def test_a_file_that_is_no_database_is_store_unavailable(path: Path, clock: FakeClock) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(8192))
    store = SqliteStore(path, clock=clock)
    with pytest.raises(StoreUnavailable):
        await store.get(b"k")
    with pytest.raises(StoreUnavailable):
        await store.insert(row())
    await store.close()


@pytest.mark.row("F44")
async def test_a_file_of_a_later_release_is_refused_and_left_alone(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(path, clock=clock)
    await store.insert(row())
    await store.close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.commit()
    again = SqliteStore(path, clock=clock)
    with pytest.raises(StoreUnavailable):
        await again.get(b"k")
    await again.close()
    assert raw.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    raw.close()


@pytest.mark.row("PRIV-4")
async def test_an_ended_session_is_physically_gone(store: SqliteStore, path: Path) -> None:
    marked = row(sealed=b"sealed-canary" * 20, indexes=(b"index-canary" * 3,))
    await store.insert(marked)
    await store.delete(marked.key)
    await store.purge(NOW)
    await store.close()
    content = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"canary" not in content


@pytest.mark.row("F49")
async def test_a_lease_from_a_clock_far_ahead_is_not_believed(store: SqliteStore, clock: FakeClock) -> None:
    clock.advance(86_400)
    assert await store.acquire(b"l", b"a", 20)
    clock._now -= 86_400
    assert await store.acquire(b"l", b"b", 20)


async def test_a_cancelled_write_is_made_nevertheless(store: SqliteStore, path: Path) -> None:
    await store.ping()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    new = row()
    writing = asyncio.ensure_future(store.insert(new))
    await asyncio.sleep(0.01)
    writing.cancel()
    other.execute("COMMIT")
    other.close()
    await store.ping()  # by the thread, and so behind it
    assert await store.get(new.key) is not None


async def test_a_closed_store_is_unavailable(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(path, clock=clock)
    await store.ping()
    await store.close()
    for call in (store.get(b"k"), store.insert(row())):
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_writer_that_is_overrun_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_QUEUED", 0)
    writer = Writer(connection=lambda: sqlite3.connect(":memory:"), committed=lambda db: None, name="t")
    with pytest.raises(StoreUnavailable):
        await writer.run(lambda db: None)


@pytest.mark.row("F38")
async def test_reading_and_hearing_of_nothing_new_is_cheap(store: SqliteStore) -> None:
    new = row()
    await store.insert(new)
    cursor = (await store.changes(0)).cursor
    await store.changes(cursor)
    started = time.perf_counter()
    for _ in range(500):
        await store.changes(cursor)
        await store.get(new.key)
    assert (time.perf_counter() - started) / 500 < 0.002


def test_stores_are_opened_by_url(tmp_path: Path, clock: FakeClock) -> None:
    assert isinstance(open_store("memory:", clock=clock), MemoryStore)
    absolute, relative = open_store(f"sqlite://{tmp_path}/s.db", clock=clock), open_store("sqlite:data/s.db", clock=clock)
    assert isinstance(absolute, SqliteStore)
    assert isinstance(relative, SqliteStore)
    assert absolute._path == tmp_path / "s.db"
    assert relative._path == Path("data/s.db")
    assert not (tmp_path / "s.db").exists(), "nothing is opened before the first call"


@pytest.mark.row("C3")
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:hunter2@h/0", "bff-token-handler[redis]"),
        ("rediss://h", "bff-token-handler[redis]"),
        ("valkey://h", "bff-token-handler[redis]"),
        ("postgresql://u:hunter2@h/db", "bff-token-handler[postgres]"),
        ("mysql://u:hunter2@h", "unknown scheme"),
        ("hunter2hunter2hunter2", "not a URL"),
        ("", "not a URL"),
        ("memory://x", "unknown scheme"),
        ("sqlite:", "sqlite:///"),
        ("sqlite://", "sqlite:///"),
        ("sqlite://host/x.db", "sqlite:///"),
        ("sqlite:///dir/", "sqlite:///"),
        ("sqlite:///x.db?mode=memory", "sqlite:///"),
    ],
)
def test_an_unusable_store_url_says_what_is_missing_and_shows_no_password(url: str, says: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url, clock=clock)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
