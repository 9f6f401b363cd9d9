"""The numbers, under the names operators expect. Labels are closed sets: never a path, a subject or a session id.

With PROMETHEUS_MULTIPROC_DIR set (bff.observe.multiprocess) the counters are files that all processes add to, and any
one's ``scrape`` tells the sum; without it they are this process's own.
"""

from __future__ import annotations

import os
import platform
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bff import __version__
from bff.base.events import Event, EventKind
from bff.observe.multiprocess import VARIABLE

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
CONTENT_TYPE = CONTENT_TYPE_LATEST
_ELSEWHERE = "ended_elsewhere"
"""A process that learns of an end counts it no second time; nor is an event counted that sums up others (it has a count)."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration buckets; one more, without a bound, follows."""


class Metrics:
    """Every metric of the program. One per process; the hot path keeps plain integers and hands over deltas."""

    def __init__(self, *, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        own = self.registry
        self.requests = Counter("bff_http_requests", "Requests answered.", ["route", "method", "status"], registry=own)
        self.durations = Histogram(
            "bff_http_request_duration_seconds", "Head read to answer sent.", ["route"], registry=own, buckets=BUCKETS_S
        )
        self.in_flight = Gauge("bff_http_requests_in_flight", "Requests under way.", registry=own, multiprocess_mode="livesum")
        self.connections = Gauge("bff_http_connections", "Open browser connections.", registry=own, multiprocess_mode="livesum")
        self.logins = Counter("bff_logins", "Logins that came back.", ["result"], registry=own)
        self.sessions_started = Counter("bff_sessions_started", "Sessions begun.", registry=own)
        self.sessions_ended = Counter("bff_sessions_ended", "Sessions ended.", ["reason"], registry=own)
        self.refreshes = Counter("bff_token_refreshes", "Token refreshes at the provider.", ["result"], registry=own)
        self.refused = Counter("bff_refused", "Requests refused.", ["reason"], registry=own)
        self.events = Counter(
            "bff_security_events", "Security events by kind and whether they went well.", ["event", "outcome"], registry=own
        )
        self.lines_lost = Counter("bff_access_lines_lost", "Access lines that nobody was there to read.", registry=own)
        self.store = Histogram("bff_store_duration_seconds", "Calls to the session store.", ["op"], registry=own, buckets=BUCKETS_S)
        lag = Histogram(
            "bff_event_loop_lag_seconds", "How late the loop turned, four times a second.", ["process"], registry=own, buckets=BUCKETS_S
        )
        self._lags: Mapping[str, Histogram] = {process: lag.labels(process) for process in ("worker", "agent")}
        self._store_times: dict[str, _Times] = {}
        info = Gauge("bff_build_info", "Always 1; the labels say what runs.", ["version", "python"], registry=own, multiprocess_mode="max")
        info.labels(__version__, platform.python_version()).set(1)

    def add_requests(self, route: str, method: str, status: int, count: int) -> None:
        """``count`` more requests. ``route`` is a configured name, "" for what matched none."""
        self.requests.labels(route, method if method in _METHODS else "other", str(status)).inc(count)

    def add_durations(self, route: str, counts: Sequence[int], total_s: float) -> None:
        """Merge a delta: how many requests fell into each bucket of BUCKETS_S (and above), and their seconds in all."""
        add_to_histogram(self.durations.labels(route), counts, total_s)

    def set_in_flight(self, requests: int, connections: int) -> None:
        self.in_flight.set(requests)
        self.connections.set(connections)

    def observe_store(self, op: str, seconds: float) -> None:
        """One call to the store; ``op`` is the port's method name. Gathered until the next turn is observed: handed to the library one by
        one they were 3 % of a renewal."""
        times = self._store_times.get(op) or self._store_times.setdefault(op, _Times())
        times.counts[bisect_left(BUCKETS_S, seconds)] += 1
        times.total_s += seconds

    def observe_turn(self, process: Literal["worker", "agent"], late_s: float) -> None:
        """How late the loop turned, a few times a second."""
        self._lags[process].observe(late_s)
        self.hand_on()

    def hand_on(self) -> None:
        """Give the library what was gathered. For the end of a process, too: its numbers outlive it."""
        gathered, self._store_times = self._store_times, {}
        for op, times in gathered.items():
            add_to_histogram(self.store.labels(op), times.counts, times.total_s)

    def count_event(self, event: Event) -> None:
        """What a security event means in numbers."""
        went_well = "ok" if event.outcome == "ok" else "failed"
        self.events.labels(event.kind.value, went_well).inc()
        match event.kind:
            case EventKind.LOGIN_SUCCEEDED:
                self.logins.labels("ok").inc()
                self.sessions_started.inc()
            case EventKind.LOGIN_FAILED:
                self.logins.labels(_word(event.outcome)).inc()
            case EventKind.SESSION_ENDED if "count" not in event.fields and event.fields.get("reason") != _ELSEWHERE:
                self.sessions_ended.labels(_word(str(event.fields.get("reason", event.outcome)))).inc()
            case EventKind.TOKEN_REFRESHED:
                self.refreshes.labels("ok").inc()
            case EventKind.TOKEN_REFRESH_FAILED:
                self.refreshes.labels(_word(event.outcome)).inc()
            case EventKind.REQUEST_REFUSED:
                self.refused.labels(_word(event.outcome)).inc()

    def scrape(self) -> bytes:
        """The Prometheus text of all processes' numbers."""
        self.hand_on()
        if os.environ.get(VARIABLE):
            shared = CollectorRegistry()
            cast(Any, MultiProcessCollector)(shared)
            return generate_latest(shared)
        return generate_latest(self.registry)


class _Times:
    """Calls that took so long: how many in each bucket, and their seconds in all."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0


def add_to_histogram(child: Histogram, counts: Sequence[int], total_s: float) -> None:
    """Add many observations at once. The library only knows ``observe``, one at a time and 0.75 us each; these two fields
    are what ``observe`` itself writes to, and a test holds them to that."""
    inside = cast(Any, child)
    if len(counts) != len(inside._buckets):
        raise ValueError(f"{len(counts)} counts for {len(inside._buckets)} buckets")
    inside._sum.inc(total_s)
    for bucket, count in zip(inside._buckets, counts, strict=True):
        if count:
            bucket.inc(count)


def _word(outcome: str) -> str:
    """A label from a stable code; anything else would let a stranger make labels."""
    return outcome if outcome.isascii() and outcome.replace("_", "").isalnum() and len(outcome) <= 40 else "other"
