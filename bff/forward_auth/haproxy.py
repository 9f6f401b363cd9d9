"""HAProxy 2.6 or newer with Lua: an action of ours asks, the rules of the configuration do the rest.

``path`` is the raw path in HAProxy and its matches keep case, so routes match as ours do; the target is rewritten in its raw form too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bff.forward_auth.dialects import HAPROXY, SECRET
from bff.forward_auth.front import SYSTEM_CA, Front, Way
from bff.forward_auth.stripping import ANSWER_NAMES, FAMILIES, NAMES

SCRIPT = Path(__file__).with_name("haproxy.lua")

# Some servers put trailers among the headers (H1). Before 3.2 HAProxy cannot drop them, the door can.
_TRAILERS = (
    ".if version_atleast(3.2)",
    "  option http-drop-request-trailers",
    ".else",
    "  # A body of unknown length may end with trailers: it goes through the door, which drops them.",
    "  use_backend bff_door if { req.hdr(transfer-encoding) -m found }",
    "  use_backend bff_door if { fc_http_major 2 } { method POST PUT PATCH } !{ req.hdr(content-length) -m found }",
    ".endif",
)


def build_haproxy_script(front: Front) -> str:
    return SCRIPT.read_text(encoding="utf-8")


def build_haproxy(front: Front) -> str:
    return "\n".join([*_lines(front), ""])


def _lines(front: Front) -> Iterable[str]:
    names = " ".join(front.answer_headers)
    yield "global"
    yield "  maxconn 8192"
    yield "  tune.bufsize 49152"
    yield f"  setenv BFF_QUESTIONS {_questions(front)}"
    yield f"  setenv BFF_DOOR {front.door}"
    yield f"  setenv BFF_ENDPOINT {front.endpoint}{HAPROXY.name}"
    yield f"  setenv BFF_SECRET {front.secret}"
    yield f'  setenv BFF_ANSWER "{names}"'
    yield f"  lua-load {front.script or SCRIPT}"
    yield ""
    yield "defaults"
    yield "  mode http"
    yield "  retries 1"
    yield "  option redispatch 1"
    yield "  timeout connect 5s"
    yield "  timeout client 60s"
    yield "  timeout server 65s"
    yield "  timeout http-request 10s"
    yield "  timeout http-keep-alive 75s"
    yield "  timeout tunnel 15m"
    yield ""
    yield "frontend bff"
    if front.tls:
        yield f"  # HAProxy takes the key from {front.tls_cert_file} itself or from {front.tls_cert_file}.key"
    yield f"  bind {_listen(front)}"
    yield "  acl websocket req.hdr(Upgrade) -i websocket"
    yield "  acl events req.hdr(Accept) -i -m sub text/event-stream"
    yield f"  http-request return status 404 if {{ path_beg {front.endpoint} }}"
    yield "  # Of HTTP/1.1 only paths: an API would get the absolute form as it came (ROUTE-4). HTTP/2's are absolute in here in any case."
    yield "  http-request deny deny_status 400 if { fc_http_major 1 } !{ url_beg / }"
    yield f"  http-request del-header {SECRET}"
    yield "  http-request del-header Forwarded"
    yield "  http-request del-header X-Forwarded-Host"
    yield "  http-request del-header Upgrade if !websocket"
    yield "  http-request set-header X-Request-Id %[uuid()]"
    yield "  http-request set-header X-Forwarded-For %[src]"
    yield "  http-request set-header X-Forwarded-Proto https if { ssl_fc }"
    yield "  http-request set-header X-Forwarded-Proto http unless { ssl_fc }"
    yield "  # WebSockets and event streams go through the door, which ends them with the session. No other upgrade is ever passed on."
    yield "  use_backend bff_door if websocket or events"
    yield from _TRAILERS
    for way in front.ways:
        yield f"  use_backend bff_api_{way.index} if {_matches(way)}"
    yield "  default_backend bff_door"
    yield ""
    yield "# The script asks here: connections to the door are kept, and an instance that restarts is passed over."
    yield "listen bff_questions"
    yield f"  bind {_questions(front)}"
    yield "  retry-on conn-failure empty-response"
    yield from _servers(front)
    yield ""
    yield "backend bff_door"
    yield "  timeout server 920s"
    yield "  retry-on conn-failure empty-response"
    yield "  http-request disable-l7-retry unless METH_GET"
    yield from _servers(front)
    for way in front.ways:
        yield ""
        yield from _api(front, way)


def _questions(front: Front) -> str:
    return f"abns@bff-questions-{front.listen.port}"


def _servers(front: Front) -> Iterable[str]:
    for index, door in enumerate(front.doors):
        yield f"  server door{index} {door}" + (" check inter 500ms fall 1 rise 1" if len(front.doors) > 1 else "")


def _listen(front: Front) -> str:
    address = f":{front.listen.port}" if front.listen.host == "0.0.0.0" else str(front.listen)  # noqa: S104 - compared, not bound
    if not front.tls:
        return address
    return f"{address} ssl crt {front.tls_cert_file} alpn h2,http/1.1 ssl-min-ver TLSv1.2"


def _matches(way: Way) -> str:
    path = way.route.path
    if way.reach == "":
        return f"{{ path -m str {path} }}"
    return f"{{ path_beg {path} }}" if way.reach == "/" else f"{{ path -m str {path} }} or {{ path_beg {path}/ }}"


def _api(front: Front, way: Way) -> Iterable[str]:
    limits = way.route.limits
    yield f"backend bff_api_{way.index}"
    yield f"  timeout connect {limits.connect_s * 1000:.0f}ms"
    yield f"  timeout server {limits.idle_s * 1000:.0f}ms"
    yield f"  http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {limits.body_bytes} }}"
    yield f"  http-request set-var(txn.bff_route) str({way.route.path})"
    yield "  http-request lua.bff_ask"
    yield "  http-request deny deny_status 503 unless { var(txn.bff_verdict) -m str yes }"
    yield "  http-request del-header Upgrade"
    yield "  http-request del-header Connection"
    yield from (f"  http-request del-header {family} -m beg" for family in FAMILIES)
    plain = [name for name in NAMES if not name.startswith(FAMILIES)]
    yield from (f"  http-request del-header {name}" for name in (*plain, front.csrf_header, *front.answer_headers))
    yield "  http-request del-header [.] -m reg"
    for name in front.answer_headers:
        if name != "Cookie" or way.keeps_cookies:
            variable = f"txn.bff_{name.lower().replace('-', '_')}"
            yield f"  http-request set-header {name} %[var({variable})] if {{ var({variable}) -m found }}"
    yield "  http-request set-header X-Forwarded-For %[src]"
    yield f"  http-request set-header X-Forwarded-Proto {front.origin.partition(':')[0]}"
    yield f"  http-request set-header X-Forwarded-Host {front.authority}"
    yield f"  http-request set-header Host {way.upstream.authority}"
    if way.base != way.route.path:
        yield f"  http-request replace-path {way.path_pattern} {way.base}\\1"
    yield from (f"  http-response del-header {name}" for name in ANSWER_NAMES if not name.startswith(("access-control-", "x-accel-")))
    yield "  http-response del-header access-control- -m beg"
    yield "  http-response del-header x-accel- -m beg"
    yield "  http-response add-header Set-Cookie %[var(txn.bff_set_cookie)] if { var(txn.bff_set_cookie) -m found }"
    if way.cache_control:
        yield f'  http-response set-header Cache-Control "{way.cache_control}"'
        yield "  http-response add-header Vary Cookie"
    yield "  http-response set-header X-Content-Type-Options nosniff"
    yield "  http-response set-header Cross-Origin-Resource-Policy same-origin"
    yield "  http-response set-header Content-Security-Policy \"sandbox; default-src 'none'; frame-ancestors 'none'\""
    if front.tls:
        yield '  http-response set-header Strict-Transport-Security "max-age=31536000; includeSubDomains"'
    secure = ""
    if way.secure:
        host = way.upstream.host
        secure = f" ssl verify required ca-file {way.upstream.ca_file or SYSTEM_CA} sni str({host}) verifyhost {host}"
    yield f"  server api {way.server}{secure}"
