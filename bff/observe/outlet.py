"""Lines on their way out of the process, without ever waiting for whoever reads them (standard output is mostly a pipe or a socket).

What the reader has not taken yet is kept up to a bound; more is refused, so that a log collector that falls behind costs lines and
never requests. Lines go out in pieces of whole lines that a pipe takes as one, so those of several processes do not run into each other.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable

PIECE_BYTES = 4096
"""PIPE_BUF on Linux: a pipe takes so much as a whole or not at all."""
LIMIT_BYTES = 1024 * 1024


class Outlet:
    """Call it with lines; call it with nothing now and then to pass on what waits. Bound: ``limit_bytes`` and one piece.

    BlockingIOError: the lines were not taken, not one of them; other OSError: nobody will ever read them.
    """

    def __init__(self, fd: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._push = _pusher(fd)
        self._fd = fd
        self._limit = limit_bytes
        self._pieces: deque[bytes] = deque()
        self.waiting = 0

    def __call__(self, lines: bytes) -> None:
        self._pass_on()
        if self.waiting + len(lines) > self._limit:
            raise BlockingIOError
        for piece in cut(lines):
            self._pieces.append(piece)
            self.waiting += len(piece)
        self._pass_on()

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait a little for the reader, at the end of the process. Raises nothing."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._pass_on()
            while self._pieces and (left_s := deadline - time.monotonic()) > 0:
                _wait_for_room(self._fd, left_s)
                self._pass_on()

    def _pass_on(self) -> None:
        while self._pieces:
            piece = self._pieces[0]
            try:
                written = self._push(piece)
            except BlockingIOError:
                return
            self.waiting -= written
            if written < len(piece):
                self._pieces[0] = piece[written:]
                return
            self._pieces.popleft()


def cut(lines: bytes) -> list[bytes]:
    """Pieces of whole lines, none longer than PIECE_BYTES unless a single line is."""
    pieces, start = [], 0
    while len(lines) - start > PIECE_BYTES:
        end = lines.rfind(b"\n", start, start + PIECE_BYTES) + 1 or lines.find(b"\n", start) + 1 or len(lines)
        pieces.append(lines[start:end])
        start = end
    return [*pieces, lines[start:]] if start < len(lines) else pieces


def _pusher(fd: int) -> Callable[[bytes], int]:
    """How to write to ``fd`` without waiting. Its own mode stays: other processes, and our own logs, share it."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return lambda data: _send(fd, data)
    if stat.S_ISREG(mode):
        return lambda data: os.write(fd, data)
    with contextlib.suppress(OSError):
        # A second way to the same pipe. Not allowed where another user made it.
        again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return lambda data: os.write(again, data)
    return lambda data: _write_if_room(fd, data)


def _send(fd: int, data: bytes) -> int:
    with socket.socket(fileno=os.dup(fd)) as out:
        return out.send(data, socket.MSG_DONTWAIT)


def _write_if_room(fd: int, data: bytes) -> int:
    """A pipe with room has room for a piece, unless another process is quicker: then this waits after all."""
    if not _wait_for_room(fd, 0.0):
        raise BlockingIOError
    return os.write(fd, data)


def _wait_for_room(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
