"""``memory:`` for several processes: a file that lives and dies with the instance."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.session.model import EndReason
from bff.session.store import MemoryStore, SqliteStore, open_store
from tests.session.world import World, tick


@pytest.mark.row("SESS-10", "SESS-14")
async def test_processes_of_an_instance_share_sessions_that_nobody_wants_to_keep(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "sessions.db"
    one, other = (open_store("memory:", clock=clock, memory_file=path) for _ in range(2))
    assert isinstance(one, SqliteStore)
    world = World(one, clock=clock)
    live, value = await world.sign_in()
    worker = world.new_keeper(store=other)
    await tick(worker)
    theirs = await worker.find(value)
    assert theirs is not None and theirs.session == live.session
    await worker.end(live.key, EndReason.LOGOUT)
    assert world.keeper.recall(value) is live
    await world.keeper.hear()
    assert world.keeper.recall(value) is None and await world.keeper.find(value) is None
    await one.close()
    await other.close()


async def test_a_process_that_is_killed_takes_no_session_with_it(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "sessions.db"
    killed = open_store("memory:", clock=clock, memory_file=path)
    world = World(killed, clock=clock)
    _, value = await world.sign_in()
    heir = open_store("memory:", clock=clock, memory_file=path)
    assert await world.new_keeper(store=heir).find(value) is not None
    await heir.close()
    await killed.close()


def test_one_process_alone_needs_no_file(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:", clock=FakeClock()), MemoryStore)


def test_nothing_is_opened_before_the_first_call_so_that_it_may_be_built_before_a_fork(tmp_path: Path) -> None:
    open_store("memory:", clock=FakeClock(), memory_file=tmp_path / "sessions.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.row("PRIV-1")
async def test_the_file_is_nobody_elses(tmp_path: Path) -> None:
    store = open_store("memory:", clock=FakeClock(), memory_file=tmp_path / "sessions.db")
    await store.ping()
    await store.once(b"x", 1.0)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
    await store.close()
