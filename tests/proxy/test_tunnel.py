"""WebSockets through the door: the handshake, frames both ways, close codes, dead peers, the session's end."""

from __future__ import annotations

import asyncio
import base64

import pytest

from bff.policy.routes import Limits
from bff.policy.verdict import Refusal
from bff.proxy.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, control_frame
from bff.proxy.headers import accept_key
from tests.proxy.rig import OK, Client, Peer, Rig, eventually, field_of, open_rig, turns
from tests.proxy.test_frames import frame

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    b"GET /api/ws HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.test\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\nCookie: __Host-Http-bff=t\r\n\r\n"
)


def accepting(head: bytes, *lines: bytes) -> bytes:
    key = field_of(head, b"sec-websocket-key")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept_key(key)
        + b"\r\n"
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
    )


async def accept(peer: Peer) -> None:
    """Says yes and leaves the rest to the test."""
    await peer.send(accepting(await peer.head()))
    await asyncio.Event().wait()


async def open_tunnel(rig: Rig) -> tuple[Client, Peer]:
    client = await rig.client()
    await client.send(UPGRADE)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    return client, await rig.upstream.peer(len(rig.upstream.peers) - 1)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, payload) of an unfragmented frame, unmasked."""
    async with asyncio.timeout(5):
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await reader.readexactly(8), "big")
        key = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
        payload = await reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


async def close_code(reader: asyncio.StreamReader) -> int:
    opcode, payload = await read_frame(reader)
    assert opcode == CLOSE
    return int.from_bytes(payload[:2], "big")


@pytest.mark.row("WS-4", "REQH-4")
async def test_the_handshake_upstream_is_our_own() -> None:
    """WS-4: a fresh key, the token, no cookie; the browser's key is answered by us."""
    async with open_rig(accept, token=True) as rig:
        client = await rig.client()
        await client.send(UPGRADE)
        head = await client.head()
        assert field_of(head, b"sec-websocket-accept") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        seen = rig.upstream.peers[0].seen
        assert field_of(seen, b"authorization") == b"Bearer token-1"
        assert field_of(seen, b"sec-websocket-key") != KEY
        assert len(base64.b64decode(field_of(seen, b"sec-websocket-key"))) == 16
        assert b"ookie" not in seen


async def test_messages_pass_both_ways_unchanged() -> None:
    async with open_rig(accept, live=True) as rig:
        client, peer = await open_tunnel(rig)
        for message in (b"hello", b"x" * 126, b"y" * 300_000, b""):
            up, down = frame(BINARY, message, masked=True), frame(TEXT, message)
            await client.send(up)
            assert await peer.read(len(up)) == up
            await peer.send(down)
            assert await client.reader.readexactly(len(down)) == down
        assert rig.house.active == 1


async def test_frames_right_behind_either_handshake_are_not_lost() -> None:
    async def eager(peer: Peer) -> None:
        await peer.send(accepting(await peer.head()) + frame(TEXT, b"first"))
        await asyncio.Event().wait()

    async with open_rig(eager) as rig:
        client = await rig.client()
        await client.send(UPGRADE + frame(TEXT, b"early", masked=True))
        await client.head()
        assert await read_frame(client.reader) == (TEXT, b"first")
        peer = await rig.upstream.peer()
        assert await read_frame(peer.reader) == (TEXT, b"early")


