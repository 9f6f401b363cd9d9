"""Request bodies on their way up: streaming, back-pressure, limits, Expect, and browsers that leave."""

from __future__ import annotations

import asyncio

import pytest

from bff.policy.routes import Limits
from bff.policy.verdict import Refusal
from tests.proxy.rig import OK, Peer, always_ok, eventually, field_of, open_rig, turns

MIB = 1024 * 1024


def post(size: int | None, *lines: bytes) -> bytes:
    framing = b"Transfer-Encoding: chunked" if size is None else b"Content-Length: %d" % size
    return b"POST /api/x HTTP/1.1\r\nHost: a.test\r\n" + framing + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def silent(peer: Peer) -> None:
    await peer.ended()


@pytest.mark.row("BODY-1")
async def test_a_large_body_arrives_whole_in_either_framing() -> None:
    sizes: list[int] = []

    async def count(peer: Peer) -> None:
        head = await peer.head()
        total = 0
        if length := field_of(head, b"content-length"):
            while total < int(length):
                total += len(await peer.reader.read(65536))
        else:
            while size := int(await peer.reader.readuntil(b"\r\n"), 16):
                await peer.reader.readexactly(size + 2)
                total += size
            await peer.reader.readexactly(2)
        sizes.append(total)
        await peer.send(OK)

    async with open_rig(count) as rig:
        client = await rig.client()
        await client.send(post(3 * MIB))
        await client.send(b"x" * (3 * MIB))
        assert (await client.answer())[0] == 200
        client = await rig.client()
        await client.send(post(None))
        for _ in range(3):
            await client.send(b"100000\r\n" + b"x" * MIB + b"\r\n")
        await client.send(b"0\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert sizes == [3 * MIB, 3 * MIB]
        rig.house.tick()
        assert [record[6] for record in rig.records] == [3 * MIB, 3 * MIB]


@pytest.mark.row("BODY-2", "F55")
async def test_a_slow_upstream_slows_the_browser_and_little_is_held() -> None:
    """BODY-2: with the upstream not reading, the door stops reading too; at most one read is held."""
    gate = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gate.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await peer.read(40 * MIB)
        await peer.send(OK)

    async with open_rig(slow, limits=Limits(body_bytes=64 * MIB)) as rig:
        client = await rig.client()
        client.writer.write(post(40 * MIB) + b"x" * (40 * MIB))
        await eventually(lambda: any(not door.reading for door in rig.house.doors))
        await turns(50)
        door = next(iter(rig.house.doors))
        assert door.exchange is not None
        held = door.exchange.connection.transport.get_write_buffer_size()  # type: ignore[union-attr]
        assert held + len(door.held) <= 256 * 1024
        gate.set()
        assert (await client.answer())[0] == 200


@pytest.mark.row("BODY-3")
async def test_a_declared_body_over_the_limit_is_refused_before_the_upstream_hears_of_it() -> None:
    async with open_rig(limits=Limits(body_bytes=10)) as rig:
        status, head, body = await rig.ask(post(11))
        assert status == 413
        assert b"body_too_large" in body
        assert b"Connection: close" in head
        assert rig.upstream.peers == []
        assert (await rig.ask(post(10) + b"0123456789"))[0] == 200


@pytest.mark.row("BODY-3")
async def test_a_chunked_body_over_the_limit_is_refused_and_aborted_at_the_upstream() -> None:
    async with open_rig(silent, limits=Limits(body_bytes=10)) as rig:
        client = await rig.client()
        await client.send(post(None), b"6\r\nabcdef\r\n", b"6\r\nabcdef\r\n")
        assert (await client.answer())[0] == 413
        peer = await rig.upstream.peer()
        await eventually(lambda: b"abcdef" in peer.seen or peer.reader.at_eof())
        assert b"0\r\n\r\n" not in peer.seen.partition(b"\r\n\r\n")[2]
        assert rig.origin.idle == []


@pytest.mark.row("M4", "FRAME-6")
async def test_broken_chunks_in_the_middle_abort_the_upstream_request() -> None:
    """FRAME-6: the upstream never takes half a body for a whole one."""
    async with open_rig(silent) as rig:
        client = await rig.client()
        await client.send(post(None) + b"3\r\nabc\r\n")
        await rig.upstream.peer()
        await client.send(b"zz\r\n")
        assert (await client.answer())[0] == 400
        peer = rig.upstream.peers[0]
        await eventually(peer.reader.at_eof)
        assert not peer.seen.endswith(b"0\r\n\r\n")


@pytest.mark.row("FRAME-6", "BODY-4", "T4")
async def test_a_browser_that_leaves_half_way_aborts_the_upload() -> None:
    async with open_rig(silent) as rig:
        for leave in ("close", "abort", "half"):
            client = await rig.client()
            await client.send(post(100) + b"half")
            peer = await rig.upstream.peer(len(rig.upstream.peers))
            if leave == "close":
                client.close()
            elif leave == "abort":
                client.writer.transport.abort()
            else:
                client.writer.write_eof()
            await eventually(peer.reader.at_eof)
            assert rig.origin.idle == []


@pytest.mark.row("BODY-4", "F55")
async def test_a_browser_that_leaves_while_the_upstream_thinks_frees_its_connection() -> None:
    async with open_rig(silent) as rig:
        client = await rig.client()
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        peer = await rig.upstream.peer()
        client.close()
        await eventually(lambda: all(door.eof_at or not door.exchange for door in rig.house.doors))
        rig.pass_time(0.6)
        await eventually(peer.reader.at_eof)
        await eventually(lambda: rig.pool.open == 0)
        rig.house.tick()
        assert rig.records[-1][5] == 0
        assert rig.records[-1][9] == "aborted"


async def test_a_half_closed_browser_still_gets_its_answer() -> None:
    async with open_rig() as rig:
        client = await rig.client()
        await client.send(b"GET /api/1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /api/2 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        client.writer.write_eof()
        assert (await client.answer())[2] == b"{}"
        assert (await client.answer())[2] == b"{}"
        assert await client.rest() == b""


@pytest.mark.row("BODY-4")
async def test_leaving_while_the_gatekeeper_waits_cancels_only_the_waiting() -> None:
    async with open_rig() as rig:
        rig.guard.waits = True
        client = await rig.client()
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await eventually(lambda: rig.guard.asked)
        client.close()
        await eventually(lambda: all(door.eof_at for door in rig.house.doors))
        rig.pass_time(0.6)
        await eventually(lambda: rig.guard.cancelled == 1)
        assert rig.upstream.peers == []


@pytest.mark.row("FRAME-12", "M13")
async def test_expect_gets_a_100_only_when_admitted_and_never_reaches_the_api() -> None:
    async with open_rig() as rig:
        client = await rig.client()
        await client.send(post(3, b"Expect: 100-continue"))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert (await client.answer())[0] == 200
        assert b"xpect" not in rig.upstream.peers[0].seen
        rig.guard.refusal = Refusal(401, "unauthenticated", "Sign in.")
        rig.house.forget()
        client = await rig.client()
        await client.send(post(3, b"Expect: 100-continue"))
        status, head, _ = await client.answer()
        assert status == 401
        assert b"Connection: close" in head


@pytest.mark.row("FRAME-12")
async def test_a_body_that_did_not_wait_for_the_100_is_taken_without_one() -> None:
    async with open_rig() as rig:
        assert (await rig.ask(post(3, b"Expect: 100-continue") + b"abc"))[0] == 200


@pytest.mark.row("BODY-7", "T5")
async def test_an_early_refusal_of_the_upstream_reaches_the_browser_and_ends_both_connections() -> None:
    """BODY-7, T5: delivered at once; neither connection is used again."""

    async def too_large(peer: Peer) -> None:
        await peer.head()
        await peer.read(1000)
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.ended()

    async with open_rig(too_large) as rig:
        client = await rig.client()
        await client.send(post(10 * MIB) + b"x" * 1000)
        status, head, body = await client.answer()
        assert (status, body) == (413, b"big")
        assert b"Connection: close" in head
        client.writer.write(b"x" * MIB)
        assert await client.rest() == b""
        await eventually(rig.upstream.peers[0].reader.at_eof)
        assert rig.origin.idle == []


@pytest.mark.row("T5")
async def test_an_answer_that_is_complete_before_the_body_never_returns_its_connection_to_the_pool() -> None:
    async def eager(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.ended()

    async with open_rig(eager) as rig:
        client = await rig.client()
        await client.send(post(1000) + b"x")
        status, head, _ = await client.answer()
        assert status == 200
        assert b"Connection: close" in head
        await eventually(lambda: rig.pool.open == 0)
        client.writer.write(b"GET /api/canary HTTP/1.1\r\nHost: a.test\r\n\r\n" * 100)
        assert await client.rest() == b""
        assert b"canary" not in rig.upstream.peers[0].seen


async def test_an_answer_may_stream_while_the_body_still_comes() -> None:
    """Full duplex: a 2xx head does not stop the upload."""

    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(2):
            await peer.send(await peer.read(3))

    async with open_rig(echo) as rig:
        client = await rig.client()
        await client.send(post(6) + b"abc")
        await client.head()
        assert await client.reader.readexactly(3) == b"abc"
        await client.send(b"def")
        assert await client.reader.readexactly(3) == b"def"


@pytest.mark.row("D9", "BODY-5")
async def test_a_body_that_stops_coming_is_a_408() -> None:
    async with open_rig(silent, options={"body_s": 5.0}) as rig:
        client = await rig.client()
        await client.send(post(100) + b"half")
        await rig.upstream.peer()
        await turns()
        rig.pass_time(4.9)
        assert rig.house.active == 1
        rig.pass_time(0.2)
        status, _, body = await client.answer()
        assert status == 408
        assert b"body_timeout" in body
        await eventually(rig.upstream.peers[0].reader.at_eof)


@pytest.mark.row("D9")
async def test_a_body_that_drips_ends_with_the_total_limit() -> None:
    async with open_rig(silent, limits=Limits(total_s=20.0)) as rig:
        client = await rig.client()
        await client.send(post(100))
        await rig.upstream.peer()
        for _ in range(5):
            await client.send(b"x")
            await turns(50)
            rig.pass_time(4.5)
        assert (await client.answer())[0] == 408


async def test_a_body_on_a_pooled_connection_is_not_sent_twice() -> None:
    """BODY-6: POST is never retried."""
    calls = 0

    async def once(peer: Peer) -> None:
        nonlocal calls
        await peer.head()
        calls += 1
        if len(rig.upstream.peers) == 1 and calls == 1:
            await peer.send(OK)
            await peer.head()
            calls += 1

    async with open_rig(once) as rig:
        client = await rig.client()
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await client.answer()
        await client.send(post(3) + b"abc")
        assert (await client.answer())[0] == 502
        assert calls == 2
        assert len(rig.upstream.peers) == 1


async def test_many_bodies_on_one_connection() -> None:
    async with open_rig(always_ok) as rig:
        client = await rig.client()
        for size in (0, 1, 100, 65536, 0, 5):
            await client.send(post(size) + b"x" * size)
            assert (await client.answer())[0] == 200
        assert len(rig.upstream.peers) == 1
