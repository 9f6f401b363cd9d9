"""Bounded memory of heads that passed every check, keyed by their exact bytes.

Browsers repeat the head of a call byte for byte. A hit skips parsing, screening and header building, which is most of
what a request costs in Python (measured: 0.017 against 0.028 CPU-ms a request by a pattern and 0.080 in full). It never skips
the *judgement*: what can change - session, token life, idle time - is compared on every use. Refusals are never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bff.base.met import Met
from bff.policy.facts import Facts
from bff.policy.routes import Route, Upstream
from bff.policy.verdict import Admitted
from bff.proxy.edge import Edge
from bff.proxy.lane import Glimpse, Lane, Seat
from bff.proxy.replies import Replies
from bff.session.model import AUTHORIZATION, Live, Session

if TYPE_CHECKING:
    from bff.proxy.upstream import Origin

MAX_KEPT_HEAD_BYTES = 8192
READY_WEIGHT = 512
"""What a head weighs in ``HeadMemo`` besides its own bytes and those that go out (measured)."""

PLAN_WEIGHT = 3072
"""What a plan weighs that is kept whole: facts, verdict, lines (measured)."""

MAX_SHARED = 256
MAX_SHARED_BYTES = 2048

SWEPT_AT_ONCE = 64
MOST_RELUCTANT = 64

NEVER = float("inf")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T", bound=bytes | str)

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY", "PUT", "DELETE"})


class Way:
    """From a route to one of its upstreams: the pool, and the answers seen on it, to HEAD and to everything else."""

    __slots__ = ("bodiless", "origin", "replies", "upstream")

    def __init__(self, upstream: Upstream | None, origin: Origin) -> None:
        self.upstream = upstream
        self.origin = origin
        self.replies = Replies()
        self.bodiless = Replies()


def held_end(admitted: Admitted, end: bytes) -> bytes:
    """The end of an outbound head, as the session's grant holds it if it is the same: a token is most of what a session weighs."""
    if admitted.credential is None or admitted.judged is None:
        return end
    grant = admitted.judged.grants.get(admitted.credential.audience)
    return grant.ending if grant is not None and grant.ending == end else end


def authorization_in(end: bytes) -> bytes:
    """The value of the Authorization header that an outbound head ends with. RuntimeError if there is none."""
    start = len(AUTHORIZATION)
    if not end.startswith(AUTHORIZATION):
        raise RuntimeError("a credential that was not sent")
    return end[start : end.index(b"\r\n", start)]


class Plan:
    """An admitted request made ready to send: where to, and the exact head. Immutable once built, but for ``gone``.

    ``touch_s``: how much activity may lag behind, so that a busy session is not touched for each of its requests. ``gone``: the
    memory it belongs to has let go of it, so whatever else remembers it should.
    """

    __slots__ = (
        "admitted",
        "bodiless",
        "edge",
        "end",
        "expects",
        "gone",
        "head",
        "http_10",
        "judged",
        "keep_alive",
        "lane",
        "live",
        "named",
        "origin",
        "proxied",
        "replayable",
        "replies",
        "route",
        "seat",
        "seen",
        "session_key",
        "tail",
        "touch_s",
        "touches",
        "valid_until",
        "websocket_key",
    )

    def __init__(self, admitted: Admitted, edge: Edge, origin: Origin, head: tuple[bytes, bytes], lane: Lane, seat: Seat) -> None:
        facts, live, judged = admitted.facts, admitted.live, admitted.judged
        self.admitted: Admitted | None = admitted
        self.route: Route = admitted.route
        self.seen: Facts = facts
        self.edge = edge
        self.origin = origin
        self.head = head
        self.tail, self.end = b"", head[1]
        self.lane = lane
        self.seat = seat
        self.replies: Replies | None = None
        self.websocket_key = b""
        self.gone = False
        self.named = False
        self.live: Live | None = live
        self.judged: Session | None = judged
        self.valid_until = admitted.valid_until
        self.session_key = b"" if judged is None else judged.key
        self.touches = live is not None and admitted.route.activity
        self.touch_s = min(1.0, live.idle_s / 100) if live is not None and self.touches else NEVER
        self.proxied = admitted.target is not None
        self.keep_alive = facts.keep_alive and not facts.http_10
        self.bodiless = facts.body_length == 0
        self.expects = facts.expect_continue
        self.http_10 = facts.http_10
        self.replayable = self.bodiless and facts.method in IDEMPOTENT and not facts.websocket

    def good_at(self, now: float) -> bool:
        """Whether the judgement still holds: the same session, alive and not idle, and nothing that time alone ends (ZTA-2)."""
        live = self.live
        return now < self.valid_until and (live is None or (live.session is self.judged and now < live.seen_at + live.idle_s))

    def stale_at(self, now: float, believes: Callable[[Live], bool]) -> bool:
        """Whether it is of no more use: its time is over, or its session changed, ended or can't be vouched for."""
        live = self.live
        return now >= self.valid_until or (live is not None and (live.session is not self.judged or not believes(live)))


Ready = tuple[Plan, bytes, bytes, Facts | Glimpse, int]
"""A request made ready: its plan, its outbound head up to the plan's ``tail`` and after the request id that follows that, what the log
tells of it, and what it weighs in ``HeadMemo``."""


