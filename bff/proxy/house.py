"""What all doors of a worker share: options, memory, pools, counters, and the tick that watches every deadline."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bff.base.clock import Clock
from bff.policy.facts import Facts
from bff.policy.handoff import Handoff
from bff.policy.routes import Route, Upstream
from bff.policy.target import aim
from bff.policy.verdict import Admitted, Refusal, Verdict
from bff.proxy.accounts import SHARE, Accounts, Sink, no_sink
from bff.proxy.answer import Calendar, refusal_bytes
from bff.proxy.crowd import Crowd
from bff.proxy.door import Door
from bff.proxy.drain import end_what_may
from bff.proxy.edge import Edge, Network
from bff.proxy.head import HeadReader
from bff.proxy.headers import HeaderRules, agent_head, outbound_head, split_at_id
from bff.proxy.lane import Lane, Seat
from bff.proxy.memo import HeadMemo, Plan, Ready, Way
from bff.proxy.patterns import Pattern, Patterns
from bff.proxy.renewal import Renewer
from bff.proxy.upstream import UpstreamPool
from bff.session.model import Live

log = logging.getLogger("bff.proxy")

TICK_S = 0.25
LOOK_S, NEXT_LOOK_S = 0.0002, 0.002
LOOKED_AT_AT_ONCE = 256
MAX_EDGES = 4096
MAX_SEATS = 16_384


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """Bounds of the door, seconds and bytes. 0 connections for one address (IPv6: one /64) means no such bound.

    ``head_s`` from the first to the last byte of a head; ``idle_s`` between requests; ``body_s`` between pieces of a body;
    ``stall_s`` without the other side taking a byte; ``linger_*`` what is read and thrown away after the last answer.
    """

    hosts: frozenset[str]
    tls: bool = False
    trusted: tuple[Network, ...] = ()
    https: bool = False
    prefix: str = "/bff"
    clear_cookies: tuple[str, ...] = ()
    connections: int = 20_000
    connections_per_address: int = 0
    head_s: float = 10.0
    idle_s: float = 75.0
    body_s: float = 30.0
    stall_s: float = 90.0
    linger_s: float = 2.0
    linger_bytes: int = 32 * 1024 * 1024
    ping_s: float = 20.0
    memo_entries: int = 8192
    memo_bytes: int = 5 * 1024 * 1024
    pattern_bytes: int = 5 * 1024 * 1024


class Judge(Protocol):
    """The gatekeeper, as the door sees it."""

    def match(self, path: str) -> Route | None: ...
    def judge_now(self, facts: Facts) -> Verdict | None: ...

    async def judge(self, facts: Facts) -> Verdict: ...


class Asked(Protocol):
    """Forward-auth, as the door sees it: True if the head is a front proxy's question, which it then answers on this door."""

    def take(self, door: Door, block: bytes) -> bool: ...
    def forget(self) -> None: ...


async def nothing_to_hear(live: Live | None) -> None:
    """For those whose agent changes nothing elsewhere."""


def always(live: Live) -> bool:
    """For those whose sessions end only here."""
    return True


