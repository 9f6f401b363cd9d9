"""What the browser sees of an API."""

from __future__ import annotations

import pytest

from bff.base.errors import UpstreamProtocol
from bff.policy.routes import Admission, Upstream
from bff.policy.verdict import Target
from bff.proxy.headers import HeaderRules, accept_key, must_close, response_head, sends_chunked, switching_head
from bff.proxy.location import map_location
from bff.proxy.response import ResponseHead, read_response
from tests.proxy.given import RULES, admitted, answer, fields, route, values
from tests.proxy.heads import accepted, head

OURS = [
    ("cache-control", "private, no-cache"),
    ("vary", "Cookie"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
    ("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
]


def returned(
    *lines: bytes, status: bytes = b"200 OK", keep_alive: bool = True, start: bytes = b"GET /x/y HTTP/1.1", **more: object
) -> bytes:
    facts = accepted(head(start=start))
    given = answer(*lines, status=status, method=facts.method)
    return response_head(given, admitted(facts, **more), rules=RULES, keep_alive=keep_alive)  # type: ignore[arg-type]


@pytest.mark.row("RESP-7", "RESP-9", "CACHE-1", "CACHE-2", "SECH-1", "SECH-3", "SECH-4", "H14")
@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"302 Found", b"409 Conflict", b"422 X", b"429 Slow", b"500 Oops", b"599 "])
def test_status_and_neutral_fields_pass_and_the_policy_set_is_added(status: bytes) -> None:
    block = returned(b"Content-Type: application/json", b"Retry-After: 7", b'ETag: "a"', b"Content-Length: 5", status=status)
    assert block.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert fields(block) == [
        ("content-type", "application/json"), ("retry-after", "7"), ("etag", '"a"'), *OURS, ("content-length", "5"),
    ]  # fmt: skip


@pytest.mark.row("RESP-1", "RESP-5", "RESP-6", "H15")
@pytest.mark.parametrize(
    "line",
    [
        b"Connection: keep-alive", b"Keep-Alive: 5", b"Proxy-Authenticate: Basic", b"Trailer: X", b"Upgrade: h2c",
        b"Access-Control-Allow-Origin: *",
        b"Access-Control-Allow-Credentials: true", b"Clear-Site-Data: \"*\"", b"Strict-Transport-Security: max-age=0",
        b"Service-Worker-Allowed: /",
        b"Alt-Svc: h3", b"Refresh: 0; url=https://evil.test", b"Report-To: {}", b"Reporting-Endpoints: a", b"NEL: {}", b"Server: x",
        b"X-Powered-By: x",
        b"X-Accel-Redirect: /etc/passwd", b"X-Accel-Expires: 100", b"CDN-Cache-Control: public", b"Surrogate-Control: max-age=9",
        b"X-Sendfile: /x", b"X-LiteSpeed-Location: /private", b"Cloudflare-CDN-Cache-Control: public", b"Edge-Control: cache-maxage=1d",
        b"Use-As-Dictionary: match=\"/*\"",
        b"BFF-Error: forged", b"DPoP-Nonce: x", b"Set-Cookie: a=b", b"Via: 1.1 internal-host", b"X-Content-Type-Options: none",
        b"Cross-Origin-Resource-Policy: cross-origin", b"Secure-Session-Registration: x",
    ],
)  # fmt: skip
def test_what_would_act_on_our_whole_origin_is_removed(line: bytes) -> None:
    assert fields(returned(line, b"X-App: 1", b"Content-Length: 0")) == [("x-app", "1"), *OURS, ("content-length", "0")]


@pytest.mark.row("RESP-1")
def test_fields_named_in_connection_are_removed() -> None:
    block = returned(b"Connection: close, X-Hop", b"x-hop: 1", b"X-App: 1", b"Content-Length: 0")
    assert values(block, "x-hop") == []
    assert values(block, "x-app") == ["1"]
    assert values(returned(b"Connection:", b"X-App: 1", b"Content-Length: 0"), "x-app") == ["1"]
    with pytest.raises(UpstreamProtocol):
        returned(b'Connection: "x', b"Content-Length: 0")


@pytest.mark.row("RESP-2", "H15", "COOKIE-16")
@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (frozenset(), []),
        (frozenset({"cart"}), ["cart=1; Path=/", "cart=2"]),
        (frozenset({"*", "__Host-Http-bff"}), ["cart=1; Path=/", "other=x", "cart=2"]),
    ],
)
def test_an_api_sets_listed_cookies_only_and_never_ours(allowed: frozenset[str], seen: list[str]) -> None:
    lines = [
        b"cart=1; Path=/",
        b"__Host-Http-bff=evil; Path=/",
        b" __HOST-http-BFF-login-x =evil",
        b"=__Host-Http-bff=evil",
        b"nameless",
        b"other=x",
        b"cart=2",
    ]
    block = returned(*[b"Set-Cookie: " + line for line in lines], b"Content-Length: 0", way=route(return_cookies=allowed))
    assert values(block, "set-cookie") == seen


