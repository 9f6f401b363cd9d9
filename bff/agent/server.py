"""The agent's end of the private hop: HTTP/1.1 from our own door, handed to the Quart app.

Hypercorn, which serves the management listener, is built for the network: the agent's part of GET /bff/user cost 0.58 ms of CPU under it
and costs 0.36 here (measured side by side). Nobody but our door speaks on this socket, one request at a time on each connection, under a
strict head that it wrote itself. So llhttp reads it and Quart gets its request whole. A door that hangs up stops nothing: what a handler
has begun, a sign-in or a sign-out, is finished.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, MutableMapping
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from quart import Quart

from bff.base.listening import BACKLOG

log = logging.getLogger("bff.agent")

MAX_BODY: Final = 256 * 1024
"""More than any route of the agent takes; the door has the exact bounds."""

Message = MutableMapping[str, Any]

_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
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
        self._server = await loop.create_unix_server(lambda: AgentConnection(self), sock=sock, backlog=BACKLOG)

    async def stop(self, timeout_s: float) -> None:
        """Accept no more, finish what runs, at most ``timeout_s``, and close."""
        if self._server is not None:
            self._server.close()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
        for connection in list(self.connections):
            connection.transport.close()
        await self.app.shutdown()

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
        self._headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self._answer is not None:  # the door never sends a second request before the first is answered
            self.transport.abort()
            return
        self._answer = answer = _Answer(self, self._parser.get_method().decode("ascii"), bytes(self._body))
        self._server.run(self._run(answer))

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def _run(self, answer: _Answer) -> None:
        try:
            await cast(Any, self._server.app)(answer.scope(self._headers), answer.receive, answer.send)
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
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._answer = None

    def write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():  # a door that hung up is written to no more: uvloop would raise, asyncio complain
            self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()


class _Answer:
    """One request as ASGI has it, and what the app answers."""

    def __init__(self, connection: AgentConnection, method: str, body: bytes) -> None:
        self.begun = False
        self.whole = False
        self._connection = connection
        self._method = method
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._head = b""
        self._chunked = False
        self._silent = False

    def scope(self, headers: list[tuple[bytes, bytes]]) -> Message:
        """Path and query stand in the door's note, and nobody looks at these: two parsers that see two requests are how the worst
        advisories of this field came to be."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self._method,
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
            "extensions": {},
        }

    async def receive(self) -> Message:
        request, self._request = self._request, None
        if request is None:  # never a disconnect: what was begun is finished
            await asyncio.get_running_loop().create_future()
        return cast(Message, request)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message["status"], list(message["headers"]))
        elif message["type"] == "http.response.body" and not self.whole:
            await self._go_on(bytes(message.get("body", b"")), more=message.get("more_body", False))

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._silent = self._method == "HEAD" or status in _BODILESS
        self._chunked = not self._silent and all(name.lower() != b"content-length" for name, _ in headers)
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}".encode(), *(b"%b: %b" % field for field in headers)]
        if self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"

    async def _go_on(self, body: bytes, *, more: bool) -> None:
        data, self._head = self._head, b""
        if not self._silent:
            data += b"%x\r\n%b\r\n" % (len(body), body) if self._chunked and body else body
        if self._chunked and not more:
            data += b"0\r\n\r\n"
        self.begun = True
        self._connection.write(data)
        if not more:
            self.whole = True
            self._connection.begin()  # before anything is awaited: the door may ask again as soon as it has all
        await self._connection.drain()
