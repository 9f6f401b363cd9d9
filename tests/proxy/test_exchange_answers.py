"""What an upstream may answer, and what becomes of it at the browser: framing twins, deadlines, retries, renewals."""

from __future__ import annotations

import asyncio

import pytest

from bff.base.errors import GrantRevoked, ProviderUnavailable
from bff.policy.routes import Limits
from bff.session.model import Credential
from tests.proxy.rig import GET, OK, Behaviour, Peer, answering, eventually, field_of, open_rig, turns

POST = b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"
HEAD = b"HEAD /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n"


def once(data: bytes) -> Behaviour:
    """Sends ``data`` for the first request, in one piece, and keeps the connection open."""

    async def behave(peer: Peer) -> None:
        await peer.head()
        await peer.send(data)
        await peer.ended()

    return behave


def once_and_close(data: bytes) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.head()
        await peer.send(data)

    return behave


BROKEN = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
    "bare CR": b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: x=y\r\nContent-Length: 2\r\n\r\n{}",
    "NUL": b"HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\n{}",
    "wrong version": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "HTTP/0.9, one line": b"<html>hello</html>\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "bare LF at the end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n{}",
    "bare LF behind an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "odd status": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "framed 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    "201 headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(201)) + b"\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000,
    "interim storm": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50 + OK,
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.row("M11", "FRAME-8", "D8", "FRAME-11")
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("split", [False, True])
async def test_a_malformed_answer_is_a_502_and_its_connection_is_never_used_again(case: str, split: bool) -> None:
    async def behave(peer: Peer) -> None:
        await peer.head()
        if len(rig.upstream.peers) > 1:
            await peer.send(OK)
            return
        data = BROKEN[case]
        if split:
            for piece in (data[:9], data[9:40], data[40:]):
                await peer.send(piece)
                await turns(5)
        else:
            await peer.send(data)
        await peer.ended()

    async with open_rig(behave) as rig:
        client = await rig.client()
        await client.send(GET)
        status, _, body = await client.answer()
        assert status == 502
        assert b"upstream_protocol" in body
        assert rig.origin.idle == []
        await client.send(GET)
        assert (await client.answer())[2] == b"{}"
        assert len(rig.upstream.peers) == 2


@pytest.mark.row("FRAME-9", "T5")
@pytest.mark.parametrize("later", [False, True])
async def test_bytes_after_an_answer_never_become_the_next_answer(later: bool) -> None:
    """FRAME-9: whether they come with the answer or afterwards, on a resting connection."""

    async def behave(peer: Peer) -> None:
        await peer.head()
        if len(rig.upstream.peers) > 1:
            await peer.send(OK.replace(b"{}", b"me"))
            await peer.ended()
            return
        evil = OK.replace(b"{}", b"ev")
        if later:
            await peer.send(OK)
            await rested.wait()
            await peer.send(evil)
        else:
            await peer.send(OK + evil)
        await peer.ended()

    rested = asyncio.Event()
    async with open_rig(behave) as rig:
        client = await rig.client()
        await client.send(GET)
        assert (await client.answer())[2] == b"{}"
        if later:
            assert len(rig.origin.idle) == 1
            rested.set()
            await eventually(lambda: rig.origin.idle == [])
        await client.send(GET)
        assert (await client.answer())[2] == b"me"


