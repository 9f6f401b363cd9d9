"""From the door's plain integers to metrics and access log: called by the door's tick, never by a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from bff.observe.access import AccessLog, count_requests
from bff.observe.metrics import Metrics
from bff.proxy.lane import AccessRecord, Lane


def nobody() -> tuple[int, int]:
    return 0, 0


class Tally:
    """Remembers what it has passed on already; a lane's counters only grow. Bound: one entry per route."""

    def __init__(self, *, metrics: Metrics, access: AccessLog | None) -> None:
        self._metrics = metrics
        self._access = access
        self._passed_on: dict[Lane, tuple[list[int], float]] = {}
        self._lost = 0
        self._gathered: Counter[tuple[str, str, int]] = Counter()
        self.count_connections: Callable[[], tuple[int, int]] = nobody

    def take(self, records: Sequence[AccessRecord], lanes: Sequence[Lane] | None) -> None:
        """Write some records; with ``lanes`` (all of them) tell the metrics what has gathered."""
        self._gathered.update(count_requests(records))
        if self._access is not None:
            self._access.write(records)
        if lanes is not None:
            self._tell(lanes)

    def _tell(self, lanes: Sequence[Lane]) -> None:
        gathered, self._gathered = self._gathered, Counter()
        for (route, method, status), count in gathered.items():
            self._metrics.add_requests(route, method, status, count)
        if self._access is not None and self._access.lost > self._lost:
            self._metrics.lines_lost.inc(self._access.lost - self._lost)
            self._lost = self._access.lost
        for lane in lanes:
            self._pass_on(lane)
        self._metrics.set_in_flight(*self.count_connections())
        self._passed_on = {lane: seen for lane, seen in self._passed_on.items() if lane in lanes}

    def _pass_on(self, lane: Lane) -> None:
        counts, seconds = self._passed_on.get(lane, ([0] * len(lane.buckets), 0.0))
        if lane.buckets == counts:
            return
        delta = [now - before for now, before in zip(lane.buckets, counts, strict=True)]
        self._metrics.add_durations(lane.name, delta, lane.seconds - seconds)
        self._passed_on[lane] = (list(lane.buckets), lane.seconds)
