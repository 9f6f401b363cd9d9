"""Numbers: deltas from the hot path, sums over processes, labels from closed sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bff.observe.metrics import BUCKETS_S, Metrics
from bff.observe.multiprocess import VARIABLE, forget_worker, share_metrics
from bff.policy.routes import METHODS
from bff.proxy.lane import LATENCY_BOUNDS_S

ROOT = Path(__file__).resolve().parents[2]


def test_buckets_and_methods_are_those_of_the_door() -> None:
    """The door counts by them without importing this package."""
    from bff.observe.metrics import _METHODS

    assert BUCKETS_S == LATENCY_BOUNDS_S
    assert _METHODS == METHODS


def test_a_delta_of_bucket_counts_is_as_good_as_single_observations() -> None:
    """The library's own fields are used: this holds them to what ``observe`` does."""
    one, other = Metrics(), Metrics()
    seconds = [0.0005, 0.001, 0.004, 0.3, 99.0]
    counts = [0] * (len(BUCKETS_S) + 1)
    for value in seconds:
        one.durations.labels("r").observe(value)
        counts[next((index for index, bound in enumerate(BUCKETS_S) if value <= bound), len(BUCKETS_S))] += 1
    other.add_durations("r", counts, sum(seconds))
    strip = [line for line in one.scrape().splitlines() if b"duration" in line and b"_created" not in line]
    assert strip == [line for line in other.scrape().splitlines() if b"duration" in line and b"_created" not in line]
    with pytest.raises(ValueError, match="counts for"):
        other.add_durations("r", [1, 2], 1.0)


def test_requests_are_counted_by_route_method_and_status() -> None:
    """A method nobody allows is one label, not as many as a stranger likes."""
    metrics = Metrics()
    metrics.add_requests("/api/", "GET", 200, 41)
    metrics.add_requests("/api/", "GET", 200, 1)
    metrics.add_requests("", "BREW", 405, 1)
    metrics.set_in_flight(3, 17)
    metrics.observe_store("get", 0.002)
    assert b"bff_build_info{" in metrics.scrape()
    sample = metrics.registry.get_sample_value
    assert sample("bff_http_requests_total", {"route": "/api/", "method": "GET", "status": "200"}) == 42
    assert sample("bff_http_requests_total", {"route": "", "method": "other", "status": "405"}) == 1
    assert sample("bff_http_requests_in_flight") == 3
    assert sample("bff_http_connections") == 17
    assert sample("bff_store_duration_seconds_count", {"op": "get"}) == 1


def store_lines(metrics: Metrics) -> list[bytes]:
    return [line for line in metrics.scrape().splitlines() if b"bff_store_duration" in line and b"_created" not in line]


def test_gathered_store_calls_are_as_good_as_single_observations() -> None:
    """At each bound, beside it, and beyond them all."""
    gathered, single = Metrics(), Metrics()
    for seconds in (0.0, *BUCKETS_S, *(bound * 1.0001 for bound in BUCKETS_S), 99.0):
        for op in ("get", "touch"):
            gathered.observe_store(op, seconds)
            single.store.labels(op).observe(seconds)
    assert store_lines(gathered) == store_lines(single)
    gathered.observe_store("get", 0.5)
    single.store.labels("get").observe(0.5)
    assert store_lines(gathered) == store_lines(single), "what was handed on is not handed on again"


def test_store_calls_are_handed_on_at_each_turn_of_the_loop_that_is_observed() -> None:
    """Another process's scrape sees only what was handed on."""
    metrics = Metrics()
    count = ("bff_store_duration_seconds_count", {"op": "get"})
    metrics.observe_store("get", 0.002)
    metrics.observe_turn("worker", 0.1)
    assert metrics.registry.get_sample_value(*count) == 1
    metrics.observe_store("get", 0.002)
    metrics.observe_store("get", 0.002)
    assert metrics.registry.get_sample_value(*count) == 1
    metrics.observe_turn("worker", 0.3)
    assert metrics.registry.get_sample_value(*count) == 3
    lag = metrics.registry.get_sample_value
    assert lag("bff_event_loop_lag_seconds_count", {"process": "worker"}) == 2
    assert lag("bff_event_loop_lag_seconds_sum", {"process": "worker"}) == pytest.approx(0.4)
    assert lag("bff_event_loop_lag_seconds_count", {"process": "agent"}) == 0


WORKER = """
from bff.observe.metrics import Metrics
import sys
metrics = Metrics()
metrics.add_requests("/api/", "GET", 200, 2)
metrics.set_in_flight(5, 5)
metrics.add_durations("/api/", [1] * 14, 3.0)
if sys.argv[1:]:
    print(metrics.scrape().decode())
"""


def test_workers_numbers_are_summed_and_gauges_leave_with_their_worker(tmp_path: Path) -> None:
    """Multi-worker: any worker tells the whole; counters of the dead stay, their gauges do not."""
    environ = dict(os.environ)
    share_metrics(tmp_path / "m", environ)
    (tmp_path / "m" / "counter_1.db").write_bytes(b"")
    share_metrics(tmp_path / "m", environ)
    assert list((tmp_path / "m").iterdir()) == []
    assert environ[VARIABLE] == str(tmp_path / "m")
    first = subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=environ)
    assert first.wait(30) == 0
    forget_worker(first.pid, tmp_path / "m")
    told = subprocess.run(
        [sys.executable, "-c", WORKER, "scrape"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert 'bff_http_requests_total{method="GET",route="/api/",status="200"} 4.0' in told
    assert "bff_http_requests_in_flight 5.0" in told
    assert 'bff_http_request_duration_seconds_count{route="/api/"} 28.0' in told
    assert "bff_build_info{" in told
