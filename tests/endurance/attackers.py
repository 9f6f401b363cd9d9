"""The attacks, as a process of their own: cheap requests that want dear work, from another address than the control user's.

Standard input: one JSON line ``{"attack", "port", "seconds", "heads"}``. Standard output: what was done, as JSON (a count by name).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop

FROM = "127.0.0.66"
MIB = 1024 * 1024


@dataclass(slots=True)
class Attack:
    """What an attack knows: where, how long, the request heads it may use by name, and what it has counted."""

    port: int
    seconds: float
    heads: dict[str, bytes]
    done: Counter[str] = field(default_factory=Counter)
    until: float = 0.0

    @property
    def running(self) -> bool:
        return time.monotonic() < self.until

    async def connect(self, receive: int = 0, source: str = FROM) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect
        sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        self.done["connections"] += 1
        return sock

    async def rest(self) -> None:
        await asyncio.sleep(max(0.0, self.until - time.monotonic()))


async def _discard(sock: socket.socket, attack: Attack) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 262_144):
        attack.done["bytes"] += len(data)
        attack.done["answers"] += data.count(b"HTTP/1.1 ")


async def _many(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    async def one(number: int) -> None:
        with contextlib.suppress(OSError):
            await work(number)

    await asyncio.gather(*(one(number) for number in range(count)))


async def never_reading(attack: Attack) -> None:
    """200 ask for a large answer and never read it."""

    async def one(_: int) -> None:
        sock = await attack.connect()
        await asyncio.get_running_loop().sock_sendall(sock, attack.heads["big"])
        await attack.rest()
        sock.close()

    await _many(200, one)


async def slow_reading(attack: Attack) -> None:
    """200 take 16 KiB of a large answer every 50 ms."""

    async def one(_: int) -> None:
        loop = asyncio.get_running_loop()
        sock = await attack.connect(receive=32_768)
        await loop.sock_sendall(sock, attack.heads["big"])
        while attack.running and (data := await loop.sock_recv(sock, 16_384)):
            attack.done["bytes"] += len(data)
            await asyncio.sleep(0.05)
        sock.close()

    await _many(200, one)


async def fast_reading(attack: Attack) -> None:
    """50 read large answers as fast as they come."""

    async def one(_: int) -> None:
        sock = await attack.connect()
        await asyncio.get_running_loop().sock_sendall(sock, attack.heads["big"])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(attack.until - time.monotonic()):
                await _discard(sock, attack)
        sock.close()

    await _many(50, one)


async def storm(attack: Attack) -> None:
    """Connect and vanish, over and over, 256 at a time."""
    turn = itertools.count()

    async def one(_: int) -> None:
        while attack.running:
            with contextlib.suppress(OSError):
                sock = await attack.connect(source=f"127.0.{66 + next(turn) // 20_000}.1")
                sock.close()

    await _many(256, one)


async def hold(attack: Attack) -> None:
    """Open more connections than the door takes, send nothing and hold on, again as soon as one is closed."""

    async def one(_: int) -> None:
        while attack.running:
            sock = await attack.connect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, attack.until - time.monotonic())):
                    await _discard(sock, attack)
            attack.done["closed"] += attack.running
            sock.close()
            await asyncio.sleep(0.2)

    await _many(4000, one)


async def hold_half_heads(attack: Attack) -> None:
    """The same with half a head each."""

    async def one(_: int) -> None:
        loop = asyncio.get_running_loop()
        while attack.running:
            sock = await attack.connect()
            with contextlib.suppress(TimeoutError, OSError):
                await loop.sock_sendall(sock, attack.heads["json"][:-2])
                async with asyncio.timeout(max(0.01, attack.until - time.monotonic())):
                    await _discard(sock, attack)
            attack.done["closed"] += attack.running
            sock.close()
            await asyncio.sleep(0.2)

    await _many(4000, one)


async def bombs(attack: Attack) -> None:
    """Heads too large in every way, 40 connections, each refused and opened again."""
    start = attack.heads["json"].split(b"\r\n", 1)[0] + b"\r\n"
    kinds = [
        start + b"".join(b"X-%d: 1\r\n" % number for number in range(2000)) + b"\r\n",
        start + b"X-A: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        start + b"Cookie: " + b"a=b; " * 20_000,
        start + b"".join(b"X-%d: 1\r\n" % number for number in range(90)) + b"Cookie: " + b"a=b; " * 1500 + b"\r\n\r\n",
    ]

    async def one(number: int) -> None:
        loop = asyncio.get_running_loop()
        for kind in itertools.cycle(kinds[number % 5 :] + kinds[: number % 5]):
            if not attack.running:
                return
            with contextlib.suppress(OSError):
                sock = await attack.connect()
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(sock, kind)
                await _discard(sock, attack)
                sock.close()

    await _many(40, one)


def _flood(name: str, connections: int, reads: bool = True) -> Callable[[Attack], Awaitable[None]]:
    """Thousands of pipelined requests on each connection; a connection that is closed is opened again."""

    async def flood(attack: Attack) -> None:
        block = attack.heads[name] * max(1, 65_536 // len(attack.heads[name]))

        async def one(_: int) -> None:
            loop = asyncio.get_running_loop()
            while attack.running:
                sock = await attack.connect()
                reading = asyncio.ensure_future(_discard(sock, attack)) if reads else None
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(attack.until - time.monotonic()):
                        while attack.running:
                            await loop.sock_sendall(sock, block)
                            attack.done["sent"] += len(block)
                if reading is not None:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                sock.close()

        await _many(connections, one)

    flood.__doc__ = f"{connections} connections pipeline {name} without end{'' if reads else ' and read no answer'}."
    return flood


async def slow_bodies(attack: Attack) -> None:
    """300 bodies of 1 MiB, 10 bytes every 100 ms."""

    async def one(_: int) -> None:
        loop = asyncio.get_running_loop()
        while attack.running:
            sock = await attack.connect()
            with contextlib.suppress(OSError):
                await loop.sock_sendall(sock, attack.heads["body"])
                while attack.running:
                    await loop.sock_sendall(sock, b"a" * 10)
                    await asyncio.sleep(0.1)
            sock.close()

    await _many(300, one)


def _pour(head: str, piece: bytes, connections: int) -> Callable[[Attack], Awaitable[None]]:
    """After ``head``, ``piece`` without end on each connection."""

    async def pour(attack: Attack) -> None:
        async def one(_: int) -> None:
            loop = asyncio.get_running_loop()
            while attack.running:
                sock = await attack.connect()
                with contextlib.suppress(OSError, TimeoutError):
                    await loop.sock_sendall(sock, attack.heads[head])
                    if head == "websocket":
                        await loop.sock_recv(sock, 4096)
                    async with asyncio.timeout(attack.until - time.monotonic()):
                        while attack.running:
                            await loop.sock_sendall(sock, piece)
                            attack.done["sent"] += len(piece)
                sock.close()

        await _many(connections, one)

    return pour


def make_hello() -> bytes:
    """A client hello made once and sent again and again: a handshake costs the attacker nothing but these bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(into, out, server_hostname="localhost").do_handshake()
    return out.read()


