"""The two heads we write: to the upstream and to the browser. Strip first, add afterwards, framing recomputed (M10, REQH-2).

What an API sees of a browser: the lines that bff.proxy.lines lets pass, cookies on the route's allow-list, and ours. What a browser
sees of an API: status and fields, without whatever would act on our whole origin (RESP-1 to 9, CACHE-1, CACHE-2).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from bff.base.errors import UpstreamProtocol
from bff.policy.facts import Facts, Header
from bff.policy.handoff import ENDED_HEADER, HANDOFF_HEADER
from bff.policy.routes import Admission, Route
from bff.policy.verdict import Admitted
from bff.proxy.lines import HOP_BY_HOP, Cookies, may_pass, read_names
from bff.proxy.location import map_location
from bff.proxy.response import ResponseHead

_LENGTH_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})

# Fields that would act beyond this one answer (RESP-5, RESP-6), that steer a front proxy or a shared cache around our rules
# (X-Accel-Redirect reads files at nginx; CDN-Cache-Control outranks Cache-Control), or that we state ourselves.
NEVER_RETURN: Final = HOP_BY_HOP | frozenset(
    {b"content-length", b"strict-transport-security", b"clear-site-data", b"service-worker-allowed", b"alt-svc", b"refresh", b"nel",
     b"report-to", b"reporting-endpoints", b"server", b"x-powered-by", b"x-aspnet-version", b"x-aspnetmvc-version", b"x-generator",
     b"x-runtime", b"via", b"dpop-nonce", b"set-cookie2", b"public-key-pins", b"public-key-pins-report-only", b"expect-ct",
     b"x-content-type-options", b"cross-origin-resource-policy", b"surrogate-control", b"cdn-cache-control", b"x-sendfile",
     b"x-lighttpd-send-file", b"timing-allow-origin", b"origin-agent-cluster", b"proxy-authentication-info", b"authentication-info",
     b"speculation-rules", b"set-login", b"critical-ch", b"accept-ch", b"use-as-dictionary", b"edge-control"}
)  # fmt: skip
NEVER_RETURN_PREFIXES: Final = (b"access-control-", b"x-accel-", b"x-litespeed-", b"bff-", b"secure-session-", b"sec-session-")
NEVER_RETURN_SUFFIX: Final = b"cdn-cache-control"
_NOT_TO_BROWSERS: Final = frozenset({b"server", ENDED_HEADER})
_SPECIAL: Final = frozenset({b"set-cookie", b"location", b"content-location", b"cache-control", b"vary", b"www-authenticate"})

_PROMPTING: Final = (b"basic", b"digest", b"ntlm", b"negotiate", b"hoba", b"mutual", b"scram", b"kerberos")

_PROXIED: Final = b"X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n"
_INERT: Final = b"Content-Security-Policy: sandbox; default-src 'none'; frame-ancestors 'none'\r\n"
_HSTS: Final = b"Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n"

_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What both heads need to know of this deployment. ``own_cookies`` is the common start of our cookies' names.

    ``public_origin`` is what the browser sees; X-Forwarded-Proto and -Host follow it, never the request (H5).
    """

    own_cookies: str
    public_origin: str
    via: str = "bff"
    own_prefix: str = field(init=False)
    session_cookie: bytes = field(init=False)
    common_out: bytes = field(init=False)
    hsts: bytes = field(init=False)

    def __post_init__(self) -> None:
        scheme, _, authority = self.public_origin.partition("://")
        common = f"X-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {authority}\r\nVia: 1.1 {self.via}\r\n"
        object.__setattr__(self, "own_prefix", self.own_cookies.lower())
        object.__setattr__(self, "session_cookie", self.own_cookies.encode() + b"=")
        object.__setattr__(self, "common_out", common.encode())
        object.__setattr__(self, "hsts", _HSTS if scheme == "https" else b"")


# ── to the upstream ──────────────────────────────────────────────────────────────────────────────────────────────────


