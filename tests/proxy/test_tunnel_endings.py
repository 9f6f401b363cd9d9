"""How a WebSocket ends: with its session, after a broken rule, behind a Close, and when one side keeps silent about it."""

from __future__ import annotations

import pytest

from bff.proxy.frames import CLOSE, TEXT, close_frame
from tests.proxy.rig import eventually, open_rig, turns
from tests.proxy.test_frames import frame
from tests.proxy.test_tunnel import accept, close_code, open_tunnel, read_frame


@pytest.mark.row("WS-8", "F56")
@pytest.mark.parametrize("way", ["watched", "before the tick", "expired"])
async def test_the_socket_ends_with_its_session(way: str) -> None:
    """WS-8, F56: 4401 for the browser, a Close for the upstream, at once."""
    async with open_rig(accept, live=True) as rig:
        client, peer = await open_tunnel(rig)
        live = rig.guard.live
        assert live is not None
        assert len(live.watchers) == 1
        if way == "watched":
            rig.end_session()
        elif way == "before the tick":
            live.session = None
            rig.house.tick()
        else:
            rig.clock.advance(3601)
            rig.house.coarse = rig.clock.monotonic()
            for door in rig.house.doors:
                door.exchange._heard_browser = door.exchange._heard_upstream = rig.clock.monotonic()  # type: ignore[union-attr]
            rig.house.tick()
        assert await read_frame(client.reader) == (CLOSE, (4401).to_bytes(2, "big") + b"session ended")
        assert await close_code(peer.reader) == 1001
        assert await client.rest() == b""
        assert live.watchers == set()
        rig.house.tick()
        assert rig.records[-1][9] == "session_ended"


@pytest.mark.row("WS-8")
async def test_a_session_that_ends_inside_a_frame_lets_the_frame_end_or_cuts_soon() -> None:
    async with open_rig(accept, live=True) as rig:
        client, peer = await open_tunnel(rig)
        whole = frame(TEXT, b"hello")
        await peer.send(whole[:4])
        await client.reader.readexactly(4)
        rig.end_session()
        await peer.send(whole[4:])
        assert await client.reader.readexactly(3) == b"llo"
        assert await close_code(client.reader) == 4401
        rig.guard.live = None
        client, peer = await open_tunnel(rig)
        await peer.send(whole[:4])
        await client.reader.readexactly(4)
        next(iter(door for door in rig.house.doors if door.exchange)).exchange.end(1001, "going away")  # type: ignore[union-attr]
        rig.pass_time(2.5)
        assert await client.was_reset()


@pytest.mark.row("WS-7", "WS-8", "F56")
@pytest.mark.parametrize("why", ["a broken rule", "the session's end"])
async def test_nothing_of_the_browser_passes_any_more_while_a_frame_towards_it_still_ends(why: str) -> None:
    """The Close must wait for a frame boundary; what is refused must not."""
    async with open_rig(accept, live=True) as rig:
        client, peer = await open_tunnel(rig)
        whole = frame(TEXT, b"hello")
        await peer.send(whole[:4])
        await client.reader.readexactly(4)
        await client.send(frame(TEXT, b"good", masked=True))
        assert await read_frame(peer.reader) == (TEXT, b"good")
        if why == "a broken rule":
            await client.send(frame(TEXT, b"unmasked"))
        else:
            rig.end_session()
        await eventually(lambda: all(door.exchange._ending for door in rig.house.doors))  # type: ignore[union-attr]
        await client.send(frame(TEXT, b"evil", masked=True))
        await turns()
        await peer.send(whole[4:])
        assert await client.reader.readexactly(3) == b"llo"
        assert await close_code(client.reader) == (1002 if why == "a broken rule" else 4401)
        assert (await read_frame(peer.reader))[0] == CLOSE
        assert await peer.ended() == b""


@pytest.mark.row("WS-7", "WS-10", "F55")
@pytest.mark.parametrize("who", ["both", "browser", "upstream"])
async def test_a_close_that_leads_nowhere_ends_the_connections_soon(who: str) -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        if who != "upstream":
            await client.send(close_frame(1000, "", masked=True))
            assert await close_code(peer.reader) == 1000
        if who != "browser":
            await peer.send(close_frame(1000, "", masked=False))
            assert await close_code(client.reader) == 1000
        for _ in range(2):
            rig.pass_time(1.5 if who == "both" else 9)
        assert rig.pool.open == 1
        rig.pass_time(1.5)
        if who == "browser":
            assert await close_code(client.reader) == 1011
        elif who == "upstream":
            assert await close_code(peer.reader) == 1011
        assert await client.rest() == b""
        await eventually(lambda: rig.pool.open == 0)


@pytest.mark.row("WS-7")
async def test_a_browser_that_half_closes_behind_its_close_still_gets_the_answer() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        await client.send(close_frame(1000, "", masked=True))
        client.writer.write_eof()
        assert await close_code(peer.reader) == 1000
        await peer.send(close_frame(1000, "", masked=False))
        assert await close_code(client.reader) == 1000
        peer.writer.close()
        assert await client.rest() == b""


@pytest.mark.row("WS-10", "F55")
async def test_a_browser_that_half_closes_without_a_close_ends_the_upstream_side() -> None:
    async with open_rig(accept) as rig:
        client, peer = await open_tunnel(rig)
        client.writer.write_eof()
        assert await close_code(peer.reader) == 1001
        assert await client.rest() == b""
