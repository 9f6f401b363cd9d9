"""Many users over few upstream connections, half of them leaving at random: nobody ever gets another's answer (T4, T5)."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from tests.proxy.rig import Client, Peer, Rig, eventually, field_of, open_rig


async def moody(peer: Peer) -> None:
    """Echoes the path; answers early, in pieces, chunked, with interim answers, cut short or with bytes too many."""
    dice = random.Random(peer.writer.get_extra_info("peername")[1])
    while True:
        head = await peer.head()
        peer.seen = b""
        path = head.split(b" ")[1]
        size = int(field_of(head, b"content-length") or b"0")
        mood = dice.randrange(12)
        if mood == 0 and size:
            await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(path) + path)
            return
        await peer.read(size)
        if mood == 1:
            return
        if mood == 2:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + path)
            return
        if mood == 3:
            await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </evil>\r\n\r\n")
        if mood in (4, 5):
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for byte in path:
                await peer.send(b"1\r\n%c\r\n" % byte)
            await peer.send(b"0\r\n\r\n")
            continue
        extra = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" if mood == 6 else b""
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path + extra)
        if extra:
            return


def request(dice: random.Random, path: bytes) -> bytes:
    if dice.random() < 0.4:
        body = b"b" * dice.randrange(1, 3000)
        return b"POST %b HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body
    return b"GET %b HTTP/1.1\r\nHost: a.test\r\n\r\n" % path


async def browse(rig: Rig, user: int, wrong: list[bytes], served: list[int]) -> None:
    dice = random.Random(user)
    client: Client | None = None
    for number in range(25):
        path = b"/api/%d/%d" % (user, number)
        client = client or await rig.client()
        whole = request(dice, path)
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            if dice.random() < 0.3:
                await client.send(whole[: dice.randrange(1, len(whole) + 1)])
                (client.writer.transport.abort if dice.random() < 0.5 else client.close)()
                client = None
                continue
            await client.send(whole)
            status, head, body = await client.answer()
            if status in (200, 403) and body != path:
                wrong.append(body)
            served.append(status)
            if b"Connection: close" in head:
                client.close()
                client = None
            continue
        client.close() if client is not None else None
        client = None
    if client is not None:
        client.close()


@pytest.mark.row("T4", "T5", "F54", "F55")
async def test_nobody_ever_gets_another_users_answer() -> None:
    async with open_rig(moody, pool={"resting": 8}) as rig:
        wrong: list[bytes] = []
        served: list[int] = []
        await asyncio.gather(*(browse(rig, user, wrong, served) for user in range(16)))
        assert wrong == []
        assert served.count(200) > 100
        await eventually(lambda: all(door.exchange is None or door.eof_at for door in rig.house.doors))
        rig.pass_time(1.0)
        await eventually(lambda: rig.house.active == 0)
        rig.pass_time(3.0)
        await eventually(lambda: rig.pool.open == len(rig.origin.idle))
        rig.pass_time(100.0)
        await eventually(lambda: rig.pool.open == 0)
        rig.pass_time(3.0)
        await eventually(lambda: not rig.house.doors)
