"""The agent's end of the private hop: HTTP/1.1 from our own door, handed to the Quart app.

Hypercorn, which serves the management listener, is built for the network: it was half of what an agent's request cost (measured, GET
/bff/user: 0.53 ms of CPU under it, 0.27 here). Nobody but our door speaks on this socket, one request at a time on each connection,
under a strict head that it wrote itself. So llhttp reads it and Quart gets its request whole. A door that hangs up stops nothing: what a
handler has begun, a sign-in or a sign-out, is finished.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from quart import Quart, Response
from werkzeug.datastructures import Headers

log = logging.getLogger("bff.agent")

MAX_BODY: Final = 256 * 1024
"""More than any route of the agent takes; the door has the exact bounds."""

BACKLOG: Final = 4096
_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
_BROKEN: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class AgentServer:
    """Serves one app. Owner of its connections; bound: those of the workers' pools."""

    def __init__(self, app: Quart) -> None:
        self.app = app
        self.connections: set[AgentConnection] = set()
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
        tasks = [connection.task for connection in self.connections if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for connection in list(self.connections):
            connection.transport.close()
        await self.app.shutdown()


class AgentConnection(asyncio.Protocol):
    """One connection from a door. Owner: its server."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.task: asyncio.Task[None] | None = None
        self._sent = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._headers = Headers()
        self._body = bytearray()

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
        self._headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self.task is not None:  # the door never sends a second request before the first is answered
            self.transport.abort()
            return
        self.task = asyncio.get_running_loop().create_task(self._answer(self._parser.get_method().decode("ascii")))

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def _answer(self, method: str) -> None:
        whole = False
        try:
            response = await self._server.app.handle_request(self._build_request(method))
            whole = await self._send(cast(Response, response), method)
        except Exception as error:
            log.error("unexpected %s under the agent", type(error).__name__, exc_info=True)
            if not self._sent:
                self._write(_BROKEN)
        finally:
            self.task = None
            if whole:
                self._begin()
            else:
                self.transport.close()  # an answer that is not whole must not look so

    def _build_request(self, method: str) -> Any:
        """Path and query stand in the door's note, and nobody looks at these: two parsers that see two requests are how the worst
        advisories of this field came to be."""
        self._sent = False
        app = self._server.app
        request = app.request_class(
            method,
            "http",
            "/",
            b"",
            self._headers,
            "",
            "1.1",
            cast(Any, {"type": "http", "extensions": {}}),
            max_content_length=app.config["MAX_CONTENT_LENGTH"],
            body_timeout=app.config["BODY_TIMEOUT"],
            send_push_promise=_push_nothing,
        )
        request.body.append(bytes(self._body))
        request.body.set_complete()
        return request

    async def _send(self, response: Response, method: str) -> bool:
        """Write the answer; True if it is whole."""
        silent = method == "HEAD" or response.status_code in _BODILESS
        chunked = not silent and "Content-Length" not in response.headers
        lines = [f"HTTP/1.1 {response.status_code} {_REASONS.get(response.status_code, '')}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        pending = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        if not silent:
            async with response.response as body:
                async for part in body:
                    data = part.encode() if isinstance(part, str) else bytes(part)
                    pending += b"%x\r\n%b\r\n" % (len(data), data) if chunked and data else data
                    self._write(pending)
                    pending = b""
                    await self._writable.wait()
        self._write(pending + (b"0\r\n\r\n" if chunked else b""))
        return True

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():  # a door that hung up is written to no more: uvloop would raise, asyncio complain
            self._sent = True
            self.transport.write(data)


async def _push_nothing(path: str, headers: Headers) -> None:
    """HTTP/2 push: not on this hop."""
