"""Patterns: whatever goes by one is exactly what the full way would have done with it, and nothing goes by one that it would refuse."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.policy.facts import Facts
from bff.policy.handoff import Handoff
from bff.policy.routes import Limits
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.edge import Edge
from bff.proxy.head import HeadReader, read_facts
from bff.proxy.headers import HeaderRules, outbound_head
from bff.proxy.house import DoorHouse, DoorOptions
from bff.proxy.patterns import PATTERN_WEIGHT
from bff.proxy.upstream import UpstreamPool
from bff.session.model import Credential, Live
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from tests.proxy.gate import NAME, ORIGIN, World
from tests.proxy.rig import OK, answering, build_session, eventually, field_of, open_rig, turns

HOSTS = frozenset({"a.test"})
EDGES = [
    Edge(peer_ip="192.0.2.7", tls=True, trusted=(), hosts=HOSTS),
    Edge(peer_ip="10.0.0.1", tls=True, trusted=(ip_network("10.0.0.0/8"),), hosts=HOSTS),
]
RULES = HeaderRules(own_cookies="__Host-Http-bff", public_origin=ORIGIN)
OWN = f"Cookie: theme=dark; {NAME}=alice".encode()

starts = st.sampled_from(
    b"""GET /api/x|GET /api/x?a=1|GET /api/x?b=%2F|GET /api/y/z|GET /api/|HEAD /api/x|DELETE /api/x|POST /api/x|OPTIONS /api/x
