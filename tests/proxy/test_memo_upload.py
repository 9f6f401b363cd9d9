"""The small parts: bounded memory, bodies counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.clock import FakeClock
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.policy.verdict import Admitted, Target
from bff.proxy.edge import Edge
from bff.proxy.framing import FramingError, chunk
from bff.proxy.lane import LATENCY_BOUNDS_S, Lane, Seat
from bff.proxy.memo import PLAN_WEIGHT, HeadMemo, Plan
from bff.proxy.replies import Replies, Reply
from bff.proxy.tether import Tether
from bff.proxy.upload import BodyTooLarge, Upload
from bff.proxy.upstream import UpstreamPool
from bff.session.model import EndReason
from tests.proxy.rig import build_live

FACTS = Facts(method="GET", path="/api/x", query=None, host="a.test", headers=())


def admitted(**changes: Any) -> Admitted:
    upstream = Upstream("http", "127.0.0.1", 1)
    return Admitted(FACTS, Route("api", "/api/", Admission.API, METHODS, upstream=upstream), Target(upstream, "/x"), **changes)


def plan(size: int = 100, **changes: Any) -> Plan:
    clock = FakeClock()
    edge = Edge("", tls=False, trusted=(), hosts=frozenset())
    verdict = admitted(**changes)
    return Plan(verdict, edge, UpstreamPool(clock=clock).origin(None), (b"x" * size, b""), Lane(verdict.route), Seat())


def test_the_head_memo_is_bounded_in_entries_and_in_bytes() -> None:
    memo = HeadMemo(entries=3, total_bytes=3 * PLAN_WEIGHT + 500)
    for number in range(5):
        memo.keep(b"%d" % number, plan(10))
    assert [memo.find(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    for number in range(5):
        memo.keep(b"%d" % number, plan(400))
    assert len(memo) == 2
    memo.keep(b"x" * 9000, plan(10))
    assert memo.find(b"x" * 9000) is None
    memo.keep(b"a", plan(10, set_cookies=("a=b",)))
    assert memo.find(b"a") is None
    memo.forget()
    assert len(memo) == 0
    assert memo._bytes == 0


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 300)), max_size=60))
def test_the_memo_never_miscounts_its_bytes(steps: list[tuple[int, int]]) -> None:
    memo = HeadMemo(entries=4, total_bytes=4 * PLAN_WEIGHT - 500)
    for key, size in steps:
        if size % 7 == 0:
            memo.drop(b"%d" % key)
        else:
            memo.keep(b"%d" % key, plan(size))
        assert memo._bytes == sum(PLAN_WEIGHT + len(block) + len(kept.head[0]) for block, kept in memo._kept.items())
        assert len(memo) <= 4


def test_answer_memory_is_bounded() -> None:
    replies = Replies()
    for number in range(1000):
        replies.keep(b"%d" % number, Reply(200, b"", 0, False, True, False))
        assert len(replies.kept) <= 256
    replies.keep(b"x" * 9000, Reply(200, b"", 0, False, True, False))
    assert b"x" * 9000 not in replies.kept


def test_latency_goes_to_the_right_bucket() -> None:
    lane = Lane(admitted().route)
    for seconds in (0.0, 0.001, 0.0011, 100.0):
        lane.count(200, seconds, 1, 2)
    assert lane.buckets[0] == 2
    assert lane.buckets[1] == 1
    assert lane.buckets[len(LATENCY_BOUNDS_S)] == 1
    assert (lane.received, lane.sent, lane.by_class[2]) == (4, 8, 4)
    lane.count(999, 1, 0, 0)
    assert lane.by_class[5] == 1


def facts(length: int | None) -> Facts:
    return Facts("POST", "/", None, "a", (), body_length=length, chunked=length is None)


@given(st.binary(max_size=200), st.integers(0, 200), st.lists(st.integers(1, 50), max_size=20))
def test_a_counted_body_ends_exactly_where_it_should(data: bytes, length: int, cuts: list[int]) -> None:
    upload = Upload(facts(length), limit=1000)
    sent, at = b"", 0
    for cut in [*cuts, len(data)]:
        if upload.done or at >= len(data):
            break
        sent += upload.feed(data[at : at + cut])
        at += cut
    assert sent == data[: min(length, at)]
    if upload.done:
        assert upload.rest == data[length:at]


def test_a_chunked_body_is_bounded_while_it_comes() -> None:
    upload = Upload(facts(None), limit=5)
    assert upload.feed(chunk(b"abc")) == chunk(b"abc")
    with pytest.raises(BodyTooLarge):
        upload.feed(chunk(b"def"))
    with pytest.raises(FramingError):
        Upload(facts(None), limit=5).feed(b"zz\r\n")
    upload = Upload(facts(None), limit=5)
    assert upload.feed(b"0\r\n\r\nGET") == b"0\r\n\r\n"
    assert (upload.done, upload.rest) == (True, b"GET")


@pytest.mark.row("SSE-4", "WS-8")
def test_a_tether_pulls_once_and_lets_go() -> None:
    clock = FakeClock()
    live = build_live(clock)
    assert live.session is not None
    reasons: list[EndReason] = []
    tether = Tether(live, live.session, reasons.append)
    tether.check(clock.now())
    assert reasons == []
    tether(EndReason.LOGOUT)
    tether(EndReason.LOGOUT)
    tether.check(clock.now() + 1e9)
    assert reasons == [EndReason.LOGOUT]
    assert live.watchers == set()
    late = Tether(live, live.session, reasons.append)
    late.check(live.session.expires_at)
    assert reasons == [EndReason.LOGOUT, EndReason.EXPIRED]
    loose = Tether(live, live.session, reasons.append)
    loose.loose()
    loose(EndReason.LOGOUT)
    assert len(reasons) == 2
