"""Cases found by attacking the wire: persistence that was denied, upstreams that come or go too early, half-closed browsers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme
import uvloop

from bff.policy.routes import METHODS, Admission, Route
from bff.policy.verdict import Refusal
from bff.proxy.upstream import Origin, UpstreamConnection
from bff.session.model import Credential
from tests.proxy.rig import GET, OK, Behaviour, Peer, always_ok, eventually, field_of, open_rig, turns

STALE = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 5\r\n\r\nstale'


def post(size: int, *lines: bytes) -> bytes:
    return b"\r\n".join([b"POST /api/x HTTP/1.1", b"Host: a.test", b"Content-Length: %d" % size, *lines]) + b"\r\n\r\n"


@pytest.mark.row("TOKEN-10", "F13")
async def test_a_401_that_could_not_be_renewed_does_not_keep_the_next_from_renewal() -> None:
    """The head of an answer is remembered for its route: that of a 401 must not be, it asks something of us."""

    async def behave(peer: Peer) -> None:
        while True:
            head = await peer.head()
            await peer.send(OK if b"token-2" in head else STALE)

    async with open_rig(behave, token=True) as rig:
        rig.desk.fresh = Credential(b"Bearer token-2", rig.clock.now() + 600)
        assert (await rig.ask(post(0)))[0] == 401
        assert (await rig.ask(post(0)))[0] == 401
        assert (await rig.ask(GET))[0] == 200
        assert rig.desk.calls == 1


@pytest.mark.row("BODY-7", "M1")
async def test_a_connection_that_was_said_to_close_serves_no_further_request() -> None:
    """RFC 9112 §9.6: the answer began before the body had come, so it said close; the body's end does not take that back."""

    async def early(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await peer.read(6)
        await peer.send(b"cd")
        await always_ok(peer)

    async with open_rig(early) as rig:
        client = await rig.client()
        await client.send(post(6) + b"abc")
        assert b"Connection: close\r\n" in await client.head()
        await client.send(b"def" + GET)
        assert await client.rest() == b"abcd"
        assert b"GET" not in rig.upstream.peers[0].seen


async def at_once_closing(peer: Peer) -> None:
    """Accepts and leaves."""


async def at_once_resetting(peer: Peer) -> None:
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


@pytest.mark.row("F54", "BODY-6")
@pytest.mark.parametrize("behave", [at_once_closing, at_once_resetting])
async def test_an_upstream_that_accepts_and_leaves_is_a_502_at_once(behave: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it left between our connecting and our writing."""
    original = Origin._open
    waits = False

    async def slowly(self: Origin, connection: UpstreamConnection) -> None:
        await original(self, connection)
        if waits:
            await eventually(lambda: connection.transport.is_closing())
            await turns(5)

    monkeypatch.setattr(Origin, "_open", slowly)
    async with open_rig(behave) as rig:
        for waits in (False, True) * 5:
            assert (await rig.ask(post(3) + b"abc" if waits else GET))[0] == 502
        assert rig.origin.open == 0


@pytest.mark.row("FRAME-9", "M11")
async def test_an_upstream_that_speaks_first_is_a_502_and_its_words_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Origin._open

    async def slowly(self: Origin, connection: UpstreamConnection) -> None:
        await original(self, connection)
        await eventually(lambda: connection.transport.is_closing())

    async def early(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nBAD")
        await always_ok(peer)

    monkeypatch.setattr(Origin, "_open", slowly)
    async with open_rig(early) as rig:
        status, _, body = await rig.ask(GET)
        assert (status, b"BAD" in body) == (502, False)


@pytest.mark.row("BODY-4", "F54")
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_browser_that_half_closes_behind_a_whole_body_gets_its_answer(chunked: bool) -> None:
    """Also where the gatekeeper has to wait first."""
    body = b"3\r\nabc\r\n0\r\n\r\n" if chunked else b"abc"
    head = post(3).replace(b"Content-Length: 3", b"Transfer-Encoding: chunked") if chunked else post(3)
    async with open_rig() as rig:
        rig.guard.waits = True
        client = await rig.client()
        await client.send(head + body)
        client.writer.write_eof()
        await eventually(lambda: rig.guard.asked and any(door.eof_at for door in rig.house.doors))
        rig.guard.gate.set()
        assert (await client.answer())[::2] == (200, b"{}")
        assert await client.rest() == b""


@pytest.mark.row("BODY-4", "FRAME-6")
@pytest.mark.parametrize("framing", [b"Content-Length: 6\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
async def test_a_browser_that_half_closes_inside_a_body_is_cut_and_the_api_never_sees_a_whole_one(framing: bytes) -> None:
    async with open_rig() as rig:
        rig.guard.waits = True
        client = await rig.client()
        await client.send(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\n" + framing)
        client.writer.write_eof()
        await eventually(lambda: not rig.house.doors or any(door.eof_at for door in rig.house.doors))
        rig.guard.gate.set()
        assert await client.rest() == b""
        await eventually(lambda: rig.origin.open == 0)
        assert not any(peer.seen.endswith((b"abcdef", b"0\r\n\r\n")) for peer in rig.upstream.peers)


@pytest.mark.row("M11", "FRAME-8")
async def test_a_proper_answer_that_comes_byte_by_byte_is_taken() -> None:
    async def drip(peer: Peer) -> None:
        while True:
            await peer.head()
            for byte in b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK:
                await peer.send(bytes([byte]))
                await turns(2)

    async with open_rig(drip) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer())[::2] == (200, b"{}")
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("RESP-8")
@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", GET])
async def test_a_refusal_says_when_it_was_given(request_: bytes) -> None:
    async with open_rig() as rig:
        rig.guard.refusal = Refusal(403, "cross_origin", "No.")
        for _ in range(2):
            rig.clock.advance(1)
            _, head, _ = await rig.ask(request_)
            assert field_of(head, b"date") == formatdate(rig.clock.now(), usegmt=True).encode()


@pytest.mark.row("FRAME-7", "ROUTE-10")
@pytest.mark.parametrize("proper", [True, False])
async def test_over_tls_an_answer_that_ends_with_its_connection_is_whole_only_after_a_closure_alert(proper: bool, tmp_path: Path) -> None:
    """RFC 9112 §9.8: anybody on the way can send a FIN. asyncio's own loop doesn't tell the two apart; we are deployed on uvloop."""
    if not proper and not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("asyncio's own loop")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def behave(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        if not proper:
            await asyncio.sleep(0.05)
            peer.writer.get_extra_info("socket").dup().shutdown(socket.SHUT_WR)

    async with open_rig(behave, upstream_tls=context, upstream={"scheme": "https", "ca_file": str(tmp_path / "ca.pem")}) as rig:
        client = await rig.client()
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await client.head()
        assert (b"0\r\n\r\n" in await client.rest()) is proper


@pytest.mark.row("BODY-4", "F54")
async def test_a_browser_that_half_closes_while_the_agents_answer_waits_to_be_heard_gets_it(tmp_path: Path) -> None:
    gate = asyncio.Event()
    waits: list[object] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"abc")
        writer.write(OK)
        await reader.read()
        writer.close()

    async def hear(live: object) -> None:
        waits.append(live)
        await gate.wait()

    path = str(tmp_path / "agent.sock")
    server = await asyncio.start_unix_server(agent, path)
    async with open_rig(pool={"agent_socket": path}) as rig:
        rig.guard.upstream = None
        rig.guard.route = Route("agent:/bff/logout", "/bff/logout", Admission.FORM, METHODS, exact=True)
        rig.house.hear = hear
        client = await rig.client()
        await client.send(post(3).replace(b"/api/x", b"/bff/logout") + b"abc")
        await eventually(lambda: waits)
        client.writer.write_eof()
        await eventually(lambda: not rig.house.doors or any(door.eof_at for door in rig.house.doors))
        gate.set()
        assert (await client.answer())[::2] == (200, b"{}")
        rig.pool.close()
        await eventually(lambda: rig.pool.open == 0)
        await turns()
    server.close()
