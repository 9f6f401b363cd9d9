"""Who has connected to a TLS door and is not through its handshake: counted, bounded, and nobody waits behind a crowd."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import trustme

from bff.proxy.threshold import Arrival, Threshold
from tests.endurance.attackers import make_hello
from tests.proxy.rig import GET, Client, Rig, eventually, open_rig

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
HELLO = make_hello()
OTHER = "127.0.0.66"


@dataclass
class Stage:
    rig: Rig
    threshold: Threshold
    port: int
    trust: ssl.SSLContext

    @property
    def arrivals(self) -> int:
        return len(self.rig.house.crowd.arrivals)

    async def plain(self, said: bytes = b"", source: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        client = Client(reader, writer)
        self.rig.clients.append(client)
        writer.write(said)
        return client

    async def secure(self, source: str = "127.0.0.1") -> Client:
        async with asyncio.timeout(5):
            opened = asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost", local_addr=(source, 0))
            client = Client(*await opened)
        self.rig.clients.append(client)
        return client


@asynccontextmanager
async def staged(*, handshakes: int = 512, **options: object) -> AsyncIterator[Stage]:
    authority = trustme.CA()
    tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(trust)
    async with open_rig(options={"tls": True, **options}) as rig:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        listener.setblocking(False)
        threshold = Threshold(house=rig.house, tls=tls, patience_s=10.0, handshakes=handshakes)
        threshold.open(listener)
        try:
            yield Stage(rig, threshold, listener.getsockname()[1], trust)
        finally:
            threshold.stop()


async def test_a_handshake_ends_at_a_door_and_is_counted_once_all_the_way() -> None:
    async with staged() as stage:
        silent = await stage.plain()
        await eventually(lambda: stage.arrivals == 1)
        client = await stage.secure()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert (stage.arrivals, len(stage.rig.house.doors), len(stage.rig.house.crowd)) == (1, 1, 2)
        silent.close()
        client.close()
        await eventually(lambda: len(stage.rig.house.crowd) == 0)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x80\x2e\x01"])
async def test_what_is_no_tls_is_closed_at_once(said: bytes) -> None:
    async with staged(handshakes=0) as stage:
        client = await stage.plain(said)
        assert await client.rest() == b""
        await eventually(lambda: stage.arrivals == 0)


async def test_a_handshake_that_fails_leaves_nothing_behind() -> None:
    async with staged(handshakes=1) as stage:
        broken = await stage.plain(b"\x16\x03\x01\x00\x05aaaaa")
        await broken.rest()
        await eventually(lambda: stage.arrivals == 0)
        await stage.secure()


@pytest.mark.row("D9")
async def test_one_handshake_too_many_waits_until_there_is_room() -> None:
    async with staged(handshakes=1) as stage:
        stalled = await stage.plain(HELLO)
        await stalled.reader.readexactly(1)
        waiting = asyncio.ensure_future(stage.secure())
        await eventually(lambda: stage.arrivals == 2)
        assert not waiting.done()
        stalled.close()
        await waiting


@pytest.mark.row("D9", "D15")
async def test_a_handshake_that_rests_gives_way() -> None:
    async with staged(handshakes=1) as stage:
        stalled = await stage.plain(HELLO)
        await stalled.reader.readexactly(1)
        stage.rig.clock.advance(0.5)
        await stage.secure()
        assert await stalled.was_reset() or stalled.reader.at_eof()


@pytest.mark.row("D9")
async def test_who_has_rested_longest_gives_way_to_itself_and_no_handshake_is_begun_on_what_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with staged(handshakes=1) as stage:
        begun: list[int] = []
        begin = stage.threshold._begin

        def watched(arrival: Arrival, now: float) -> None:
            begun.append(arrival.sock.fileno())
            begin(arrival, now)

        monkeypatch.setattr(stage.threshold, "_begin", watched)
        oldest = await stage.plain()
        await eventually(lambda: stage.arrivals == 1)
        stage.rig.clock.advance(0.4)
        stalled = await stage.plain(HELLO)
        await stalled.reader.readexactly(1)
        stage.rig.clock.advance(0.6)
        oldest.writer.write(HELLO)
        await eventually(lambda: stage.arrivals == 1)
        assert await oldest.was_reset() or oldest.reader.at_eof()
        assert not stalled.reader.at_eof()
        assert len(begun) == 1 and -1 not in begun


@pytest.mark.row("D9", "D15")
async def test_nobody_waits_behind_the_crowd_of_another_address() -> None:
    """40 of one address want 8 places and keep them; whoever comes from elsewhere is next, and at once: no time passes here."""
    async with staged(handshakes=8) as stage:
        for _ in range(40):
            await stage.plain(HELLO, OTHER)
        await eventually(lambda: stage.arrivals == 40)
        await stage.secure()
        assert stage.arrivals >= 38


@pytest.mark.row("D15")
async def test_one_address_may_have_so_many_and_no_more() -> None:
    async with staged(connections_per_address=3) as stage:
        held = [await stage.plain(b"", OTHER) for _ in range(3)]
        await eventually(lambda: stage.arrivals == 3)
        assert await (await stage.plain(b"", OTHER)).rest() == b""
        held[0].close()
        await eventually(lambda: stage.arrivals == 2)
        await stage.secure(OTHER)
        await stage.secure()


@pytest.mark.row("F52", "D9")
async def test_in_a_full_house_who_rests_before_the_threshold_gives_way_to_a_newcomer() -> None:
    async with staged(connections=3) as stage:
        for _ in range(3):
            await stage.plain(b"", OTHER)
        await eventually(lambda: stage.arrivals == 3)
        stage.rig.clock.advance(0.5)
        client = await stage.secure()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert len(stage.rig.house.crowd) == 3


@pytest.mark.row("D9")
async def test_who_says_nothing_is_let_go_after_the_time_for_a_head() -> None:
    async with staged() as stage:
        silent = await stage.plain()
        await eventually(lambda: stage.arrivals == 1)
        stage.rig.clock.advance(10.5)
        assert await silent.rest() == b""


@pytest.mark.row("F47")
async def test_at_the_end_those_who_come_are_waited_for_and_the_silent_are_not_for_long() -> None:
    async with staged() as stage:
        coming = asyncio.ensure_future(stage.secure())
        await eventually(lambda: stage.arrivals == 1 or coming.done())
        stage.threshold.close()
        await stage.threshold.settle(5.0)
        await coming
        with suppress(ConnectionError):
            await stage.plain()
        await stage.threshold.settle(0.05)
