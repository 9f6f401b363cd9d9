"""Remembered answers: a shape must give exactly what judging the head anew would give, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.errors import UpstreamProtocol
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.policy.verdict import Admitted, Target
from bff.proxy.headers import HeaderRules, response_head
from bff.proxy.replies import Replies, Reply
from bff.proxy.response import read_response
from tests.proxy.rig import GET, Peer, open_rig

RULES = HeaderRules(own_cookies="__Host-Http-bff", public_origin="https://a.test")
UPSTREAM = Upstream("http", "127.0.0.1", 1)
ROUTE = Route("api", "/api/", Admission.API, METHODS, upstream=UPSTREAM)
ADMITTED = Admitted(Facts(method="GET", path="/api/x", query=None, host="a.test", headers=()), ROUTE, Target(UPSTREAM, "/x"))
DATE = b"Tue, 24 Nov 2026 14:27:00 GMT"
LATER = b"Wed, 25 Nov 2026 00:00:01 GMT"


def judged(block: bytes) -> Reply:
    """What a head becomes without any memory."""
    head = read_response(block, method="GET")
    out = response_head(head, ADMITTED, rules=RULES, keep_alive=True)
    return Reply(head.status, out, head.length, head.chunked, head.keep_alive, stream=False)


def answer(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


PLAIN = answer(b"Server: x", b"Date: " + DATE, b"Content-Type: text/plain", b"Content-Length: 219", b"ETag: 1")


@pytest.mark.parametrize(
    "block",
    [
        PLAIN,
        answer(b"date: " + DATE, b"content-length: 5", b"x-a: b"),
        answer(b"Content-Length: 7", b"X: y", b"Date: " + DATE),
        answer(b"Date: " + DATE, b"Content-Length: 12"),
    ],
)
def test_another_date_and_length_give_what_judging_anew_would_give(block: bytes) -> None:
    replies = Replies()
    replies.keep(block, judged(block))
    for date in (DATE, LATER):
        for length in (b"0", b"1", b"219", b"123456789012345678", b"007"):
            old = read_response(block, method="GET").length
            other = block.replace(DATE, date).replace(b"ength: %d" % (old or 0), b"ength: " + length)
            assert replies.find_alike(other) == judged(other)


@pytest.mark.row("M11", "FRAME-8")
@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace(b"ETag: 1", b"ETag: 2"),
        PLAIN.replace(b"219", b"+219"),
        PLAIN.replace(b"219", b""),
        PLAIN.replace(b"219", b"219 "),
        PLAIN.replace(b"219", b"1234567890123456789"),
        PLAIN.replace(b"219", b"\xd9\xa3"),
        PLAIN.replace(b"ETag: 1", b"ETag: 1\r\nContent-Length: 219"),
        PLAIN.replace(b"ETag: 1", b"ETag: 1\r\nTransfer-Encoding: chunked"),
        PLAIN.replace(DATE, DATE[:-3] + b"\r\n\x00"),
        PLAIN.replace(DATE, DATE[:-1] + b"\x00"),
        PLAIN.replace(DATE, DATE + b"x"),
        PLAIN.replace(b"200 OK", b"201 OK"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"Date: " + DATE + b"\r\n", b""),
        PLAIN.replace(b"Content-Length: 219\r\n", b""),
        PLAIN.replace(b"Date:", b"DATE:"),
    ],
)
def test_any_other_difference_is_judged_anew(other: bytes) -> None:
    replies = Replies()
    replies.keep(PLAIN, judged(PLAIN))
    assert replies.find_alike(other) is None


@given(st.integers(0, len(PLAIN) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_no_edit_of_a_known_head_slips_past_the_judge(at: int, inserted: bytes, removed: int) -> None:
    """Whatever ``find_alike`` says of a mutated head, the judge says the same, or ``find_alike`` is silent."""
    replies = Replies()
    replies.keep(PLAIN, judged(PLAIN))
    other = PLAIN[:at] + inserted + PLAIN[at + removed :]
    found = replies.find_alike(other)
    if found is not None:
        try:
            assert found == judged(other)
        except UpstreamProtocol:
            pytest.fail(f"a head that must be refused was found alike: {other!r}")


@pytest.mark.parametrize(
    "block",
    [
        answer(b"Date: " + DATE, b"Expires: " + DATE, b"Content-Length: 5"),
        answer(b"Connection: Date", b"Date: " + DATE, b"Content-Length: 5"),
        answer(b"Date: " + DATE, b"Transfer-Encoding: chunked"),
        b"HTTP/1.1 304 Not Modified\r\nDate: " + DATE + b"\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_a_head_that_cannot_be_taken_apart_has_no_shape(block: bytes) -> None:
    replies = Replies()
    replies.keep(block, judged(block))
    assert replies.find_alike(block.replace(b"14:27", b"14:28")) is None


def test_shapes_and_answers_are_bounded() -> None:
    replies = Replies()
    for number in range(1000):
        block = PLAIN.replace(b"ETag: 1", b"ETag: %d" % number)
        replies.keep(block, judged(block))
        assert len(replies.kept) <= 256
        assert len(replies._shapes) <= 256


async def test_answers_of_changing_size_come_out_right_on_one_connection() -> None:
    async def behave(peer: Peer) -> None:
        for size in (0, 1, 10, 100, 5, 70_000, 3):
            await peer.head()
            await peer.send(answer(b"Date: " + DATE, b"Content-Length: %d" % size) + b"x" * size)

    async with open_rig(behave) as rig:
        client = await rig.client()
        for size in (0, 1, 10, 100, 5, 70_000, 3):
            await client.send(GET)
            assert (await client.answer())[2] == b"x" * size
        assert len(rig.upstream.peers) == 1


async def test_an_answer_with_a_cookie_is_not_kept() -> None:
    async def behave(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(answer(b"Set-Cookie: lang=de", b"Content-Length: 0"))

    async with open_rig(behave, route={"return_cookies": frozenset({"lang"})}) as rig:
        for _ in range(2):
            assert b"Set-Cookie: lang=de" in (await rig.ask())[1]
        ways = list(rig.house.lanes["api"].ways.values())
        assert [way.replies.kept for way in ways] == [{}]
