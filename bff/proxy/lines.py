"""Header lines of a request: grammar, meaning, and whether an API may see them. Each distinct line is judged once and remembered.

Browsers repeat their lines almost byte for byte, so a bounded memo of *validated lines* makes strictness nearly free even for
head blocks never seen before: a known line costs one dict look-up. The key is the exact line, so nothing can hide in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from bff.base.met import Met
from bff.policy.facts import Header
from bff.policy.routes import Route
from bff.policy.verdict import Refusal
from bff.proxy.path import malformed

# Places of the fields that mean something to us. Single-valued below FIRST_LIST: a second line of those is refused (H6, H10).
PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
EXPECT: Final = 4
UPGRADE: Final = 5
ORIGIN: Final = 6
REFERER: Final = 7
FETCH_SITE: Final = 8
FETCH_MODE: Final = 9
FETCH_DEST: Final = 10
FETCH_USER: Final = 11
CSRF: Final = 12
CONTENT_TYPE: Final = 13
AUTHORIZATION: Final = 14
TRACEPARENT: Final = 15
WS_KEY: Final = 16
WS_VERSION: Final = 17
FORWARDED_PROTO: Final = 18
FORWARDED_HOST: Final = 19
REQUEST_ID: Final = 20
PURPOSE: Final = 21
MAX_FORWARDS: Final = 22
FIRST_LIST: Final = 23
CONNECTION: Final = 23
COOKIE: Final = 24
ACCEPT: Final = 25
FORWARDED_FOR: Final = 26
FORWARDED: Final = 27
VIA: Final = 28
PLACES: Final = 29

_PLACE_OF: Final = {
    b"host": HOST, b"content-length": CONTENT_LENGTH, b"transfer-encoding": TRANSFER_ENCODING, b"expect": EXPECT,
    b"upgrade": UPGRADE, b"origin": ORIGIN, b"referer": REFERER, b"sec-fetch-site": FETCH_SITE, b"sec-fetch-mode": FETCH_MODE,
    b"sec-fetch-dest": FETCH_DEST, b"sec-fetch-user": FETCH_USER, b"content-type": CONTENT_TYPE, b"authorization": AUTHORIZATION,
    b"traceparent": TRACEPARENT, b"sec-websocket-key": WS_KEY, b"sec-websocket-version": WS_VERSION,
    b"x-forwarded-proto": FORWARDED_PROTO, b"x-forwarded-host": FORWARDED_HOST, b"x-request-id": REQUEST_ID,
    b"sec-purpose": PURPOSE, b"max-forwards": MAX_FORWARDS, b"connection": CONNECTION, b"cookie": COOKIE, b"accept": ACCEPT,
    b"x-forwarded-for": FORWARDED_FOR, b"forwarded": FORWARDED, b"via": VIA,
}  # fmt: skip

JUDGED: Final = frozenset(_PLACE_OF) | {b"x-csrf"}
"""The fields that mean something to a judgement: what a front proxy that asks us must not leave out."""

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"trailer", b"trailers",
     b"proxy-authorization", b"proxy-authenticate", b"http2-settings"}
)  # fmt: skip

# What no API may hear from a browser: framing and hops (rebuilt), credentials (ours), origin data (ours to judge, REQH-13), who the
# user is (only we say so: REQH-6, H1, H4), where the request came from (rebuilt: REQH-7, H2), and method overrides (ROUTE-3).
NEVER_PASS: Final = HOP_BY_HOP | frozenset(
    {b"host", b"content-length", b"expect", b"cookie", b"cookie2", b"authorization", b"dpop", b"origin", b"referer", b"max-forwards",
     b"x-request-id", b"forwarded", b"x-real-ip", b"true-client-ip", b"client-ip", b"x-client-ip", b"x-cluster-client-ip",
     b"cf-connecting-ip", b"fastly-client-ip", b"x-envoy-external-address", b"client-cert", b"client-cert-chain", b"proxy", b"bff-handoff",
     b"remote-user", b"remote-addr", b"remote-groups", b"remote-email", b"remote-name", b"x-access-token", b"x-id-token", b"x-userinfo",
     b"x-username", b"x-email", b"x-groups", b"x-roles", b"x-role", b"x-scopes", b"x-scope", b"x-sub", b"x-subject", b"x-tenant",
     b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-rewrite-url", b"x-host", b"x-scheme", b"x-user",
     b"x-originating-ip", b"x-proxyuser-ip", b"x-azure-clientip", b"x-azure-socketip", b"fly-client-ip", b"do-connecting-ip",
     b"ali-cdn-real-ip", b"incap-client-ip", b"x-nf-client-connection-ip", b"x-appengine-user-ip",
     b"sm-user", b"x-anonymous-consumer", b"x-client-cert", b"x-client-dn", b"x-client-verify", b"purpose"}
)  # fmt: skip
NEVER_PASS_PREFIXES: Final = (
    b"sec-", b"x-forwarded", b"x-original-", b"x-auth-", b"x-user-", b"x-remote-", b"x-authenticated", b"x-credential", b"x-ssl-", b"ssl-",
    b"front-end-", b"x-webauth-", b"x-consumer-",
    b"x-client-cert-", b"x-jwt", b"x-oidc", b"oidc-", b"x-amzn-oidc-", b"x-goog-authenticated-", b"x-goog-iap-", b"x-ms-client-principal",
    b"x-ms-token-", b"x-pomerium-", b"x-vouch-", b"x-authentik-", b"cf-access-", b"tailscale-user-", b"proxy-", b"access-control-request-",
    b"x-envoy-", b"bff-",
)  # fmt: skip

MAX_NAMES = 1024
MAX_KEPT_NAME = 64

_NAME = re.compile(rb"[!#$%&'*+.^`|~0-9A-Za-z-]+")
_VALUE_BYTES = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOLDED = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)
_DIGITS = re.compile(rb"[0-9]{1,18}")
TRACEPARENT_VALUE = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_HOST = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

Cookies = tuple[tuple[str, str], ...]

Line = tuple[Header, int, Any, bytes | None]
"""Field as received, its place, its value read for that place (str, int, Jar, names), the line if an API may see it."""

Name = tuple[int, Callable[[bytes], Any], bool]
"""What one field name stands for: its place, how its value is read, whether an API may see it."""

T = TypeVar("T")


MANY_PAIRS: Final = 64
"""A line of very many short cookies weighs twenty times its bytes: kept, such lines were 26 MiB (measured)."""


class LineMemo(Generic[T]):
    """Remembers what ``read`` made of exact bytes, two generations deep. Refusals, long lines and many cookies are never kept, nor is what
    came only once: of that there are just hashes, so that lines that never come again push nothing out.

    Bound: ``entries`` lines of at most ``line_bytes`` in each generation, and what was read of them. Holds cookie lines too, as long as
    nothing pushes them out; ``forget`` empties it. Owner: one reader, in one door.
    """

    __slots__ = ("_entries", "_line_bytes", "_met", "_read", "old", "young")

    def __init__(self, read: Callable[[bytes], T | Refusal], *, entries: int = 1024, line_bytes: int = 1024) -> None:
        self._read = read
        self._entries = entries
        self._line_bytes = line_bytes
        self._met = Met()
        self.young: dict[bytes, T] = {}
        self.old: dict[bytes, T] = {}

    def find(self, line: bytes) -> T | Refusal:
        """What ``line`` means."""
        return self.young.get(line) or self.meet(line)

    def meet(self, line: bytes) -> T | Refusal:
        """What a line means that is not in ``young``: for callers that save the call where it is."""
        fresh: T | Refusal | None = self.old.get(line)
        if fresh is None:
            fresh = self._read(line)
            if self._met.is_first(hash(line)):
                return fresh
        if isinstance(fresh, Refusal) or len(line) > self._line_bytes or line.count(b";") > MANY_PAIRS:
            return fresh
        if len(self.young) >= self._entries:
            self.old, self.young = self.young, {}
        self.young[line] = fresh
        return fresh

    def forget(self) -> None:
        self.young, self.old = {}, {}
        self._met.forget()


def may_pass(name: bytes) -> bool:
    """True if an API may see a field of this lower-case name. Every sign counts as a dash: CGI gateways fold dots, or all (H1)."""
    name = name.translate(_FOLDED)
    return name not in NEVER_PASS and not name.startswith(NEVER_PASS_PREFIXES)


class Jar:
    """The cookies of one line. ``pairs`` are all of them, ``ours`` name and value of those that begin as ours do, in any spelling: no
    judgement looks at others. ``sent`` is what an API of ``route`` may see of it, as last asked for (bff.proxy.patterns)."""

    __slots__ = ("ours", "pairs", "route", "sent")

    def __init__(self, pairs: Cookies, own_prefix: str) -> None:
        self.pairs = pairs
        self.ours = tuple([text for pair in pairs if pair[0].lower().startswith(own_prefix) for text in pair])
        self.route: Route | None = None
        self.sent = b""


class LineReader:
    """Reads one header line. ``csrf_header`` is the configured name of the CSRF header, ``own_cookies`` the common start of our
    cookies' names, both lower-case; "" takes every cookie for ours."""

    def __init__(self, *, csrf_header: bytes = b"x-csrf", own_cookies: str = "") -> None:
        self._csrf_header = csrf_header
        self._own_cookies = own_cookies
        self._names: dict[bytes, Name] = {}

    def __call__(self, line: bytes) -> Line | Refusal:
        name, colon, rest = line.partition(b":")
        known = self._names.get(name) if colon else None
        if known is None:
            if not colon or _NAME.fullmatch(name) is None:
                return _explain(line)
            known = self._judge_name(name)
        if rest.translate(None, _VALUE_BYTES):
            return _explain(line)
        place, read, passes = known
        value = rest.strip(b" \t")
        meaning = read(value)
        if isinstance(meaning, Refusal):
            return meaning
        return (name, value), place, meaning, line if passes else None

    def _judge_name(self, name: bytes) -> Name:
        """What a field of this name means, kept for the next of its lines (measured: 0.7 us a line instead of 2.2)."""
        lower = name.lower()
        place = CSRF if lower == self._csrf_header else _PLACE_OF.get(lower, PLAIN)
        read = self._read_jar if place == COOKIE else _READ_MEANING.get(place, _read_text)
        known = (place, read, place != CSRF and may_pass(lower))
        if len(name) <= MAX_KEPT_NAME:
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
            self._names[name] = known
        return known

    def _read_jar(self, value: bytes) -> Jar:
        return Jar(read_cookies(value), self._own_cookies)


