"""A request head, read once and strictly: bytes in, ``Facts`` or a ``Refusal`` out. No repair, no second opinion later on.

Two judges must agree on every block never seen before: our own grammar, which is the narrower one, and llhttp, the parser of
record. Decisions that the standards leave open are listed in bff.proxy.path (targets) and here (headers):

* CRLF only; no leading empty line; at most 100 header lines and 32 KiB; names are tokens without ``_``;
* bytes 0x80-0xFF in values are opaque data (browsers send them in cookies); no other byte outside VCHAR, SP and HTAB;
* exactly one Host, in HTTP/1.0 as well, and it must be one of ours (421);
* a second line of a single-valued field is refused, equal or not; Cookie, Accept, Connection, Via, X-Forwarded-For and Forwarded
  are lists; Cookie lines are read as one list (COOKIE-22);
* Transfer-Encoding is exactly ``chunked``, in HTTP/1.1 only and never beside Content-Length;
* an Upgrade to anything but websocket is ignored (FRAME-15), but refused beside a body, which llhttp doesn't read there; one to
  websocket is checked completely (WS-3).
"""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import Any, Final

import httptools

from bff.policy.facts import Facts, build_facts
from bff.policy.verdict import Refusal
from bff.proxy.edge import Browser, Edge, read_browser
from bff.proxy.lines import (
    ACCEPT,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    CSRF,
    EXPECT,
    FETCH_DEST,
    FETCH_MODE,
    FETCH_SITE,
    FETCH_USER,
    FIRST_LIST,
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    HOST,
    ORIGIN,
    PLACES,
    PURPOSE,
    REFERER,
    REQUEST_ID,
    TRACEPARENT,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
    WS_KEY,
    WS_VERSION,
    Cookies,
    LineMemo,
    LineReader,
)
from bff.proxy.path import MAX_TARGET_BYTES, TARGET_TOO_LONG, Start, malformed, read_start
from bff.proxy.response import ResponseHead as ResponseHead
from bff.proxy.response import read_response as read_response

MAX_HEAD_BYTES = 32 * 1024
MAX_LINES = 100

_HEAD_TOO_LARGE: Final = Refusal(431, "head_too_large", f"A head may have {MAX_HEAD_BYTES} bytes in {MAX_LINES} lines.", close=True)
_BARE_LINE_FEED: Final = malformed("Lines end with CRLF.")
_DUPLICATE: Final = malformed("A header that may come only once came twice.")
_UNKNOWN_HOST: Final = Refusal(421, "host_unknown", "This host name is not served here.", close=True)
_BAD_FORWARDED: Final = malformed("The front proxy's forwarded headers are malformed.")
_LOOP: Final = Refusal(508, "loop_detected", "This request already came through here.", close=True)

_WS_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
may_name = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
"""Whether a trusted peer's X-Request-Id is one that we take over."""
_PERSISTENCE: Final = frozenset({b"close", b"keep-alive", b"upgrade"})


def check_unfinished(buffer: bytes) -> Refusal | None:
    """Judge a head that has no blank line yet: None to wait for more. Keeps every wait bounded; verdicts match ``read_facts``."""
    if len(buffer) > MAX_HEAD_BYTES:
        return _too_large(buffer)
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        return _BARE_LINE_FEED
    return None


def _too_large(buffer: bytes) -> Refusal:
    end = buffer.find(b"\r\n")
    return TARGET_TOO_LONG if end < 0 or end > MAX_TARGET_BYTES + 64 else _HEAD_TOO_LARGE