GET /public/x|GET /public/y|GET /either/x|GET /greeting/x|GET /get/x|PUT /get/x|GET /sales/x|GET /region/x|GET /files/a%2Fb
GET /files/a|GET /api/a%2Fb|GET /flat/x|GET /flat|GET /flat/|GET /cookies/x|GET /cookies/y|GET /api/../x|GET /none
GET /bff/user""".replace(b"\n", b"|").split(b"|")
)
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
TRACE_LINES = [b"traceparent: " + TRACE, b"Traceparent: " + TRACE.replace(b"b", b"c")]
ODD = [b"", b"Accept: a\0", OWN, b"Cookie: " + NAME.encode() + b"=bob", b"cookie: theme=x; _ga=1; " + NAME.lower().encode() + b"=alice"]
ODD += [b"Cookie: _ga=1.%d; =x; y; %b-login-a=b" % (number, NAME.encode()) for number in range(2)]
LINES = b"""Accept: application/json|Accept: text/event-stream|User-Agent: x|User-Agent: y|X-Free: 1|X-Free: 2|x-free:3
If-None-Match: "a"|traceparent: bad|tracestate: a=b|X-Request-Id: one|X-Request-Id: two|x-request-id: n o|X-CSRF: 1|X-CSRF: 0|Origin: https://a.test
Origin: https://evil.test|Sec-Fetch-Site: same-origin|Sec-Fetch-Site: cross-site|Sec-Fetch-Dest: empty|Sec-Fetch-Dest: document
Sec-Fetch-Mode: cors|sec-purpose: prefetch|Referer: https://a.test/|Connection: keep-alive|Connection: close|Connection: X-Free
Connection: keep-alive, x-free|Content-Length: 0|Content-Length: 3|Content-Length: 44|content-length: 0003
Transfer-Encoding: chunked|Expect: 100-continue
Content-Type: text/plain|Cookie: theme=light|Authorization: Bearer forged|X-Forwarded-For: 198.51.100.1|X-Forwarded-For: 198.51.100.2
X-Forwarded-Proto: http|X-Forwarded-Proto: https|Forwarded: for=1.2.3.4|Via: 1.1 bff|Via: 1.1 other|Upgrade: websocket|Upgrade: h2c
Remote-User: root|X-User-Id: 1|Max-Forwards: 3|TE: trailers|Host: a.test|Host: evil.test|Bad Line|X_Y: 1| folded"""
EVERY_LINE = [*LINES.replace(b"\n", b"|").split(b"|"), *TRACE_LINES, *ODD]
lines = st.sampled_from(EVERY_LINE)
usual = [b"Host: a.test", OWN, b"X-CSRF: 1"]


def build_house(world: World, clock: Any, **options: Any) -> DoorHouse:
    return DoorHouse(
        gatekeeper=world.gatekeeper,
        pool=UpstreamPool(clock=clock),
        handoff=Handoff(signer=Signer(KeyRing.generate(), clock=clock)),
        desk=None,  # type: ignore[arg-type]
        rules=RULES,
        options=DoorOptions(hosts=HOSTS, **options),
        clock=clock,
    )


def write(start: bytes, more: list[bytes], version: bytes = b"HTTP/1.1") -> bytes:
    return start + b" " + version + b"\r\n" + b"".join(line + b"\r\n" for line in more) + b"\r\n"


def go_in_full(world: World, house: DoorHouse, block: bytes, edge: Edge) -> Admitted | Refusal | None:
    """The full way, with nothing remembered of any line."""
    facts = read_facts(block, edge=edge)
    return facts if isinstance(facts, Refusal) else world.gatekeeper.judge_now(facts)


def check_alike(world: World, house: DoorHouse, block: bytes, edge: Edge) -> bool:
    """Offer a head to the patterns as the door does, and hold what they say against the full way. True if there was a pattern.

    Three times: the first goes line by line, the second as well and is remembered by its section, by which the third goes."""
    found = check_once(world, house, block, edge)
    for once_more in (block, block.replace(TRACE, TRACE[:30] + b"f" + TRACE[31:]), block):
        if found:
            assert check_once(world, house, once_more, edge)
    return found


def check_once(world: World, house: DoorHouse, block: bytes, edge: Edge) -> bool:
    alike = house.find_alike(block, edge)
    verdict = go_in_full(world, house, block, edge)
    if alike is None:
        if isinstance(verdict, Admitted):
            house.remember(block, house.plan(verdict, edge))
        return False
    assert isinstance(verdict, Admitted), (verdict, block)
    plan, before, after, seen, _ = alike
    facts = verdict.facts
    expected = outbound_head(verdict, rules=RULES).replace(b"X-Request-Id: " + facts.request_id.encode(), b"X-Request-Id: ID")
    assert before + plan.tail + b"ID" + after == expected
    assert (plan.route, plan.live, plan.judged, plan.valid_until) == (verdict.route, verdict.live, verdict.judged, verdict.valid_until)
    assert not verdict.set_cookies
    whole = house.settle(plan, block)
    assert whole.admitted is not None
    assert whole.admitted.target == verdict.target
    assert whole.admitted.credential == verdict.credential
    for name in Facts.__slots__:
        if name != "request_id":
            assert getattr(whole.admitted.facts, name) == getattr(facts, name)
    full = house.plan(verdict, edge)
    named = edge.peer_trusted and any(name.lower() == b"x-request-id" and value in (b"one", b"two") for name, value in facts.headers)
    assert (plan.named, seen.request_id) == (named, facts.request_id if named else "")
    for name in ("keep_alive", "bodiless", "replayable", "replies", "origin", "lane", "touches", "touch_s", "session_key", "proxied"):
        assert getattr(plan, name) == getattr(full, name)
    for name in ("method", "path", "client_ip", "traceparent", "body_length"):
        assert getattr(seen, name) == getattr(facts, name)
    assert (plan.expects, plan.http_10) == (facts.expect_continue, facts.http_10)
    assert (facts.body_length or 0) <= plan.route.limits.body_bytes
    return True


requests = st.tuples(
    starts,
    st.lists(lines, max_size=5),
    st.lists(lines, max_size=3),
    st.sampled_from(EDGES),
    st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0"]),
)


@pytest.mark.row("REQH-2", "M10", "ZTA-2")
@settings(max_examples=300, deadline=None)
@given(st.lists(requests, min_size=2, max_size=12), st.booleans())
def test_by_a_pattern_or_in_full_the_verdict_and_the_outbound_head_are_the_same(asked: list[Any], twice: bool) -> None:
    """M10: what is judged is what is forwarded, also where the judgement is an earlier one."""
    world = World()
    house = build_house(world, world.clock)
    for start, before, after, edge, version in asked * 2 if twice else asked:
        check_alike(world, house, write(start, [*before, *usual, *after], version), edge)


@settings(max_examples=150, deadline=None)
@given(
    starts,
    st.lists(lines, max_size=3),
    st.lists(st.sampled_from([b"User-Agent: x", b"X-Free: 1", b"X-Free: 2", b"tracestate: a=b"]), max_size=4),
)
def test_a_request_that_differs_only_in_lines_nobody_judges_finds_the_pattern(start: bytes, judged: list[bytes], free: list[bytes]) -> None:
    world = World()
    house = build_house(world, world.clock)
    first = write(start, [*usual, *judged])
    verdict = go_in_full(world, house, first, EDGES[0])
    check_alike(world, house, first, EDGES[0])
    found = check_alike(world, house, write(start, [*usual, *free, b"X-More: 1", *judged]), EDGES[0])
    kept = isinstance(verdict, Admitted) and house.plan(verdict, EDGES[0]).replies is not None and not verdict.facts.chunked
    unusual = isinstance(verdict, Admitted) and (
        verdict.facts.connection or verdict.facts.encoded_slash or verdict.facts.method == "OPTIONS"
    )
    two_cookie_lines = any(line[:7].lower() == b"cookie:" for line in judged)
    dropped_trace = b"traceparent: bad" in judged
    assert found == (kept and not unusual and not dropped_trace and not two_cookie_lines)


@pytest.mark.row("M10", "ZTA-2")
@pytest.mark.parametrize("start", [b"GET /api/x", b"HEAD /public/x", b"DELETE /cookies/x", b"GET /flat", b"GET /either/x"])
def test_after_every_line_alone_every_two_lines_go_as_in_full(start: bytes) -> None:
    """M10: each line that could matter meets a pattern learnt without it, with it, and with its twin."""
    world = World()
    house = build_house(world, world.clock)
    for edge in EDGES:
        for line in EVERY_LINE:
            check_alike(world, house, write(start, [b"Host: a.test", OWN, b"X-CSRF: 1", line]), edge)
            check_alike(world, house, write(start, [b"Host: a.test", OWN, line]), edge)
            check_alike(world, house, write(start, [b"Host: a.test", line]), edge)
    found = 0
    for edge in EDGES:
        for base in ([*usual, b"X-F: 1"], [b"Host: a.test", b"X-F: 1"]):
            for one in EVERY_LINE:
                found += check_alike(world, house, write(start + b"?q", [*base, one]), edge)
                found += check_alike(world, house, write(start + b"/y", [*base, one]), edge)
                found += check_alike(world, house, write(start, [*base, one], b"HTTP/1.0"), edge)
                for other in EVERY_LINE[:: 1 if start == b"GET /api/x" else 7]:
                    found += check_alike(world, house, write(start, [*base, one, other]), edge)
    assert found > 100


@pytest.mark.row("M1")
def test_llhttp_has_its_say_on_every_head() -> None:
    world, house, found = found_after(lambda world, house: None)
    assert found
    house.reader.ends = lambda block: False  # type: ignore[method-assign]
    assert house.find_alike(write(b"GET /api/x", [*usual, b"X-Free: 2"]), EDGES[0]) is None
    check_alike(world, house, write(b"POST /api/x", [*usual, b"Content-Length: 3"]), EDGES[0])
    longer = write(b"POST /api/x", [*usual, b"Content-Length: 4"])
    assert house.find_alike(longer, EDGES[0]) is not None
    house.reader.begins = lambda block: False  # type: ignore[method-assign]
    assert house.find_alike(longer, EDGES[0]) is None


def test_llhttp_knows_a_head_with_a_body_to_come_from_one_that_is_all() -> None:
    reader = HeadReader()
    for lines, begins in (([], False), ([b"Content-Length: 0"], False), ([b"Content-Length: 1"], True), ([b"Content-Length: x"], False)):
        assert reader.begins(write(b"POST /api/x", [*usual, *lines])) is begins
        assert reader.ends(write(b"GET /api/x", usual)), "whatever came before"


def found_after(change: Any) -> tuple[World, DoorHouse, bool]:
    world = World()
    house = build_house(world, world.clock)
    check_alike(world, house, write(b"GET /api/x", usual), EDGES[0])
    assert check_alike(world, house, write(b"GET /api/x", [*usual, b"X-Free: 0"]), EDGES[0])
    change(world, house)
    return world, house, house.find_alike(write(b"GET /api/x", [*usual, b"X-Free: 1"]), EDGES[0]) is not None


def test_a_head_that_comes_a_second_time_is_remembered_by_its_exact_bytes_and_goes_as_by_its_pattern() -> None:
    world, house, _ = found_after(lambda world, house: None)
    once = write(b"GET /api/x", [*usual, b"X-Free: once"])
    first = house.find_alike(once, EDGES[0])
    assert house.find_ready(once) is None
    again = house.find_alike(once, EDGES[0])
    kept = house.find_ready(once)
    assert kept is not None and again is not None and first is not None
    assert kept[:4] == again[:4] == first[:4]
    assert house.look_up(once, EDGES[0]) == kept
    assert house.look_up(once, EDGES[1]) is None


def test_nothing_of_a_session_that_ended_stays_in_memory() -> None:
    def end(world: World, house: DoorHouse) -> None:
        for _ in range(2):
            check_alike(world, house, write(b"GET /api/x", [*usual, b"X-Free: 0"]), EDGES[0])
        assert len(house.memo) == 1
        world.live.session = None
        house.tick()

    _, house, found = found_after(end)
    assert not found
    assert len(house.patterns.kept) == len(house.memo) == 0


@pytest.mark.row("F36")
def test_a_session_nobody_vouches_for_has_no_patterns_after_the_next_tick() -> None:
    def doubt(world: World, house: DoorHouse) -> None:
        for _ in range(2):
            check_alike(world, house, write(b"GET /api/x", [*usual, b"X-Free: 0"]), EDGES[0])
        house._believes = lambda live: False
        house.tick()
        assert len(house.memo) == 0

    assert not found_after(doubt)[2]


def test_reloaded_keys_or_routes_leave_no_pattern_and_no_road() -> None:
    _, house, found = found_after(lambda world, house: house.forget())
    assert not found
    assert not house.patterns._roads or len(house.patterns.kept) == 0


def test_patterns_are_bounded_in_entries_and_in_bytes() -> None:
    world = World()
    house = build_house(world, world.clock, memo_entries=1000, pattern_bytes=1 << 20)
    for number in range(3000):
        block = write(b"GET /public/x", [b"Host: a.test", b"Accept: %d" % number])
        check_alike(world, house, block, EDGES[0])
    assert 900 < len(house.patterns.kept) <= 1000
    for number in range(600):
        check_alike(world, house, write(b"GET /public/x", [b"Host: a.test", b"Accept: %d" % number + b"a" * 7000]), EDGES[0])
    assert 0 < house.patterns.kept._bytes <= 1 << 20
    for number in range(9000):
        house.find_alike(write(b"GET /public/%d" % number, [b"Host: a.test", b"Accept: 1"]), EDGES[0])
    assert len(house.patterns._roads) <= 512


def test_a_pattern_weighs_the_bytes_that_no_other_has() -> None:
    world = World()
    house = build_house(world, world.clock)
    long = b"Accept: " + b"a" * 500
    weights = []
    for number in range(3):
        before = house.patterns.kept._bytes
        check_alike(
            world, house, write(b"GET /public/x", [b"Host: a.test", long, b"Cookie: a=1; %b=%d" % (NAME.encode(), number)]), EDGES[0]
        )
        weights.append(house.patterns.kept._bytes - before)
    assert weights[0] > 500 + PATTERN_WEIGHT
    assert weights[1] == weights[2] == PATTERN_WEIGHT + 1
    for part in (long, NAME):
        held = [next(each for each in key if each == part) for key in house.patterns.kept._kept]
        assert held[0] is held[1] is held[2]


def test_no_text_of_a_browser_is_interned() -> None:
    """Python 3.12 keeps interned strings for good: cookies that never come again would fill the memory, and hold what they were worth."""
    world = World()
    house = build_house(world, world.clock)
    name, value = f"{NAME}-seen-nowhere", "never-again"
    block = write(b"GET /public/x", [b"Host: a.test", f"Cookie: {name}={value}".encode()])
    check_alike(world, house, block, EDGES[0])
    (key,) = house.patterns.kept._kept
    for part in (name, value):
        kept = next(each for each in key if each == part)
        assert sys.intern(part) is not kept


# ── on the wire ──────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(number: int, path: bytes = b"/api/x") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a.test\r\nCookie: __Host-Http-bff=ticket\r\nX-Free: %d\r\nX-CSRF: 1\r\n\r\n" % (path, number)


BELOW: dict[str, Any] = {"base_path": "/api/"}


async def test_heads_that_differ_in_free_lines_are_judged_once_and_forwarded_as_they_are() -> None:
    async with open_rig(token=True, upstream=BELOW) as rig:
        client = await rig.client()
        for number in range(5):
            await client.send(ask(number, b"/api/%d?n=%d" % (number, number)))
            assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        seen = rig.upstream.peers[0].seen
        for number in range(5):
            assert seen.count(b"GET /api/%d?n=%d HTTP/1.1\r\n" % (number, number)) == 1
            assert seen.count(b"X-Free: %d\r\n" % number) == 1
        assert seen.count(b"Authorization: Bearer token-1\r\n") == 5
        assert b"ticket" not in seen
        rig.house.tick()
        assert [record[2].path for record in rig.records] == [f"/api/{number}" for number in range(5)]
        ids = {record[1] for record in rig.records}
        assert len(ids) == 5
        assert ids == {field_of(b"x\r\n" + line, b"x-request-id") for line in seen.split(b"\r\n")} - {b""}


@pytest.mark.row("ZTA-2", "S3")
@pytest.mark.parametrize("how", ["end", "change", "time", "idle"])
async def test_what_ends_a_judgement_ends_it_for_every_request_like_it(how: str) -> None:
    async with open_rig(token=True, upstream=BELOW) as rig:
        rig.guard.valid_until = rig.clock.now() + 100
        client = await rig.client()
        await client.send(ask(0))
        await client.answer()
        await client.send(ask(1))
        assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        live: Live | None = rig.guard.live
        assert live is not None
        if how == "end":
            rig.end_session()
        elif how == "change":
            live.session = build_session(rig.clock)
        elif how == "time":
            rig.clock.advance(100)
        else:
            live.seen_at -= 1800
        rig.guard.refusal = Refusal(401, "unauthenticated", "Sign in.")
        await client.send(ask(2))
        assert (await client.answer())[0] == 401
        assert rig.upstream.requests == 2


async def test_an_upstream_that_hangs_up_gets_the_whole_request_again_and_its_own() -> None:
    """BODY-6: the retry is this request, not the one the pattern was learnt from."""
    turn = 0

    async def behave(peer: Any) -> None:
        nonlocal turn
        turn += 1
        if turn == 1:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await peer.head()
            return
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await peer.head()

    async with open_rig(behave, token=True, upstream=BELOW) as rig:
        client = await rig.client()
        await client.send(ask(0))
        await client.answer()
        await client.send(ask(1, b"/api/other?q=1"))
        assert (await client.answer())[0] == 200
        again = (await rig.upstream.peer(1)).seen
        assert again.startswith(b"GET /api/other?q=1 HTTP/1.1\r\n")
        assert b"X-Free: 1\r\n" in again
        await eventually(lambda: rig.house.lanes["api"].active == 0)


@pytest.mark.row("TOKEN-10")
async def test_a_renewed_token_repeats_the_request_that_was_refused() -> None:
    refusal = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 0\r\n\r\n'
    fine = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with open_rig(answering(fine, refusal, fine), token=True, upstream=BELOW) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        client = await rig.client()
        await client.send(ask(0))
        await client.answer()
        await client.send(ask(1, b"/api/other"))
        assert (await client.answer())[0] == 200
        again = rig.upstream.peers[-1].seen
        assert again.startswith(b"GET /api/other HTTP/1.1\r\n")
        assert b"Authorization: Bearer token-2\r\n" in again
        assert b"X-Free: 1\r\n" in again


async def test_an_answer_that_can_t_be_read_is_a_refusal_that_knows_its_request() -> None:
    async with open_rig(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n"), upstream=BELOW) as rig:
        client = await rig.client()
        await client.send(ask(0))
        await client.answer()
        await client.send(ask(1, b"/api/other"))
        status, _, body = await client.answer()
        assert status == 502
        assert b"bad_answer" in body or b"upstream" in body
        rig.house.tick()
        assert rig.records[-1][2].path == "/api/other"


def test_two_requests_in_one_read_or_a_body_are_never_taken_for_one() -> None:
    """M1: only a block that is exactly one head goes by a pattern."""
    world = World()
    house = build_house(world, world.clock)
    one = write(b"GET /api/x", usual)
    check_alike(world, house, one, EDGES[0])
    for block in (one + one, one + b"x", one[:-2], one[:-4], b"\r\n" + one, one + b"\r\n\r\n", one.replace(b"\r\n", b"\n")):
        assert house.find_alike(block, EDGES[0]) is None
    assert house.find_alike(write(b"GET /api/x", [*usual, b"X: 1"]), EDGES[0]) is not None


# ── cookies beside ours, and bodies ──────────────────────────────────────────────────────────────────────────────────


def call(number: int, own: bytes = b"ticket", body: bytes = b"") -> bytes:
    trace = b"traceparent: 00-%032x-%016x-01\r\n" % (number + 1, number + 1)
    cookies = b"Cookie: _ga=1.%d; __Host-Http-bff=%b; theme=t%d; __host-http-BFF=x\r\n" % (number, own, number)
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    method = b"POST" if body else b"GET"
    return b"%b /api/x HTTP/1.1\r\nHost: a.test\r\n%bX-CSRF: 1\r\n%b%b\r\n%b" % (method, cookies, trace, length, body)


@pytest.mark.row("S6", "M10")
async def test_cookies_beside_ours_are_nobodys_business_but_the_apis() -> None:
    async with open_rig(token=True, upstream=BELOW, route={"forward_cookies": frozenset({"theme"})}) as rig:
        client = await rig.client()
        for number in range(4):
            await client.send(call(number))
            assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        seen = rig.upstream.peers[0].seen
        for number in range(4):
            assert seen.count(b"\r\nCookie: theme=t%d\r\n" % number) == 1
        assert b"ticket" not in seen and b"_ga" not in seen and b"BFF" not in seen


@pytest.mark.row("S6")
@pytest.mark.parametrize("other", [b"another", b"", b"ticket; __Host-Http-bff=another", b"ticket "])
async def test_another_value_of_our_cookie_is_judged_anew(other: bytes) -> None:
    """COOKIE-21: two of its name too. White space around a value is none of it."""
    async with open_rig(token=True, upstream=BELOW) as rig:
        client = await rig.client()
        for number in range(3):
            await client.send(call(number))
            await client.answer()
        assert len(rig.guard.asked) == 1
        await client.send(call(4, other))
        await client.answer()
        assert len(rig.guard.asked) == (1 if other == b"ticket " else 2)


@pytest.mark.row("M1", "BODY-1")
@pytest.mark.parametrize("cuts", [1, 2, 3])
async def test_requests_with_bodies_are_judged_once_and_each_has_its_own_body(cuts: int) -> None:
    async with open_rig(token=True, upstream=BELOW) as rig:
        client = await rig.client()
        bodies = [b"a" * 10, b"b" * 3000, b"c" * 40_000, b"GET /api/smuggled HTTP/1.1\r\n\r\n", b"d" * 10]
        for number, body in enumerate(bodies):
            data = call(number, body=body)
            at = data.index(b"\r\n\r\n") + 4
            for piece in {1: [data], 2: [data[:at], data[at:]], 3: [data[: at - 9], data[at - 9 : at + 2], data[at + 2 :]]}[cuts]:
                await client.send(piece)
                await turns(3)
            assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        seen = b"".join(peer.seen for peer in rig.upstream.peers)
        for body in bodies:
            assert seen.count(b"Content-Length: %d\r\n\r\n" % len(body) + body) == 1
        rig.house.tick()
        assert [record[6] for record in rig.records] == [len(body) for body in bodies]


@pytest.mark.row("BODY-3")
async def test_a_body_over_the_limit_is_refused_behind_any_number_of_shorter_ones() -> None:
    async with open_rig(token=True, upstream=BELOW, limits=Limits(body_bytes=20)) as rig:
        client = await rig.client()
        for number in range(4):
            await client.send(call(number, body=b"x" * 20))
            assert (await client.answer())[0] == 200
        await client.send(call(5, body=b"x" * 21))
        assert (await client.answer())[0] == 413


async def test_a_small_body_and_the_request_behind_it_in_one_read_are_two_requests() -> None:
    async with open_rig(token=True, upstream=BELOW) as rig:
        client = await rig.client()
        for number in range(3):
            await client.send(call(number, body=b"first"))
            await client.answer()
        await client.send(call(4, body=b"second") + call(5, body=b"third") + call(6))
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 200]
        seen = b"".join(peer.seen for peer in rig.upstream.peers)
        assert seen.count(b"Content-Length: 6\r\n\r\nsecond") == seen.count(b"Content-Length: 5\r\n\r\nthird") == 1


async def test_a_request_that_found_no_connection_at_rest_is_repeated_with_the_renewed_token() -> None:
    """TOKEN-10: the head made for the first try holds the token that was refused."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    refusal = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 0\r\n\r\n'
    async with open_rig(answering(last, refusal, last), token=True, upstream=BELOW) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        client = await rig.client()
        for number in range(2):
            await client.send(call(number))
            assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        again = rig.upstream.peers[-1].seen
        assert b"Authorization: Bearer token-2\r\n" in again and b"token-1" not in again
        assert again.count(b"traceparent: 00-%032x-" % 2) == 1