class DoorHouse:
    """Builds a ``Door`` for each connection (it is the protocol factory) and owns what they share.

    ``believes`` says whether a session in memory may still be believed (the store would have told of its end). The tick
    drops the plans of those that may not be, so that their next request asks the gatekeeper, which asks the store (F36).
    ``touch`` is called with a Live on each use of an activity route. ``hear`` is awaited after an answer of the agent's that may
    have changed sessions, before the browser sees it: once it knows, so do we.
    """

    def __init__(
        self,
        *,
        gatekeeper: Judge,
        pool: UpstreamPool,
        handoff: Handoff,
        desk: Renewer,
        rules: HeaderRules,
        options: DoorOptions,
        clock: Clock,
        csrf_header: str = "x-csrf",
        touch: Callable[[Live], None] = lambda live: None,
        believes: Callable[[Live], bool] = always,
        hear: Callable[[Live | None], Awaitable[None]] = nothing_to_hear,
        sink: Sink = no_sink,
        asked: Asked | None = None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self.pool = pool
        self.turns = pool.turns
        self.handoff = handoff
        self.desk = desk
        self.rules = rules
        self.options = options
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.coarse = clock.monotonic()
        self.reader = HeadReader(csrf_header=csrf_header, own_cookies=rules.own_prefix)
        self.memo = HeadMemo(entries=options.memo_entries, total_bytes=options.memo_bytes)
        self.patterns = Patterns(
            reader=self.reader,
            rules=rules,
            memo=self.memo,
            match=gatekeeper.match,
            entries=options.memo_entries,
            total_bytes=options.pattern_bytes,
        )
        self.find_ready = self.memo.find
        self.find_alike = self.patterns.find
        self.keeps_alive = True
        self.epoch = 0
        self.id_prefix = secrets.token_hex(4).encode() + b"-"
        self.ids = 0
        self.accounts = Accounts(sink=sink, clock=clock, match=gatekeeper.match)
        self.ended = self.accounts.ended
        self.crowd = Crowd(limit=options.connections, per_address=options.connections_per_address)
        self.doors = self.crowd.doors
        self.lanes: dict[str, Lane] = {}
        self.refused_unread: dict[str, int] = {}
        self.asked = asked
        self.hear = hear
        self._touch = touch
        self._believes = believes
        self._calendar = Calendar()
        self._edges: dict[str, Edge] = {}
        self._seats: dict[bytes, Seat] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looking = self._look()

    def __call__(self) -> Door:
        return Door(self)

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick, on the running loop."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)
            self.accounts.start()

    def stop(self) -> None:
        """Stop ticking, cut what is left, hand over the last records."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for door in list(self.doors):
            door.leave()
        self.pool.close()
        self.accounts.stop(list(self.lanes.values()))

    def begin_drain(self) -> None:
        """From now on answers say ``Connection: close`` (F47, OPS-6). ``drain`` goes on from here."""
        self.keeps_alive = False
        self.forget()
        self.drain()

    def drain(self) -> int:
        """End what may end now; how many connections are left. Call until 0."""
        return end_what_may(self.doors, self.monotonic())

    def forget(self) -> None:
        """Drop every memo: keys or routes were replaced. ``epoch`` counts how often."""
        self.epoch += 1
        self.memo.forget()
        self.patterns.forget()
        self.reader.forget()
        if self.asked is not None:
            self.asked.forget()
        for lane in self.lanes.values():
            lane.forget()

    @property
    def active(self) -> int:
        """Exchanges and tunnels in progress; 0 means drained."""
        return sum(1 for door in self.doors if door.exchange is not None)

    # -- connections ------------------------------------------------------------------------------------------------

    def edge_of(self, transport: asyncio.Transport) -> Edge:
        peer = transport.get_extra_info("peername")
        ip = peer[0].removeprefix("::ffff:").partition("%")[0] if isinstance(peer, tuple) and peer else ""
        edge = self._edges.get(ip)
        if edge is None:
            if len(self._edges) >= MAX_EDGES:
                self._edges.clear()
            options = self.options
            edge = Edge(peer_ip=ip, tls=options.tls, trusted=options.trusted, hosts=options.hosts, via=self.rules.via)
            self._edges[ip] = edge
        return edge

    # -- requests ---------------------------------------------------------------------------------------------------

    def next_id(self) -> bytes:
        self.ids += 1
        return b"%b%x" % (self.id_prefix, self.ids)

    def touch(self, plan: Plan) -> None:
        if plan.touches and plan.live is not None:
            self._touch(plan.live)

    def plan(self, admitted: Admitted, edge: Edge) -> Plan:
        """Make an admitted request ready to send."""
        facts, target = admitted.facts, admitted.target
        key = b""
        if target is None:
            head = agent_head(admitted, handoff=self.handoff.write(admitted))
        else:
            key = base64.b64encode(os.urandom(16)) if facts.websocket else b""
            head = outbound_head(admitted, rules=self.rules, websocket_key=key)
        lane = self._lane(admitted.route)
        way = self._way(lane, None if target is None else target.upstream)
        plan = Plan(admitted, edge, way.origin, _split(head, facts, edge), lane, self._seat(admitted))
        plan.websocket_key = key
        if target is not None and plan.keep_alive and not facts.websocket and not admitted.set_cookies:
            plan.replies = way.bodiless if facts.method == "HEAD" else way.replies
        return plan

    def account(self, admitted: Admitted, edge: Edge) -> Plan:
        """A plan that is never sent: the front proxy that asked forwards the request itself. For metrics and access log."""
        lane = self._lane(admitted.route)
        way = self._way(lane, None if admitted.target is None else admitted.target.upstream)
        return Plan(admitted, edge, way.origin, (b"", b""), lane, Seat())

    def remember(self, block: bytes, plan: Plan) -> None:
        """Keep a plan for the same bytes to come, if using it again is safe: an API's, with a body of known length or none."""
        admitted = plan.admitted
        if self.keeps_alive and plan.replies is not None and admitted is not None and not admitted.facts.chunked:
            if self.patterns.learn(block, plan, admitted):
                self.memo.drop(block)  # what went by an older pattern; it comes again by the new one, and then it gets a place
                self.memo.came_before(block)
            elif plan.head[1] and (self.memo.has_room or self.memo.came_before(block)):
                self.memo.keep(block, (plan, *plan.head, admitted.facts, 0))

    def look_up(self, block: bytes, edge: Edge) -> Ready | None:
        """What to send for a head that was judged before, or that is like one that was. The caller asks whether that is still good."""
        ready = self.memo.find(block)
        return ready if ready is not None and ready[0].edge is edge else self.patterns.find(block, edge)

    def settle(self, pattern: Pattern, block: bytes) -> Plan:
        """The plan of one request that ``pattern`` let through, as the full way would have made it, but for the head: that is sent.

        RuntimeError if it would not have passed there, which can't be: the same lines were read and found the same.
        """
        facts = self.reader.read(block, pattern.edge)
        target = facts if isinstance(facts, Refusal) else aim(pattern.route, pattern.judged, facts)
        if isinstance(facts, Refusal) or isinstance(target, Refusal):
            raise RuntimeError("a pattern let through what is refused in full")
        plan = Plan(pattern.verdict_on(facts, target), pattern.edge, pattern.origin, (b"", b""), pattern.lane, pattern.seat)
        plan.replies = pattern.replies
        return plan

    def _lane(self, route: Route) -> Lane:
        """The running state of a route. Counters outlive a reload of the routes; the bounds are always the newest."""
        lane = self.lanes.get(route.name)
        if lane is None:
            lane = self.lanes[route.name] = Lane(route)
        elif lane.route is not route:
            lane.adopt(route)
        return lane

    def _way(self, lane: Lane, upstream: Upstream | None) -> Way:
        way = lane.ways.get(id(upstream))
        if way is None:
            way = lane.ways[id(upstream)] = Way(upstream, self.pool.origin(upstream))
        return way

    def _seat(self, admitted: Admitted) -> Seat:
        if admitted.judged is None:
            return Seat()
        key = admitted.judged.key
        seat = self._seats.get(key)
        if seat is None:
            seat = self._seats[key] = Seat()
        return seat

    def render(self, refusal: Refusal, facts: Facts | None, request_id: bytes, *, keep_alive: bool) -> bytes:
        options = self.options
        return refusal_bytes(
            refusal,
            facts,
            request_id=request_id.decode("ascii"),
            keep_alive=keep_alive,
            clear_cookies=options.clear_cookies,
            https=options.https,
            prefix=options.prefix,
            date=self._calendar.date(self.now()),
        )

    # -- accounts ---------------------------------------------------------------------------------------------------

    def count_unread(self, refusal: Refusal, request_id: bytes) -> None:
        """A request refused before it was understood: no facts, no route."""
        self.refused_unread[refusal.code] = self.refused_unread.get(refusal.code, 0) + 1
        now = self.monotonic()
        self.ended.append((now, request_id, None, None, refusal.status, 0, 0, now, refusal.code))

    # -- the tick ---------------------------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        """A share of a look at everything: with a thousand sessions in memory the whole took 8 ms, and requests waited (measured)."""
        pause, begun = TICK_S, self.monotonic()
        try:
            for _ in self._looking:
                if self.monotonic() - begun > LOOK_S:
                    pause = NEXT_LOOK_S
                    return
            self._looking = self._look()
        finally:
            self._timer = asyncio.get_running_loop().call_later(pause, self._on_tick)

    def tick(self) -> None:
        """Look at everything at once."""
        for _ in self._look():
            pass

    def _look(self) -> Iterator[int]:
        """Every deadline, and whatever is no longer true, in shares. A door whose check fails must not keep the others from theirs."""
        self.coarse = self.monotonic()
        doors = list(self.doors)
        for at in range(0, len(doors), LOOKED_AT_AT_ONCE):
            yield self._check(doors[at : at + LOOKED_AT_AT_ONCE])
        self.pool.sweep(self.coarse)
        self._tidy_seats()
        self.accounts.hand_on(SHARE, list(self.lanes.values()))
        yield 1
        wall = self.now()
        yield from self.patterns.drop_stale(wall, self._believes)  # first: what goes by a pattern ends with it
        yield from self.memo.drop_stale(wall, self._believes)

    def _check(self, doors: Sequence[Door]) -> int:
        now = self.monotonic()
        for door in doors:
            try:
                if door in self.doors:
                    door.check(now)
            except Exception as error:
                log.error("door check failed: %s", type(error).__name__, exc_info=True)
                door.transport.abort()
        return len(doors)

    def _tidy_seats(self) -> None:
        if len(self._seats) > MAX_SEATS:
            self._seats = {key: seat for key, seat in self._seats.items() if seat.active}
            self.memo.forget()
            self.patterns.forget()


def _split(head: bytes, facts: Facts, edge: Edge) -> tuple[bytes, bytes]:
    """The head around its request id, so that each use gets an id of its own; whole where a front proxy chose the id."""
    if edge.peer_trusted and any(name.lower() == b"x-request-id" for name, _ in facts.headers):
        return head, b""
    return split_at_id(head, facts.request_id)
