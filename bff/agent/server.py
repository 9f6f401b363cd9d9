"""The agent's end of the private hop: HTTP/1.1 from our own door, handed to the Quart app.

Hypercorn, which serves the management listener, is built for the network: the agent's part of GET /bff/user cost 0.58 ms of CPU under it
and 0.36 here when this server still spoke ASGI to the app (measured side by side), a third less since. Nobody but our door speaks on this
socket, one request at a time on each connection, under a strict head that it wrote itself. So llhttp reads it and Quart gets its request
whole, without ASGI's messages between two tasks. A door that hangs up stops nothing: what a handler has begun, a sign-in or a sign-out,
is finished.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, Mapping
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, cast

import httptools
from quart import Quart, Request, Response
from werkzeug.datastructures import Headers

from bff.base.listening import BACKLOG, KEEPS_PATH

log = logging.getLogger("bff.agent")

MAX_BODY: Final = 256 * 1024
"""More than any route of the agent takes; the door has the exact bounds."""

HELD: Final = 64 * 1024
"""Of an answer, gathered before it is written."""

_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
_SCOPE: Final[Mapping[str, Any]] = MappingProxyType({"type": "http", "extensions": {}})
_BROKEN: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class AgentServer:
    """Serves one app. Owner of its connections; bound: those of the workers' pools."""

    def __init__(self, app: Quart) -> None:
        self.app = app
        self.connections: set[AgentConnection] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Listen on ``sock``, a Unix socket that others may hold as well."""
        await self.app.startup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: AgentConnection(self), sock=sock, backlog=BACKLOG, **KEEPS_PATH)

    async def stop(self, timeout_s: float) -> None:
        """Accept no more, finish what runs, at most ``timeout_s``, and close."""
        if self._server is not None:
            self._server.close()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
        for connection in list(self.connections):
            connection.transport.close()
        await self.app.shutdown()

    def request(self, method: str, headers: list[tuple[str, str]], body: bytes) -> Request:
        """The request as the app knows one. Path and query stand in the door's note, and nobody looks at these: two parsers that see two
        requests are how the worst advisories of this field came to be."""
        request = self.app.request_class(
            method,
            "http",
            "/",
            b"",
            Headers(headers),
            "",
            "1.1",
            cast(Any, _SCOPE),
            max_content_length=self.app.config["MAX_CONTENT_LENGTH"],
            body_timeout=self.app.config["BODY_TIMEOUT"],
            send_push_promise=_push_nothing,
        )
        request.body.set_result(body)
        return request

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one request's coroutine; ``stop`` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)


class AgentConnection(asyncio.Protocol):
    """One connection from a door. Owner: its server."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._writable = asyncio.Event()
        self._writable.set()
        self._answer: _Answer | None = None
        self.begin()

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- llhttp -------------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self._answer is not None:  # the door never sends a second request before the first is answered
            self.transport.abort()
            return
        method = self._parser.get_method().decode("ascii")
        self._answer = answer = _Answer(self, bodiless=method == "HEAD")
        self._server.run(self._run(answer, self._server.request(method, self._headers, bytes(self._body))))

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def _run(self, answer: _Answer, request: Request) -> None:
        try:
            response = await self._server.app.handle_request(request)
            await answer.send(cast(Response, response))
        except Exception as error:
            log.error("unexpected %s under the agent", type(error).__name__, exc_info=True)
            if not answer.begun:
                self.write(_BROKEN)
        finally:
            if not answer.whole:
                self.transport.close()  # an answer that is not whole must not look so

    def begin(self) -> None:
        """Ready for the next request. What the app does behind its answer is no business of this connection any more."""
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._answer = None

    def write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():  # a door that hung up is written to no more: uvloop would raise, asyncio complain
            self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()


class _Answer:
    """What the app answers to one request, as bytes for the door."""

    def __init__(self, connection: AgentConnection, *, bodiless: bool) -> None:
        self.begun = False
        self.whole = False
        self._connection = connection
        self._bodiless = bodiless

    async def send(self, response: Response) -> None:
        silent = self._bodiless or response.status_code in _BODILESS
        chunked = not silent and "Content-Length" not in response.headers
        data = _head(response, chunked=chunked)
        if not silent:
            async with response.response as body:
                async for piece in body:
                    piece = piece.encode() if isinstance(piece, str) else piece
                    data += b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece
                    if len(data) > HELD or chunked:
                        await self._write(data)
                        data = b""
        self.whole = True
        self._connection.begin()  # before the last byte leaves: the door may ask again as soon as it has all
        await self._write(data + b"0\r\n\r\n" if chunked else data)

    async def _write(self, data: bytes) -> None:
        self.begun = True
        self._connection.write(data)
        await self._connection.drain()


def _head(response: Response, *, chunked: bool) -> bytes:
    status = response.status_code
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}", *(f"{name}: {value}" for name, value in response.headers)]
    lines.append(f"Date: {formatdate(usegmt=True)}")  # RFC 9110 §6.6.1; neither Quart nor the door adds it
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


async def _push_nothing(path: str, headers: Headers) -> None:
    """Nobody is pushed anything: that was HTTP/2's."""