async def handshakes(attack: Attack) -> None:
    """TLS handshakes, 64 at a time, each thrown away."""
    hello = make_hello()

    async def one(_: int) -> None:
        loop = asyncio.get_running_loop()
        while attack.running:
            with contextlib.suppress(OSError):
                sock = await attack.connect()
                await loop.sock_sendall(sock, hello)
                await loop.sock_recv(sock, 65_536)
                attack.done["hellos answered"] += 1
                sock.close()

    await _many(64, one)


async def stalled_handshakes(attack: Attack) -> None:
    """4000 connections to a TLS door that say nothing."""
    await hold(attack)


async def unfinished_handshakes(attack: Attack) -> None:
    """2000 connections that say hello, never finish, and come again as soon as they are closed."""
    hello = make_hello()

    async def one(_: int) -> None:
        loop = asyncio.get_running_loop()
        while attack.running:
            with contextlib.suppress(TimeoutError, OSError):
                sock = await attack.connect()
                await loop.sock_sendall(sock, hello)
                async with asyncio.timeout(max(0.01, attack.until - time.monotonic())):
                    await _discard(sock, attack)
            attack.done["closed"] += attack.running
            sock.close()
            await asyncio.sleep(0.2)

    await _many(2000, one)


TEXT_FRAME = b"\x81\x81\x00\x00\x00\x00a"
PING_FRAME = b"\x89\x80\x00\x00\x00\x00"
ATTACKS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    "never reading": never_reading,
    "slow reading": slow_reading,
    "fast reading": fast_reading,
    "storm": storm,
    "hold": hold,
    "hold half heads": hold_half_heads,
    "bombs": bombs,
    "pipelining": _flood("json", 50),
    "pipelining unread": _flood("json", 200, reads=False),
    "pipelining refused": _flood("refused", 50),
    "pipelining pages": _flood("page", 50),
    "slow bodies": slow_bodies,
    "tiny chunks": _pour("chunked", b"1\r\na\r\n" * 10_000, 20),
    "tiny frames": _pour("websocket", TEXT_FRAME * 10_000, 20),
    "tiny pings": _pour("websocket", PING_FRAME * 10_000, 20),
    "logins": _flood("login", 100),
    "handshakes": handshakes,
    "stalled handshakes": stalled_handshakes,
    "unfinished handshakes": unfinished_handshakes,
}


async def main() -> None:
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = Attack(told["port"], told["seconds"], {name: head.encode("latin-1") for name, head in told["heads"].items()})
    attack.until = time.monotonic() + attack.seconds
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(attack.seconds + 5):
            await ATTACKS[told["attack"]](attack)
    print(json.dumps(attack.done), flush=True)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main())
