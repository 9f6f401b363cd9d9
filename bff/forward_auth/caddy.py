"""Caddy 2.8 or newer: ``reverse_proxy`` to us first, then to the API.

Written out instead of ``forward_auth`` with ``copy_headers``, which in some versions leaves a browser's header in place where the answer
has none (CVE-2026-30851). Caddy's path matchers fold case and decode; here a regular expression sees the target as it will be sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from bff.forward_auth.dialects import CADDY, ROUTE, SECRET
from bff.forward_auth.front import SYSTEM_CA, Front, Way
from bff.forward_auth.stripping import ANSWER_NAMES, FAMILIES, NAMES

_UPGRADE = "header_regexp Upgrade (?i)^websocket$"
_EVENTS = "header_regexp Accept (?i)text/event-stream"
_OURS = ("x-content-type-options", "cross-origin-resource-policy")
_ERRORS = (
    ("413", "body_too_large", "The request body is larger than this route allows."),
    ("502", "upstream_unreachable", "The API did not give a usable answer."),
    ("504", "upstream_timeout", "The API took too long."),
)


def build_caddy(front: Front) -> str:
    return "\n".join([*_lines(front), ""])


def _lines(front: Front) -> Iterable[str]:
    yield "{"
    yield "	admin off"
    if not front.tls:
        yield "	auto_https off"
        yield "	servers {"
        yield "		protocols h1"
        yield "	}"
    yield "}"
    yield ""
    yield f"{_site(front)} {{"
    if front.listen.host not in ("", "0.0.0.0"):  # noqa: S104 - written, not bound
        yield f"	bind {front.listen.host}"
    if front.tls:
        yield f"	tls {front.tls_cert_file} {front.tls_key_file}"
    yield from _indent(_matchers(front))
    yield ""
    yield "	route {"
    yield f"		request_header -{SECRET}"
    yield "		request_header @bff_odd_upgrade -Upgrade"
    yield "		respond @bff_endpoint 404"
    for way in front.ways:
        yield f"		handle @bff_{way.index} {{"
        yield from _indent(_api(front, way), 3)
        yield "		}"
    yield "		handle {"
    yield f"			reverse_proxy {_doors(front)} {{"
    yield from _indent(_for_door(front), 4)
    yield "				flush_interval -1"
    yield "			}"
    yield "		}"
    yield "	}"
    for status, code, detail in _ERRORS:
        problem = f'{{"type":"urn:bff:error:{code}","status":{status},"detail":"{detail}","code":"{code}"}}'
        yield f"	handle_errors {status} {{"
        yield "		header Content-Type application/problem+json"
        yield "		header Cache-Control no-store"
        yield f"		header BFF-Error {code}"
        yield f"		respond `{problem}` {status}"
        yield "	}"
    yield "}"


def _site(front: Front) -> str:
    return f"https://:{front.listen.port}" if front.tls else f"http://:{front.listen.port}"


def _matchers(front: Front) -> Iterable[str]:
    yield f"@bff_endpoint vars_regexp {{http.request.uri}} ^{front.endpoint}"
    yield "@bff_odd_upgrade {"
    yield "	header Upgrade *"
    yield f"	not {_UPGRADE}"
    yield "}"
    yield "# WebSockets and event streams go through the door, which ends them with the session."
    for way in front.ways:
        yield f"@bff_{way.index} {{"
        yield f"	vars_regexp {{http.request.uri}} {way.pattern('?:')}"
        yield f"	not {_UPGRADE}"
        yield f"	not {_EVENTS}"
        yield "}"
    for name in (*front.answer_headers, "Set-Cookie"):
        yield f"@bff_has_{_word(name)} vars_regexp {{http.reverse_proxy.header.{name}}} ."


def _doors(front: Front) -> str:
    return " ".join(map(str, front.doors))


def _for_door(front: Front) -> Iterable[str]:
    if len(front.doors) > 1:
        yield "lb_try_duration 5s"
        yield "lb_try_interval 100ms"
        yield "fail_duration 1s"
    yield "header_up X-Forwarded-For {http.request.remote.host}"
    yield "header_up X-Forwarded-Proto {http.request.scheme}"
    yield "header_up X-Forwarded-Host {http.request.hostport}"
    yield "header_up X-Request-Id {http.request.uuid}"
    yield "header_up -Forwarded"


def _api(front: Front, way: Way) -> Iterable[str]:
    yield "request_header -Upgrade"
    yield "request_header -Connection"
    yield "request_body {"
    yield f"	max_size {way.route.limits.body_bytes}"
    yield "}"
    yield f"reverse_proxy {_doors(front)} {{"
    yield "	method GET"
    yield f"	rewrite {front.endpoint}{CADDY.name}"
    yield from _indent(_for_door(front))
    yield f"	header_up {CADDY.method_header} {{http.request.method}}"
    yield f"	header_up {CADDY.target_header} {{http.request.orig_uri}}"
    yield f"	header_up {SECRET} {front.secret}"
    yield f"	header_up {ROUTE} {way.route.path}"
    yield "	header_up -Expect"
    yield "	@yes status 200"
    yield "	handle_response @yes {"
    yield "		route {"
    yield from _indent(_judged(front, way), 3)
    yield "		}"
    yield "	}"
    yield "}"
    if way.route.path != way.base:
        yield f"uri path_regexp ^{_prefix(way)} {way.base}"
    yield f"reverse_proxy {way.upstream.scheme}://{way.server} {{"
    yield from _indent(_upstream(front, way))
    yield "}"


def _judged(front: Front, way: Way) -> Iterable[str]:
    """After our yes: first everything goes, then what the answer says comes."""
    yield from (f"request_header -{family}*" for family in FAMILIES)
    families = tuple(FAMILIES)
    yield from (f"request_header -{name}" for name in (*NAMES, front.csrf_header) if not name.startswith(families))
    yield "request_header -*.*"
    yield from (f"request_header -{name}" for name in front.answer_headers)
    for name in front.answer_headers:
        if name != "Cookie" or way.keeps_cookies:
            yield f"request_header @bff_has_{_word(name)} {name} {{http.reverse_proxy.header.{name}}}"
    yield "header @bff_has_set_cookie +Set-Cookie {http.reverse_proxy.header.Set-Cookie}"


def _upstream(front: Front, way: Way) -> Iterable[str]:
    limits = way.route.limits
    yield f"header_up Host {way.upstream.authority}"
    yield "header_up X-Forwarded-For {http.request.remote.host}"
    yield f"header_up X-Forwarded-Proto {front.origin.partition(':')[0]}"
    yield f"header_up X-Forwarded-Host {front.authority}"
    yield "header_up X-Request-Id {http.request.uuid}"
    kept = ("access-control-", "x-accel-", *_OURS, *(["strict-transport-security"] if front.tls else []))  # Caddy removes after it sets
    yield from (f"header_down -{name}" for name in ANSWER_NAMES if not name.startswith(kept))
    yield "header_down -Access-Control-*"
    yield "header_down -X-Accel-*"
    if way.cache_control:
        yield f'header_down Cache-Control "{way.cache_control}"'
        yield "header_down +Vary Cookie"
    yield "header_down X-Content-Type-Options nosniff"
    yield "header_down Cross-Origin-Resource-Policy same-origin"
    yield "header_down Content-Security-Policy \"sandbox; default-src 'none'; frame-ancestors 'none'\""
    if front.tls:
        yield 'header_down Strict-Transport-Security "max-age=31536000; includeSubDomains"'
    yield "transport http {"
    yield "	compression off"
    yield f"	dial_timeout {limits.connect_s:g}s"
    yield f"	response_header_timeout {limits.head_s:g}s"
    if way.secure:
        yield f"	tls_trust_pool file {way.upstream.ca_file or SYSTEM_CA}"
        yield f"	tls_server_name {way.upstream.host}"
    yield "}"


def _prefix(way: Way) -> str:
    """The route's path alone, as a regular expression without its group."""
    return way.pattern().removeprefix("^").removesuffix(f"({way.tail})$")


def _word(name: str) -> str:
    return name.lower().replace("-", "_")


def _indent(lines: Iterable[str], depth: int = 1) -> Iterable[str]:
    return ("\t" * depth + line if line else line for line in lines)
