"""The connections under httpx: asyncio streams and h11, and nothing that a process of ours does not use anyway.

httpx's own transport brings httpcore and anyio, 4 MiB in every process that talks to a provider, for proxies, HTTP/2 and other event
loops that we have no use for. Protocol and TLS stay with the libraries: h11 reads and writes, asyncio connects.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h11
import httpx

MAX_HEAD = 64 * 1024
READ = 64 * 1024

Origin = tuple[str, str, int]


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection. Owner: the transport while it rests, a response while one is read."""

    origin: Origin
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rested_at: float = 0.0
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD))

    def abort(self) -> None:
        self.writer.transport.abort()

    @property
    def usable(self) -> bool:
        """Still open, and silent: what comes unasked is the answer to no request (T4). asyncio has no public way to ask for the latter,
        and does not know yet what came since its loop last looked: an end, perhaps, that would swallow the next request."""
        unasked = self.http.trailing_data[0] or self.reader._buffer  # type: ignore[attr-defined]
        return not (unasked or self.reader.at_eof() or self.writer.is_closing() or _has_come(self.writer))

    async def next_event(self) -> h11.Event:
        """The next part of the answer. httpx.RemoteProtocolError, httpx.ReadError."""
        while True:
            try:
                event = self.http.next_event()
                if event is h11.NEED_DATA:
                    self.http.receive_data(await self.reader.read(READ))
                    continue
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            except OSError as error:
                raise httpx.ReadError(type(error).__name__) from error
            if isinstance(event, h11.Event):
                return event
            raise httpx.RemoteProtocolError("the answer is not there to be read")


class Transport(httpx.AsyncBaseTransport):
    """At most ``most`` connections in use; ``resting`` may wait for the next call to the same origin, for ``rest_s`` seconds.

    Never repeats a request: after a failure nobody knows whether the provider has acted. A cancelled call closes its connection.
    """

    def __init__(self, *, tls: ssl.SSLContext, most: int = 64, resting: int = 8, rest_s: float = 2.0) -> None:
        self._tls = tls
        self._room = asyncio.Semaphore(most)
        self._most_resting = resting
        self._rest_s = rest_s
        self._resting: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange up to the head of its answer; the body is the response's stream, which must be closed."""
        await self._room.acquire()
        connection: _Connection | None = None
        try:
            connection = self._take(_origin_of(request.url)) or await self._connect(request)
            await _send(connection, request)
            head = await connection.next_event()
            while isinstance(head, h11.InformationalResponse):
                head = await connection.next_event()
            if not isinstance(head, h11.Response):
                raise httpx.RemoteProtocolError("no answer")
        except BaseException:
            self._room.release()
            if connection is not None:
                connection.abort()
            raise
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=_Body(self, connection))

    def release(self, connection: _Connection) -> None:
        """A response is done with its connection: it rests if both messages ended where they should, else it closes."""
        self._room.release()
        http = connection.http
        if http.our_state is h11.DONE and http.their_state is h11.DONE and connection.usable and len(self._resting) < self._most_resting:
            http.start_next_cycle()
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
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=self._tls if scheme == "https" else None)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connect") from error
        except (OSError, ssl.SSLError) as error:
            raise httpx.ConnectError(type(error).__name__) from error
        return _Connection(origin, reader, writer)


class _Body(httpx.AsyncByteStream):
    def __init__(self, transport: Transport, connection: _Connection) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None:
            event = await self._connection.next_event()
            if not isinstance(event, h11.Data):
                return
            yield bytes(event.data)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.release(connection)


def _has_come(writer: asyncio.StreamWriter) -> bool:
    """Whether the kernel holds bytes or an end that nobody has read."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _origin_of(url: httpx.URL) -> Origin:
    scheme = url.scheme
    if scheme not in ("http", "https") or not url.raw_host:
        raise httpx.UnsupportedProtocol(f"not a scheme we speak: {scheme[:16]}")
    return scheme, url.raw_host.decode("ascii"), url.port or (443 if scheme == "https" else 80)


async def _send(connection: _Connection, request: httpx.Request) -> None:
    http, writer = connection.http, connection.writer
    try:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        parts = [http.send(head)]
        if isinstance(request.stream, httpx.AsyncByteStream):
            parts += [http.send(h11.Data(data=piece)) async for piece in request.stream]
        parts.append(http.send(h11.EndOfMessage()))
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    try:
        writer.write(b"".join(part for part in parts if part))
        await writer.drain()
    except OSError as error:
        raise httpx.WriteError(type(error).__name__) from error
