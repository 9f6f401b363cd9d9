"""The arithmetic of the bench: ratios, goals, tables. The measuring itself is run by CI (bench --quick --check)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench import goals, report
from bench.__main__ import SCENARIOS
from bench.flow import Run
from bench.processes import Group
from bench.slow import Meter
from bench.values import Sample, Series, ratio_best, ratio_middle


def series(name: str, *cpu_ms: float, p99: float = 1.0, rss: float = 40.0) -> Series:
    """A variant that used ``cpu_ms`` per request in each round."""
    samples = [Sample(requests=1000, seconds=1.0, cpu_s=one, p50_ms=0.5, p99_ms=p99, failed=0, rss_mib=rss) for one in cpu_ms]
    return Series(name, samples)


def test_a_ratio_above_one_means_that_ours_is_cheaper() -> None:
    peer, ours = series("peer", 0.04, 0.06), series("bff", 0.02, 0.02)
    assert ratio_best(peer, ours) == pytest.approx(2.0)
    assert ratio_middle(peer, ours) == pytest.approx(2.5)


def test_a_goal_is_judged_by_the_better_of_best_and_median_and_with_slack() -> None:
    results = {"small": [series("bff", 1.0, 1.0), series("nginx plain", 0.49, 0.49)]}
    [ratio] = [one for one in goals.judge(results, slack=0.2) if "against nginx plain:" in one.text and "p99" not in one.text]
    assert ratio.held
    [strict] = [one for one in goals.judge(results, slack=0.0) if "against nginx plain:" in one.text and "p99" not in one.text]
    assert not strict.held


def test_only_the_nginx_peers_decide_in_ci() -> None:
    results = {"small": [series("bff", 1.0), series("Envoy oauth2", 0.1), series("nginx + Lua", 0.1)]}
    binding = {one.text.split(": ")[0]: one.binding for one in goals.judge(results, slack=0.2)}
    assert binding == {"small, against Envoy oauth2": False, "small, against nginx + Lua": True, "small, worker memory": True}


async def test_few_are_measured_in_as_many_blocks_as_there_are() -> None:
    asked: list[range] = []

    async def work(block: range) -> None:
        asked.append(block)

    run = cast(Run, SimpleNamespace(world=SimpleNamespace(product=SimpleNamespace(program=None))))
    cost = await Meter(run, pinned=False).cost("few", 5, work)
    assert [number for block in asked for number in block] == list(range(5)) and len(cost.cpu_ms) == len(asked)


def test_every_goal_names_a_scenario_that_exists() -> None:
    assert {goal.scenario for goal in goals.GOALS} <= {scenario.name for scenario in SCENARIOS}


def test_the_table_has_one_row_for_each_variant_cheapest_first() -> None:
    text = report.table(SCENARIOS[0], [series("peer", 0.05), series("bff", 0.02)], "bff")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert rows == ["**bff**", "peer"]


def test_the_plot_is_one_svg_with_a_bar_for_each_variant() -> None:
    text = report.plot([series("a < b", 0.05), series("bff", 0.02)], "CPU", "bff")
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
    assert text.count("<rect") == 2
    assert "a &lt; b" in text


def test_a_group_counts_and_ends_the_children_of_what_it_started(tmp_path: Path) -> None:
    group, log = Group(), tmp_path / "log"
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    group.start([sys.executable, "-c", code], log=log, cpus=None)
    for _ in range(200):
        if len(group.pids()) == 2:
            break
        group.leaders[0].poll()
        _pause()
    pids = group.pids()
    assert len(pids) == 2
    assert group.rss_mib() > 1
    group.stop()
    for _ in range(200):
        if not any(is_running(pid) for pid in pids):
            break
        _pause()
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has reaped yet."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def _pause() -> None:
    import select

    select.select([], [], [], 0.02)
