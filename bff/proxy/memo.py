"""Bounded memory of heads that passed every check, keyed by their exact bytes.

Browsers repeat the head of a call byte for byte. A hit skips parsing, screening and header building, which is most of
what a request costs in Python (measured: 0.018 against 0.028 CPU-ms a request). It never skips the *judgement*: what
can change - session, token life, idle time - is compared on every use by ``Plan.good_at``. Refusals are never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from bff.policy.facts import Facts
from bff.policy.routes import Route, Upstream
from bff.policy.verdict import Admitted
from bff.proxy.edge import Edge
from bff.proxy.lane import Lane, Seat
from bff.proxy.replies import Replies
from bff.session.model import Credential, Live, Session

if TYPE_CHECKING:
    from bff.proxy.upstream import Origin

MAX_KEPT_HEAD_BYTES = 8192
PLAN_WEIGHT = 2048
"""What a plan weighs besides its bytes: facts, verdict, lines (measured)."""

NEVER = float("inf")
K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound="Plan")

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY", "PUT", "DELETE"})


class Way:
    """From a route to one of its upstreams: the pool, and the answers seen on it, to HEAD and to everything else."""

    __slots__ = ("bodiless", "origin", "replies", "upstream")

    def __init__(self, upstream: Upstream | None, origin: Origin) -> None:
        self.upstream = upstream
        self.origin = origin
        self.replies = Replies()
        self.bodiless = Replies()


@dataclass(slots=True)
class Attached:
    """What the requests of one session have in common: the token, and the end of the outbound head, which holds it again."""

    credential: Credential
    end: bytes


def share(admitted: Admitted, head: tuple[bytes, bytes]) -> tuple[Admitted, tuple[bytes, bytes]]:
    """The same, with what an earlier plan of this session holds already: tokens are half of what plans weigh."""
    live, credential = admitted.live, admitted.credential
    if live is None or credential is None or live.session is None:
        return admitted, head
    attached = live.attached
    if not isinstance(attached, Attached) or attached.credential != credential:
        live.attached = Attached(credential, head[1])
        return admitted, head
    if attached.end != head[1]:
        attached.end = head[1]
    return replace(admitted, credential=attached.credential), (head[0], attached.end)


class Plan:
    """An admitted request made ready to send: where to, and the exact head. Immutable once built; shared by equal requests.

    ``touch_s``: how much activity may lag behind, so that a busy session is not touched for each of its requests.
    """

    __slots__ = (
        "admitted",
        "bodiless",
        "edge",
        "head",
        "judged",
        "keep_alive",
        "lane",
        "live",
        "origin",
        "proxied",
        "replayable",
        "replies",
        "route",
        "seat",
        "seen",
        "session_key",
        "touch_s",
        "touches",
        "valid_until",
        "websocket_key",
        "weight",
    )

    def __init__(self, admitted: Admitted, edge: Edge, origin: Origin, head: tuple[bytes, bytes], lane: Lane, seat: Seat) -> None:
        facts, live, judged = admitted.facts, admitted.live, admitted.judged
        self.admitted: Admitted | None = admitted
        self.route: Route = admitted.route
        self.seen: Facts = facts
        self.edge = edge
        self.origin = origin
        self.head = head
        self.lane = lane
        self.seat = seat
        self.replies: Replies | None = None
        self.websocket_key = b""
        self.weight = 0
        self.live: Live | None = live
        self.judged: Session | None = judged
        self.valid_until = admitted.valid_until
        self.session_key = b"" if judged is None else judged.key
        self.touches = live is not None and admitted.route.activity
        self.touch_s = min(1.0, live.idle_s / 100) if live is not None and self.touches else NEVER
        self.proxied = admitted.target is not None
        self.keep_alive = facts.keep_alive and not facts.http_10
        self.bodiless = facts.body_length == 0
        self.replayable = self.bodiless and facts.method in IDEMPOTENT and not facts.websocket

    def good_at(self, now: float) -> bool:
        """Whether the judgement still holds: the same session, alive and not idle, and nothing that time alone ends (ZTA-2)."""
        live = self.live
        return now < self.valid_until and (live is None or (live.session is self.judged and now < live.seen_at + live.idle_s))


class Kept(Generic[K, P]):
    """Plans by what they may be used for. Owner: the door house. Bounds: entries and bytes; the oldest goes first."""

    def __init__(self, *, entries: int, total_bytes: int) -> None:
        self._entries = entries
        self._total_bytes = total_bytes
        self._bytes = 0
        self._kept: OrderedDict[K, P] = OrderedDict()
        self.find = self._kept.get

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: K, plan: P, weight: int) -> None:
        """Remember a plan that takes about ``weight`` bytes."""
        self.drop(key)
        while self._kept and (len(self._kept) >= self._entries or self._bytes + weight > self._total_bytes):
            self._bytes -= self._kept.popitem(last=False)[1].weight
        plan.weight = weight
        self._kept[key] = plan
        self._bytes += weight

    def drop(self, key: K) -> None:
        plan = self._kept.pop(key, None)
        if plan is not None:
            self._bytes -= plan.weight

    def drop_stale(self, believes: Callable[[Live], bool]) -> int:
        """Drop every plan whose session changed, ended or can't be vouched for: nothing of a signed-out user stays here."""
        stale = [
            key
            for key, plan in self._kept.items()
            if plan.live is not None and (plan.live.session is not plan.judged or not believes(plan.live))
        ]
        for key in stale:
            self.drop(key)
        return len(stale)

    def forget(self) -> None:
        self._kept.clear()
        self._bytes = 0


class HeadMemo(Kept[bytes, Plan]):
    """Plans by exact head bytes."""

    def __init__(self, *, entries: int = 4096, total_bytes: int = 8 * 1024 * 1024) -> None:
        super().__init__(entries=entries, total_bytes=total_bytes)

    def keep(self, block: bytes, plan: Plan) -> None:
        """Remember a plan. What is too big, or answers with cookies of its own, is not worth or not safe to keep."""
        if len(block) <= MAX_KEPT_HEAD_BYTES and plan.admitted is not None and not plan.admitted.set_cookies:
            self.put(block, plan, PLAN_WEIGHT + len(block) + len(plan.head[0]))