@pytest.mark.row("FRAME-10")
async def test_bodiless_answers_have_no_body_and_the_connection_stays_in_step() -> None:
    answers = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 1000\r\n\r\n',
        OK,
    )
    async with open_rig(answers) as rig:
        client = await rig.client()
        await client.send(HEAD)
        _, head, _ = await client.answer(bodiless=True)
        assert field_of(head, b"content-length") == b"1000"
        await client.send(GET)
        status, head, _ = await client.answer()
        assert status == 204
        assert b"ontent-Length" not in head
        assert b"ransfer-Encoding" not in head
        await client.send(GET)
        status, head, _ = await client.answer()
        assert (status, field_of(head, b"etag")) == (304, b'"a"')
        await client.send(GET)
        assert (await client.answer())[2] == b"{}"
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("FRAME-10")
async def test_a_body_sent_with_a_204_is_never_taken_for_the_next_answer() -> None:
    async with open_rig(answering(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nev", OK)) as rig:
        client = await rig.client()
        await client.send(GET)
        assert (await client.answer())[0] == 204
        await client.send(GET)
        assert (await client.answer())[2] == b"{}"
        assert len(rig.upstream.peers) == 2


@pytest.mark.row("FRAME-11")
async def test_interim_answers_are_absorbed() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with open_rig(answering(early + OK, OK)) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            status, head, body = await client.answer()
            assert (status, body) == (200, b"{}")
            assert b"Link" not in head
        assert len(rig.upstream.peers) == 1


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfXX",
}


@pytest.mark.row("FRAME-7", "F54")
@pytest.mark.parametrize("case", CUT)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_an_answer_cut_short_ends_in_a_reset_not_in_an_end(case: str, version: bytes) -> None:
    async with open_rig(once_and_close(CUT[case])) as rig:
        client = await rig.client()
        await client.send(GET.replace(b"HTTP/1.1", version))
        assert await client.was_reset()
        rig.house.tick()
        assert rig.records[-1][9] == "aborted"
        assert rig.origin.idle == []


async def test_an_upstream_reset_in_the_middle_is_passed_on_as_a_reset() -> None:
    async def reset(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart")
        await turns()
        import socket
        import struct

        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()

    async with open_rig(reset) as rig:
        client = await rig.client()
        await client.send(GET)
        assert await client.was_reset()


async def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_browser() -> None:
    async with open_rig(once_and_close(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it")) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            _, head, body = await client.answer()
            assert body == b"all of it"
            assert field_of(head, b"transfer-encoding") == b"chunked"
        client = await rig.client()
        await client.send(GET.replace(b"1.1", b"1.0"))
        assert (await client.rest()).endswith(b"\r\n\r\nall of it")


@pytest.mark.row("BODY-8", "FRAME-13")
async def test_chunked_answers_pass_byte_for_byte_without_their_trailers() -> None:
    body = bytes(range(256)) * 40

    async def behave(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 1000):
                piece = body[start : start + 1000]
                await peer.send(b"%x;x=y\r\n" % len(piece) + piece + b"\r\n")
            await peer.send(b"0\r\nSet-Cookie: a=b\r\nAuthorization: x\r\n\r\n")

    async with open_rig(behave) as rig:
        client = await rig.client()
        for _ in range(3):
            await client.send(GET)
            _, head, got = await client.answer()
            assert got == body
            assert field_of(head, b"content-encoding") == b"br"
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("BODY-2", "F55")
async def test_a_slow_reader_slows_the_upstream_and_little_is_held() -> None:
    """BODY-2, F55: one read at most is held for a browser that does not read."""

    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"x" * 100_000)

    async with open_rig(endless) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        await eventually(lambda: any(not door.writable for door in rig.house.doors))
        await turns(50)
        door = next(iter(rig.house.doors))
        assert door.transport.get_write_buffer_size() <= 256 * 1024
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        total = 0
        while total < 100_000_000:
            total += len(await client.reader.read(1 << 20))


@pytest.mark.row("D9", "F55")
async def test_a_reader_that_stopped_reading_is_dropped_and_one_that_is_merely_slow_is_not() -> None:
    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")

    async with open_rig(endless, limits=Limits(total_s=1e9)) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        await eventually(lambda: any(not door.writable for door in rig.house.doors))
        rig.house.tick()
        rig.pass_time(89)
        assert rig.house.active == 1
        rig.pass_time(2)
        assert rig.house.active == 0
        await eventually(lambda: rig.pool.open == 0)


async def silent(peer: Peer) -> None:
    await peer.ended()


async def half_head(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    await peer.ended()


@pytest.mark.row("BODY-5", "F54")
@pytest.mark.parametrize("behave", [silent, half_head])
async def test_an_upstream_that_does_not_answer_in_time_is_a_504(behave: Behaviour) -> None:
    async with open_rig(behave, limits=Limits(head_s=7.0)) as rig:
        client = await rig.client()
        await client.send(GET)
        await rig.upstream.peer()
        await turns(50)
        rig.pass_time(6.9)
        assert rig.house.active == 1
        rig.pass_time(0.2)
        status, _, body = await client.answer()
        assert status == 504
        assert b"upstream_timeout" in body
        await eventually(lambda: rig.pool.open == 0)
        await client.send(GET)  # the browser's connection is still good
        await rig.upstream.peer(1)


@pytest.mark.row("BODY-5", "F54", "FRAME-7")
async def test_an_answer_that_stops_coming_is_cut() -> None:
    async with open_rig(once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), limits=Limits(idle_s=5.0)) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        rig.pass_time(4.9)
        assert rig.house.active == 1
        rig.pass_time(0.4)
        assert await client.was_reset()


@pytest.mark.row("BODY-5")
async def test_an_answer_that_drips_ends_with_the_total_limit() -> None:
    async with open_rig(once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), limits=Limits(total_s=9.0)) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        for _ in range(3):
            await rig.upstream.peers[0].send(b"x")
            assert await client.reader.read(10)
            rig.pass_time(3.1)
        assert await client.was_reset()


@pytest.mark.row("SSE-1", "SSE-3")
async def test_events_pass_at_once_and_live_by_their_own_idle_limit() -> None:
    """SSE-1, SSE-3: no total limit, silence allowed for stream_idle_s."""

    async with open_rig(
        once(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        limits=Limits(idle_s=5.0, total_s=10.0, stream_idle_s=60.0),
    ) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        for number in range(4):
            event = b"data: %d\n\n" % number
            await rig.upstream.peers[0].send(event)
            assert await client.reader.readexactly(len(event) + 5) == b"%x\r\n" % len(event) + event + b"\r\n"
            rig.pass_time(50)
        assert rig.house.active == 1
        rig.pass_time(61)
        assert await client.was_reset()


@pytest.mark.row("SSE-4", "F56")
@pytest.mark.parametrize("way", ["ended", "expired", "watched"])
async def test_a_stream_ends_with_its_session(way: str) -> None:
    events = once(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    async with open_rig(events, live=True, limits=Limits(stream_idle_s=1e9)) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        live = rig.guard.live
        assert live is not None
        if way == "ended":  # before the tick saw the stream
            live.session = None
            rig.pass_time(0.3)
        elif way == "expired":
            rig.pass_time(3599)
            assert rig.house.active == 1
            rig.pass_time(2)
        else:
            rig.pass_time(0.3)
            assert len(live.watchers) == 1
            rig.end_session()
        assert await client.was_reset()
        assert live.watchers == set()
        await eventually(lambda: rig.pool.open == 0)


async def test_a_finished_answer_leaves_no_watcher_behind() -> None:
    async with open_rig(once(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"), live=True) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        rig.pass_time(0.3)
        assert len(rig.guard.live.watchers) == 1  # type: ignore[union-attr]
        await rig.upstream.peers[0].send(b"lf")
        assert await client.reader.readexactly(4) == b"half"
        assert rig.guard.live.watchers == set()  # type: ignore[union-attr]


# -- retries ----------------------------------------------------------------------------------------------------------


async def one_each(peer: Peer) -> None:
    """Answers one request for each connection and closes it when the next arrives, without an answer."""
    await peer.head()
    await peer.send(OK)
    await peer.head()


@pytest.mark.row("BODY-6")
@pytest.mark.parametrize("request_", [GET, GET.replace(b"GET", b"DELETE"), GET.replace(b"GET", b"OPTIONS")])
async def test_a_request_lost_on_a_dying_pooled_connection_is_sent_once_more(request_: bytes) -> None:
    async with open_rig(one_each) as rig:
        client = await rig.client()
        for _ in range(3):
            await client.send(request_)
            assert (await client.answer())[0] == 200
        assert [peer.seen.count(b" HTTP/1.1\r\n") for peer in rig.upstream.peers] == [2, 2, 1]


@pytest.mark.row("BODY-6")
async def test_a_post_lost_on_a_dying_pooled_connection_is_not_repeated() -> None:
    async with open_rig(one_each) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        await client.send(POST)
        assert (await client.answer())[0] == 502
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("BODY-6")
async def test_a_get_lost_on_a_fresh_connection_is_not_repeated() -> None:
    async def never(peer: Peer) -> None:
        await peer.head()

    async with open_rig(never) as rig:
        status, _, body = await rig.ask(GET)
        assert status == 502
        assert b"upstream_unreachable" in body
        assert len(rig.upstream.peers) == 1


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    async def behave(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.head()
        await peer.send(b"HTTP/1.1 2")

    async with open_rig(behave) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        await client.send(GET)
        assert (await client.answer())[0] == 502
        assert len(rig.upstream.peers) == 1


# -- renewals and step-up ---------------------------------------------------------------------------------------------

STALE = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="api", error="invalid_token"\r\nContent-Length: 5\r\n\r\nstale'


def stale_then_ok(peer_token: bytes = b"token-2") -> Behaviour:
    async def behave(peer: Peer) -> None:
        while True:
            head = await peer.head()
            await peer.send(OK if peer_token in head else STALE)

    return behave


@pytest.mark.row("TOKEN-10", "F13")
async def test_a_stale_token_is_renewed_once_and_the_request_replayed_once() -> None:
    async with open_rig(stale_then_ok(), token=True) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        status, _, body = await rig.ask(GET)
        assert (status, body) == (200, b"{}")
        assert rig.desk.calls == 1
        assert rig.upstream.requests == 2


@pytest.mark.row("TOKEN-10")
async def test_an_upstream_that_always_says_401_gets_two_requests_and_one_renewal() -> None:
    async with open_rig(stale_then_ok(b"never"), token=True) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        status, head, body = await rig.ask(GET)
        assert (status, body) == (401, b"stale")
        assert rig.desk.calls == 1
        assert rig.upstream.requests == 2


@pytest.mark.row("TOKEN-10")
@pytest.mark.parametrize("request_", [POST, POST.replace(b"Length: 0", b"Length: 3") + b"abc"])
async def test_a_post_is_not_replayed(request_: bytes) -> None:
    async def behave(peer: Peer) -> None:
        head = await peer.head()
        await peer.read(int(field_of(head, b"content-length")))
        await peer.send(STALE)

    async with open_rig(behave, token=True) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        assert (await rig.ask(request_))[0] == 401
        assert rig.desk.calls == 0
        assert rig.upstream.requests == 1


@pytest.mark.row("TOKEN-10", "TOKEN-9")
@pytest.mark.parametrize("fresh", [None, ProviderUnavailable("down")])
async def test_a_renewal_that_comes_to_nothing_leaves_the_upstreams_answer(fresh: Exception | None) -> None:
    async with open_rig(stale_then_ok(), token=True) as rig:
        rig.desk.fresh = fresh
        client = await rig.client()
        await client.send(GET)
        status, _, body = await client.answer()
        assert (status, body) == (401, b"stale")
        assert rig.desk.calls == 1


async def test_a_renewal_that_ends_the_session_signs_the_browser_out() -> None:
    async with open_rig(stale_then_ok(), token=True) as rig:
        rig.desk.fresh = GrantRevoked("invalid_grant")
        status, head, body = await rig.ask(GET)
        assert status == 401
        assert b"unauthenticated" in body
        assert b"Set-Cookie: gone=" in head


async def test_a_401_for_an_anonymous_route_is_just_a_401() -> None:
    async with open_rig(stale_then_ok()) as rig:
        assert (await rig.ask(GET))[0] == 401
        assert rig.desk.calls == 0


@pytest.mark.row("STEPUP-1", "STEPUP-2", "STEPUP-6")
async def test_a_demand_for_stronger_authentication_reaches_the_spa_as_json() -> None:
    demand = (
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error="insufficient_user_authentication", '
        b'acr_values="gold silver", max_age="60"\r\nContent-Length: 0\r\n\r\n'
    )
    async with open_rig(answering(demand), token=True) as rig:
        status, head, body = await rig.ask(GET)
        assert status == 401
        assert b"gold" in body
        assert b"60" in body
        assert b"step_up" in body
        assert rig.desk.calls == 0
        assert rig.guard.live.session is not None  # type: ignore[union-attr]


@pytest.mark.row("STEPUP-7", "RESP-9")
async def test_insufficient_scope_passes_as_it_is() -> None:
    answer = b'HTTP/1.1 403 Forbidden\r\nWWW-Authenticate: Bearer error="insufficient_scope"\r\nContent-Length: 2\r\n\r\nno'
    async with open_rig(answering(answer), token=True) as rig:
        status, _, body = await rig.ask(GET)
        assert (status, body) == (403, b"no")
        assert rig.desk.calls == 0


async def test_a_gatekeeper_that_fails_is_a_500_and_never_an_admission() -> None:
    """OPS-3: the last resort refuses."""
    async with open_rig() as rig:
        rig.guard.waits = True
        rig.guard.gate.set()
        rig.guard.failure = RuntimeError("secret detail")
        status, _, body = await rig.ask(GET)
        assert status == 500
        assert b"secret" not in body
        assert rig.upstream.peers == []