async def test_a_refusal_behind_a_short_body_leaves_the_connection_in_step() -> None:
    async with open_rig(answering(b"nonsense\r\n\r\n", OK), token=True, upstream=BELOW) as rig:
        client = await rig.client()
        await client.send(call(0, body=b"short"))
        assert (await client.answer())[0] == 502
        await client.send(call(1))
        assert (await client.answer())[0] == 200


async def test_an_expectation_is_answered_however_often_such_a_request_came() -> None:
    async with open_rig(token=True, upstream=BELOW) as rig:
        client = await rig.client()
        for number in range(4):
            data = call(number, body=b"body").replace(b"X-CSRF", b"Expect: 100-continue\r\nX-CSRF")
            await client.send(data[:-4])
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(data[-4:])
            assert (await client.answer())[0] == 200


def test_a_pattern_holds_the_cookies_value_that_the_session_is_known_by_and_no_other() -> None:
    world = World()
    world.live.cookie = "".join(["ali", "ce"])
    house = build_house(world, world.clock)
    check_alike(world, house, write(b"GET /api/x", usual), EDGES[0])
    (key,) = house.patterns.kept._kept
    at = key.index(NAME)
    assert key[at + 1] == "alice"
    assert key[at + 1] is world.live.cookie
    world.live.cookie = "another"
    check_alike(world, house, write(b"GET /files/x", usual), EDGES[0])
    assert list(house.patterns.kept._kept)[-1][at + 1] == "alice"


