"""A small HTTP/1.1 client over asyncio streams. It parses strictly: what no browser would accept fails the test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

HeaderList = list[tuple[str, str]]
MAX_HEAD_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. ``raw_head`` is exactly what arrived before the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw_head: bytes = b""
    url: str = ""
    complete: bool = True

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem code, "" when this is no problem document."""
        try:
            return str(self.json().get("code", ""))
        except (ValueError, AttributeError):
            return ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: the URL's host mapped to an address, TLS when https."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""


def address_of(url: str, *, tls: ssl.SSLContext | None = None) -> Address:
    """Names that are not loopback literals are taken for loopback too: nothing here leaves the machine."""
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    host = parts.hostname or "127.0.0.1"
    port = parts.port or (443 if secure else 80)
    return Address("::1" if host == "::1" else "127.0.0.1", port, (tls or _trust_all()) if secure else None, host)


def _trust_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class Wire:
    """One connection and how to read answers from it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heads: list[bytes] = field(default_factory=list)

    @classmethod
    async def open(cls, address: Address, *, source: str = "") -> Wire:
        """``source``: the address we come from."""
        reader, writer = await asyncio.open_connection(
            address.host,
            address.port,
            ssl=address.tls,
            server_hostname=address.server_name if address.tls else None,
            limit=MAX_HEAD_BYTES,
            local_addr=(source, 0) if source else None,
        )
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> tuple[int, HeaderList, bytes]:
        """Status, headers and exact bytes of the next final or interim head."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(raw)
        lines = raw[:-4].split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(rest) < 3:
            raise ValueError(f"not a status line: {lines[0]!r}")
        headers: HeaderList = []
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name.strip() != name:
                raise ValueError(f"not a header line: {line!r}")
            headers.append((name.decode("latin-1"), value.strip().decode("latin-1")))
        return int(rest[:3]), headers, raw

    async def read_answer(self, method: str, url: str = "") -> Answer:
        """The next final response with its whole body."""
        while True:
            status, headers, raw = await self.read_head()
            if status >= 200 or status == 101:
                break
        body, complete = b"", True
        if method != "HEAD" and status not in (101, 204, 304):
            body, complete = await self._read_body(headers)
        return Answer(status, tuple(headers), body, raw, url, complete)

    async def _read_body(self, headers: HeaderList) -> tuple[bytes, bool]:
        fields = {name.lower(): value for name, value in headers}
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return await self._read_chunked()
        if "content-length" in fields:
            try:
                return await self.reader.readexactly(int(fields["content-length"])), True
            except asyncio.IncompleteReadError as cut:
                return cut.partial, False
            except ConnectionError:
                return b"", False
        return await self.reader.read(), True

    async def _read_chunked(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        try:
            async for piece in self.chunks():
                pieces.append(piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b"".join(pieces), False
        return b"".join(pieces), True

    async def chunks(self) -> Any:
        """The payload of a chunked body, piece by piece. IncompleteReadError when it is cut off."""
        while True:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2].split(b";")[0], 16)
            if size == 0:
                await self.reader.readuntil(b"\r\n")
                return
            piece = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            yield piece

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            return


def head_bytes(method: str, url: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A request head; Host comes from the URL unless the headers bring one."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    listed = list(headers)
    if not any(name.lower() == "host" for name, _ in listed):
        listed.insert(0, ("Host", parts.netloc))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in listed)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def ask(
    method: str,
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    timeout_s: float = 20.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own."""
    listed = list(headers)
    if body is not None:
        listed.append(("Content-Length", str(len(body))))
    async with asyncio.timeout(timeout_s):
        wire = await Wire.open(address_of(url, tls=tls))
        try:
            await wire.send(head_bytes(method, url, [*listed, ("Connection", "close")]) + (body or b""))
            return await wire.read_answer(method, url)
        finally:
            await wire.close()
