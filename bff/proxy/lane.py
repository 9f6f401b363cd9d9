"""What a worker counts while it forwards: per route (Lane), per session (Seat), and one record for each request.

Plain integers and lists: a request costs a few additions here, and the house's tick hands the totals to the metrics
and the access log a few times a second. Nothing here decides anything but the two concurrency bounds (BODY-9).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bff.policy.facts import Facts
from bff.policy.routes import Route

if TYPE_CHECKING:
    from bff.proxy.memo import Way


@dataclass(slots=True)
class Glimpse:
    """What is known of a request that was let through by a pattern. The same names as in ``Facts``; ``request_id`` is "" unless a
    trusted peer has given it one."""

    method: str
    path: str
    client_ip: str
    traceparent: str | None
    body_length: int
    request_id: str


LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper edges of the latency histogram; one more bucket takes what is slower."""

AccessRecord = tuple[float, bytes, Facts | Glimpse | None, str, bytes, int, int, int, float, str]
"""(ended_at epoch seconds, request id, facts, route name, session key, status, body bytes received, body bytes sent,
seconds, outcome). Status 0: the client left before an answer. Outcome: ``ok``, ``aborted`` or a refusal's code.
The facts hold cookies and queries: whoever formats a record chooses fields, never prints them whole (PRIV-1)."""


class Lane:
    """The running state of one route. ``by_class[n]`` counts answers of status n00; ``buckets`` follow LATENCY_BOUNDS_S.

    ``ways`` are by the identity of the upstream, which each of them holds: an Upstream is dear to hash.
    """

    __slots__ = (
        "active",
        "buckets",
        "by_class",
        "limit",
        "name",
        "received",
        "route",
        "seconds",
        "sent",
        "session_limit",
        "ways",
    )

    def __init__(self, route: Route) -> None:
        self.name = route.name
        self.active = 0
        self.by_class = [0] * 6
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.ways: dict[int, Way] = {}
        self.adopt(route)

    def adopt(self, route: Route) -> None:
        """The bounds of a route that was configured anew."""
        self.route = route
        self.limit = route.limits.concurrent
        self.session_limit = route.limits.concurrent_per_session
        self.ways.clear()

    def count(self, status: int, seconds: float, received: int, sent: int) -> None:
        self.by_class[status // 100 if status < 600 else 5] += 1
        self.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.seconds += seconds
        self.received += received
        self.sent += sent

    def forget(self) -> None:
        """Drop the remembered answers: their framing of this connection, our key names or the configuration changed."""
        self.ways.clear()


class Seat:
    """How many requests one session has in the house right now."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = 0