class Shared:
    """The same text only once: browsers send the same lines for everybody. Bound: 256 of at most 2 KiB, emptied when full; what it
    gave out stays with those who hold it. (Python 3.12 never lets go of an interned string.)"""

    __slots__ = ("_known", "fresh")

    def __init__(self) -> None:
        self._known: dict[bytes | str, Any] = {}
        self.fresh = 0

    def one(self, text: T) -> T:
        """``text``, as somebody holds it already. ``fresh`` counts the bytes that nobody held."""
        known: T | None = self._known.get(text)
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


class Kept(Generic[K, V]):
    """What was judged, by what it may be used for. Owner: the door house. Bounds: entries, and bytes as ``weigh`` counts them.

    Where more is in use in turn than fits, whoever always takes in the newest finds nothing and pays for remembering each time
    (measured: 0.080 CPU-ms a request instead of 0.020 to 0.030). So a full one that is asked for what it pushed out gets reluctant,
    down to one newcomer in 64, and keeps a share as large as what fits; what was never here makes it willing again.
    """

    def __init__(
        self, *, entries: int, total_bytes: int, weigh: Callable[[K, V], int], let_go: Callable[[V], None] = lambda value: None
    ) -> None:
        self._entries = entries
        self._total_bytes = total_bytes
        self._weigh = weigh
        self._let_go = let_go
        self._bytes = 0
        self._left = Met()
        self._reluctance = 1
        self._refused = 0
        self._largest = 0
        self._kept: OrderedDict[K, V] = OrderedDict()
        self.find = self._kept.get

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def has_room(self) -> bool:
        """Whether one more fits, as large as the largest so far."""
        return len(self._kept) < self._entries and self._bytes + self._largest <= self._total_bytes

    def admits(self, key: K) -> bool:
        """Whether to take in one more. Ask once for each."""
        if self.has_room:
            return True
        if self._left.knows(hash(key)):
            self._reluctance = min(MOST_RELUCTANT, 2 * self._reluctance)
        else:
            self._reluctance = max(1, self._reluctance // 2)
        self._refused += 1
        if self._refused < self._reluctance:
            return False
        self._refused = 0
        return True

    def put(self, key: K, value: V) -> None:
        """Remember it; the oldest give way."""
        self.drop(key)
        weight = self._weigh(key, value)
        self._largest = max(self._largest, weight)
        while self._kept and (len(self._kept) >= self._entries or self._bytes + weight > self._total_bytes):
            oldest, given_up = self._kept.popitem(last=False)
            self._left.is_first(hash(oldest))
            self._forget_one(oldest, given_up)
        self._kept[key] = value
        self._bytes += weight

    def drop(self, key: K) -> None:
        value = self._kept.pop(key, None)
        if value is not None:
            self._forget_one(key, value)

    def sweep(self, is_over: Callable[[V], bool]) -> Iterator[int]:
        """Look at everything in shares, and drop what is over: how many, for each share. What is new is left to the next sweep."""
        keys = list(self._kept)
        for at in range(0, len(keys), SWEPT_AT_ONCE):
            over = [key for key in keys[at : at + SWEPT_AT_ONCE] if (value := self._kept.get(key)) is not None and is_over(value)]
            for key in over:
                self.drop(key)
            yield len(over)

    def forget(self) -> None:
        for value in self._kept.values():
            self._let_go(value)
        self._kept.clear()
        self._bytes = 0
        self._left.forget()

    def _forget_one(self, key: K, value: V) -> None:
        self._bytes -= self._weigh(key, value)
        self._let_go(value)


class HeadMemo(Kept[bytes, Ready]):
    """What to send for exact head bytes."""

    def __init__(self, *, entries: int = 8192, total_bytes: int = 5 * 1024 * 1024) -> None:
        super().__init__(entries=entries, total_bytes=total_bytes, weigh=lambda block, ready: ready[4])
        self._met = Met()
        self._shared = Shared()

    def came_before(self, block: bytes) -> bool:
        """Whether these bytes came lately; from now on they did. A wrong guess costs a place or delays one."""
        return not self._met.is_first(hash(block))

    def keep(self, block: bytes, ready: Ready) -> None:
        """Remember it, if it is not too big and there is room or it has its turn. The caller vouches that it may be used again."""
        if len(block) > MAX_KEPT_HEAD_BYTES or not self.admits(block):
            return
        plan, before, end, seen, _ = ready
        self._shared.fresh = 0
        before = self._shared.one(before)
        weight = READY_WEIGHT + len(block) + self._shared.fresh
        if plan.admitted is not None:
            weight += PLAN_WEIGHT + len(block) + 2 * len(end)
        elif end is not plan.end:
            weight += len(end)
        self.put(block, (plan, before, end, seen, weight))

    def drop_stale(self, now: float, believes: Callable[[Live], bool]) -> Iterator[int]:
        """Drop what ended, in shares: nothing of a signed-out user stays here. What goes by a pattern ends with the pattern: sweep those
        first."""
        return self.sweep(lambda ready: ready[0].gone or (ready[0].admitted is not None and ready[0].stale_at(now, believes)))

    def forget(self) -> None:
        super().forget()
        self._met.forget()
        self._shared.forget()
