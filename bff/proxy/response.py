"""Response heads from an upstream, which is semi-trusted at best: anything but strict HTTP/1.1 is a 502 (FRAME-8, M11)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bff.base.errors import UpstreamProtocol
from bff.policy.facts import Header

MAX_RESPONSE_HEAD_BYTES = 64 * 1024
MAX_RESPONSE_LINES = 200

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """One response head. ``headers`` as received, in order.

    Exactly one of these frames the body that follows on the wire: ``length`` (0 where there is none by rule: HEAD, 1xx, 204, 304),
    ``chunked``, ``until_close``. ``keep_alive``: this connection may carry another request once the body ended.
    """

    status: int
    reason: bytes
    headers: tuple[Header, ...]
    length: int | None
    chunked: bool
    until_close: bool
    keep_alive: bool


def read_response(block: bytes, *, method: str) -> ResponseHead:
    """``block`` is status line to blank line, final CRLFCRLF included; ``method`` is the request's. UpstreamProtocol if unfit."""
    if len(block) > MAX_RESPONSE_HEAD_BYTES:
        raise UpstreamProtocol("response head too large")
    lines = block[:-4].split(b"\r\n")
    if len(lines) > MAX_RESPONSE_LINES:
        raise UpstreamProtocol("too many response header lines")
    start = _STATUS_LINE.fullmatch(lines[0])
    if start is None:
        raise UpstreamProtocol("status line")
    status = int(start[2])
    headers = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection = b""
    for line in lines[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise UpstreamProtocol("response header line")
        name, value = match[1], match[2].rstrip(b" \t")
        headers.append((name, value))
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value)
        elif lower == b"connection":
            connection += b"," + value.lower()
    http_10 = start[1] == b"0"
    length, chunked = _read_framing(lengths, codings, http_10=http_10)
    if status < 200 or status in _BODILESS or method == "HEAD":
        _check_bodiless(status, lengths, codings)
        length, chunked = 0, False
    until_close = length is None and not chunked
    return ResponseHead(
        status=status,
        reason=start[3] or b"",
        headers=tuple(headers),
        length=length,
        chunked=chunked,
        until_close=until_close,
        keep_alive=not until_close and _stays_open(connection, http_10=http_10),
    )


def _read_framing(lengths: list[bytes], codings: list[bytes], *, http_10: bool) -> tuple[int | None, bool]:
    """RFC 9112 §6.3 without its leniency: no two lengths, not even equal ones; no length beside a coding; chunked alone."""
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise UpstreamProtocol("ambiguous framing")
    if codings:
        if http_10 or codings[0].lower() != b"chunked":
            raise UpstreamProtocol("transfer coding")
        return None, True
    if not lengths:
        return None, False
    if _DIGITS.fullmatch(lengths[0]) is None:
        raise UpstreamProtocol("content length")
    return int(lengths[0]), False


def _check_bodiless(status: int, lengths: list[bytes], codings: list[bytes]) -> None:
    """1xx and 204 must not be framed at all (RFC 9112 §6.1): a peer that does so may send that body."""
    if (status < 200 or status == 204) and (codings or (lengths and lengths[0].strip(b"0"))):
        raise UpstreamProtocol("framing on a bodiless status")


def _stays_open(connection: bytes, *, http_10: bool) -> bool:
    names = {part.strip(b" \t") for part in connection.split(b",")}
    if b"close" in names:
        return False
    return b"keep-alive" in names if http_10 else True
