"""Rolling restarts and killed workers under load, in short; ``python -m bench.restarts`` for as long as you like."""

from __future__ import annotations

import asyncio

import pytest

from bench.fleet import fleet
from bench.restarts import WAYS, find_problems, load

# Clients and balancer lose connections on purpose.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.mark.row("F47", "OPS-6")
def test_a_rolling_restart_fails_no_idempotent_request_truncates_nothing_and_loses_no_session() -> None:
    with fleet() as ours:
        tally = asyncio.run(load(ours, seconds=20, every_s=4))
    assert not find_problems(tally), tally.lines()
    assert tally.turns >= 2
    assert tally.seen["truncated"] == 0


@pytest.mark.row("F48")
def test_a_killed_worker_loses_only_the_requests_in_its_hands() -> None:
    with fleet(workers=2) as ours:
        tally = asyncio.run(load(ours, seconds=15, every_s=3, how="kill"))
    assert not find_problems(tally, how="kill"), tally.lines()
    assert tally.turns >= 3


@pytest.mark.row("F46", "OPS-2")
def test_key_rotation_and_sighup_under_load_are_noticed_by_nobody() -> None:
    with WAYS["reload"].stage() as ours:
        tally = asyncio.run(load(ours, seconds=22, every_s=4, how="reload"))
    assert not find_problems(tally, how="reload"), tally.lines()
    assert tally.turns >= 3
    assert not [name for name in tally.seen if "closed" in name or "ended" in name], "streams outlive a reload"


@pytest.mark.row("F47", "OPS-6")
def test_an_instance_that_hands_its_socket_to_the_next_fails_nobody() -> None:
    with WAYS["inherit"].stage() as ours:
        tally = asyncio.run(load(ours, seconds=16, every_s=4, how="inherit"))
    assert not find_problems(tally, how="inherit"), tally.lines()
    assert tally.turns >= 2
