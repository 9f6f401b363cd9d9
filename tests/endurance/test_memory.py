"""Resident memory stays flat under large bodies and many idle connections; the limit of open files is raised as far as allowed."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from bench.flow import Run, cpu_s, running
from bench.memory import measure_bodies, measure_idle
from tests.harness.programs import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with running(config={"server": {"workers": 1, "max_connections": 12_000}}) as made:
        yield made


@pytest.mark.row("BODY-2", "F55")
def test_200_mib_either_way_past_a_slow_side_add_at_most_12_mib(run: Run) -> None:
    for reading in measure_bodies(run, 200, 100e6):
        assert reading.ok, reading
        assert reading.grown_mib <= 12, reading


@pytest.mark.row("F55", "D9")
def test_ten_thousand_idle_connections_take_at_most_200_mib_together(run: Run) -> None:
    reading = measure_idle(run, 10_000)
    assert reading.ok
    assert reading.before_mib + reading.grown_mib <= 200, reading


@pytest.mark.row("F52")
def test_a_low_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with running() as run:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            reading = measure_idle(run, 400)
            assert reading.ok
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.row("F52")
def test_too_many_connections_are_told_so_and_room_comes_back() -> None:
    with running(config={"server": {"workers": 1, "max_connections": 50}}) as run:
        held = [socket.create_connection(("127.0.0.1", run.world.product.port), 5) for _ in range(50)]
        with socket.create_connection(("127.0.0.1", run.world.product.port), 5) as late:
            assert late.recv(4096).startswith(b"HTTP/1.1 503")
        held.pop().close()
        wait_until(lambda: measure_idle(run, 1).ok, what="that the door has seen one leave")
        for sock in held:
            sock.close()


def serves_within(run: Run, seconds: float) -> bool:
    """True once a new connection is served. The first ones may still be reset: libuv empties the accept queue that way when it is out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            return measure_idle(run, 1).ok
    return False


@pytest.mark.row("F52")
def test_a_worker_out_of_file_descriptors_waits_quietly_and_recovers_at_once() -> None:
    with running() as run:
        worker = run.worker
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (64, 64))
        held = [socket.create_connection(("127.0.0.1", run.world.product.port), 5) for _ in range(200)]
        before = cpu_s(worker)
        time.sleep(2)
        assert cpu_s(worker) - before < 0.5, "it spins"
        for sock in held:
            sock.close()
        assert serves_within(run, 2.0)
        assert run.worker == worker
        assert len(run.world.product.logs) < 20_000