WRONG = {
    "wrong accept": b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
    "no accept": b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "h2c": b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.row("WS-5", "WS-6")
@pytest.mark.parametrize("case", WRONG)
async def test_a_false_101_is_a_502(case: str) -> None:
    async def lie(peer: Peer) -> None:
        await peer.head()
        await peer.send(WRONG[case])
        await peer.ended()

    async with open_rig(lie) as rig:
        assert (await rig.ask(UPGRADE))[0] == 502


@pytest.mark.row("WS-5")
@pytest.mark.parametrize("offer", [b"", b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate, x-evil\r\n"])
@pytest.mark.parametrize(
    "line",
    [
        b"Sec-WebSocket-Protocol: evil", b"Sec-WebSocket-Protocol:", b"Sec-WebSocket-Protocol: CHAT", b"Sec-WebSocket-Protocol: chat, chat",
        b"Sec-WebSocket-Extensions: x-evil", b"Sec-WebSocket-Extensions:", b"Sec-WebSocket-Extensions: permessage-deflate, x-evil",
        b"Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",
    ],
)  # fmt: skip
async def test_what_the_browser_did_not_offer_fails_the_connection(line: bytes, offer: bytes) -> None:
    async def choose(peer: Peer) -> None:
        head = await peer.head()
        assert field_of(head, b"sec-websocket-extensions") == (b"permessage-deflate" if offer else b"")
        await peer.send(accepting(head, line))
        await peer.ended()

    async with open_rig(choose) as rig:
        assert (await rig.ask(UPGRADE.replace(b"Cookie", offer + b"Cookie")))[0] == 502


@pytest.mark.row("WS-5")
async def test_what_the_browser_offered_and_the_upstream_chose_reaches_the_browser() -> None:
    async def choose(peer: Peer) -> None:
        head = await peer.head()
        assert field_of(head, b"sec-websocket-protocol") == b"chat, feed"
        await peer.send(accepting(head, b"Sec-WebSocket-Protocol: feed", b"Sec-WebSocket-Extensions: permessage-deflate"))
        await peer.send(frame(TEXT, b"zip", rsv=0x40))
        await asyncio.Event().wait()

    offer = b"Sec-WebSocket-Protocol: chat, feed\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nCookie"
    async with open_rig(choose) as rig:
        client = await rig.client()
        await client.send(UPGRADE.replace(b"Cookie", offer))
        head = await client.head()
        assert field_of(head, b"sec-websocket-protocol") == b"feed"
        assert field_of(head, b"sec-websocket-extensions") == b"permessage-deflate"
        assert await read_frame(client.reader) == (TEXT, b"zip")


@pytest.mark.row("WS-6")
async def test_an_upstream_refusal_is_an_http_answer_and_the_end_of_the_connection() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await peer.ended()

    async with open_rig(refuse) as rig:
        client = await rig.client()
        await client.send(UPGRADE)
        status, head, body = await client.answer()
        assert (status, body) == (403, b"no")
        assert b"Connection: close" in head
        assert await client.rest() == b""


@pytest.mark.row("WS-1", "WS-2")
async def test_a_refused_handshake_never_reaches_the_upstream() -> None:
    async with open_rig(accept) as rig:
        rig.guard.refusal = Refusal(403, "origin_refused", "No.")
        assert (await rig.ask(UPGRADE))[0] == 403
        assert rig.upstream.peers == []


@pytest.mark.row("WS-7")
async def test_close_codes_and_reasons_pass_both_ways() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        await peer.send(close_frame(4001, "why", masked=False))
        assert await read_frame(client.reader) == (CLOSE, (4001).to_bytes(2, "big") + b"why")
        reply = close_frame(4001, "", masked=True)
        await client.send(reply)
        assert await peer.read(len(reply)) == reply
        peer.writer.close()
        assert await client.rest() == b""
        rig.house.tick()
        assert rig.records[-1][5] == 101
        assert rig.records[-1][9] == "ok"


@pytest.mark.row("WS-7")
async def test_a_browser_that_closes_is_answered_by_the_upstream() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        await client.send(close_frame(1000, "", masked=True))
        assert await close_code(peer.reader) == 1000
        await peer.send(close_frame(1000, "", masked=False))
        assert await close_code(client.reader) == 1000
        client.close()
        await eventually(lambda: rig.pool.open == 0)


@pytest.mark.row("WS-7")
async def test_an_upstream_that_drops_is_a_1011() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        peer.writer.close()
        assert await close_code(client.reader) == 1011
        assert await client.rest() == b""


@pytest.mark.row("FRAME-7")
async def test_an_upstream_that_drops_inside_a_frame_is_a_reset() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        await peer.send(frame(TEXT, b"hello")[:4])
        await client.reader.readexactly(4)
        peer.writer.close()
        assert await client.was_reset()


@pytest.mark.row("WS-10", "F55")
async def test_a_browser_that_vanishes_ends_the_upstream_side_properly() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        client.writer.transport.abort()
        assert await close_code(peer.reader) == 1001
        assert await peer.ended() == b""


@pytest.mark.row("F47", "OPS-6")
async def test_draining_says_1001() -> None:
    async with open_rig(accept) as rig:
        client, _ = await open_tunnel(rig)
        rig.house.begin_drain()
        assert await close_code(client.reader) == 1001
        assert await client.rest() == b""


@pytest.mark.row("WS-9", "D11")
async def test_a_message_too_big_is_a_1009_on_both_sides() -> None:
    async with open_rig(accept, limits=Limits(websocket_message_bytes=1000)) as rig:
        client, peer = await open_tunnel(rig)
        ok = frame(BINARY, b"x" * 1000, masked=True)
        await client.send(ok + frame(BINARY, b"x" * 1001, masked=True))
        assert await peer.read(len(ok)) == ok
        assert await close_code(client.reader) == 1009
        assert await close_code(peer.reader) == 1009
        client, peer = await open_tunnel(rig)
        await peer.send(frame(BINARY, b"x" * 1001))
        assert await close_code(client.reader) == 1009


@pytest.mark.row("WS-9")
async def test_an_unmasked_frame_of_a_browser_is_a_1002() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        await client.send(frame(TEXT, b"x"))
        assert await close_code(client.reader) == 1002
        assert await close_code(peer.reader) == 1002


@pytest.mark.row("WS-9", "BODY-2")
async def test_a_slow_side_slows_the_other_and_little_is_held() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.writer.write(frame(BINARY, b"x" * 30_000_000))
        await eventually(lambda: any(not door.writable for door in rig.house.doors))
        await turns(50)
        door = next(iter(rig.house.doors))
        assert door.transport.get_write_buffer_size() <= 256 * 1024
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        opcode, payload = await read_big(client.reader)
        assert (opcode, len(payload)) == (BINARY, 30_000_000)

        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(frame(BINARY, b"y" * 30_000_000, masked=True))
        await eventually(lambda: not door.reading)
        await turns(50)
        held = door.exchange.connection.transport.get_write_buffer_size()  # type: ignore[union-attr]
        assert held <= 256 * 1024
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await peer.read(30_000_014)
        assert door.reading


async def read_big(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, _ = await reader.readexactly(2)
    size = int.from_bytes(await reader.readexactly(8), "big")
    return first & 0x0F, await reader.readexactly(size)


@pytest.mark.row("WS-10")
async def test_a_silent_browser_is_pinged_and_a_dead_one_closed() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        rig.pass_time(21)
        assert await read_frame(client.reader) == (PING, b"bff:alive?")
        assert await read_frame(peer.reader) == (PING, b"bff:alive?")
        await client.send(control_frame(PONG, b"bff:alive?", masked=True))
        await peer.send(control_frame(PONG, b"bff:alive?", masked=False))
        await eventually(lambda: not any(d.exchange._pinged_browser or d.exchange._pinged_upstream for d in rig.house.doors))  # type: ignore[union-attr]
        rig.pass_time(21)
        assert await read_frame(client.reader) == (PING, b"bff:alive?")  # our pong went no further, the next ping is due
        assert await read_frame(peer.reader) == (PING, b"bff:alive?")
        await peer.send(control_frame(PONG, b"bff:alive?", masked=False))
        await eventually(lambda: not any(d.exchange._pinged_upstream for d in rig.house.doors))  # type: ignore[union-attr]
        rig.pass_time(21)
        assert await client.was_reset()
        assert await close_code(peer.reader) == 1001


@pytest.mark.row("WS-10")
async def test_a_dead_upstream_is_noticed_too() -> None:
    async with open_rig(accept) as rig:
        client, _ = await open_tunnel(rig)
        rig.pass_time(21)
        await client.send(control_frame(PONG, b"bff:alive?", masked=True))
        await eventually(lambda: not any(d.exchange._pinged_browser for d in rig.house.doors))  # type: ignore[union-attr]
        rig.pass_time(21)
        assert [(await read_frame(client.reader))[0] for _ in range(2)] == [PING, PING]
        assert await close_code(client.reader) == 1011


async def test_what_the_user_says_keeps_the_session_alive_and_pings_do_not() -> None:
    async with open_rig(accept, live=True) as rig:
        client, peer = await open_tunnel(rig)
        ping = control_frame(PING, b"x", masked=True)
        await client.send(ping)
        await peer.read(len(ping))
        rig.house.tick()
        assert rig.touched == []
        message = frame(TEXT, b"hello", masked=True)
        await client.send(message)
        await peer.read(len(message))
        rig.house.tick()
        rig.house.tick()
        assert rig.touched == [rig.guard.live]


@pytest.mark.row("BODY-9")
async def test_sockets_count_towards_the_sessions_room() -> None:
    async with open_rig(accept, live=True, limits=Limits(concurrent_per_session=1)) as rig:
        client, _ = await open_tunnel(rig)
        assert (await rig.ask(UPGRADE))[0] == 503
        client.close()
        await eventually(lambda: rig.house.active == 0)
        await open_tunnel(rig)


async def test_the_tunnels_connection_never_returns_to_the_pool() -> None:
    async def both(peer: Peer) -> None:
        head = await peer.head()
        if b"/ws" in head:
            await peer.send(accepting(head))
            await peer.ended()
            return
        await peer.send(OK)
        await peer.ended()

    async with open_rig(both) as rig:
        client, _ = await open_tunnel(rig)
        client.close()
        await eventually(lambda: rig.pool.open == 0)
        assert rig.origin.idle == []
        assert (await rig.ask(b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n"))[0] == 200
        assert len(rig.upstream.peers) == 2
