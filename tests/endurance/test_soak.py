"""The soak in short: nothing goes wrong, nothing is left open or stored, memory does not run away. Slopes need ``python -m bench.soak``."""

from __future__ import annotations

import asyncio

import pytest

from bench.flow import running
from bench.soak import soak


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.row("F51")
def test_half_a_minute_of_mixed_visits_leaves_nothing_behind() -> None:
    with running() as run:
        report = asyncio.run(soak(run, seconds=25))
    assert not report.wrong, report.lines()
    assert report.done["logout"] >= 10
    assert report.rows_left == 0, "sessions of people who signed out are still stored"
    assert report.samples[-1].files <= report.settled[0].files + 16, report.lines()
    first, last = report.settled[0], report.settled[-1]
    assert last.worker_mib - first.worker_mib <= 6, report.lines()
    assert last.agent_mib - first.agent_mib <= 6, report.lines()