def outbound_head(admitted: Admitted, *, rules: HeaderRules, websocket_key: bytes = b"") -> bytes:
    """The head of the upstream request of an API route, up to and including the blank line.

    ``websocket_key`` is our own fresh Sec-WebSocket-Key where ``facts.websocket`` (WS-4).
    """
    facts, target = admitted.facts, admitted.target
    if target is None:
        raise ValueError("an agent route has no target")
    parts = [f"{facts.method} {target.path} HTTP/1.1\r\nHost: {target.upstream.authority}\r\n".encode("ascii")]
    passing = _passing(facts)
    if passing:
        parts.append(b"\r\n".join(passing) + b"\r\n")
    cookies = outbound_cookies(facts.cookies, admitted.route, rules)
    if cookies:
        parts.append(cookies + b"\r\n")
    parts.append(rules.common_out)
    parts.append(f"X-Forwarded-For: {facts.client_ip or 'unknown'}\r\nX-Request-Id: {facts.request_id}\r\n".encode("ascii"))
    if admitted.credential is not None:
        parts.append(b"Authorization: " + admitted.credential.authorization + b"\r\n")
    if facts.websocket:
        parts.append(_handshake(facts, websocket_key))
    else:
        parts.append(_request_framing(facts))
    return b"".join(parts)


def split_at_id(head: bytes, request_id: str) -> tuple[bytes, bytes]:
    """An outbound head around its request id; (``head``, b"") if it has none."""
    mark = b"X-Request-Id: " + request_id.encode()
    at = head.rfind(mark)
    return (head[: at + 14], head[at + len(mark) :]) if at >= 0 else (head, b"")


def agent_head(admitted: Admitted, *, handoff: bytes) -> bytes:
    """The same for the agent: the browser's Host stays, and ``handoff`` is the note with the verdict, cookies and all."""
    facts = admitted.facts
    lines = [f"{facts.method} {facts.target} HTTP/1.1".encode("ascii"), b"Host: " + facts.host.encode("ascii"), *_passing(facts)]
    lines.append(HANDOFF_HEADER + b": " + handoff)
    return b"\r\n".join(lines) + b"\r\n" + _request_framing(facts)


def _passing(facts: Facts) -> tuple[bytes, ...]:
    lines = facts.passing
    if lines is None:
        lines = tuple(name + b": " + value for name, value in facts.headers if may_pass(name.lower()))
    if facts.connection:
        lines = tuple(line for line in lines if line.partition(b":")[0].lower() not in facts.connection)
    if facts.method == "OPTIONS":
        lines += tuple(_fewer_forwards(facts))
    return lines


def _fewer_forwards(facts: Facts) -> Iterable[bytes]:
    """Max-Forwards of OPTIONS, one less (RFC 9110 §7.6.2); zero was answered by the gatekeeper."""
    for name, value in facts.headers:
        if name.lower() == b"max-forwards" and value.isdigit():
            yield b"Max-Forwards: %d" % max(int(value[:9]) - 1, 0)


def outbound_cookies(cookies: Cookies, route: Route, rules: HeaderRules) -> bytes:
    """The Cookie line that an API of this route sees, without its CRLF; b"" for none."""
    seen = foreign_cookies(cookies, route, rules) if route.forward_cookies and cookies else None
    return b"Cookie: " + "; ".join(seen).encode("latin-1") if seen else b""


def foreign_cookies(cookies: Cookies, route: Route, rules: HeaderRules) -> list[str]:
    """Cookies the route asked for, never ours in any spelling, never nameless ones that a server may read as ours (S6, H15)."""
    allowed = route.forward_cookies
    return [
        f"{name}={value}"
        for name, value in cookies
        if name and ("*" in allowed or name in allowed) and not name.lower().startswith(rules.own_prefix)
    ]


def _request_framing(facts: Facts) -> bytes:
    if facts.chunked:
        return b"Transfer-Encoding: chunked\r\n\r\n"
    if facts.body_length or facts.method in _LENGTH_EXPECTED:
        return b"Content-Length: %d\r\n\r\n" % (facts.body_length or 0)
    return b"\r\n"


def _handshake(facts: Facts, key: bytes) -> bytes:
    lines = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key]
    lines.extend(name + b": " + value for name, value in facts.headers if name.lower() == b"sec-websocket-protocol")
    extensions = _extensions(_offered(facts, b"sec-websocket-extensions"))
    if extensions:
        lines.append(b"Sec-WebSocket-Extensions: " + b", ".join(extensions))
    return b"\r\n".join(lines) + b"\r\n\r\n"


# ── to the browser ───────────────────────────────────────────────────────────────────────────────────────────────────


def sends_chunked(head: ResponseHead, facts: Facts) -> bool:
    """True if the body that follows ``response_head`` must be written in the chunked coding, whatever coding it came in.

    False with a body of unknown length means that the connection ends it: HTTP/1.0 knows no chunks.
    """
    return head.length is None and not facts.http_10