def _explain(line: bytes) -> Refusal:
    name, colon, _ = line.partition(b":")
    if b"_" in name and colon:
        return malformed("Header names with an underscore are refused: some servers read them as a dash.")
    if line[:1] in (b" ", b"\t"):
        return malformed("A header line must not begin with white space.")
    return malformed("A header line is not NAME: VALUE, or holds a control character.")


def read_names(value: bytes) -> tuple[bytes, ...] | Refusal:
    """Connection: its tokens, lower-case. Split first: one pattern for the whole list backtracks without end over ``, , , @``."""
    names = tuple(name for part in value.lower().split(b",") if (name := part.strip(b" \t")))
    if not names or not all(map(_TOKEN.fullmatch, names)):
        return malformed("Connection is not a list of names.")
    return names


def read_cookies(value: bytes) -> Cookies:
    """Cookie: every pair in order. A pair without "=" or with nothing before it has the name "" (S6), so it is never ours."""
    pairs = []
    for part in value.decode("latin-1").split(";"):
        text = part.strip(" \t")
        if not text:
            continue
        name, equals, content = text.partition("=")
        pairs.append((name.rstrip(" \t"), content.lstrip(" \t")) if equals else ("", text))
    return tuple(pairs)


def _read_length(value: bytes) -> int | Refusal:
    if _DIGITS.fullmatch(value) is None:
        return malformed("Content-Length is not a number.")
    return int(value)


def _read_coding(value: bytes) -> bytes | Refusal:
    if value.lower() != b"chunked":
        return malformed("The only transfer coding spoken here is chunked.")
    return value


def _read_host(value: bytes) -> str | Refusal:
    if _HOST.fullmatch(value) is None:
        return malformed("Host is not a host name.")
    return value.decode().lower()


def _read_text(value: bytes) -> str:
    return value.decode("latin-1")


def _read_trace(value: bytes) -> str:
    """traceparent, or "" for one that breaks Trace Context §3.2: it is dropped, not refused."""
    return value.decode() if TRACEPARENT_VALUE.fullmatch(value) else ""


_READ_MEANING: Final[dict[int, Callable[[bytes], Any]]] = {
    HOST: _read_host,
    CONTENT_LENGTH: _read_length,
    TRANSFER_ENCODING: _read_coding,
    CONNECTION: read_names,
    TRACEPARENT: _read_trace,
}
