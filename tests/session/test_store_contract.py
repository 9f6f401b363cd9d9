"""One contract for every store. "Processes" are two handles on what the store shares: itself for memory, its file for SQLite."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import StoreUnavailable
from bff.session.store import MemoryStore, Row, SessionStore, SqliteStore

NOW = FakeClock().now()


class Pair:
    """Two processes' views of one store."""

    def __init__(self, one: SessionStore, two: SessionStore, clock: FakeClock) -> None:
        self.one = one
        self.two = two
        self.clock = clock


@pytest.fixture(params=["memory", "sqlite"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    clock = FakeClock()
    if request.param == "memory":
        shared = MemoryStore(clock=clock)
        yield Pair(shared, shared, clock)
        return
    path = tmp_path / "store" / "sessions.db"
    one, two = SqliteStore(path, clock=clock), SqliteStore(path, clock=clock)
    yield Pair(one, two, clock)
    await one.close()
    await two.close()


def row(**changes: object) -> Row:
    base = Row(os.urandom(32), 1, os.urandom(200), NOW, NOW, NOW + 3600, (os.urandom(32), os.urandom(32)))
    return replace(base, **changes)  # type: ignore[arg-type]


def same(left: Row | None, right: Row) -> bool:
    return left is not None and replace(left, indexes=()) == replace(right, indexes=()) and set(left.indexes) == set(right.indexes)


async def test_an_inserted_row_is_there_for_every_process(pair: Pair) -> None:
    new = row()
    await pair.one.insert(new)
    assert same(await pair.one.get(new.key), new)
    assert same(await pair.two.get(new.key), new)
    assert await pair.two.get(os.urandom(32)) is None


async def test_a_row_without_indexes_stays_without(pair: Pair) -> None:
    new = row(indexes=())
    await pair.one.insert(new)
    assert same(await pair.two.get(new.key), new)


@pytest.mark.row("F9", "T10")
async def test_a_second_insert_of_a_key_changes_nothing(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    with pytest.raises(StoreUnavailable):
        await pair.two.insert(row(key=first.key))
    assert same(await pair.one.get(first.key), first)


@pytest.mark.row("SESS-15", "F8")
async def test_replacing_needs_the_expected_version(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    second = replace(first, version=2, sealed=b"two", indexes=(b"new",))
    assert await pair.one.replace(second, expected_version=1)
    assert not await pair.two.replace(replace(first, version=2, sealed=b"late"), expected_version=1)
    assert same(await pair.two.get(first.key), second)
    assert await pair.two.find(first.indexes[0]) == []
    assert [found.key for found in await pair.two.find(b"new")] == [first.key]


@pytest.mark.row("SESS-15", "F10")
async def test_a_late_writer_never_revives_an_ended_session(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    assert await pair.two.delete(first.key)
    assert not await pair.one.replace(replace(first, version=2), expected_version=1)
    await pair.one.touch(first.key, NOW + 5)
    assert await pair.one.get(first.key) is None
    assert await pair.one.find(first.indexes[0]) == []


@pytest.mark.row("F8")
async def test_of_twenty_five_writers_at_once_exactly_one_wins_each_version(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)

    async def add(number: int) -> None:
        store = pair.one if number % 2 else pair.two
        while True:
            seen = await store.get(first.key)
            assert seen is not None
            mine = replace(seen, version=seen.version + 1, sealed=seen.sealed + bytes([number]))
            if await store.replace(mine, expected_version=seen.version):
                return

    await asyncio.gather(*(add(number) for number in range(25)))
    last = await pair.one.get(first.key)
    assert last is not None
    assert last.version == 26
    assert sorted(last.sealed[200:]) == list(range(25))


async def test_activity_only_moves_forward_and_is_no_new_version(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    await pair.two.touch(first.key, NOW + 50)
    await pair.one.touch(first.key, NOW + 20)
    assert same(await pair.one.get(first.key), replace(first, seen_at=NOW + 50))
    assert await pair.one.replace(replace(first, version=2, seen_at=NOW), expected_version=1)
    last = await pair.two.get(first.key)
    assert last is not None
    assert last.seen_at == NOW + 50


@pytest.mark.row("PRIV-4", "F9")
async def test_deleting_takes_the_indexes_along_and_is_idempotent(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    assert await pair.two.delete(first.key)
    assert not await pair.one.delete(first.key)
    assert await pair.one.get(first.key) is None
    assert [await pair.one.find(index) for index in first.indexes] == [[], []]
    assert await pair.one.count() == 0


@pytest.mark.row("SESS-12", "S12")
async def test_an_index_is_a_set_and_ending_one_leaves_the_others(pair: Pair) -> None:
    rows = [row(indexes=(b"person", bytes([number]))) for number in range(5)]
    for each in rows:
        await pair.one.insert(each)
    assert {found.key for found in await pair.two.find(b"person")} == {each.key for each in rows}
    await pair.one.delete(rows[0].key)
    assert {found.key for found in await pair.two.find(b"person")} == {each.key for each in rows[1:]}
    assert [found.key for found in await pair.two.find(bytes([3]))] == [rows[3].key]
    assert all(same(found, next(each for each in rows if each.key == found.key)) for found in await pair.two.find(b"person"))


async def test_listing_pages_in_key_order(pair: Pair) -> None:
    rows = sorted((row() for _ in range(7)), key=lambda each: each.key)
    for each in rows:
        await pair.one.insert(each)
    seen: list[bytes] = []
    while page := await pair.two.list(after=seen[-1] if seen else b"", limit=3):
        seen += [each.key for each in page]
    assert seen == [each.key for each in rows]


@pytest.mark.row("C6")
async def test_a_name_is_new_once_for_all_processes_until_it_ends(pair: Pair) -> None:
    assert await pair.one.once(b"jti", NOW + 60)
    assert not await pair.two.once(b"jti", NOW + 600)
    assert await pair.two.once(b"jti2", NOW + 60)
    pair.clock.advance(61)
    assert await pair.two.once(b"jti", NOW + 120)
    assert not await pair.one.once(b"jti", NOW + 120)


@pytest.mark.row("C6")
async def test_of_many_askers_at_once_one_sees_a_name_first(pair: Pair) -> None:
    answers = await asyncio.gather(*((pair.one if n % 2 else pair.two).once(b"jti", NOW + 60) for n in range(20)))
    assert sum(answers) == 1


@pytest.mark.row("C6", "F2")
async def test_a_lease_has_one_holder_until_it_ends_or_is_given_back(pair: Pair) -> None:
    assert await pair.one.acquire(b"l", b"a", 10)
    assert not await pair.two.acquire(b"l", b"b", 10)
    assert await pair.two.acquire(b"other", b"b", 10)
    await pair.two.release(b"l", b"b")
    assert not await pair.two.acquire(b"l", b"b", 10)
    pair.clock.advance(6)
    assert await pair.one.acquire(b"l", b"a", 10), "renewed"
    pair.clock.advance(6)
    assert not await pair.two.acquire(b"l", b"b", 10)
    pair.clock.advance(5)
    assert await pair.two.acquire(b"l", b"b", 10), "ended"
    assert not await pair.one.acquire(b"l", b"a", 10), "a lost lease is not renewed"
    await pair.one.release(b"l", b"a")
    assert not await pair.one.acquire(b"l", b"a", 10), "nor given back for its new holder"
    await pair.two.release(b"l", b"b")
    assert await pair.one.acquire(b"l", b"a", 10)


@pytest.mark.row("C6")
async def test_of_many_askers_at_once_one_gets_the_lease(pair: Pair) -> None:
    asks = ((pair.one if n % 2 else pair.two).acquire(b"l", bytes([n]), 10) for n in range(20))
    assert sum(await asyncio.gather(*asks)) == 1


@pytest.mark.row("S3")
async def test_changes_tell_of_every_replacement_and_end_but_not_of_touches(pair: Pair) -> None:
    rows = [row() for _ in range(4)]
    for each in rows:
        await pair.one.insert(each)
    start = await pair.two.changes(0)
    assert start.keys is not None
    assert not start.keys
    await pair.one.touch(rows[0].key, NOW + 5)
    assert await pair.two.changes(start.cursor) == replace(start, keys=(await pair.two.changes(start.cursor)).keys)
    await pair.one.replace(replace(rows[1], version=2), expected_version=1)
    await pair.one.delete(rows[2].key)
    heard = await pair.two.changes(start.cursor)
    assert heard.keys is not None
    assert set(heard.keys) == {rows[1].key, rows[2].key}
    again = await pair.two.changes(heard.cursor)
    assert again.keys is not None
    assert not again.keys
    own = await pair.one.changes(start.cursor)
    assert own.keys is not None
    assert set(own.keys) == {rows[1].key, rows[2].key}


async def test_a_cursor_that_is_too_old_is_told_so(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    start = await pair.two.changes(0)
    for version in range(2, 12_002) if isinstance(pair.one, MemoryStore) else range(2, 4):
        await pair.one.replace(replace(first, version=version), expected_version=version - 1)
    pair.clock.advance(1000)
    await pair.one.purge(NOW + 1000)
    heard = await pair.two.changes(start.cursor)
    assert heard.keys is None or isinstance(pair.one, MemoryStore)
    assert heard.cursor > start.cursor
    quiet = await pair.two.changes(heard.cursor)
    assert quiet.keys is not None
    assert not quiet.keys


@pytest.mark.row("PRIV-4", "F45")
async def test_purging_removes_what_expired_or_idled_out_in_bounded_batches(pair: Pair) -> None:
    old = [row(expires_at=NOW + 10) for _ in range(501)]
    idle, live = row(seen_at=NOW - 5000), row()
    await asyncio.gather(*(pair.one.insert(each) for each in [*old, idle, live]))
    start = await pair.two.changes(0)
    assert await pair.one.purge(NOW) == 0
    assert await pair.one.purge(NOW, seen_before=NOW - 4000) == 1
    pair.clock.advance(11)
    assert await pair.two.count() == 1
    assert await pair.one.purge(NOW + 11) == 500
    assert await pair.two.purge(NOW + 11) == 1
    assert await pair.one.purge(NOW + 11) == 0
    assert [each.key for each in await pair.one.list(limit=1000)] == [live.key]
    assert await pair.one.find(old[0].indexes[0]) == []
    heard = await pair.two.changes(start.cursor)
    assert heard.keys is not None
    assert len(heard.keys) == 502


async def test_purging_lets_go_of_names_and_leases_that_are_over(pair: Pair) -> None:
    await pair.one.once(b"jti", NOW + 10)
    await pair.one.acquire(b"l", b"a", 10)
    pair.clock.advance(20)
    await pair.one.purge(NOW + 20)
    assert await pair.two.once(b"jti", NOW + 100)
    assert await pair.two.acquire(b"l", b"b", 10)


@pytest.mark.row("T10", "F9")
async def test_fifty_at_once_on_one_key_end_in_one_deletion(pair: Pair) -> None:
    first = row()
    await pair.one.insert(first)
    answers = await asyncio.gather(*((pair.one if n % 2 else pair.two).delete(first.key) for n in range(50)))
    assert sum(answers) == 1


async def test_ping_answers_and_closing_twice_is_fine(pair: Pair) -> None:
    await pair.one.ping()
    await pair.one.close()
    await pair.one.close()


@pytest.mark.row("F50")
async def test_times_far_beyond_2038_are_kept(pair: Pair) -> None:
    far = row(expires_at=2.0**40)
    await pair.one.insert(far)
    assert same(await pair.two.get(far.key), far)
