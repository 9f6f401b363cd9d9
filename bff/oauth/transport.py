"""The connections under the wire to the provider: asyncio and llhttp, one exchange at a time on each.

httpx's own transport brings httpcore and anyio: 4 MiB in the process that talks to a provider, and most of what a call costs
(measured: a token request took 0.9 ms of CPU under it and h11, 0.3 here). Parsing and TLS stay with the libraries: llhttp
(httptools) reads what comes, asyncio connects.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

import httptools
import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

MAX_HEAD = 64 * 1024
MAX_INTERIM = 16
HELD = 256 * 1024
"""Body bytes that wait to be read; then the sender waits."""

NEXT_ADDRESS_S = 0.25

Origin = tuple[str, str, int]
Places = Sequence[AddrInfoType]
Resolve = Callable[[str, int], Awaitable[Places]]

_UNSENDABLE = re.compile(rb"[\r\n\x00]")
_OVER = b""
_BODILESS = frozenset({204, 304})


class _Connection(asyncio.Protocol):
    """One connection. Owner: the transport while it rests, a response while one is read.

    The callbacks that llhttp knows by name (``on_*``) and those of asyncio fill the state of the answer under way; whoever reads waits
    for ``_news``.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.rested_at = 0.0
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._news: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._ended = False
        self.begin()

    def begin(self) -> None:
        """Ready for the next answer."""
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self._stays = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._head = b""
        self._interim = 0
        self._left: int | None = None
        self._surplus = False
        self._pieces: list[bytes] = []
        self._held = 0
        self._until_close = False

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self._surplus = True
            return
        if not self.status:
            data = self._read_heads(data)
        if self._left is not None and len(data) > self._left:
            data, self._surplus = data[: self._left], True
        if data:
            self._feed(data)
        self._tell()

    def eof_received(self) -> bool:
        self._ended = True
        self.complete = self.complete or self._until_close
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._lost is None:
            self._lost = httpx.RemoteProtocolError("the connection ended") if exc is None else httpx.ReadError(type(exc).__name__)
        self._tell()

    def _read_heads(self, data: bytes) -> bytes:
        """Heads up to the final one; returns what came behind it. llhttp sees head and body apart, so that we know where each ends."""
        self._head += data
        while not self.status and self._lost is None:
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._head) > MAX_HEAD:
                    self._fail(httpx.RemoteProtocolError("a head over the bound"))
                return b""
            block, self._head = self._head[:end], self._head[end:]
            self._feed(block)
        rest, self._head = self._head, b""
        return rest

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(type(error).__name__))

    # -- llhttp -------------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers.clear()
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                self._fail(httpx.RemoteProtocolError("not an answer"))
        elif not self.status:
            self.status = status
            fields = {name.lower(): value for name, value in self.headers}
            if b"transfer-encoding" not in fields and status not in _BODILESS:
                self._left = int(fields[b"content-length"]) if b"content-length" in fields else None
                self._until_close = self._left is None

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        if self._left is not None:
            self._left -= len(data)
        if self._held > HELD:
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self.complete, self._stays = True, self._parser.should_keep_alive()

    # -- whoever reads ------------------------------------------------------------------------------------------------

    async def head(self) -> None:
        """Wait for the final head. httpx.RemoteProtocolError, httpx.ReadError."""
        while not self.status:
            await self._wait()

    async def piece(self) -> bytes:
        """The next piece of the body, empty at its end. Errors as for ``head``."""
        while not self._pieces:
            if self.complete:
                return _OVER
            await self._wait()
        pieces, self._pieces, self._held = self._pieces, [], 0
        if not self.transport.is_closing():
            self.transport.resume_reading()
        return b"".join(pieces)

    @property
    def reusable(self) -> bool:
        """Whether both messages ended where they should, and nothing came behind: it would become the next answer (T4)."""
        return self.complete and self._stays and not self._pieces and not self._over

    @property
    def usable(self) -> bool:
        """Still open, and silent. The loop does not know yet what came since it last looked: an end, perhaps, that would swallow the
        next request."""
        return not self._over and not _has_come(self.transport)

    @property
    def _over(self) -> bool:
        return self._surplus or self._ended or self._lost is not None or self.transport.is_closing()

    def abort(self) -> None:
        self.transport.abort()

    async def _wait(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._lost = self._lost or error
        self.transport.abort()


class Transport(httpx.AsyncBaseTransport):
    """At most ``most`` connections in use; ``resting`` may wait for the next call to the same origin, for ``rest_s`` seconds.

    A host's addresses are tried one behind the other, the next where one is silent for a quarter of a second (RFC 8305 §5): a host with a
    broken IPv6 is not a provider that is down. A request is never repeated: after a failure nobody knows whether the provider has acted.
    A cancelled call closes its connection.
    """

    def __init__(
        self, *, tls: ssl.SSLContext, most: int = 64, resting: int = 8, rest_s: float = 2.0, resolve: Resolve | None = None
    ) -> None:
        self._tls = tls
        self._resolve = resolve or _resolve
        self._room = asyncio.Semaphore(most)
        self._most_resting = resting
        self._rest_s = rest_s
        self._resting: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange up to the head of its answer; the body is the response's stream, which must be closed."""
        wire = await _wire_of(request)
        await self._room.acquire()
        connection: _Connection | None = None
        try:
            connection = self._take(_origin_of(request.url)) or await self._connect(request)
            connection.begin()
            if connection.transport.is_closing():
                raise httpx.ReadError("closed at once")
            connection.transport.write(wire)
            await connection.head()
        except BaseException:
            self._room.release()
            if connection is not None:
                connection.abort()
            raise
        return httpx.Response(connection.status, headers=connection.headers, stream=_Body(self, connection))

    def release(self, connection: _Connection) -> None:
        """A response is done with its connection: it rests, or it closes."""
        self._room.release()
        if connection.reusable and len(self._resting) < self._most_resting:
            connection.rested_at = time.monotonic()
            self._resting.append(connection)
        else:
            connection.abort()

    async def aclose(self) -> None:
        while self._resting:
            self._resting.pop().abort()

    def _take(self, origin: Origin) -> _Connection | None:
        oldest = time.monotonic() - self._rest_s
        for connection in [one for one in self._resting if one.rested_at < oldest or not one.usable]:
            self._resting.remove(connection)
            connection.abort()
        found = next((one for one in reversed(self._resting) if one.origin == origin), None)
        if found is not None:
            self._resting.remove(found)
        return found

    async def _connect(self, request: httpx.Request) -> _Connection:
        scheme, host, port = origin = _origin_of(request.url)
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        loop = asyncio.get_running_loop()
        tls = self._tls if scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_s):
                places = await self._resolve(host, port)
                sock = await start_connection(places, happy_eyeballs_delay=NEXT_ADDRESS_S)
                _, connection = await loop.create_connection(
                    lambda: _Connection(origin), sock=sock, ssl=tls, server_hostname=host if tls else None
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connect") from error
        except (OSError, ssl.SSLError, RuntimeError) as error:  # RuntimeError: what uvloop makes of a refused address
            raise httpx.ConnectError(type(error).__name__) from error
        return connection


class _Body(httpx.AsyncByteStream):
    def __init__(self, transport: Transport, connection: _Connection) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None and (piece := await self._connection.piece()):
            yield piece

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.release(connection)


async def _resolve(host: str, port: int) -> Places:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _has_come(transport: asyncio.Transport) -> bool:
    """Whether the kernel holds bytes or an end that nobody has read."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _origin_of(url: httpx.URL) -> Origin:
    scheme = url.scheme
    if scheme not in ("http", "https") or not url.raw_host:
        raise httpx.UnsupportedProtocol(f"not a scheme we speak: {scheme[:16]}")
    return scheme, url.raw_host.decode("ascii"), url.port or (443 if scheme == "https" else 80)


async def _wire_of(request: httpx.Request) -> bytes:
    """The request's bytes. A line break in a value, a token's perhaps, would be a second request: httpx.LocalProtocolError."""
    fields = request.headers.raw
    if any(_UNSENDABLE.search(name) or _UNSENDABLE.search(value) for name, value in fields):
        raise httpx.LocalProtocolError("a value that cannot be a header field's")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path), *(b"%b: %b" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + await request.aread()
