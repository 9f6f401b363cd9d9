"""WebSocket framing (RFC 6455 §5), as much as a relay must understand: where frames and messages begin, end and break rules.

Payload is not looked at, copied apart or unmasked, except in control frames, which are at most 125 bytes.
"""

from __future__ import annotations

import os

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_FRAGMENTS = 65_536
_NEVER_SENT = frozenset({1004, 1005, 1006, 1015})


class FrameError(Exception):
    """A frame that must not pass. ``code`` is the close code it earns; ``passed`` are the bytes before it, ending at a boundary."""

    def __init__(self, code: int, reason: str, passed: bytes) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.passed = passed


class _Broken(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Frames:
    """One direction of a tunnel. ``masked`` for browser to server. ``limit`` bounds a message's bytes on the wire; with
    permessage-deflate (``deflate``) that is the compressed size, inflating is the endpoints' own affair.

    Headers and control frames are held until complete, so everything passed on ends at a place this object knows.
    ``at_boundary``: another frame may be put in now. ``closed``: a Close has passed; what follows is thrown away
    (RFC 6455 §1.4). ``data`` is set by every data frame and reset by whoever reads it. A pong with the payload ``own_ping`` is ours
    and goes no further.
    """

    __slots__ = ("_deflate", "_fragments", "_held", "_in_message", "_left", "_limit", "_masked", "_size", "closed", "data", "own_ping")

    def __init__(self, *, masked: bool, limit: int, deflate: bool) -> None:
        self._masked = masked
        self._limit = limit
        self._deflate = deflate
        self._held = b""
        self._left = 0
        self._in_message = False
        self._size = 0
        self._fragments = 0
        self.closed = False
        self.data = False
        self.own_ping = b""

    @property
    def at_boundary(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now. FrameError at the first frame that breaks a rule."""
        if self._left >= len(data):
            self._left -= len(data)
            return data
        buffer = self._held + data if self._held else data
        passed: list[bytes] = []
        position = begin = 0
        try:
            while position < len(buffer) and not self.closed:
                if self._left:
                    step = min(self._left, len(buffer) - position)
                    self._left -= step
                    position += step
                    continue
                size, keep = self._read_frame(buffer, position)
                if size == 0:
                    break
                if not keep:
                    passed.append(buffer[begin:position])
                    begin = position + size
                position += size
        except _Broken as broken:
            raise FrameError(broken.code, str(broken), b"".join([*passed, buffer[begin:position]])) from None
        self._held = b"" if self.closed else buffer[position:]
        whole = buffer[begin:position]
        return b"".join([*passed, whole]) if passed else whole

    def _read_frame(self, buffer: bytes, at: int) -> tuple[int, bool]:
        """(bytes read: a header, a whole control frame, 0 for not yet; whether they pass). Sets what payload is left."""
        if len(buffer) - at < 2:
            return 0, True
        first, second = buffer[at], buffer[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check_start(first, opcode, second)
        extra = 2 if length == 126 else 8 if length == 127 else 0
        header = 2 + extra + (4 if self._masked else 0)
        if len(buffer) - at < header:
            return 0, True
        if extra:
            length = int.from_bytes(buffer[at + 2 : at + 2 + extra], "big")
            if length < 126 or (extra == 8 and (length < 65_536 or length >> 63)):
                raise _Broken(1002, "a length not in its shortest form")
        if opcode >= CLOSE:
            return self._read_control(buffer, at, header, length, opcode)
        self._count(first, opcode, length)
        self._left = length
        return header, True

    def _check_start(self, first: int, opcode: int, second: int) -> None:
        if bool(second & 0x80) is not self._masked:
            raise _Broken(1002, "masking")
        reserved = first & 0x70
        if reserved and not (reserved == 0x40 and self._deflate and opcode in (TEXT, BINARY)):
            raise _Broken(1002, "a reserved bit")
        if opcode >= CLOSE:
            if opcode > PONG or not first & 0x80 or second & 0x7F > 125:
                raise _Broken(1002, "a control frame")
        elif opcode > BINARY or (opcode == CONTINUATION) is not self._in_message:
            raise _Broken(1002, "an opcode out of turn")

    def _count(self, first: int, opcode: int, length: int) -> None:
        if opcode != CONTINUATION:
            self._size = self._fragments = 0
        self._size += length
        self._fragments += 1
        if self._size > self._limit or self._fragments > MAX_FRAGMENTS:
            raise _Broken(1009, "message too big")
        self._in_message = not first & 0x80
        self.data = True

    def _read_control(self, buffer: bytes, at: int, header: int, length: int, opcode: int) -> tuple[int, bool]:
        if len(buffer) - at < header + length:
            return 0, True
        payload = buffer[at + header : at + header + length]
        if self._masked:
            payload = mask(payload, buffer[at + header - 4 : at + header])
        if opcode == CLOSE:
            _check_close(payload)
            self.closed = True
        return header + length, not (opcode == PONG and self.own_ping and payload == self.own_ping)


def _check_close(payload: bytes) -> None:
    """RFC 6455 §5.5.1, §7.4: no code at all, or one that may be sent; the reason is UTF-8 (WS-7)."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code < 1000 or code in _NEVER_SENT or 1016 <= code < 3000 or code > 4999:
        raise _Broken(1002, "a close code that is never sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _Broken(1007, "a close reason that is not UTF-8") from None


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (the same thing): XOR with the repeated key."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def control_frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """A whole control frame; ``masked`` towards a server."""
    if not masked:
        return bytes([0x80 | opcode, len(payload)]) + payload
    key = os.urandom(4)
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + key + mask(payload, key)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    return control_frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[:123], masked=masked)