@pytest.mark.row("S5", "COOKIE-20")
def test_our_own_cookie_rides_along_uncached() -> None:
    block = returned(b"Cache-Control: max-age=60", b"Content-Length: 0", set_cookies=("__Host-Http-bff=new; Path=/",))
    assert values(block, "set-cookie") == ["__Host-Http-bff=new; Path=/"]
    assert values(block, "cache-control") == ["no-store"]


@pytest.mark.row("CACHE-1")
@pytest.mark.parametrize(
    ("given", "cache", "written"),
    [
        ([], "private", ["private, no-cache"]),
        ([b"public, max-age=60"], "private", ["private, max-age=60"]),
        ([b"no-store"], "private", ["private, no-store"]),
        ([b"private"], "private", ["private, no-cache"]),
        ([b'private="set-cookie", max-age=5'], "private", ["private, max-age=5"]),
        ([b"S-MaxAge=9, Public"], "private", ["private, no-cache"]),
        ([b"max-age=1", b"must-revalidate"], "private", ["private, max-age=1, must-revalidate"]),
        ([b"max-age=1"], "no-store", ["no-store"]),
        ([b"public, max-age=60"], "upstream", ["public, max-age=60"]),
        ([], "upstream", []),
    ],
)
def test_answers_made_with_a_token_are_kept_out_of_shared_caches(given: list[bytes], cache: str, written: list[str]) -> None:
    block = returned(*[b"Cache-Control: " + value for value in given], b"Content-Length: 0", way=route(cache=cache))
    assert values(block, "cache-control") == written


@pytest.mark.row("CACHE-2")
@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([], ["Cookie"]),
        ([b"Accept"], ["Accept", "Cookie"]),
        ([b"Accept, cookie"], ["Accept, cookie"]),
        ([b"*"], ["*"]),
        ([b"A", b"B"], ["A", "B", "Cookie"]),
    ],
)
def test_vary_names_the_cookie_once(given: list[bytes], written: list[str]) -> None:
    assert values(returned(*[b"Vary: " + value for value in given], b"Content-Length: 0"), "vary") == written


def test_an_anonymous_answer_keeps_its_own_caching() -> None:
    block = returned(
        b"Cache-Control: public", b"Vary: Accept", b"Content-Length: 0", way=route(token="none", session=False), credential=None
    )
    assert values(block, "cache-control") == ["public"]
    assert values(block, "vary") == ["Accept"]


@pytest.mark.row("RESP-3", "R3", "REDIR-4", "K3")
@pytest.mark.parametrize(
    ("location", "written"),
    [
        (b"/v1/other?a=b#c", "/x/other?a=b#c"), (b"https://api.internal/v1/z", "/x/z"), (b"https://API.internal:443/v1/", "/x/"),
        (b"https://app.example.com/v1/z?a", "/x/z?a"),
        (b"https://app.example.com/bff/logout", None),
        (b"http://app.example.com/v1/z", None), (b"https://app.example.com.evil.test/v1/z", None),
        (b"other", "other"),
        (b"a/b;c?d", "a/b;c?d"), (b"?page=2", "?page=2"), (b"https://cdn.test/file?sig=1", "https://cdn.test/file?sig=1"),
        (b"/bff/logout", None), (b"/v1", None), (b"/v1/../../bff/login", None), (b"/v1/%2e%2e/x", None), (b"//evil.test/", None),
        (b"/\\evil.test", None),
        (b"https://evil.test/", None), (b"http://api.internal/v1/z", None), (b"https://api.internal:8443/v1/z", None),
        (b"https://api.internal", None),
        (b"https://api.internal@evil.test/v1/", None), (b"javascript:alert(1)", None), (b"../up", None), (b"a/../b", None), (b"./x",
        None), (b"", None),
        (b"/v1/x y", None), (b"/v1/\xff", None), (b"\\x", None), (b"x:y", None), (b"https:evil", None), (b"/v1//evil", None),
        (b"data:,x", None),
    ],
)  # fmt: skip
def test_a_redirect_leads_into_its_own_tree_or_nowhere(location: bytes, written: str | None) -> None:
    way = route(redirect_origins=frozenset({"https://cdn.test"}))
    for name in (b"Location", b"Content-Location"):
        block = returned(name + b": " + location, b"Content-Length: 0", status=b"302 Found", way=way)
        assert values(block, name.decode().lower()) == ([] if written is None else [written])


