"""The second memory: how requests go whose *judged* lines are the same, whatever else they say.

A verdict and the outbound head depend on the method, the route, the connection and the header lines that mean something to
us (bff.proxy.lines gives those a place). The rest - path and query below the route's prefix, lines that an API may see and we
don't read, the trace - changes from request to request in what browsers and front proxies really send, and misses
``HeadMemo``. So each of these requests is read line by line under the same grammar, llhttp sees every byte of it, and what
it may forward is its own; only the judgement and our own lines come from the pattern. What may have changed since is
compared on every use, as for a plan. (Measured: 6 us for a head of 6 lines, 8 for one of 16; 25 and more in full, and the
garbage of it: a never-seen request costs 0.030 CPU-ms against 0.080.)

A pattern is kept only if it gives, for the request it was learnt from, the very head that the full way gave. A head that comes a
second time gets a place in ``HeadMemo``, with the pattern it went by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bff.policy.facts import Facts
from bff.policy.routes import Route
from bff.policy.verdict import Admitted, Refusal, Target, build_admitted
from bff.proxy.edge import Edge
from bff.proxy.head import MAX_LINES, HeadReader
from bff.proxy.lane import Glimpse
from bff.proxy.lines import REQUEST_ID, TRACEPARENT
from bff.proxy.memo import MAX_KEPT_HEAD_BYTES, HeadMemo, Kept, Plan, credential_in, share
from bff.proxy.path import read_start

Key = tuple[str | bytes, ...]

MAX_ROADS = 512
MAX_ROAD_BYTES = 1024
MAX_SHARED = 256
MAX_SHARED_BYTES = 2048
PATTERN_WEIGHT = 640
"""What a pattern weighs besides the bytes of its own: those that no other pattern has (measured)."""

NOBODY: Final = Facts("GET", "/", None, "", ())
"""Whose facts a pattern holds: it is for many requests, and weighs half without those of the one it was learnt from."""


class Pattern(Plan):
    """A plan for many requests: it has no verdict and no head of any one of them, and of the credential all but the value, which
    ``end`` holds.

    An outbound head is ``start``, what follows the route's prefix in the request line, ``host``, the passing lines, ``tail``,
    a request id and ``end``. ``weight`` in bytes.
    """

    __slots__ = ("client_ip", "credential", "end", "host", "needs_no_slash", "start", "tail", "weight")

    def __init__(self, plan: Plan, admitted: Admitted, start: bytes, host: bytes, tail: bytes) -> None:
        super().__init__(admitted, plan.edge, plan.origin, (b"", b""), plan.lane, plan.seat)
        self.admitted = None
        self.replies = plan.replies
        self.seen = NOBODY
        self.credential, self.end = share(admitted, plan.head[1])
        self.start = start
        self.host = host
        self.tail = tail
        self.client_ip = admitted.facts.client_ip
        self.needs_no_slash = start.endswith(b"/")
        self.weight = 0

    def verdict_on(self, facts: Facts, target: Target) -> Admitted:
        """The verdict on one of its requests."""
        return build_admitted(
            facts=facts,
            route=self.route,
            target=target,
            live=self.live,
            judged=self.judged,
            credential=credential_in(self.end, self.credential),
            valid_until=self.valid_until,
        )


@dataclass(slots=True)
class Road:
    """Where a request line leads: ``kind`` names method and route, ``rest`` is the line from the end of the route's prefix on."""

    kind: str
    method: str
    path: str
    route: Route
    rest: bytes


Alike = tuple[Pattern, bytes, bytes, Glimpse]
"""A request like an earlier one: its pattern, its own outbound head before and after the request id, what the log tells of it."""


class Shared:
    """The same bytes only once: browsers send the same lines for everybody. Owner: the patterns. Bound: 256 of at most 2 KiB,
    emptied when full; what it gave out stays with those who hold it."""

    __slots__ = ("_known", "fresh")

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}
        self.fresh = 0

    def one(self, text: bytes) -> bytes:
        """``text``, as somebody holds it already. ``fresh`` counts the bytes that nobody held."""
        known = self._known.get(text)
        if known is not None:
            return known
        self.fresh += len(text)
        if len(text) <= MAX_SHARED_BYTES:
            if len(self._known) >= MAX_SHARED:
                self._known.clear()
            self._known[text] = text
        return text

    def forget(self) -> None:
        self._known.clear()


