"""nginx 1.18 or newer: ``auth_request``.

nginx matches locations on a decoded and merged path. So a location only takes the request when its pattern fits the target as it was sent;
whatever does not fit goes to the door, whose verdict is the verdict. The target is forwarded from the same raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from bff.forward_auth.dialects import CACHE, NGINX, PROBLEM, ROUTE, SECRET, STATUS
from bff.forward_auth.front import SYSTEM_CA, Front, Way
from bff.forward_auth.stripping import ANSWER_NAMES, NAMES

_HSTS = 'add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;'

# A refusal's status that is neither 401 nor 403 is restored from BFF-Status; nginx's return takes constants alone.
_STATUSES = (400, 401, 404, 405, 408, 413, 414, 415, 417, 421, 426, 429, 431, 500, 501, 502, 503, 504, 505, 508)
_PLAIN = (
    "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Encoding", "Content-Language", "Content-Type",
    "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID", "Pragma",
    "Prefer", "Priority", "Range", "Traceparent", "Tracestate", "User-Agent", "X-Requested-With",
)  # fmt: skip
_LOCAL = (
    ("500", 503, "temporarily_unavailable", "The sign-in service gave no answer."),
    ("502", 502, "upstream_unreachable", "The API did not give a usable answer."),
    ("504", 504, "upstream_timeout", "The API took too long."),
    ("413", 413, "body_too_large", "The request body is larger than this route allows."),
)


def build_nginx(front: Front) -> str:
    return "\n".join(
        [
            "worker_processes auto;",
            "events { worker_connections 8192; }",
            "",
            "http {",
            *_indent(_http(front)),
            "}",
            "",
        ]
    )


def _http(front: Front) -> Iterable[str]:
    yield "server_tokens off;"
    yield "proxy_headers_hash_max_size 2048;"
    yield "proxy_headers_hash_bucket_size 128;"
    yield "client_max_body_size 64k;"
    yield "# No query in the log: the sign-in's callback carries its code there."
    yield """log_format bff '$remote_addr [$time_iso8601] "$request_method $uri" $status $body_bytes_sent $request_time $request_id';"""
    yield "access_log /var/log/nginx/access.log bff;"
    if front.cache_s:
        yield ""
        yield "# Holds cookies and access tokens: a folder in memory (tmpfs) that only nginx may read."
        yield f"proxy_cache_path {front.cache_folder} levels=2 keys_zone=bff_answers:8m max_size=64m inactive=60s use_temp_path=off;"
    yield ""
    yield "# WebSockets and event streams go through the door, which ends them with the session. No other upgrade is ever passed on."
    yield 'map $http_upgrade $bff_upgrade { default ""; "~*^websocket$" websocket; }'
    yield 'map $http_upgrade $bff_connection { default ""; "~*^websocket$" upgrade; }'
    yield 'map $http_accept $bff_events { default ""; "~*text/event-stream" 1; }'
    yield 'map "$bff_upgrade$bff_events" $bff_stream { default 1; "" ""; }'
    if any(way.cache_control for way in front.ways):
        yield 'map $upstream_http_vary $bff_vary { default "$upstream_http_vary, Cookie"; "" Cookie; }'
    yield ""
    # An instance that restarts refuses connections: what may be repeated goes to the next one. Shut out for no longer than a second,
    # so that never all of them are.
    servers = " ".join(f"server {door} max_fails=1 fail_timeout=1s;" for door in front.doors)
    yield f"upstream bff_door {{ {servers} keepalive 64; }}"
    for way in front.ways:
        yield f"upstream bff_api_{way.index} {{ server {way.server}; keepalive 64; }}"
        rest = f"bff_rest_{way.index}"
        yield f'map $request_uri $bff_target_{way.index} {{ default ""; "~{way.pattern(f"?<{rest}>")}" "{way.base}${rest}"; }}'
    yield ""
    yield "server {"
    yield from _indent(_server_block(front))
    yield "}"


def _server_block(front: Front) -> Iterable[str]:
    yield from _listen(front)
    yield "proxy_http_version 1.1;"
    yield "proxy_request_buffering off;"
    yield "# The absolute form names a host of its own, which nothing here looks at."
    yield 'if ($request !~ "^[A-Za-z]+ /") { return 400; }'
    yield ""
    yield "# What an API gets: nothing of the browser's that claims to be more than the browser's."
    yield "proxy_set_header Host $bff_host;"
    yield 'proxy_set_header Connection "";'
    yield from (f"proxy_set_header {name} $bff_{_variable(name)};" for name in front.answer_headers)
    yield "proxy_set_header X-Forwarded-For $remote_addr;"
    yield f"proxy_set_header X-Forwarded-Proto {front.origin.partition(':')[0]};"
    yield f"proxy_set_header X-Forwarded-Host {front.authority};"
    yield "proxy_set_header X-Request-Id $request_id;"
    set_already = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", *(name.lower() for name in front.answer_headers)}
    if front.cache_s:
        yield "# A repeated answer was given to a request whose other headers nobody has seen since: only those that are known pass."
        yield "proxy_pass_request_headers off;"
        yield from (f"proxy_set_header {name} $http_{_variable(name)};" for name in (*_PLAIN, *front.pass_headers))
    else:
        yield from (f'proxy_set_header {name} "";' for name in (*NAMES, front.csrf_header) if name not in set_already)
    yield ""
    yield from (f"auth_request_set $bff_{_variable(name)} $upstream_http_{_variable(name)};" for name in front.answer_headers)
    yield "auth_request_set $bff_set_cookie $upstream_http_set_cookie;"
    yield f"auth_request_set $bff_status $upstream_http_{_variable(STATUS)};"
    yield f"auth_request_set $bff_problem $upstream_http_{_variable(PROBLEM)};"
    yield "auth_request_set $bff_error $upstream_http_bff_error;"
    yield "auth_request_set $bff_allow $upstream_http_allow;"
    yield "auth_request_set $bff_retry_after $upstream_http_retry_after;"
    yield ""
    yield "# An API's answer: nothing that would act on the whole origin."
    yield from (f"proxy_hide_header {name};" for name in (*ANSWER_NAMES, "cache-control", "vary"))
    yield "proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;"
    yield ""
    yield f"location ^~ {front.endpoint} {{ return 404; }}"
    yield from _question(front)
    for way in front.ways:
        yield ""
        yield from _api(front, way)
    yield ""
    yield "location / {"
    yield from _indent(_to_door())
    yield "}"
    yield "location @bff_door {"
    yield from _indent(_to_door())
    yield "}"
    yield ""
    yield from _refusals(front)


def _listen(front: Front) -> Iterable[str]:
    address = str(front.listen.port) if front.listen.host in ("", "0.0.0.0") else str(front.listen)  # noqa: S104 - written, not bound
    if not front.tls:
        yield f"listen {address};"
        return
    yield f"listen {address} ssl http2;"
    yield f"ssl_certificate {front.tls_cert_file};"
    yield f"ssl_certificate_key {front.tls_key_file};"
    yield "ssl_protocols TLSv1.2 TLSv1.3;"


def _question(front: Front) -> Iterable[str]:
    yield f"location = {front.endpoint}{NGINX.name} {{"
    yield "  internal;"
    yield f"  proxy_pass http://bff_door{front.endpoint}{NGINX.name};"
    yield "  client_max_body_size 0;"
    yield "  proxy_pass_request_body off;"
    yield '  proxy_set_header Content-Length "";'
    yield from _indent(_for_door())
    yield f"  proxy_set_header {SECRET} {front.secret};"
    yield f"  proxy_set_header {ROUTE} $bff_route;"
    yield f"  proxy_set_header {NGINX.method_header} $request_method;"
    yield f"  proxy_set_header {NGINX.target_header} $request_uri;"
    yield f'  proxy_set_header {CACHE} "{front.cache_s or ""}";'
    yield '  proxy_set_header Connection "";'
    yield "  proxy_connect_timeout 5s;"
    yield "  proxy_read_timeout 65s;"
    yield "  proxy_buffer_size 32k;"
    yield "  proxy_buffers 4 32k;"
    if front.cache_s:
        yield "  proxy_cache bff_answers;"
        yield "  # Everything that the judgement reads; parts are divided by what no header can hold."
        yield f'  proxy_cache_key "{_cache_key()}";'
        yield "  proxy_ignore_headers Cache-Control Expires;"
    yield "}"


def _cache_key() -> str:
    names = (
        "request_method", "request_uri", "scheme", "http_host", "bff_route", "http_cookie", "http_origin", "http_referer",
        "http_sec_fetch_site", "http_sec_fetch_mode", "http_sec_fetch_dest", "http_sec_fetch_user", "http_sec_purpose", "http_x_csrf",
        "http_accept", "http_content_type", "http_authorization", "http_max_forwards", "http_via",
    )  # fmt: skip
    return "\\n".join(f"${name}" for name in names)


def _for_door() -> Iterable[str]:
    yield "proxy_pass_request_headers on;"
    yield "proxy_set_header Host $http_host;"
    yield "proxy_set_header X-Forwarded-For $remote_addr;"
    yield "proxy_set_header X-Forwarded-Proto $scheme;"
    yield 'proxy_set_header X-Forwarded-Host "";'
    yield 'proxy_set_header Forwarded "";'
    yield "proxy_set_header X-Request-Id $request_id;"


def _to_door() -> Iterable[str]:
    yield "proxy_pass http://bff_door;"
    yield from _for_door()
    yield f'proxy_set_header {SECRET} "";'
    yield "proxy_set_header Upgrade $bff_upgrade;"
    yield "proxy_set_header Connection $bff_connection;"
    yield "proxy_buffering off;"
    yield "proxy_read_timeout 920s;"
    yield "client_max_body_size 0;"
    yield "proxy_hide_header X-Accel-Expires;  # and thereby none of those above"


def _api(front: Front, way: Way) -> Iterable[str]:
    path = way.route.path
    block = list(_indent(_api_block(front, way)))
    if way.route.exact:
        yield from (f"location = {path} {{", *block, "}")
        return
    if path.endswith("/"):
        # nginx would answer this one with a redirect of its own.
        if path != "/" and not any(other.route.path == path[:-1] for other in front.ways):
            yield f"location = {path[:-1]} {{"
            yield from _indent(_to_door())
            yield "}"
        yield from (f"location ^~ {path} {{", *block, "}")
        return
    if not any(other.route.exact and other.route.path == path for other in front.ways):
        yield from (f"location = {path} {{", *block, "}")
    yield from (f"location ^~ {path}/ {{", *block, "}")


def _api_block(front: Front, way: Way) -> Iterable[str]:
    yield "error_page 418 = @bff_door;"
    yield "if ($bff_stream) { return 418; }"
    yield f'if ($bff_target_{way.index} = "") {{ return 418; }}'
    yield "error_page 401 403 = @bff_refused;"
    yield from (f"error_page {code} = @bff_local_{code};" for code, *_ in _LOCAL)
    yield f"set $bff_route {way.route.path};"
    yield f"set $bff_host {way.upstream.authority};"
    yield f"auth_request {front.endpoint}{NGINX.name};"
    yield f"proxy_pass {way.upstream.scheme}://bff_api_{way.index}$bff_target_{way.index};"
    if way.secure:
        yield "proxy_ssl_server_name on;"
        yield f"proxy_ssl_name {way.upstream.host};"
        yield "proxy_ssl_verify on;"
        yield "proxy_ssl_verify_depth 4;"
        yield f"proxy_ssl_trusted_certificate {way.upstream.ca_file or SYSTEM_CA};"
    limits = way.route.limits
    yield f"client_max_body_size {limits.body_bytes};"
    yield f"proxy_connect_timeout {limits.connect_s * 1000:.0f}ms;"
    yield f"proxy_read_timeout {limits.idle_s * 1000:.0f}ms;"
    yield "add_header Set-Cookie $bff_set_cookie always;"
    yield from _answer_headers(front, way)


def _answer_headers(front: Front, way: Way) -> Iterable[str]:
    yield f'add_header Cache-Control "{way.cache_control or "$upstream_http_cache_control"}" always;'
    yield f"add_header Vary {'$bff_vary' if way.cache_control else '$upstream_http_vary'} always;"
    yield "add_header X-Content-Type-Options nosniff always;"
    yield "add_header Cross-Origin-Resource-Policy same-origin always;"
    yield "add_header Content-Security-Policy \"sandbox; default-src 'none'; frame-ancestors 'none'\" always;"
    if front.tls:
        yield _HSTS


def _refusals(front: Front) -> Iterable[str]:
    shared = [
        "  default_type application/problem+json;",
        "  add_header Cache-Control no-store always;",
        "  add_header X-Content-Type-Options nosniff always;",
        "  add_header Content-Security-Policy \"default-src 'none'; frame-ancestors 'none'\" always;",
        *(["  " + _HSTS] if front.tls else []),
    ]
    yield "location @bff_refused {"
    yield from shared
    yield "  add_header BFF-Error $bff_error always;"
    yield "  add_header Set-Cookie $bff_set_cookie always;"
    yield "  add_header Allow $bff_allow always;"
    yield "  add_header Retry-After $bff_retry_after always;"
    yield from (f"  if ($bff_status = {status}) {{ return {status} $bff_problem; }}" for status in _STATUSES)
    yield "  return 403 $bff_problem;"
    yield "}"
    for code, status, name, detail in _LOCAL:
        problem = f'{{"type":"urn:bff:error:{name}","status":{status},"detail":"{detail}","code":"{name}"}}'
        yield f"location @bff_local_{code} {{"
        yield from shared
        yield f"  add_header BFF-Error {name} always;"
        yield f"  return {status} '{problem}';"
        yield "}"


def _variable(name: str) -> str:
    return name.lower().replace("-", "_")


def _indent(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" if line else line for line in lines)