class HeadReader:
    """Reads request heads. Owner: one door. Holds the line memos and llhttp's parser; not for several threads.

    ``csrf_header`` is the configured name of the CSRF header, ``own_cookies`` the common start of our cookies' names, lower-case.
    Generated request ids are unique, not secret.
    """

    def __init__(self, *, csrf_header: str = "x-csrf", own_cookies: str = "", entries: int = 512) -> None:
        self.lines = LineMemo(LineReader(csrf_header=csrf_header.lower().encode(), own_cookies=own_cookies), entries=entries)
        self.starts = LineMemo(read_start, entries=entries)
        self._llhttp = SecondJudge()
        self._id_prefix = secrets.token_hex(4) + "-"
        self._ids = count(1)

    def forget(self) -> None:
        """Drop every remembered line."""
        self.lines.forget()
        self.starts.forget()

    def read(self, block: bytes, edge: Edge) -> Facts | Refusal:
        """``block`` is request line to blank line, final CRLFCRLF included, and nothing after it."""
        if len(block) > MAX_HEAD_BYTES:
            return _too_large(block)
        lines = block[:-4].split(b"\r\n")
        if len(lines) > MAX_LINES + 1:
            return _HEAD_TOO_LARGE
        start = self.starts.find(lines[0])
        if isinstance(start, Refusal):
            return start
        del lines[0]
        meet, known = self.lines.meet, self.lines.young.get
        headers, passing = [], []
        places: list[Any] = [None] * PLACES
        cookies: Cookies = ()
        for line in lines:
            entry = known(line)
            if entry is None:
                found = meet(line)
                if isinstance(found, Refusal):
                    return found
                entry = found
            header, place, meaning, passes = entry
            headers.append(header)
            if passes is not None:
                passing.append(passes)
            if place:
                if place == COOKIE:
                    cookies += meaning.pairs
                elif places[place] is None:
                    places[place] = meaning
                elif place < FIRST_LIST:
                    return _DUPLICATE
                else:
                    places[place] += meaning if place == CONNECTION else "," + meaning
        facts = self._conclude(start, headers, passing, places, cookies, edge)
        if isinstance(facts, Facts) and not self._llhttp.agrees(block, facts):
            return malformed("The request is not strict HTTP/1.1.")
        return facts

    def ends(self, block: bytes) -> bool:
        """llhttp's word that ``block`` is one whole request without a body, on a connection that stays."""
        return self._llhttp.ends(block)

    def begins(self, block: bytes) -> bool:
        """llhttp's word that ``block`` is one whole head, of a request whose body is still to come."""
        return self._llhttp.begins(block)

    def _conclude(self, start: Start, headers: Any, passing: Any, places: list[Any], cookies: Cookies, edge: Edge) -> Facts | Refusal:
        method, path, query, http_10, encoded_slash = start
        connection = places[CONNECTION] or ()
        websocket = False
        if places[UPGRADE] is not None:
            asked = _read_upgrade(start, places, connection)
            if isinstance(asked, Refusal):
                return asked
            websocket = asked
        refusal = _refuse_framing(http_10, places)
        if refusal is not None:
            return refusal
        ip, scheme, host, insecure = edge.peer_ip, edge.scheme, places[HOST], False
        if edge.peer_trusted:
            browser = _read_browser(edge, places)
            if browser is None:
                return _BAD_FORWARDED
            ip, scheme, host, insecure = browser.ip, browser.scheme or scheme, browser.host or host, browser.scheme == "http"
        if host not in edge.hosts:
            return _UNKNOWN_HOST
        if places[VIA] is not None and _came_through(places[VIA], edge.via):
            return _LOOP
        traceparent = places[TRACEPARENT]
        if traceparent == "":
            traceparent = None
            passing = [line for line in passing if line[:5].lower() != b"trace"]
        chunked = places[TRANSFER_ENCODING] is not None
        return build_facts(
            method=method,
            path=path,
            query=query,
            host=host,
            headers=tuple(headers),
            cookies=cookies,
            http_10=http_10,
            keep_alive=b"keep-alive" in connection if http_10 else b"close" not in connection,
            body_length=None if chunked else places[CONTENT_LENGTH] or 0,
            chunked=chunked,
            expect_continue=places[EXPECT] is not None and not http_10,
            websocket=websocket,
            origin=places[ORIGIN],
            referer=places[REFERER],
            fetch_site=places[FETCH_SITE],
            fetch_mode=places[FETCH_MODE],
            fetch_dest=places[FETCH_DEST],
            fetch_user=places[FETCH_USER] == "?1",
            csrf_header=places[CSRF],
            accept=places[ACCEPT],
            content_type=places[CONTENT_TYPE],
            client_ip=ip,
            scheme=scheme,
            request_id=self._name_request(places[REQUEST_ID], edge),
            traceparent=traceparent,
            passing=tuple(passing),
            connection=() if _PERSISTENCE.issuperset(connection) else tuple(name for name in connection if name not in _PERSISTENCE),
            encoded_slash=encoded_slash,
            insecure=insecure,
            prefetch=places[PURPOSE] is not None and "prefetch" in places[PURPOSE],
        )

    def _name_request(self, given: str | None, edge: Edge) -> str:
        if given is not None and edge.peer_trusted and may_name(given):
            return given
        return f"{self._id_prefix}{next(self._ids):x}"


