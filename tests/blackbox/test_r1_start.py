"""Starting, and starting again, while something is in trouble."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping

import pytest

from bff.assembly import fit_connections
from bff.board import Board
from bff.supervisor import Supervisor, _Slot
from tests.blackbox.conftest import MakeWorld
from tests.harness.people import user
from tests.harness.programs import wait_until


def ready(world: object) -> bool:
    try:
        return bool(world.product.is_ready())  # type: ignore[attr-defined]
    except OSError:
        return False


@pytest.mark.row("F40", "F47")
async def test_a_session_file_that_is_locked_at_the_start_delays_it_and_no_more(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    world.product.stop()
    lock = sqlite3.connect(world.folder / "sessions.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    program = world.product.start(wait=False)
    await asyncio.sleep(4.5)
    assert program.process.poll() is None
    lock.execute("ROLLBACK")
    lock.close()
    wait_until(lambda: ready(world), timeout_s=15, what="readiness")
    assert await user(browser, world.app)


@pytest.mark.row("F48")
@pytest.mark.parametrize(("sibling_s", "all_end"), [(60.0, False), (1.0, True)])
def test_a_replacement_that_cannot_start_does_not_end_those_who_serve(sibling_s: float, all_end: bool) -> None:
    """At the very start, when nobody has served yet, the same exit means that a restart cannot help."""

    def say(event: str, fields: Mapping[str, object]) -> None:
        assert event == "worker_ended" and fields["exit"] == 69

    now = time.monotonic()
    supervisor = Supervisor(work=lambda _slot, _lifeline: 0, workers=2, grace_s=1.0, reload=lambda: None, say=say, board=Board(2))
    failed = _Slot(1, started=now - 1.0, pid=2)
    supervisor._slots = [_Slot(0, started=now - sibling_s, pid=1), failed]
    supervisor._ended(failed, 69)
    assert supervisor._stopping is all_end and failed.pid == 0


@pytest.mark.row("F52")
def test_connections_leave_files_for_everything_else() -> None:
    assert fit_connections(10_000, files=128) == 64
    assert fit_connections(10_000, files=1024) == 768
    assert fit_connections(10_000, files=1 << 20) == 10_000
