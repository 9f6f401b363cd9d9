"""Slow, idle and too many connections; draining; the agent's way; TLS on both sides."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from bff.policy.routes import Limits
from bff.policy.verdict import Refusal
from bff.proxy.crowd import MAX_LINGERING_REFUSED
from tests.proxy.rig import AGENT_ROUTE, GET, OK, Peer, always_ok, answering, eventually, field_of, open_rig, turns


@pytest.mark.row("D9", "BODY-5")
async def test_a_head_that_does_not_end_in_time_is_a_408_however_it_drips() -> None:
    async with open_rig() as rig:
        client = await rig.client()
        for byte in (b"G", b"E", b"T", b" ", b"/"):
            await client.send(byte)
            await turns(50)
            rig.pass_time(1.9)
        assert len(rig.house.doors) == 1
        rig.pass_time(0.6)
        status, head, body = await client.answer()
        assert status == 408
        assert b"head_timeout" in body
        assert b"Connection: close" in head


@pytest.mark.row("D9")
async def test_a_connection_that_never_speaks_and_one_that_fell_silent_are_closed() -> None:
    async with open_rig() as rig:
        mute, tired = await rig.client(), await rig.client()
        await tired.send(GET)
        await tired.answer()
        await eventually(lambda: len(rig.house.doors) == 2)
        rig.pass_time(74)
        assert len(rig.house.doors) == 2
        rig.pass_time(2)
        assert await mute.rest() == b""
        assert await tired.rest() == b""
        mute.close()
        tired.close()
        await eventually(lambda: not rig.house.doors)


async def test_a_connection_that_does_not_close_after_its_last_answer_is_closed() -> None:
    async with open_rig() as rig:
        client = await rig.client()
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await client.answer()
        assert await client.reader.read() == b""
        assert len(rig.house.doors) == 1
        rig.pass_time(2.1)
        await eventually(lambda: not rig.house.doors)


async def test_what_follows_the_last_answer_is_thrown_away_within_bounds() -> None:
    async with open_rig(options={"linger_bytes": 100_000}) as rig:
        client = await rig.client()
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await client.answer()
        client.writer.write(GET * 100)
        await turns(50)
        assert len(rig.guard.asked) == 1
        client.writer.write(b"x" * 1_000_000)
        await eventually(lambda: not rig.house.doors)
        assert len(rig.guard.asked) == 1


async def test_a_slow_reader_gets_all_of_its_last_answer() -> None:
    size = 8_000_000

    async def large(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await peer.ended()

    async with open_rig(large) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await eventually(lambda: any(not door.writable for door in rig.house.doors))
        for _ in range(10):
            await turns(20)
            rig.pass_time(5)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        total = 0
        while total < size:
            piece = await client.reader.read(size)
            assert piece
            total += len(piece)
            rig.pass_time(0.1)


@pytest.mark.row("F52")
async def test_one_connection_too_many_is_told_so_and_room_comes_back() -> None:
    async with open_rig(options={"connections": 2}) as rig:
        first, second = await rig.client(), await rig.client()
        await eventually(lambda: len(rig.house.doors) == 2)
        third = await rig.client()
        status, head, _ = await third.answer()
        assert (status, field_of(head, b"retry-after")) == (503, b"1")
        third.close()
        await first.send(GET)
        assert (await first.answer())[0] == 200
        second.close()
        await eventually(lambda: len(rig.house.doors) == 1)
        assert (await rig.ask())[0] == 200


async def test_who_leaves_just_before_a_refusal_is_no_failure_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel knows that the browser has gone, the loop has not looked: the answer is met by a reset and its end cannot be sent.
    ``open_rig`` fails on what the loop complains of."""
    async with open_rig() as rig:
        browser = socket.create_connection(("127.0.0.1", rig.port))
        browser.sendall(GET[:20])
        await eventually(lambda: any(door.head_at for door in rig.house.doors))
        browser.close()
        rig.pass_time(10.5)
        await eventually(lambda: not rig.house.doors)
    assert caplog.records == []


