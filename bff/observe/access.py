"""The access log: one JSON line per request, formatted in batches away from the hot path (PRIV-6, PRIV-8).

The door keeps one tuple per request; a few times a second ``AccessLog.write`` turns what has gathered into bytes and
writes them in one call. What is written is chosen here, field by field: no query, no cookie, no whole address.
"""

from __future__ import annotations

import string
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeVar

import msgspec

from bff.observe.redaction import LONGEST, truncate_ip
from bff.observe.tracing import read_trace_id


class RequestFacts(Protocol):
    """What the log reads of a request (bff.policy.facts.Facts)."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def client_ip(self) -> str: ...
    @property
    def traceparent(self) -> str | None: ...


AccessRecord = tuple[float, bytes, RequestFacts | None, str, bytes, int, int, int, float, str]
"""(ended_at epoch seconds, request id, facts, route name, session key, status, body bytes received, body bytes sent,
seconds, outcome), as bff.proxy.lane has it."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT = 4096
"""Bound of each small cache; a full one is emptied. With paths of at most MAX_KEPT_PATH that is 2 MiB at the very worst."""
MAX_KEPT_PATH = 128

_PLAIN_ID = string.ascii_letters.encode() + string.digits.encode() + b"-._"


def count_requests(records: Iterable[AccessRecord]) -> Counter[tuple[str, str, int]]:
    """How many requests for each (route, method, status): what ``Metrics.add_requests`` wants."""
    return Counter((record[3], record[2].method if record[2] else "", record[5]) for record in records)


class AccessLog:
    """Formats and writes. ``pseudonym`` turns a session's key into what logs may show.

    A write that fails (standard output is gone, or its reader is too far behind) loses that batch and is counted in ``lost``: requests
    go on. Security events do not come this way: they are never lost.

    Most records differ from an earlier one in time, id and sizes alone, so the two parts between those are kept as written:
    how it ended, and who asked for what (measured: 1.6 us a record against 3.8). ``render`` makes another line of each, for a terminal.
    """

    def __init__(
        self, *, write: Callable[[bytes], object], pseudonym: Callable[[bytes], str], render: Callable[[str], str] | None = None
    ) -> None:
        self._write = write
        self._pseudonym = pseudonym
        self._render = render
        self._networks: dict[str, str] = {}
        self._sessions: dict[bytes, str] = {}
        self._endings: dict[tuple[str, int, str], str] = {}
        self._asked: dict[tuple[str, str, str, bytes], str] = {}
        self._second = (-1, "")
        self.lost = 0

    def write(self, records: Iterable[AccessRecord]) -> None:
        """Write one line for each record; with none, let what waits go on its way."""
        lines = [self.format(record) for record in records]
        if self._render is not None:
            lines = [self._render(line) for line in lines]
        try:
            self._write("".join(lines).encode())
        except (OSError, ValueError):
            self.lost += len(lines)

    def forget(self) -> None:
        """Keys were reloaded: pseudonyms change with them."""
        self._sessions.clear()
        self._asked.clear()

    def format(self, record: AccessRecord) -> str:
        """One JSON line, ASCII. Written out by hand: an encoder takes 5 us a line."""
        at, request_id, facts, route, session, status, received, sent, seconds, outcome = record
        second = int(at)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        ending = self._endings.get((route, status, outcome)) or self._end(route, status, outcome)
        asked = trace = ""
        if facts is None:
            asked = self._show("", "", "", session)
        else:
            method, path, ip = facts.method, facts.path, facts.client_ip
            asked = self._asked.get((method, path, ip, session)) or self._show(method, path, ip, session)
            if facts.traceparent and (found := read_trace_id(facts.traceparent)):
                trace = f',"trace_id":"{found}"'
        name = request_id.decode() if not request_id.translate(None, _PLAIN_ID) else quote(request_id.decode("ascii", "replace"))[1:-1]
        return (
            f'{{"ts":"{self._second[1]}.{int((at - second) * 1000):03d}Z","level":"info","event":"request","request_id":"{name}"'
            f'{ending}{seconds * 1000:.2f},"received":{received},"sent":{sent}{asked}{trace}}}\n'
        )

    def _end(self, route: str, status: int, outcome: str) -> str:
        text = f',"route":{quote(route)},"status":{status},"outcome":{quote(outcome)},"duration_ms":'
        return _remember(self._endings, (route, status, outcome), text)

    def _show(self, method: str, path: str, ip: str, session: bytes) -> str:
        text = f',"method":{quote(method)},"path":{_quote_path(path)}' if method else ""
        if ip:
            text += f',"client_ip":"{self._network(ip)}"'
        if session:
            text += f',"session":"{self._session(session)}"'
        return _remember(self._asked, (method, path, ip, session), text) if len(path) <= MAX_KEPT_PATH else text

    def _network(self, address: str) -> str:
        found = self._networks.get(address)
        if found is None:
            found = _remember(self._networks, address, truncate_ip(address))
        return found

    def _session(self, key: bytes) -> str:
        found = self._sessions.get(key)
        if found is None:
            found = _remember(self._sessions, key, self._pseudonym(key))
        return found


def _remember(cache: dict[K, V], key: K, value: V) -> V:
    if len(cache) >= KEPT:
        cache.clear()
    cache[key] = value
    return value


def _quote_path(path: str) -> str:
    plain = path.isascii() and path.isprintable() and '"' not in path and "\\" not in path and "?" not in path and len(path) <= LONGEST
    return f'"{path}"' if plain else quote(path.partition("?")[0])


def quote(text: str) -> str:
    """``text``, at most 512 characters of it, as a JSON string of printable ASCII (K2: ANSI, bidi, NUL, C1)."""
    encoded = msgspec.json.encode(text[:LONGEST].encode("utf-8", "replace").decode()).decode()
    return "".join(char if " " <= char < "\x7f" else _escape(char) for char in encoded)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[index]:02x}{units[index + 1]:02x}" for index in range(0, len(units), 2))
