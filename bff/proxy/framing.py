"""Chunked transfer coding, read strictly and written plainly (RFC 9112 §7.1; FRAME-13, M4, M14)."""

from __future__ import annotations

import re
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"

MAX_SIZE_LINE_BYTES = 256
MAX_TRAILER_BYTES = 8 * 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"))?)*)'
)
_TRAILER_LINE = re.compile(_TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*")

# llhttp takes a trailer for a header: with one of these it sees another message than we do.
_FRAMING_FIELDS: Final = frozenset({b"content-length", b"transfer-encoding"})

_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)


class FramingError(ValueError):
    """Bytes that are not the chunked coding. The connection they came from can't be used again."""


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk; nothing for nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedReader:
    """Takes the coding off a body as it arrives, in pieces of any size.

    ``done`` once the last CRLF was seen; ``rest`` then holds the bytes after it, which belong to the next message. Extensions and
    trailers are checked for grammar and dropped: a trailer must never become a header (RFC 9110 §6.5.1). No white space around
    the size, no bare LF, at most 15 hex digits. After a FramingError the reader must not be fed again.
    """

    __slots__ = ("_buffer", "_left", "_state", "_trailer_bytes", "done", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._state = _SIZE
        self._trailer_bytes = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``. FramingError at the first byte that can't be right."""
        buffer = self._buffer + data if self._buffer else bytes(data)
        payload: list[bytes] = []
        position = 0
        while not self.done:
            position, go_on = self._step(buffer, position, payload)
            if not go_on:
                break
        if self.done:
            self.rest += buffer[position:]
            self._buffer = b""
        else:
            self._buffer = buffer[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _step(self, buffer: bytes, position: int, payload: list[bytes]) -> tuple[int, bool]:
        """One move of the machine: the new position, and False when more bytes are needed."""
        if self._state == _DATA:
            piece = buffer[position : position + self._left]
            if piece:
                payload.append(piece)
            self._left -= len(piece)
            if self._left:
                return position + len(piece), False
            self._state = _DATA_END
            return position + len(piece), True
        if self._state == _DATA_END:
            end = buffer[position : position + 2]
            if not b"\r\n".startswith(end):
                raise FramingError("a chunk does not end with CRLF")
            if len(end) < 2:
                return position, False
            self._state = _SIZE
            return position + 2, True
        return self._step_line(buffer, position)

    def _step_line(self, buffer: bytes, position: int) -> tuple[int, bool]:
        limit = MAX_SIZE_LINE_BYTES if self._state == _SIZE else MAX_TRAILER_BYTES - self._trailer_bytes
        end = buffer.find(b"\n", position, position + limit)
        if end < 0:
            if len(buffer) - position >= limit:
                raise FramingError("a line of the chunked coding is too long")
            return position, False
        if end == position or buffer[end - 1] != 13:
            raise FramingError("a line of the chunked coding ends without CR")
        line = buffer[position : end - 1]
        if self._state == _SIZE:
            self._take_size(line)
        else:
            self._take_trailer(line)
        return end + 1, True

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise FramingError("a chunk size line is malformed")
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            self.done = True
            return
        if _TRAILER_LINE.fullmatch(line) is None:
            raise FramingError("a trailer line is malformed")
        if line.partition(b":")[0].lower() in _FRAMING_FIELDS:
            raise FramingError("a trailer line speaks of framing")
        self._trailer_bytes += len(line) + 2