@pytest.mark.row("F52", "D9")
async def test_a_crowd_that_is_refused_does_not_stay_for_its_answer() -> None:
    async with open_rig(options={"connections": 1}) as rig:
        first = await rig.client()
        await eventually(lambda: len(rig.house.doors) == 1)
        crowd = [await rig.client() for _ in range(40)]
        await eventually(lambda: len(rig.house.doors) <= 1 + MAX_LINGERING_REFUSED)
        await first.send(GET)
        assert (await first.answer())[0] == 200
        for one in crowd:
            one.close()


@pytest.mark.row("F52", "D9")
async def test_in_a_full_house_the_connection_that_rests_longest_gives_way_and_a_busy_one_does_not() -> None:
    gate = asyncio.Event()

    async def one_waits(peer: Peer) -> None:
        await peer.head()
        await gate.wait()
        await peer.send(OK)
        await peer.ended()

    async with open_rig(one_waits, options={"connections": 3}) as rig:
        busy, idle = await rig.client(), await rig.client()
        await busy.send(GET)
        await rig.upstream.peer()
        await eventually(lambda: len(rig.house.doors) == 2)
        rig.pass_time(0.01)
        half = await rig.client()
        await half.send(GET[:-2])
        await eventually(lambda: sum(bool(door.head_at) for door in rig.house.doors) == 1)
        rig.pass_time(0.2)
        assert (await (await rig.client()).answer())[0] == 503, "nobody has rested long enough"
        rig.pass_time(0.2)
        first = await rig.client()
        assert await idle.rest() == b""
        second = await rig.client()
        assert await half.rest() == b""
        gate.set()
        for client in (first, second):
            await client.send(GET)
        assert [(await client.answer())[0] for client in (busy, first, second)] == [200, 200, 200]


@pytest.mark.row("D9", "D15")
async def test_whoever_holds_the_house_gives_way_at_once_to_somebody_from_elsewhere() -> None:
    async with open_rig(options={"connections": 6}) as rig:
        crowd = [await rig.client() for _ in range(6)]
        await eventually(lambda: len(rig.house.doors) == 6)
        assert (await (await rig.client()).answer())[0] == 503
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, local_addr=("127.0.0.9", 0))
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        for client in crowd:
            client.close()


@pytest.mark.row("D15")
async def test_one_address_cannot_take_every_connection() -> None:
    async with open_rig(options={"connections_per_address": 1}) as rig:
        first = await rig.client()
        await first.send(GET)
        await first.answer()
        assert (await (await rig.client()).answer())[0] == 503
        first.close()
        for client in rig.clients:
            client.close()
        await eventually(lambda: not rig.house.doors)
        assert (await rig.ask())[0] == 200


@pytest.mark.row("F47", "OPS-6")
async def test_draining_finishes_what_runs_and_keeps_nothing_open() -> None:
    gate = asyncio.Event()

    async def hold(peer: Peer) -> None:
        await peer.head()
        await gate.wait()
        await peer.send(OK)
        await peer.ended()

    async with open_rig(hold) as rig:
        idle, busy = await rig.client(), await rig.client()
        await busy.send(GET)
        await rig.upstream.peer()
        await eventually(lambda: len(rig.house.doors) == 2)
        rig.clock.advance(1.1)
        rig.house.begin_drain()
        assert await idle.rest() == b""
        assert rig.house.active == 1
        gate.set()
        status, head, body = await busy.answer()
        assert (status, body) == (200, b"{}")
        assert b"Connection: close" in head
        assert await busy.rest() == b""
        assert rig.house.active == 0


@pytest.mark.row("F47")
async def test_draining_gives_a_connection_that_was_just_accepted_a_second_for_its_first_request() -> None:
    async with open_rig() as rig:
        asking, silent = await rig.client(), await rig.client()
        await eventually(lambda: len(rig.house.doors) == 2)
        rig.house.begin_drain()
        assert rig.house.drain() == 2
        await asking.send(GET)
        status, head, _ = await asking.answer()
        assert status == 200 and b"Connection: close" in head
        rig.clock.advance(1.1)
        rig.house.drain()
        assert await silent.rest() == b""


