"""A recording upstream on a raw socket: keeps the exact bytes it was sent; answers, stalls or breaks as told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.harness.background import Background


@dataclass(slots=True)
class Seen:
    """One request as it arrived. ``connection`` numbers the connections from 1."""

    head: bytes
    body: bytes = b""
    connection: int = 0
    complete: bool = False

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head[:-4].split(b"\r\n")[1:]
        return [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in (line.partition(b":") for line in lines)]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    @property
    def token(self) -> str:
        """The bearer token, "" without one."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token if scheme == "Bearer" else ""

    @property
    def claims(self) -> dict[str, Any]:
        """What the token says, unverified: the recorder believes anything."""
        parts = self.token.split(".")
        if len(parts) != 3:
            return {}
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return claims


@dataclass(slots=True)
class Line:
    """The upstream's end of one connection, for a behaviour to write to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.writer.transport.abort()


Behaviour = Callable[[Seen, Line], Awaitable[bool]]
"""Answers one request; False ends the connection."""


def response(status: int = 200, body: bytes = b"", *headers: tuple[str, str], reason: str = "OK") -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def sending(data: bytes, *, keep: bool = True) -> Behaviour:
    """A behaviour that sends these bytes whatever was asked."""

    async def answer(_: Seen, line: Line) -> bool:
        await line.send(data)
        return keep

    return answer


async def echo(seen: Seen, line: Line) -> bool:
    """JSON of what arrived: the default. Not the token itself, which has no business in a browser."""
    names = [name for name, _ in seen.headers]
    told = {"method": seen.method, "target": seen.target, "sub": seen.claims.get("sub"), "names": names, "body_bytes": len(seen.body)}
    await line.send(response(200, json.dumps(told).encode() if seen.method != "HEAD" else b"", ("Content-Type", "application/json")))
    return True


async def stall(_: Seen, line: Line) -> bool:
    """Never answers; waits until the other side gives up."""
    await line.reader.read()
    return False


async def reset(_: Seen, line: Line) -> bool:
    await line.reset()
    return False


def cut_after(data: bytes, count: int) -> Behaviour:
    """Sends the first ``count`` bytes of an answer, then resets."""

    async def answer(_: Seen, line: Line) -> bool:
        await line.send(data[:count])
        await line.reset()
        return False

    return answer


@dataclass(slots=True)
class RecordingUpstream:
    """Listens on loopback in the harness's background loop. ``behaviours``: by path without query; ``default`` for the rest."""

    background: Background
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    default: Behaviour = echo
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    open_connections: int = 0
    _server: asyncio.Server | None = None

    def start(self) -> RecordingUpstream:
        self.background.run(self._listen())
        return self

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        self.seen.clear()
        self.behaviours.clear()
        self.default = echo

    def stop(self) -> None:
        if self._server is not None:
            self.background.loop.call_soon_threadsafe(self._server.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        number, line = self.connections, Line(reader, writer)
        try:
            while await self._one(line, number):
                continue
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _one(self, line: Line, number: int) -> bool:
        head = await line.reader.readuntil(b"\r\n\r\n")
        seen = Seen(head, connection=number)
        self.seen.append(seen)
        if (seen.header("expect") or "").lower() == "100-continue":
            await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for piece in _body(seen, line.reader):
            seen.body += piece
        seen.complete = True
        behaviour = self.behaviours.get(seen.target.partition("?")[0], self.default)
        return await behaviour(seen, line)


async def _body(seen: Seen, reader: asyncio.StreamReader) -> Any:
    if (seen.header("transfer-encoding") or "").lower() == "chunked":
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = await reader.readexactly(size)
            await reader.readexactly(2)
            if size == 0:
                return
            yield piece
    left = int(seen.header("content-length") or 0)
    while left > 0:
        piece = await reader.read(min(left, 65_536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece
