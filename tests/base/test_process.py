"""What the processes of an instance have in common."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

from bff.process import Instance, watch_end


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
        instance = Instance.create(Path(name))
        for path in (instance.agent_path, instance.desk_path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700
        other = Instance(Path(name), instance.agent_socket, instance.desk_socket, 0, 0)
        assert other.secret != instance.secret and instance.secret.hex() not in repr(instance)
        assert other.ring.kids != instance.ring.kids
        assert instance.holder(1) == instance.holder(1) != instance.holder(2)
        for descriptor in (instance.workers_alive, instance.workers_pipe):
            os.close(descriptor)
        instance.agent_socket.close()
        instance.desk_socket.close()


async def test_the_pipe_of_the_workers_ends_with_the_last_who_holds_it() -> None:
    with TemporaryDirectory(prefix="bff-") as name:
        instance = Instance.create(Path(name))
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
