"""The second memory: how requests go whose *judged* lines are the same, whatever else they say.

A verdict and the outbound head depend on the method, the route, the connection and the header lines that mean something to
us (bff.proxy.lines gives those a place); of the cookies on those whose names begin as ours do, of the body on whether there is one.
The rest - path and query below the route's prefix, lines that an API may see and we don't read, other cookies, the length of a body,
the trace, a front proxy's request id - changes from request to request in what browsers and front proxies really send, and misses
``HeadMemo``. So each of these requests is read line by line under the same grammar, llhttp sees every byte of its head, and what
it may forward is its own; only the judgement and our own lines come from the pattern. What may have changed since is compared on
every use, as for a plan. (Measured: a request with another trace, request id or other cookies each time costs a third of one that
is judged in full.)

Where only the request line and the trace are new there is a shorter way to the same (bff.proxy.sections). A pattern is kept only if
it gives, for the request it was learnt from, the very head that the full way gave. A head that comes a second time gets a place in
``HeadMemo``, with the pattern it went by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bff.policy.facts import Facts
from bff.policy.routes import Route
from bff.policy.verdict import Admitted, Refusal, Target, build_admitted
from bff.proxy.edge import Edge
from bff.proxy.head import MAX_LINES, HeadReader, may_name
from bff.proxy.headers import HeaderRules, outbound_cookies, split_at_id
from bff.proxy.lane import Glimpse
from bff.proxy.lines import CONTENT_LENGTH, COOKIE, REQUEST_ID, TRACEPARENT, Jar
from bff.proxy.memo import MAX_KEPT_HEAD_BYTES, HeadMemo, Kept, Plan, Shared, authorization_in, held_end
from bff.proxy.path import read_start
from bff.proxy.sections import Sections, cut_trace
from bff.session.model import Credential, Live

Key = tuple[str | bytes, ...]

UPLOAD: Final = b"a body"
NAMED: Final = b"a name"
"""In a key, for the Content-Length of a body and for a request id that goes out as it came: a line always has a colon."""

MAX_ROADS = 512
MAX_ROAD_BYTES = 1024
PATTERN_WEIGHT = 640
"""What a pattern weighs besides the bytes of its own: those that no other pattern has (measured)."""

NO_SCOPES: Final[frozenset[str]] = frozenset()
NOBODY: Final = Facts("GET", "/", None, "", ())
"""Whose facts a pattern holds: it is for many requests, and weighs half without those of the one it was learnt from."""


class Pattern(Plan):
    """A plan for many requests: it has no verdict and no head of any one of them, and of the credential all but the value, which
    ``end`` holds.

    An outbound head is ``start``, what follows the route's prefix in the request line, ``host``, the passing lines, ``tail``,
    a request id and ``end``; with a body, its length takes the place of the empty line that ``end`` ends with. ``shares_end``: with
    the session. ``weight`` in bytes.
    """

    __slots__ = ("audience", "client_ip", "fresh_until", "host", "needs_no_slash", "scopes", "shares_end", "start", "weight")

    def __init__(self, plan: Plan, admitted: Admitted, start: bytes, host: bytes, tail: bytes, end: bytes) -> None:
        super().__init__(admitted, plan.edge, plan.origin, (b"", b""), plan.lane, plan.seat)
        self.admitted = None
        self.replies = plan.replies
        self.seen = NOBODY
        self.end = held_end(admitted, end)
        self.shares_end = self.end is not end
        credential = admitted.credential
        self.fresh_until = None if credential is None else credential.fresh_until
        self.audience, self.scopes = ("", NO_SCOPES) if credential is None else (credential.audience, credential.scopes)
        self.start = start
        self.host = host
        self.tail = tail
        self.client_ip = admitted.facts.client_ip
        self.needs_no_slash = start.endswith(b"/")
        self.weight = 0

    @property
    def credential(self) -> Credential | None:
        if self.fresh_until is None:
            return None
        return Credential(authorization_in(self.end), self.fresh_until, self.audience, self.scopes)

    def verdict_on(self, facts: Facts, target: Target) -> Admitted:
        """The verdict on one of its requests."""
        return build_admitted(
            facts=facts,
            route=self.route,
            target=target,
            live=self.live,
            judged=self.judged,
            credential=self.credential,
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


Alike = tuple[Pattern, bytes, bytes, Glimpse, int]
"""A request like an earlier one, as ``Ready``."""


class Patterns:
    """Owner: the door house. Bounds: entries and bytes of patterns (``Kept``) and of sections; request lines, emptied when full."""

    def __init__(
        self,
        *,
        reader: HeadReader,
        rules: HeaderRules,
        memo: HeadMemo,
        match: Callable[[str], Route | None],
        entries: int,
        total_bytes: int,
    ) -> None:
        self._reader = reader
        self._rules = rules
        self._memo = memo
        self._match = match
        self.kept: Kept[Key, Pattern] = Kept(entries=entries, total_bytes=total_bytes, weigh=_weigh, let_go=_let_go)
        self._roads: dict[bytes, Road] = {}
        self._shared = Shared()
        self.sections = Sections()

    def forget(self) -> None:
        self.kept.forget()
        self._roads.clear()
        self._shared.forget()
        self.sections.forget()

    def drop_stale(self, now: float, believes: Callable[[Live], bool]) -> Iterator[int]:
        """Drop the patterns that ended, and what goes by them, in shares."""
        yield from self.kept.sweep(lambda pattern: pattern.stale_at(now, believes))
        yield from self.sections.sweep(lambda section: section.pattern.gone)

    def find(self, block: bytes, edge: Edge) -> Alike | None:
        """The way of a head that differs from a judged one only where the judgement doesn't look. None: read it in full."""
        if len(block) > MAX_KEPT_HEAD_BYTES:
            return None
        at = block.find(b"\r\n")
        line = block[:at]
        road = self._roads.get(line) or self._find_road(line)
        if road is None:
            return None
        fields, trace = cut_trace(block[at:])
        section = self.sections.find((road.kind, fields))
        if section is None or section.traced is (trace is None):
            return self._find_by_lines(block, edge, road, fields)
        pattern = section.pattern
        if pattern.edge is not edge or not self._fits(pattern, road, section.body_length, block):
            return None
        before = pattern.start + road.rest + section.before
        if trace is not None:
            before += trace + section.between
        seen = Glimpse(road.method, road.path, pattern.client_ip, None if trace is None else trace.decode(), section.body_length, "")
        return self._found(block, (pattern, before, section.end, seen, 0))

    def _find_by_lines(self, block: bytes, edge: Edge, road: Road, fields: bytes) -> Alike | None:
        scanned = self._scan(block, edge, road)
        if scanned is None:
            return None
        key, lines, trace, jar, length, name = scanned
        pattern = self.kept.find(key)
        if pattern is None or pattern.edge is not edge or not self._fits(pattern, road, length, block):
            return None
        lines[0] = pattern.start + road.rest
        lines[1] = pattern.host
        if jar is not None and (sent := self._sent(jar, road.route)):
            lines.append(sent)
        lines.append(b"")
        end = b"%bContent-Length: %d\r\n\r\n" % (pattern.end[:-2], length) if length else pattern.end
        alike = pattern, b"\r\n".join(lines), end, Glimpse(road.method, road.path, pattern.client_ip, trace, length, name), 0
        self.sections.meet((road.kind, fields), alike, len(lines[0]))
        return self._found(block, alike)

    def _fits(self, pattern: Pattern, road: Road, length: int, block: bytes) -> bool:
        """What remains to be asked of a head whose lines are like the pattern's."""
        if pattern.route is not road.route or (pattern.needs_no_slash and road.rest[:1] == b"/"):
            return False
        if length:
            return length <= road.route.limits.body_bytes and self._reader.begins(block)
        return self._reader.ends(block)

    def _found(self, block: bytes, alike: Alike) -> Alike:
        """Traced requests and those with names are not worth remembering: no two are the same."""
        if alike[3].traceparent is None and not alike[3].request_id and self._memo.came_before(block):
            self._memo.keep(block, alike)
        return alike

    def learn(self, block: bytes, plan: Plan, admitted: Admitted) -> bool:
        """Keep what is general in an admitted request. The caller vouches that it may be kept at all. False: nothing is, and the whole
        plan may be worth keeping."""
        facts, target = admitted.facts, admitted.target
        line = block[: block.find(b"\r\n")]
        road = self._roads.get(line) or self._find_road(line)
        scanned = self._scan(block, plan.edge, road) if road is not None else None
        if scanned is None or road is None or target is None or facts.connection:
            return False
        key, lines, _, jar, length, name = scanned
        start = f"{facts.method} {target.upstream.base_path}".encode("ascii")
        host = f"Host: {target.upstream.authority}".encode("ascii")
        lines[:2] = start + road.rest, host
        if jar is not None and (sent := self._sent(jar, road.route)):
            lines.append(sent)
        own = b"\r\n".join(lines) + b"\r\n"
        head, end = split_at_id(plan.head[0], name) if name else plan.head
        framing = b"Content-Length: %d\r\n\r\n" % length if length else b"\r\n"
        if road.route is not admitted.route or not head.startswith(own) or not end.endswith(framing):
            return False
        if self.kept.admits(key):
            pattern = Pattern(plan, admitted, start, host, head[len(own) :], end[: -len(framing)] + b"\r\n" if length else end)
            pattern.named = bool(name)
            self._keep(key, pattern)
        return True

    def _sent(self, jar: Jar, route: Route) -> bytes:
        """The Cookie line that an API sees of these cookies, worked out once for a line that comes again."""
        if jar.route is not route:
            jar.route, jar.sent = route, outbound_cookies(jar.pairs, route, self._rules)
        return jar.sent

    def _keep(self, key: Key, pattern: Pattern) -> None:
        shared = self._shared
        shared.fresh = 0
        one = shared.one
        held = "" if pattern.live is None else pattern.live.cookie
        lines: Key = tuple([held if part == held else one(part) for part in key])
        pattern.start, pattern.host, pattern.tail = one(pattern.start), one(pattern.host), one(pattern.tail)
        if not pattern.shares_end:
            pattern.end = one(pattern.end)
        pattern.weight = PATTERN_WEIGHT + shared.fresh
        self.kept.put(lines, pattern)

    def _scan(self, block: bytes, edge: Edge, road: Road) -> tuple[Key, list[bytes], str | None, Jar | None, int, str] | None:
        """One walk over the lines: (key, [two free places, passing lines ...], trace, cookies, length of the body, request id if it
        came with one that we take over). None for anything unusual, and for everything that the full way refuses while reading."""
        if len(block) > MAX_KEPT_HEAD_BYTES or not block.endswith(b"\r\n\r\n"):
            return None
        lines = block[:-4].split(b"\r\n")
        if len(lines) > MAX_LINES + 1:
            return None
        del lines[0]
        judged: list[str | bytes] = [road.kind]
        passing = [b"", b""]
        trace: str | None = None
        jar: Jar | None = None
        length = -1
        name = None
        memo = self._reader.lines
        known = memo.young.get
        for line, entry in zip(lines, map(known, lines), strict=True):
            if entry is None:
                found = memo.meet(line)
                if isinstance(found, Refusal):
                    return None
                entry = found
            _, place, meaning, passes = entry
            if place:
                if place == COOKIE:
                    if jar is not None:
                        return None
                    jar = meaning
                    judged += meaning.ours
                elif place == TRACEPARENT:
                    if trace is not None or not meaning:
                        return None
                    trace = meaning
                elif place == CONTENT_LENGTH:
                    if length >= 0:
                        return None
                    length = meaning
                    judged.append(UPLOAD if length else line)
                elif place == REQUEST_ID:
                    if name is not None:
                        return None
                    name = meaning if edge.peer_trusted and may_name(meaning) else ""  # ours goes out instead
                    if name:
                        judged.append(NAMED)
                else:
                    judged.append(line)
            if passes is not None:
                passing.append(passes)
        return tuple(judged), passing, trace, jar, max(length, 0), name or ""

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