@pytest.mark.row("F47", "OPS-6", "SSE-4")
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_draining_ends_an_event_stream_at_once_where_the_browser_sees_it(version: bytes) -> None:
    async def stream(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await peer.ended()

    async with open_rig(stream) as rig:
        client = await rig.client()
        await client.send(GET.replace(b"HTTP/1.1", version))
        await client.reader.readuntil(b"data: 1\n\n")
        rig.house.begin_drain()
        if version == b"HTTP/1.0":
            assert await client.was_reset()
        else:
            assert await client.rest() == b"\r\n", "no last chunk"


async def test_draining_holds_for_answers_the_memo_knows() -> None:
    async with open_rig() as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        other = await rig.client()
        await other.send(GET[:20])
        await eventually(lambda: any(door.head_at for door in rig.house.doors))
        rig.house.begin_drain()
        await other.send(GET[20:])
        assert b"Connection: close" in (await other.answer())[1]


@pytest.mark.row("F54", "OPS-7")
async def test_an_upstream_that_is_down_is_a_502_and_soon_a_fast_one_and_comes_back() -> None:
    async with open_rig() as rig:
        port = rig.guard.upstream.port  # type: ignore[union-attr]
        await rig.upstream.stop()
        for _ in range(7):
            status, _, body = await rig.ask()
            assert status == 502
            assert b"upstream_unreachable" in body
        assert rig.pool.open == 0
        rig.upstream._server = await asyncio.start_server(rig.upstream._take, "127.0.0.1", port)
        rig.clock.advance(1.1)
        assert (await rig.ask())[0] == 200
        assert (await rig.ask())[0] == 200


@pytest.mark.row("BODY-9")
async def test_an_upstream_at_its_bound_is_a_fast_503() -> None:
    async def hold(peer: Peer) -> None:
        await peer.ended()

    async with open_rig(hold, pool={"connections": 1}) as rig:
        first = await rig.client()
        await first.send(GET)
        await rig.upstream.peer()
        status, head, body = await rig.ask(GET.replace(b"/x", b"/y"))
        assert status == 503
        assert b"upstream_busy" in body
        assert field_of(head, b"retry-after")
        rig.house.stop()


async def test_resting_connections_are_closed_in_time() -> None:
    async with open_rig() as rig:
        await rig.ask()
        assert len(rig.origin.idle) == 1
        rig.pass_time(29)
        assert len(rig.origin.idle) == 1
        rig.pass_time(2)
        assert rig.origin.idle == []
        await eventually(lambda: rig.pool.open == 0)
        assert (await rig.ask())[0] == 200


async def test_a_request_that_cannot_be_repeated_avoids_a_connection_that_rested_long() -> None:
    async with open_rig() as rig:
        await rig.ask()
        rig.clock.advance(3)
        await rig.ask(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
        assert len(rig.upstream.peers) == 2
        await rig.ask()
        assert len(rig.upstream.peers) == 2


async def test_the_agent_gets_the_verdict_in_a_note_cookies_and_session_included(tmp_path: Path) -> None:
    taken = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        head = await peer.head()
        taken.append(head)
        taken.append(rig.handoff.read(field_of(head, b"bff-handoff").decode()))
        await peer.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: __Host-Http-bff=v; Secure\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    path = str(tmp_path / "agent.sock")
    server = await asyncio.start_unix_server(agent, path)
    async with open_rig(pool={"agent_socket": path}, live=True) as rig:
        rig.guard.upstream = None
        rig.guard.route = AGENT_ROUTE
        for _ in range(2):
            status, head, body = await rig.ask(
                b"GET /bff/user HTTP/1.1\r\nHost: a.test\r\nCookie: __Host-Http-bff=t\r\nbff-handoff: forged\r\n\r\n"
            )
            assert (status, body) == (200, b"ok")
            assert b"Set-Cookie: __Host-Http-bff=v" in head
        assert taken[1].admitted.route is AGENT_ROUTE
        assert taken[1].admitted.facts.cookies == (("__Host-Http-bff", "t"),)
        assert taken[1].key == rig.guard.live.key
        assert taken[0].count(b"bff-handoff") == 1
        assert b"Cookie" not in taken[0]
        assert field_of(taken[0], b"bff-handoff") != field_of(taken[2], b"bff-handoff")
        assert len(rig.guard.asked) == 2
    server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.row("ROUTE-10", "K3")
async def test_tls_to_an_upstream_is_verified_against_its_own_authority(authority: trustme.CA, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    there = {"scheme": "https", "host": "localhost", "ca_file": str(ca)}
    async with open_rig(upstream_tls=serving(authority, "localhost"), upstream=there) as rig:
        assert (await rig.ask())[0] == 200
        assert (await rig.ask())[0] == 200
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("ROUTE-10")
@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_an_upstream_that_is_not_who_it_should_be_is_a_502(authority: trustme.CA, tmp_path: Path, wrong: str) -> None:
    ca = tmp_path / "ca.pem"
    (trustme.CA() if wrong == "authority" else authority).cert_pem.write_to_path(str(ca))
    name = "elsewhere.test" if wrong == "name" else "localhost"
    there = {"scheme": "https", "host": "localhost", "ca_file": str(ca)}
    async with open_rig(upstream_tls=serving(authority, name), upstream=there) as rig:
        rig_status, _, body = await rig.ask()
        assert rig_status == 502
        assert b"localhost" not in body
        assert all(peer.seen == b"" for peer in rig.upstream.peers)
        assert rig.pool.open == 0


async def test_a_client_certificate_is_shown_to_the_upstream_that_wants_one(authority: trustme.CA, tmp_path: Path) -> None:
    ca, mine = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("bff.test").private_key_and_cert_chain_pem.write_to_path(str(mine))
    context = serving(authority, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    there = {"scheme": "https", "host": "localhost", "ca_file": str(ca), "client_cert_file": str(mine)}
    async with open_rig(upstream_tls=context, upstream=there) as rig:
        assert (await rig.ask())[0] == 200


async def test_the_door_speaks_tls_with_large_bodies_both_ways(authority: trustme.CA) -> None:
    async def echo(peer: Peer) -> None:
        while True:
            head = await peer.head()
            size = int(field_of(head, b"content-length") or b"0")
            body = await peer.read(size)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)

    async with open_rig(echo, door_tls=serving(authority, "a.test"), options={"tls": True}) as rig:
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=trust, server_hostname="a.test", limit=8 << 20)
        for size in (0, 10, 3_000_000):
            writer.write(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            head = await reader.readuntil(b"\r\n\r\n")
            assert field_of(head, b"content-length") == b"%d" % size
            assert await reader.readexactly(size) == b"x" * size
        writer.write(b"GET /api/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\n")
        writer.close()
        await eventually(lambda: not rig.house.doors)


async def test_over_tls_an_early_refusal_arrives_and_the_connection_ends(authority: trustme.CA) -> None:
    async with open_rig(door_tls=serving(authority, "a.test"), options={"tls": True}, limits=Limits(body_bytes=10)) as rig:
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=trust, server_hostname="a.test")
        writer.write(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        rig.pass_time(0.6)
        assert b"body_too_large" in await reader.read()
        writer.close()
        await eventually(lambda: not rig.house.doors)


async def test_the_door_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    async with open_rig(always_ok) as rig:
        path = str(tmp_path / "door.sock")
        server = await asyncio.get_running_loop().create_unix_server(rig.house, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GET)
        assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
        assert b"X-Forwarded-For: unknown" in rig.upstream.peers[0].seen
        writer.close()
        await eventually(lambda: not rig.house.doors)
        server.close()


async def test_the_tick_watches_on_its_own_once_started() -> None:
    async with open_rig() as rig:
        rig.house.start()
        rig.house.start()
        await rig.ask()
        await eventually(lambda: rig.records)
        rig.house.stop()


async def test_a_sink_that_fails_stops_nothing() -> None:
    async with open_rig() as rig:

        def broken(records: object, lanes: object) -> None:
            raise RuntimeError

        rig.house.accounts._sink = broken
        await rig.ask()
        rig.house.tick()
        assert (await rig.ask())[0] == 200


@pytest.mark.row("D14")
async def test_unread_refusals_are_counted() -> None:
    async with open_rig(answering(OK), limits=Limits()) as rig:
        rig.guard.refusal = Refusal(403, "csrf_refused", "No.")
        await rig.ask(b"GARBAGE\r\n\r\n")
        assert sum(rig.house.refused_unread.values()) == 1
        rig.house.tick()
        assert rig.records[-1][2] is None