def test_the_redirect_of_an_exact_route_leads_back_to_itself_only() -> None:
    upstream = Upstream("http", "api.internal", 8000, "/v1/one")
    way = route(path="/one", exact=True, upstream=upstream)
    target = Target(upstream, "/v1/one")
    assert values(returned(b"Location: /v1/one?again", b"Content-Length: 0", status=b"307 X", way=way, target=target), "location") == [
        "/one?again"
    ]
    assert values(returned(b"Location: /v1/ones", b"Content-Length: 0", status=b"307 X", way=way, target=target), "location") == []
    assert values(
        returned(b"Location: http://api.internal:8000/v1/one", b"Content-Length: 0", status=b"307 X", way=way, target=target), "location"
    ) == ["/one"]


def test_without_a_target_no_redirect_can_be_mapped() -> None:
    assert map_location(b"/v1/x", admitted(target=None)) is None


@pytest.mark.row("RESP-4")
@pytest.mark.parametrize(
    ("challenges", "seen"),
    [
        ([b'Bearer error="invalid_token"'], ['Bearer error="invalid_token"']),
        ([b"Basic realm=x"], []),
        ([b'Bearer realm="x", BASIC realm="y"'], []),
        ([b"Bearer", b"Negotiate"], ["Bearer"]),
        ([b"Digest a=b"], []),
        ([b"NTLM"], []),
    ],
)
def test_no_challenge_makes_a_browser_ask_for_a_password(challenges: list[bytes], seen: list[str]) -> None:
    block = returned(*[b"WWW-Authenticate: " + value for value in challenges], b"Content-Length: 0", status=b"401 Unauthorized")
    assert values(block, "www-authenticate") == seen


@pytest.mark.row("RESP-7")
def test_only_api_answers_are_sandboxed() -> None:
    block = returned(
        b"Content-Length: 0",
        b"Content-Security-Policy: default-src 'self'",
        way=route(admission=Admission.OPEN, token="none", session=False),
    )
    assert values(block, "content-security-policy") == ["default-src 'self'"]
    assert values(block, "x-content-type-options") == ["nosniff"]


def test_no_hsts_where_we_are_plain_http() -> None:
    rules = HeaderRules(own_cookies="__Host-Http-bff", public_origin="http://localhost:8080")
    block = response_head(answer(b"Content-Length: 0"), admitted(), rules=rules, keep_alive=True)
    assert values(block, "strict-transport-security") == []


@pytest.mark.row("FRAME-6", "FRAME-10", "M10")
@pytest.mark.parametrize(
    ("start", "lines", "status", "written"),
    [
        (b"GET /x/y HTTP/1.1", [b"Content-Length: 05"], b"200 OK", [("content-length", "5")]),
        (b"GET /x/y HTTP/1.1", [b"Transfer-Encoding: chunked"], b"200 OK", [("transfer-encoding", "chunked")]),
        (b"GET /x/y HTTP/1.1", [], b"200 OK", [("transfer-encoding", "chunked")]),
        (b"GET /x/y HTTP/1.0", [b"Transfer-Encoding: chunked"], b"200 OK", [("connection", "close")]),
        (b"HEAD /x/y HTTP/1.1", [b"Content-Length: 500"], b"200 OK", [("content-length", "500")]),
        (b"HEAD /x/y HTTP/1.1", [b"Transfer-Encoding: chunked"], b"200 OK", []),
        (b"GET /x/y HTTP/1.1", [], b"204 No Content", []),
        (b"GET /x/y HTTP/1.1", [b"Content-Length: 0"], b"204 No Content", []),
        (b"GET /x/y HTTP/1.1", [b"Content-Length: 9"], b"304 Not Modified", []),
        (b"GET /x/y HTTP/1.1", [], b"103 Early Hints", []),
    ],
)
def test_the_answer_is_framed_anew(start: bytes, lines: list[bytes], status: bytes, written: list[tuple[str, str]]) -> None:
    block = returned(*lines, status=status, start=start)
    assert [f for f in fields(block) if f[0] in ("content-length", "transfer-encoding", "connection")] == written


def test_persistence_is_told_to_those_who_need_to_hear_it() -> None:
    assert values(returned(b"Content-Length: 0", keep_alive=False), "connection") == ["close"]
    old = accepted(head(b"Connection: keep-alive", start=b"GET /x/y HTTP/1.0"))
    block = response_head(answer(b"Content-Length: 0"), admitted(old), rules=RULES, keep_alive=True)
    assert values(block, "connection") == ["keep-alive"]
    unknown = answer()
    assert sends_chunked(unknown, accepted(head()))
    assert not must_close(unknown, accepted(head()))
    assert must_close(unknown, old)


