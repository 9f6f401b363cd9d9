"""Answers of a hostile upstream, byte for byte, and what a browser may see of each."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.harness.upstream import Line, RecordingUpstream, Seen

Sight = Literal["502", "cut", "whole"]
Deed = Callable[[Seen, Line], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Twin:
    """``sight``: a 502, an answer the browser can tell was cut, or a whole one. ``end``: how the upstream leaves its connection."""

    data: bytes
    sight: Sight
    end: Literal["open", "close", "reset"] = "open"
    status: int = 200


def ok(*lines: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((start, *lines)) + b"\r\n\r\n" + body


_CHUNKED: Final = b"Transfer-Encoding: chunked"
_LEN3: Final = b"Content-Length: 3"
_SECOND: Final = ok(_LEN3, body=b"BAD")

TWINS: Final[dict[str, Twin]] = {
    "cl_te": Twin(ok(_LEN3, _CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), "502"),
    "two_lengths": Twin(ok(_LEN3, b"Content-Length: 4", body=b"abcd"), "502"),
    "two_equal_lengths": Twin(ok(_LEN3, _LEN3, body=b"abc"), "502"),
    "length_list": Twin(ok(b"Content-Length: 3, 3", body=b"abc"), "502"),
    "length_plus": Twin(ok(b"Content-Length: +3", body=b"abc"), "502"),
    "length_hex": Twin(ok(b"Content-Length: 0x3", body=b"abc"), "502"),
    "length_huge": Twin(ok(b"Content-Length: " + b"9" * 30, body=b"abc"), "502"),
    "two_codings": Twin(ok(_CHUNKED, _CHUNKED, body=b"0\r\n\r\n"), "502"),
    "coding_gzip": Twin(ok(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), "502"),
    "chunked_http10": Twin(ok(_CHUNKED, body=b"0\r\n\r\n", start=b"HTTP/1.0 200 OK"), "502"),
    "short_body": Twin(ok(b"Content-Length: 10", body=b"abc"), "cut", "close"),
    "short_body_reset": Twin(ok(b"Content-Length: 10", body=b"abc"), "cut", "reset"),
    "chunks_end_early": Twin(ok(_CHUNKED, body=b"3\r\nabc\r\n"), "cut", "close"),
    "chunks_reset": Twin(ok(_CHUNKED, body=b"3\r\nabc\r\n5\r\nab"), "cut", "reset"),
    "until_reset": Twin(ok(body=b"abc"), "cut", "reset"),
    "bad_chunk_size": Twin(ok(_CHUNKED, body=b"3\r\nabc\r\nxyz\r\n"), "cut"),
    "bad_chunk_end": Twin(ok(_CHUNKED, body=b"3\r\nabcXX0\r\n\r\n"), "cut"),
    "bare_lf_chunk": Twin(ok(_CHUNKED, body=b"3\nabc\n0\n\n"), "cut"),
    "chunk_overflow": Twin(ok(_CHUNKED, body=b"fffffffffffffffff\r\nabc"), "cut"),
    "endless_chunk_line": Twin(ok(_CHUNKED, body=b"3;" + b"a" * 5000), "cut"),
    "endless_trailer": Twin(ok(_CHUNKED, body=b"0\r\n" + b"X-A: b\r\n" * 5000), "cut"),
    "trailer_length": Twin(ok(_CHUNKED, body=b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n"), "cut"),
    "extra_bytes": Twin(ok(_LEN3, body=b"abc" + _SECOND), "whole"),
    "extra_after_chunks": Twin(ok(_CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n" + _SECOND), "whole"),
    "two_answers": Twin(ok(b"Content-Length: 0") + _SECOND, "whole"),
    "body_on_304": Twin(ok(b"Content-Length: 3", start=b"HTTP/1.1 304 Not Modified", body=b"abc"), "whole", status=304),
    "body_on_204": Twin(ok(start=b"HTTP/1.1 204 No Content", body=b"abc"), "whole", status=204),
    "framed_204": Twin(ok(_LEN3, start=b"HTTP/1.1 204 No Content", body=b"abc"), "502"),
    "interim_storm": Twin(ok(start=b"HTTP/1.1 103 Early Hints") * 40 + ok(_LEN3, body=b"abc"), "502"),
    "interim_only": Twin(ok(start=b"HTTP/1.1 100 Continue"), "502", "close"),
    "framed_100": Twin(ok(_LEN3, start=b"HTTP/1.1 100 Continue", body=b"abc") + ok(_LEN3, body=b"abc"), "502"),
    "switch_unasked": Twin(ok(b"Upgrade: websocket", b"Connection: Upgrade", start=b"HTTP/1.1 101 Switching Protocols"), "502"),
    "lines_200": Twin(ok(*(b"X-%d: 1" % number for number in range(200)), _LEN3, body=b"abc"), "502"),
    "header_100k": Twin(ok(b"X-A: " + b"a" * 100_000, _LEN3, body=b"abc"), "502"),
    "endless_header": Twin(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2_000_000, "502"),
    "http09": Twin(b"<html>hello</html>\n", "502", "close"),
    "nothing": Twin(b"", "502", "close"),
    "reset_at_once": Twin(b"", "502", "reset"),
    "half_a_head": Twin(b"HTTP/1.1 200 OK\r\nContent-Le", "502", "close"),
    "version_12": Twin(ok(_LEN3, start=b"HTTP/1.2 200 OK", body=b"abc"), "502"),
    "version_20": Twin(ok(_LEN3, start=b"HTTP/2.0 200 OK", body=b"abc"), "502"),
    "version_text": Twin(ok(_LEN3, start=b"HTTQ/1.1 200 OK", body=b"abc"), "502"),
    "status_99": Twin(ok(_LEN3, start=b"HTTP/1.1 099 x", body=b"abc"), "502"),
    "status_600": Twin(ok(_LEN3, start=b"HTTP/1.1 600 x", body=b"abc"), "502"),
    "status_letters": Twin(ok(_LEN3, start=b"HTTP/1.1 2x0 OK", body=b"abc"), "502"),
    "bare_lf": Twin(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "502", "close"),
    "bare_lf_stays": Twin(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "502"),
    "bare_lf_blank": Twin(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\nabc", "502"),
    "http09_stays": Twin(b"<html>hello</html>\n", "502"),
    "bare_lf_inside": Twin(ok(b"X-A: b\nX-B: c", _LEN3, body=b"abc"), "502"),
    "bare_cr": Twin(ok(b"X-A: b\rX-B: c", _LEN3, body=b"abc"), "502"),
    "obs_fold": Twin(ok(b"X-A: b", b" c", _LEN3, body=b"abc"), "502"),
    "space_before_colon": Twin(ok(b"Content-Length : 3", body=b"abc"), "502"),
    "nul": Twin(ok(b"X-A: b\x00c", _LEN3, body=b"abc"), "502"),
    "leading_line": Twin(b"\r\n" + ok(_LEN3, body=b"abc"), "502"),
}  # fmt: skip


@dataclass(slots=True)
class HostileUpstream(RecordingUpstream):
    """``deeds`` run by path as soon as the head is there, before any body is read; the connection is the deed's to end."""

    deeds: dict[str, Deed] = field(default_factory=dict)

    async def _one(self, line: Line, number: int) -> bool:
        # Peeking at the stream's buffer: the head must stay where it is for requests that are not ours.
        head = await line.reader.readuntil(b"\r\n\r\n")
        seen = Seen(head, connection=number)
        deed = self.deeds.get(seen.target.partition("?")[0])
        if deed is None:
            line.reader._buffer[:0] = head  # type: ignore[attr-defined]
            return await RecordingUpstream._one(self, line, number)
        self.seen.append(seen)
        await deed(seen, line)
        return False


def reset(line: Line) -> None:
    """A real RST; ``abort`` alone sends a FIN when nothing is left unread."""
    line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.writer.transport.abort()


def perform(twin: Twin) -> Deed:
    """Send the twin's bytes and leave the connection as it says; an open one stays so until the other side ends it."""

    async def deed(_: Seen, line: Line) -> None:
        line.writer.write(twin.data)
        await line.writer.drain()
        if twin.end == "reset":
            await asyncio.sleep(0.05)  # or the kernel throws away what was just sent
            reset(line)
        elif twin.end == "open":
            await line.reader.read()

    return deed
