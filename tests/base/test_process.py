"""What the processes of an instance have in common."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bff.base.clock import FakeClock
from bff.board import Board
from bff.process import Instance, beating, watch_end


async def test_the_end_of_a_pipe_is_told_once_and_not_watched_any_longer() -> None:
    reading, writing = os.pipe()
    told: list[int] = []
    watch_end(reading, lambda: told.append(1))
    await asyncio.sleep(0)
    assert told == []
    os.close(writing)
    for _ in range(20):
        await asyncio.sleep(0)
    assert told == [1]
    assert not asyncio.get_running_loop().remove_reader(reading), "an end stays readable: watching it on is a busy loop"
    os.close(reading)


def test_the_sockets_of_an_instance_are_nobody_elses() -> None:
    with TemporaryDirectory(prefix="bff-") as name:
        instance = Instance.create(Path(name), processes=2)
        for path in (instance.agent_path, instance.desk_path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700
        other = Instance(Path(name), instance.agent_socket, instance.desk_socket, 0, 0, Board(0))
        assert other.secret != instance.secret and instance.secret.hex() not in repr(instance)
        assert other.ring.kids != instance.ring.kids
        assert instance.holder(1) == instance.holder(1) != instance.holder(2)
        instance.let_go()
        os.close(instance.workers_alive)
        instance.agent_socket.close()
        instance.desk_socket.close()


async def test_the_pipe_of_the_workers_ends_with_the_last_who_holds_it() -> None:
    with TemporaryDirectory(prefix="bff-") as name:
        instance = Instance.create(Path(name), processes=2)
        another = os.dup(instance.workers_pipe)
        told: list[int] = []
        watch_end(instance.workers_alive, lambda: told.append(1))
        instance.let_go()
        for _ in range(5):
            await asyncio.sleep(0)
        assert told == []
        os.close(another)
        for _ in range(5):
            await asyncio.sleep(0)
        assert told == [1]
        os.close(instance.workers_alive)
        instance.agent_socket.close()
        instance.desk_socket.close()


@pytest.mark.row("F53")
async def test_a_loop_shows_on_the_board_that_it_turns_and_how_late_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, board, late = FakeClock(), Board(2), []
    lags = iter([0.0, 2.0, 0.0])

    async def sleep(seconds: float) -> None:
        lag = next(lags, None)
        if lag is None:
            await asyncio.Event().wait()
        clock.advance(seconds + (lag or 0.0))

    monkeypatch.setattr("bff.process.asyncio.sleep", sleep)
    async with beating(board, 1, clock=clock, observe=late.append):
        assert (board.beat_at(1), board.beat_at(0)) == (clock.monotonic(), 0.0), "at once, and in its own row"
        task_turns = asyncio.get_running_loop()
        ready = task_turns.create_future()
        task_turns.call_soon(ready.set_result, None)
        await ready
    assert [round(seconds, 3) for seconds in late] == [0.0, 2.0, 0.0]
    assert board.beat_at(1) == clock.monotonic()
    assert 1.0 < board.lag_s(1) < 2.0, "what was is told for a while"


def test_children_write_on_the_board_and_the_parent_reads() -> None:
    board = Board(3)
    pid = os.fork()
    if pid == 0:
        board.beat(2, 12.5, 0.25)
        os._exit(0)
    os.waitpid(pid, 0)
    assert [board.beat_at(number) for number in range(3)] == [0.0, 0.0, 12.5]
    assert board.lag_s(2) == 0.25 and not board.draining
    board.clear(2)
    board.drain()
    assert board.beat_at(2) == 0.0 and board.draining