def must_close(head: ResponseHead, facts: Facts) -> bool:
    """True if only closing the browser's connection can end the body."""
    return head.length is None and facts.http_10


def response_head(head: ResponseHead, admitted: Admitted, *, rules: HeaderRules, keep_alive: bool) -> bytes:
    """The head for the browser, up to and including the blank line. Not for a 101: see ``switching_head``."""
    if admitted.route.upstream is None and not admitted.route.by_claim:
        return agent_response_head(head, admitted, rules=rules, keep_alive=keep_alive)
    kept: list[bytes] = []
    special: list[Header] = []
    named = _named_in_connection(head)
    for name, value in head.headers:
        lower = name.lower()
        if lower in _SPECIAL:
            special.append((lower, value))
        elif _may_return(lower) and lower not in named:
            kept.append(name + b": " + value + b"\r\n")
    kept.extend(_special_lines(special, head, admitted, rules))
    kept.append(_PROXIED)
    if admitted.route.admission is Admission.API:
        kept.append(_INERT)
    kept.append(rules.hsts)
    return _status_line(head) + b"".join(kept) + _response_framing(head, admitted.facts, keep_alive)


def _may_return(name: bytes) -> bool:
    return name not in NEVER_RETURN and not name.startswith(NEVER_RETURN_PREFIXES) and not name.endswith(NEVER_RETURN_SUFFIX)


def agent_response_head(head: ResponseHead, admitted: Admitted, *, rules: HeaderRules, keep_alive: bool) -> bytes:
    """The agent's answers pass as they are, hop-by-hop fields apart. A cookie that the agent set or cleared is not set again."""
    named = _named_in_connection(head)
    kept = [
        name + b": " + value + b"\r\n"
        for name, value in head.headers
        if (lower := name.lower()) not in HOP_BY_HOP and lower != b"content-length" and lower not in named and lower not in _NOT_TO_BROWSERS
    ]
    written = {_cookie_name(value) for name, value in head.headers if name.lower() == b"set-cookie"}
    kept.extend(
        b"Set-Cookie: " + cookie.encode("ascii") + b"\r\n"
        for cookie in admitted.set_cookies
        if _cookie_name(cookie.encode("ascii")) not in written
    )
    if rules.hsts and not any(name.lower() == b"strict-transport-security" for name, _ in head.headers):
        kept.append(rules.hsts)
    return _status_line(head) + b"".join(kept) + _response_framing(head, admitted.facts, keep_alive)


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def _response_framing(head: ResponseHead, facts: Facts, keep_alive: bool) -> bytes:
    framing = b""
    if facts.method == "HEAD":
        framing = b"".join(b"Content-Length: " + v + b"\r\n" for n, v in head.headers if n.lower() == b"content-length")
    elif head.status >= 200 and head.status not in (204, 304):
        if sends_chunked(head, facts):
            framing = b"Transfer-Encoding: chunked\r\n"
        elif head.length is not None:
            framing = b"Content-Length: %d\r\n" % head.length
    if not keep_alive or must_close(head, facts):
        return framing + b"Connection: close\r\n\r\n"
    return framing + (b"Connection: keep-alive\r\n\r\n" if facts.http_10 else b"\r\n")


def _named_in_connection(head: ResponseHead) -> frozenset[bytes]:
    names: set[bytes] = set()
    for name, value in head.headers:
        if value and name.lower() == b"connection":
            tokens = read_names(value)
            if not isinstance(tokens, tuple):
                raise UpstreamProtocol("Connection is not a list of names")
            names.update(tokens)
    return frozenset(names)


def _special_lines(special: list[Header], head: ResponseHead, admitted: Admitted, rules: HeaderRules) -> Iterable[bytes]:
    """The fields that pass by rule: cookies, redirects, caching, challenges."""
    route = admitted.route
    cached_by_upstream = route.cache == "upstream" or (route.token == "none" and not route.session)  # noqa: S105
    vary = [value for name, value in special if name == b"vary"]
    cache = [value for name, value in special if name == b"cache-control"]
    for name, value in special:
        if name == b"set-cookie" and _may_set(value, route, rules):
            yield b"Set-Cookie: " + value + b"\r\n"
        elif name in (b"location", b"content-location"):
            mapped = map_location(value, admitted, public_origin=rules.public_origin)
            if mapped is not None:
                yield (b"Location: " if name == b"location" else b"Content-Location: ") + mapped + b"\r\n"
        elif name == b"www-authenticate" and not any(scheme in value.lower() for scheme in _PROMPTING):
            yield b"WWW-Authenticate: " + value + b"\r\n"
    for cookie in admitted.set_cookies:
        yield b"Set-Cookie: " + cookie.encode("ascii") + b"\r\n"
    if cached_by_upstream and not admitted.set_cookies:
        yield from (b"Cache-Control: " + value + b"\r\n" for value in cache)
        yield from (b"Vary: " + value + b"\r\n" for value in vary)
        return
    yield b"Cache-Control: " + (b"no-store" if admitted.set_cookies else _restrict_caching(cache, route)) + b"\r\n"
    yield from (b"Vary: " + value + b"\r\n" for value in vary)
    if not any(part.strip() in (b"cookie", b"*") for value in vary for part in value.lower().split(b",")):
        yield b"Vary: Cookie\r\n"


