"""The small parts: bounded memory, bodies counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.clock import FakeClock
from bff.base.secret import Secret
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.policy.verdict import Admitted, Target
from bff.proxy.edge import Edge
from bff.proxy.framing import FramingError, chunk
from bff.proxy.lane import LATENCY_BOUNDS_S, Glimpse, Lane, Seat
from bff.proxy.memo import PLAN_WEIGHT, READY_WEIGHT, HeadMemo, Plan, Ready, authorization_in, held_end
from bff.proxy.replies import Replies, Reply
from bff.proxy.tether import Tether
from bff.proxy.upload import BodyTooLarge, Upload
from bff.proxy.upstream import UpstreamPool
from bff.session.model import Credential, EndReason, Grant, Session
from tests.proxy.rig import build_live, build_session

FACTS = Facts(method="GET", path="/api/x", query=None, host="a.test", headers=())


def admitted(**changes: Any) -> Admitted:
    upstream = Upstream("http", "127.0.0.1", 1)
    return Admitted(FACTS, Route("api", "/api/", Admission.API, METHODS, upstream=upstream), Target(upstream, "/x"), **changes)


def plan(size: int = 100, **changes: Any) -> Plan:
    clock = FakeClock()
    edge = Edge("", tls=False, trusted=(), hosts=frozenset())
    verdict = admitted(**changes)
    return Plan(verdict, edge, UpstreamPool(clock=clock).origin(None), (b"x" * size, b""), Lane(verdict.route), Seat())


def ready(number: int, size: int = 100, by: Plan | None = None) -> Ready:
    """As a pattern makes them: a plan without a verdict of its own, an outbound head of ``size`` bytes."""
    made = by or plan()
    made.admitted = None
    return made, b"%d" % number + b"x" * size, b"", Glimpse("GET", f"/{number}", "", None, 0, ""), 0


def test_the_head_memo_is_bounded_in_entries_and_in_bytes() -> None:
    memo = HeadMemo(entries=3, total_bytes=3 * READY_WEIGHT + 500)
    for number in range(5):
        memo.keep(b"%d" % number, ready(number, 10))
    assert [memo.find(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    for number in range(5, 10):
        memo.keep(b"%d" % number, ready(number, 400))
    assert len(memo) == 2
    memo.keep(b"x" * 9000, ready(0, 10))
    assert memo.find(b"x" * 9000) is None
    memo.forget()
    assert len(memo) == 0
    assert memo._bytes == 0


def test_heads_that_go_out_alike_weigh_their_own_bytes_and_hold_the_others_once() -> None:
    memo = HeadMemo()
    by, seen = plan(), Glimpse("GET", "/", "", None, 0, "")
    by.admitted = None
    for number in range(3):
        memo.keep(b"%d" % number, (by, bytes(bytearray(b"x" * 500)), by.end, seen, 0))
    first, *others = memo._kept.values()
    assert [one[4] for one in (first, *others)] == [READY_WEIGHT + 501, READY_WEIGHT + 1, READY_WEIGHT + 1]
    assert all(one[1] is first[1] for one in others)
    memo.keep(b"a", (by, b"y", b"an end of its own", seen, 0))
    assert memo._kept[b"a"][4] == READY_WEIGHT + 2 + len(b"an end of its own")


def test_a_plan_that_is_kept_whole_weighs_what_it_holds() -> None:
    memo = HeadMemo()
    memo.keep(b"a", ready(0))
    light = memo._bytes
    memo.keep(b"b", (plan(), b"x" * 101, b"", FACTS, 0))
    assert memo._bytes - light > PLAN_WEIGHT


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 300)), max_size=60))
def test_the_memo_never_miscounts_its_bytes(steps: list[tuple[int, int]]) -> None:
    memo = HeadMemo(entries=4, total_bytes=4 * READY_WEIGHT - 500)
    for key, size in steps:
        if size % 7 == 0:
            memo.drop(b"%d" % key)
        else:
            memo.keep(b"%d" % key, ready(key, size))
        assert memo._bytes == sum(kept[4] for kept in memo._kept.values()) <= 4 * READY_WEIGHT - 500
        assert len(memo) <= 4


def go_round(memo: HeadMemo, numbers: range, rounds: int) -> list[int]:
    """All in turn, each kept when it is missed, as often as ``rounds``; the hits of each round."""
    by, hits = plan(), []
    for _ in range(rounds):
        found = 0
        for number in numbers:
            if memo.find(b"%d" % number) is not None:
                found += 1
            else:
                memo.keep(b"%d" % number, ready(number, by=by))
        hits.append(found)
    return hits


@pytest.mark.parametrize("working_set", [120, 200, 500, 1000])
def test_where_more_comes_in_turn_than_fits_a_share_as_large_as_what_fits_is_found(working_set: int) -> None:
    memo = HeadMemo(entries=100, total_bytes=1 << 20)
    assert min(go_round(memo, range(working_set), 10)[3:]) >= 75


def test_another_crowd_takes_over_a_full_memory_at_once_even_after_one_that_did_not_fit() -> None:
    memo = HeadMemo(entries=100, total_bytes=1 << 20)
    go_round(memo, range(500), 5)
    assert go_round(memo, range(1000, 1080), 3)[-1] == 80


def test_what_goes_by_a_pattern_that_is_gone_is_dropped_and_nothing_else() -> None:
    memo = HeadMemo()
    gone, there = plan(), plan()
    memo.keep(b"a", ready(0, by=gone))
    memo.keep(b"b", ready(1, by=there))
    gone.gone = True
    assert sum(memo.drop_stale(0.0, lambda live: True)) == 1
    assert (memo.find(b"a"), memo.find(b"b") is not None) == (None, True)


def test_a_plan_whose_time_is_over_is_dropped_though_nobody_asks_for_it() -> None:
    memo = HeadMemo()
    whole = plan(valid_until=100.0)
    memo.keep(b"a", (whole, b"x", b"", FACTS, 0))
    assert sum(memo.drop_stale(99.0, lambda live: True)) == 0
    assert sum(memo.drop_stale(100.0, lambda live: True)) == 1


# -- the token, held once ---------------------------------------------------------------------------------------------


def signed(session: Session, token: bytes = b"Bearer t") -> Admitted:
    return admitted(judged=session, credential=Credential(token, 1.0, "a", frozenset({"s"})))


def of_worker(token: str = "t") -> Session:
    session = build_session(FakeClock())
    return replace(session, grants={"a": Grant(Secret(token), 9.0, frozenset({"s"}))}).held_to_send()


END = b"\r\nAuthorization: Bearer t\r\n\r\n"


def test_the_end_of_the_head_is_the_very_bytes_that_the_session_holds() -> None:
    session = of_worker()
    end = held_end(signed(session), bytes(bytearray(END)))
    assert end is session.grants["a"].ending
    assert authorization_in(end) == b"Bearer t"


@pytest.mark.parametrize("token", [b"Bearer other", b"DPoP t"])
def test_another_token_than_the_sessions_goes_out_as_it_is(token: bytes) -> None:
    """The client's own, for somebody who is signed in; or one that was renewed."""
    end = b"\r\nAuthorization: " + token + b"\r\nContent-Length: 3\r\n\r\n"
    assert held_end(signed(of_worker(), token), end) is end
    assert authorization_in(end) == token


def test_a_credential_that_was_not_sent_is_never_made_up() -> None:
    assert held_end(admitted(), b"\r\n\r\n") == b"\r\n\r\n"
    with pytest.raises(RuntimeError):
        authorization_in(b"\r\n\r\n")


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


@given(st.binary(max_size=200), st.integers(0, 200), st.lists(st.integers(1, 50), max_size=20))
def test_a_counted_body_ends_exactly_where_it_should(data: bytes, length: int, cuts: list[int]) -> None:
    upload = Upload(length, limit=1000)
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
    upload = Upload(None, limit=5)
    assert upload.feed(chunk(b"abc")) == chunk(b"abc")
    with pytest.raises(BodyTooLarge):
        upload.feed(chunk(b"def"))
    with pytest.raises(FramingError):
        Upload(None, limit=5).feed(b"zz\r\n")
    upload = Upload(None, limit=5)
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