class Patterns:
    """Owner: the door house. Bounds: entries and bytes of patterns (``Kept``); request lines, emptied when full."""

    def __init__(self, *, reader: HeadReader, memo: HeadMemo, match: Callable[[str], Route | None], entries: int, total_bytes: int) -> None:
        self._reader = reader
        self._memo = memo
        self._match = match
        self.kept: Kept[Key, Pattern] = Kept(entries=entries, total_bytes=total_bytes, weigh=_weigh, let_go=_let_go)
        self._roads: dict[bytes, Road] = {}
        self._shared = Shared()

    def forget(self) -> None:
        self.kept.forget()
        self._roads.clear()
        self._shared.forget()

    def find(self, block: bytes, edge: Edge) -> Alike | None:
        """The way of a head that differs from a judged one only where the judgement doesn't look. None: read it in full."""
        scanned = self._scan(block, edge)
        if scanned is None:
            return None
        road, key, lines, trace = scanned
        pattern = self.kept.find(key)
        if pattern is None or pattern.edge is not edge or pattern.route is not road.route:
            return None
        if (pattern.needs_no_slash and road.rest[:1] == b"/") or not self._reader.ends(block):
            return None
        lines[0] = pattern.start + road.rest
        lines[1] = pattern.host
        lines.append(pattern.tail)
        alike = pattern, b"\r\n".join(lines), pattern.end, Glimpse(road.method, road.path, pattern.client_ip, trace)
        if self._memo.came_before(block):
            self._memo.keep(block, alike)
        return alike

    def learn(self, block: bytes, plan: Plan, admitted: Admitted) -> bool:
        """Keep what is general in an admitted request without a body. The caller vouches that it may be kept at all. False: nothing
        is, and the whole plan may be worth keeping."""
        facts, target = admitted.facts, admitted.target
        scanned = self._scan(block, plan.edge)
        if scanned is None or target is None or facts.connection:
            return False
        road, key, lines, _ = scanned
        start = f"{facts.method} {target.upstream.base_path}".encode("ascii")
        host = f"Host: {target.upstream.authority}".encode("ascii")
        lines[:2] = start + road.rest, host
        own = b"\r\n".join(lines) + b"\r\n"
        head = plan.head[0]
        if road.route is not admitted.route or not head.startswith(own):
            return False
        if self.kept.admits(key):
            self._keep(key, plan, admitted, start, host, head[len(own) :])
        return True

    def _keep(self, key: Key, plan: Plan, admitted: Admitted, start: bytes, host: bytes, tail: bytes) -> None:
        shared = self._shared
        shared.fresh = 0
        one = shared.one
        lines = tuple(part if isinstance(part, str) or part[:7].lower() == b"cookie:" else one(part) for part in key)
        own = sum(len(part) for part in lines if not isinstance(part, str) and part[:7].lower() == b"cookie:")
        pattern = Pattern(plan, admitted, one(start), one(host), one(tail))
        if pattern.end is plan.head[1]:
            pattern.end = one(pattern.end)
        pattern.weight = PATTERN_WEIGHT + own + shared.fresh
        self.kept.put(lines, pattern)

    def _scan(self, block: bytes, edge: Edge) -> tuple[Road, Key, list[bytes], str | None] | None:
        """One walk over the lines: (road, key, [two free places, passing lines ...], trace). None for anything unusual,
        and for everything that the full way refuses while reading."""
        if len(block) > MAX_KEPT_HEAD_BYTES or not block.endswith(b"\r\n\r\n"):
            return None
        lines = block[:-4].split(b"\r\n")
        road = self._roads.get(lines[0]) or self._find_road(lines[0])
        if road is None or len(lines) > MAX_LINES + 1:
            return None
        del lines[0]
        judged: list[str | bytes] = [road.kind]
        passing = [b"", b""]
        trace: str | None = None
        named = edge.peer_trusted
        memo = self._reader.lines
        known = memo.young.get
        for line, entry in zip(lines, map(known, lines), strict=True):
            if entry is None:
                found = memo.find(line)
                if isinstance(found, Refusal):
                    return None
                entry = found
            _, place, meaning, passes = entry
            if place:
                if place == TRACEPARENT:
                    if trace is not None or not meaning:
                        return None
                    trace = meaning
                elif place == REQUEST_ID and not named:
                    named = True  # ours goes out instead; a second one is refused, so it must count as judged
                else:
                    judged.append(line)
            if passes is not None:
                passing.append(passes)
        return road, tuple(judged), passing, trace

    def _find_road(self, line: bytes) -> Road | None:
        start = read_start(line)
        if isinstance(start, Refusal) or start.http_10 or start.encoded_slash or start.method == "OPTIONS":
            return None
        route = self._match(start.path)
        if route is None or (route.upstream is None and not route.by_claim) or not start.path.startswith(route.path):
            return None
        rest = line[len(start.method) + 1 + len(route.path) :]
        road = Road(f"{start.method} {route.name}", start.method, start.path, route, rest)
        if len(line) <= MAX_ROAD_BYTES:
            if len(self._roads) >= MAX_ROADS:
                self._roads.clear()
            self._roads[line] = road
        return road


def _weigh(key: Key, pattern: Pattern) -> int:
    return pattern.weight


def _let_go(pattern: Pattern) -> None:
    pattern.gone = True