def _restrict_caching(given: list[bytes], route: Route) -> bytes:
    """Downstream caches see a Cookie where the API saw Authorization, so RFC 9111 §3.5 does not protect these answers (CACHE-1)."""
    if route.cache == "no-store":
        return b"no-store"
    kept = [
        directive
        for value in given
        for part in value.split(b",")
        if (directive := part.strip(b" \t")) and directive.lower().partition(b"=")[0] not in (b"public", b"s-maxage", b"private")
    ]
    return b", ".join([b"private", *kept]) if kept else b"private, no-cache"


def _may_set(value: bytes, route: Route, rules: HeaderRules) -> bool:
    name = _cookie_name(value)
    if not name or name.lower().startswith(rules.own_prefix):
        return False
    return "*" in route.return_cookies or name in route.return_cookies


def _cookie_name(value: bytes) -> str:
    """The name a browser would give it: "" without "=", and no browser believes such a cookie to be another (S6)."""
    name, equals, _ = value.partition(b";")[0].partition(b"=")
    return name.strip(b" \t").decode("latin-1") if equals else ""


# ── WebSocket ────────────────────────────────────────────────────────────────────────────────────────────────────────


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def switching_head(head: ResponseHead, admitted: Admitted, *, rules: HeaderRules, sent_key: bytes) -> bytes:
    """Our own 101 to the browser, from the upstream's 101 to our own handshake (WS-4, WS-5). UpstreamProtocol if that is not one.

    Cookies of ours due for renewal ride along. Subprotocol and extension must be among those the browser offered.
    """
    given = _single_fields(head)
    if (
        given.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in [part.strip() for part in given.get(b"connection", b"").lower().split(b",")]
        or given.get(b"sec-websocket-accept") != accept_key(sent_key)
    ):
        raise UpstreamProtocol("not a WebSocket handshake")
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines.append(b"Sec-WebSocket-Accept: " + accept_key(_offered(admitted.facts, b"sec-websocket-key")))
    protocol, extensions = given.get(b"sec-websocket-protocol"), given.get(b"sec-websocket-extensions")
    if protocol is not None:
        if not protocol or protocol not in [part.strip() for part in _offered(admitted.facts, b"sec-websocket-protocol").split(b",")]:
            raise UpstreamProtocol("a subprotocol nobody offered")
        lines.append(b"Sec-WebSocket-Protocol: " + protocol)
    if extensions is not None:
        offered = _extensions(_offered(admitted.facts, b"sec-websocket-extensions"))
        if not offered or _extensions(extensions) != [extensions]:
            raise UpstreamProtocol("an extension nobody offered")
        lines.append(b"Sec-WebSocket-Extensions: " + extensions)
    lines.extend(b"Set-Cookie: " + cookie.encode("ascii") for cookie in admitted.set_cookies)
    return b"\r\n".join(lines) + b"\r\n" + rules.hsts + b"\r\n"


def _extensions(value: bytes) -> list[bytes]:
    """The offers of permessage-deflate. No other extension passes: it may give reserved bits a meaning that the relay must know."""
    parts = (part.strip(b" \t") for part in value.split(b","))
    return [part for part in parts if part.partition(b";")[0].rstrip(b" \t").lower() == b"permessage-deflate"]


def _single_fields(head: ResponseHead) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in head.headers:
        lower = name.lower()
        if lower in fields and lower.startswith((b"sec-websocket-", b"upgrade")):
            raise UpstreamProtocol("a handshake field came twice")
        fields[lower] = value
    return fields


def _offered(facts: Facts, field_name: bytes) -> bytes:
    return b",".join(value for name, value in facts.headers if name.lower() == field_name)