# ── names that a front proxy gave ────────────────────────────────────────────────────────────────────────────────────


def named(number: int, name: bytes = b"") -> bytes:
    name = name or b"given-%d" % number
    return ask(number).replace(b"X-CSRF", b"X-Request-Id: %b\r\nX-CSRF" % name)


async def test_a_trusted_peers_names_go_out_and_into_the_log_whatever_is_judged_once() -> None:
    async with open_rig(token=True, upstream=BELOW, options={"trusted": (ip_network("127.0.0.0/8"),)}) as rig:
        client = await rig.client()
        for number in range(4):
            await client.send(named(number))
            assert (await client.answer())[0] == 200
        await client.send(named(1))
        await client.answer()
        assert len(rig.guard.asked) == 1
        seen = rig.upstream.peers[0].seen
        assert [seen.count(b"\r\nX-Request-Id: given-%d\r\n" % number) for number in range(4)] == [1, 2, 1, 1]
        rig.house.tick()
        assert [record[1] for record in rig.records] == [b"given-0", b"given-1", b"given-2", b"given-3", b"given-1"]


async def test_a_strangers_names_stay_outside_and_a_name_that_is_none_is_replaced() -> None:
    for trusted, name in (((), b""), ((ip_network("127.0.0.0/8"),), b"no name")):
        async with open_rig(token=True, upstream=BELOW, options={"trusted": trusted}) as rig:
            client = await rig.client()
            for number in range(4):
                await client.send(named(number, name) if number else ask(number))
                assert (await client.answer())[0] == 200
            seen = rig.upstream.peers[0].seen
            assert b"given" not in seen and b"no name" not in seen
            assert seen.count(b"\r\nX-Request-Id: ") == 4


@pytest.mark.row("M10")
async def test_two_names_are_refused_behind_any_number_of_requests_with_one() -> None:
    async with open_rig(token=True, upstream=BELOW, options={"trusted": (ip_network("127.0.0.0/8"),)}) as rig:
        client = await rig.client()
        for number in range(3):
            await client.send(named(number))
            assert (await client.answer())[0] == 200
        await client.send(named(4).replace(b"X-CSRF", b"X-Request-Id: again\r\nX-CSRF"))
        assert (await client.answer())[0] == 400