def test_the_agent_s_answers_pass_but_for_the_hop() -> None:
    way = route(upstream=None, token="none")
    lines = [b"Set-Cookie: __Host-Http-bff=new; Path=/", b"Set-Cookie: b=1", b"Location: https://id.test/authorize?x", b"Keep-Alive: 5",
    b"Server: hypercorn",
             b"Content-Security-Policy: default-src 'self'", b"Content-Length: 0", b"Cache-Control: no-store"]  # fmt: skip
    block = returned(
        *lines, way=way, target=None, credential=None, status=b"303 See Other", set_cookies=("__Host-Http-bff=; Max-Age=0", "c=1")
    )
    assert fields(block) == [
        ("set-cookie", "__Host-Http-bff=new; Path=/"), ("set-cookie", "b=1"), ("location", "https://id.test/authorize?x"),
        ("content-security-policy", "default-src 'self'"), ("cache-control", "no-store"), ("set-cookie", "c=1"), OURS[-1],
        ("content-length", "0"),
    ]  # fmt: skip


HANDSHAKE = accepted(
    head(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13",
         b"Sec-WebSocket-Protocol: chat, v2", b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
)  # fmt: skip
SENT = b"MDEyMzQ1Njc4OWFiY2RlZg=="


def switching(*lines: bytes) -> ResponseHead:
    given = [b"Upgrade: WebSocket", b"Connection: upgrade", b"Sec-WebSocket-Accept: " + accept_key(SENT), *lines]
    return answer(*given, status=b"101 Switching Protocols")


@pytest.mark.row("WS-3", "WS-4", "WS-5")
def test_our_own_101_answers_the_browser_s_own_key() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    given = switching(b"Sec-WebSocket-Protocol: v2", b"Sec-WebSocket-Extensions: permessage-deflate", b"Set-Cookie: evil=1", b"Server: x")
    block = switching_head(given, admitted(HANDSHAKE, set_cookies=("__Host-Http-bff=new",)), rules=RULES, sent_key=SENT)
    assert block.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert fields(block) == [
        ("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "v2"),
        ("sec-websocket-extensions", "permessage-deflate"), ("set-cookie", "__Host-Http-bff=new"), OURS[-1],
    ]  # fmt: skip


@pytest.mark.row("WS-5", "M11")
@pytest.mark.parametrize(
    "given",
    [
        switching(b"Sec-WebSocket-Protocol: other"),
        switching(b"Sec-WebSocket-Protocol: chat, v2"),
        switching(b"Sec-WebSocket-Extensions: x-custom"),
        switching(b"Sec-WebSocket-Protocol: v2", b"Sec-WebSocket-Protocol: v2"),
        answer(b"Upgrade: h2c", b"Connection: upgrade", b"Sec-WebSocket-Accept: " + accept_key(SENT), status=b"101 X"),
        answer(b"Upgrade: websocket", b"Sec-WebSocket-Accept: " + accept_key(SENT), status=b"101 X"),
        answer(b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Accept: " + accept_key(b"other"), status=b"101 X"),
        answer(b"Upgrade: websocket", b"Connection: upgrade", status=b"101 X"),
    ],
)
def test_an_upstream_101_that_does_not_answer_our_handshake_is_a_fault(given: ResponseHead) -> None:
    with pytest.raises(UpstreamProtocol):
        switching_head(given, admitted(HANDSHAKE), rules=RULES, sent_key=SENT)


BAD_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\nc: d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 99 X\r\n\r\n",
    b"HTTP/1.1 600 X\r\n\r\n",
    b"HTTP/1.1 20 X\r\n\r\n", b"HTTP/1.1  200 X\r\n\r\n", b"HTTP/1.1 200 \x07\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"<html>\r\n\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 X\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
]  # fmt: skip


@pytest.mark.row("FRAME-8", "M11")
@pytest.mark.parametrize("block", BAD_ANSWERS, ids=lambda block: repr(block[:60]))
def test_an_answer_that_is_not_strict_is_a_fault_of_the_upstream(block: bytes) -> None:
    with pytest.raises(UpstreamProtocol):
        read_response(block, method="GET")


@pytest.mark.row("FRAME-10", "M11")
@pytest.mark.parametrize(
    ("block", "method", "length", "chunked", "until_close", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", 3, False, False, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", "GET", None, True, False, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", None, False, True, False),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", "GET", 0, False, False, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 0, False, False, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", "GET", 0, False, False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", 0, False, False, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", 0, False, False, True),
        (b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", "GET", 0, False, False, True),
        (b"HTTP/1.1 204 X\r\n\r\n", "GET", 0, False, False, True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "GET", 0, False, False, True),
    ],
)
def test_an_answer_is_framed_in_exactly_one_way(
    block: bytes, method: str, length: int | None, chunked: bool, until_close: bool, keep_alive: bool
) -> None:
    given = read_response(block, method=method)
    assert (given.length, given.chunked, given.until_close, given.keep_alive) == (length, chunked, until_close, keep_alive)
    assert (given.length is not None) + given.chunked + given.until_close == 1