def _refuse_framing(http_10: bool, places: list[Any]) -> Refusal | None:
    """FRAME-1 to 3, FRAME-5, FRAME-12: what makes two readers disagree on where this message ends, or who it is for."""
    if places[HOST] is None:
        return malformed("Host is missing.")
    if places[TRANSFER_ENCODING] is not None and (http_10 or places[CONTENT_LENGTH] is not None):
        return malformed("Transfer-Encoding stands alone, and in HTTP/1.1 only.")
    if places[EXPECT] is not None and places[EXPECT].lower() != "100-continue":
        return Refusal(417, "expectation_refused", "The only expectation known here is 100-continue.", close=True)
    return None


def _read_upgrade(start: Start, places: list[Any], connection: tuple[bytes, ...]) -> bool | Refusal:
    """True for a complete WebSocket handshake, False for an upgrade that is ignored (RFC 6455 §4.2.1; WS-3, M2)."""
    if places[UPGRADE].lower() != "websocket" or b"upgrade" not in connection:
        return False
    if start.method != "GET" or start.http_10 or places[CONTENT_LENGTH] or places[TRANSFER_ENCODING] is not None:
        return Refusal(400, "websocket_malformed", "A WebSocket handshake is a GET without a body.", close=True)
    if places[WS_VERSION] != "13":
        return Refusal(426, "websocket_version", "Only WebSocket version 13 is spoken here.", close=True, headers=_ONLY_13)
    if places[WS_KEY] is None or _WS_KEY.fullmatch(places[WS_KEY]) is None:
        return Refusal(400, "websocket_malformed", "Sec-WebSocket-Key is not 16 bytes in base64.", close=True)
    return True


_ONLY_13: Final = (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"))


def _read_browser(edge: Edge, places: list[Any]) -> Browser | None:
    return read_browser(
        edge,
        forwarded_for=places[FORWARDED_FOR],
        forwarded_proto=places[FORWARDED_PROTO],
        forwarded_host=places[FORWARDED_HOST],
        forwarded=places[FORWARDED],
    )


def _came_through(via: str, pseudonym: str) -> bool:
    return any(entry.split()[1:2] == [pseudonym] for entry in via.split(","))


class SecondJudge:
    """llhttp as the second judge. No header callbacks, so all of it runs in C but one look at the end.

    The parser goes on to the next block while it is provably at a message boundary; whatever leaves it elsewhere (a body to come,
    an upgrade, an error) makes us take a new one. So does a close, in whatever field llhttp reads one: Proxy-Connection, which is nothing
    to us, is one to it, and it would take no block after that, whoever sent it.
    """

    __slots__ = ("_ends", "_parser", "_stays", "_working")

    def __init__(self) -> None:
        self._ends = 0
        self._stays = False
        self._parser: Any = None
        self._working: Any = None

    def on_message_complete(self) -> None:
        self._ends += 1
        self._stays = self._working.should_keep_alive()

    def agrees(self, block: bytes, facts: Facts) -> bool:
        """True if llhttp takes the block too and sees the message end where we do."""
        try:
            ends = self._feed(block)
        except httptools.HttpParserUpgrade:
            return facts.body_length == 0
        except httptools.HttpParserError:
            return False
        return ends == (1 if facts.body_length == 0 else 0)

    def ends(self, block: bytes) -> bool:
        """True if llhttp takes the block for exactly one message that ends with it."""
        try:
            return self._feed(block) == 1
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            return False

    def begins(self, block: bytes) -> bool:
        """True if llhttp takes the block for a head and waits for a body."""
        try:
            return self._feed(block) == 0
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            return False

    def _feed(self, block: bytes) -> int:
        """How many messages end in the block."""
        parser = self._working = self._parser or httptools.HttpRequestParser(self)
        self._parser = None
        self._ends = 0
        parser.feed_data(block)
        if self._ends == 1 and self._stays:
            self._parser = parser
        return self._ends


def read_facts(block: bytes, *, edge: Edge) -> Facts | Refusal:
    """Read one head without any memory: for tests, tools and forward-auth. The door keeps a ``HeadReader``."""
    return HeadReader(entries=128).read(block, edge)
