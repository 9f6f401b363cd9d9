"""The access log: one JSON line per request, formatted in batches away from the hot path (PRIV-6, PRIV-8).

``add`` stores a tuple; ``flush`` turns what has gathered into bytes and writes them in one call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bff.observe.redaction import LONGEST, truncate_ip


class Access(NamedTuple):
    """One answered request. ``at`` epoch seconds; ``path`` without query; ``session`` a pseudonym or ""."""

    at: float
    request_id: str
    route: str
    method: str
    path: str
    status: int
    duration_s: float
    sent_bytes: int
    client_ip: str
    session: str = ""
    trace_id: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    ts: str
    level: str
    event: str
    request_id: str
    route: str
    method: str
    path: str
    status: int
    duration_ms: float
    bytes: int
    client_ip: str = ""
    session: str = ""
    trace_id: str = ""


class AccessLog:
    """Gathers at most ``most`` requests between two flushes; a full batch is written at once, so nothing is dropped.

    A write that fails (standard output is gone) loses that batch and is counted in ``lost``: requests go on.
    """

    def __init__(self, *, write: Callable[[bytes], object], most: int = 4096) -> None:
        self._write = write
        self._most = most
        self._waiting: list[Sequence[object]] = []
        self._networks: dict[str, str] = {}
        self._second = (-1, "")
        self._encode = msgspec.json.Encoder().encode
        self.lost = 0

    def add(self, access: Access | tuple[object, ...]) -> None:
        """Remember one request: an ``Access`` or a plain tuple in its order."""
        self._waiting.append(access)
        if len(self._waiting) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            self._write(b"".join(self._format(Access(*entry)) for entry in batch))  # type: ignore[arg-type]
        except (OSError, ValueError):
            self.lost += len(batch)

    async def run(self, every_s: float = 0.2) -> None:
        """Flush now and then until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(every_s)
                self.flush()
        finally:
            self.flush()

    def _format(self, entry: Access) -> bytes:
        line = _Line(
            ts=self._timestamp(entry.at),
            level="info",
            event="request",
            request_id=entry.request_id,
            route=entry.route,
            method=entry.method,
            path=entry.path.partition("?")[0][:LONGEST],
            status=entry.status,
            duration_ms=round(entry.duration_s * 1000, 2),
            bytes=entry.sent_bytes,
            client_ip=self._network(entry.client_ip),
            session=entry.session,
            trace_id=entry.trace_id,
        )
        return _ascii_line(self._encode(line))

    def _timestamp(self, at: float) -> str:
        second = int(at)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((at - second) * 1000):03d}Z"

    def _network(self, address: str) -> str:
        found = self._networks.get(address)
        if found is None:
            if len(self._networks) >= 4096:
                self._networks.clear()
            found = self._networks[address] = truncate_ip(address)
        return found


def _ascii_line(encoded: bytes) -> bytes:
    """JSON escapes control characters below 0x20; the rest of what could disturb a terminal is escaped here."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded + b"\n"
    text = encoded.decode("utf-8", "replace")
    return "".join(char if " " <= char < "\x7f" else _escape(char) for char in text).encode() + b"\n"


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "replace")
    return "".join(f"\\u{units[index]:02x}{units[index + 1]:02x}" for index in range(0, len(units), 2))
