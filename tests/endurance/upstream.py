"""An upstream as a process of its own: cheap to ask, so that a figure is the worker's. Prints its port, serves until its input ends.

``/big?N`` sends N bytes as fast as they are taken, ``/ws`` accepts a WebSocket and throws away what comes, ``/sink`` throws a body away
and answers when its length or its last chunk has come, everything else is small JSON.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import sys
from typing import cast

import uvloop

PIECE = b"\xa5" * 262_144
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport = cast(asyncio.Transport, None)
        self.held = b""
        self.left = 0
        self.swallows = False
        self.drops = False
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.drops:
            return
        self.held += data
        if self.swallows:
            self._swallow()
        while not self.drops and not self.swallows and (end := self.held.find(b"\r\n\r\n") + 4) > 3:
            head, self.held = self.held[:end], self.held[end:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path, _, query = head.split(b" ", 2)[1].partition(b"?")
        fields = {key.lower(): value.strip() for key, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:-2])}
        if path.endswith(b"/big"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %b\r\n\r\n" % query)
            self.left = int(query)
            self._send()
        elif path.endswith(b"/ws"):
            accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + WS_GUID).digest())
            switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
            self.transport.write(switch % accept)
            self.drops = True
        elif path.endswith(b"/sink"):
            self.left = int(fields.get(b"content-length", -1))
            self.swallows = True
            self._swallow()
        else:
            self.transport.write(JSON)

    def _swallow(self) -> None:
        if self.left >= 0:
            self.left -= len(self.held)
            self.held = b""
            done = self.left <= 0
        else:
            done = self.held.endswith(b"0\r\n\r\n")
            self.held = self.held[-5:]
        if done:
            self.held, self.left, self.swallows = b"", 0, False
            self.transport.write(JSON)

    def _send(self) -> None:
        while self.left > 0 and not self.full:
            self.transport.write(PIECE[: self.left])
            self.left = max(self.left - len(PIECE), 0)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._send()


async def main() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[1]))
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
