"""What the head reader makes of host, headers, cookies, upgrades and the far end. Every refusal has its accepted twin."""

from __future__ import annotations

import pytest

from bff.policy.facts import Facts
from bff.proxy.edge import Edge
from bff.proxy.head import MAX_HEAD_BYTES, HeadReader, check_unfinished
from tests.proxy.heads import BEHIND, EDGE, HOST, POST, accepted, accepted_by, head, refused


@pytest.mark.row("P11", "P12", "ROUTE-2")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"a/../x", 400), (b"a?x=", 400), (b"a#", 400), (b"a@b", 400), (b"a b", 400), (b"a:80/x", 400), (b"", 400), (b"a" * 300, 400),
        (b"[::1", 400), (b"[::g]", 400), (b"a.test:", 400), (b"a.test:999999", 400), (b"a,b", 400), (b"\xc3\xa9.test", 400), (b"-a", 400),
        (b"b.test", 421), (b"a.test.", 421), (b"a.test:81", 421), (b"xa.test", 421), (b"a.test.evil", 421), (b"[::1]", 421),
        (b"127.0.0.1", 421),
    ],
)  # fmt: skip
def test_a_host_that_is_not_ours_is_refused(host: bytes, status: int) -> None:
    refused(head(host=b"Host: " + host + b"\r\n"), status)


@pytest.mark.row("P12")
@pytest.mark.parametrize("host", [b"a.test", b"A.TEST", b"a.TEST"])
def test_our_host_is_ours_in_any_case(host: bytes) -> None:
    assert accepted(head(host=b"Host: " + host + b"\r\n")).host == "a.test"


SINGLE = [
    b"Authorization: Bearer a", b"Origin: https://a.test", b"Content-Type: text/plain", b"X-CSRF: 1", b"Content-Length: 3",
    b"Referer: https://a.test/",
    b"Sec-Fetch-Site: none", b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Dest: empty", b"Sec-Fetch-User: ?1", b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked", b"Sec-WebSocket-Key: a", b"Sec-WebSocket-Version: 13", b"X-Request-Id: a", b"X-Forwarded-Host: a",
    b"X-Forwarded-Proto: https", b"Traceparent: x", b"Max-Forwards: 1", b"Sec-Purpose: prefetch",
]  # fmt: skip


@pytest.mark.row("H6", "H10")
@pytest.mark.parametrize("line", SINGLE)
def test_a_second_line_of_a_single_valued_field_is_refused(line: bytes) -> None:
    accepted(head(line, start=POST))
    refused(head(line, line, start=POST))
    refused(head(line, line.upper() if b"chunked" not in line else line, start=POST))


@pytest.mark.row("COOKIE-22", "S6", "S11")
@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        ([b"Cookie: a=1; b=2"], (("a", "1"), ("b", "2"))),
        ([b"Cookie: a=1", b"Cookie: b=2"], (("a", "1"), ("b", "2"))),
        ([b"Cookie: a=1;b=2;;  c = 3 ;"], (("a", "1"), ("b", "2"), ("c", "3"))),
        ([b"Cookie: =__Host-s=evil"], (("", "__Host-s=evil"),)),
        ([b"Cookie: __Host-s"], (("", "__Host-s"),)),
        ([b'Cookie: a="x=y"; A=2; a=3'], (("a", '"x=y"'), ("A", "2"), ("a", "3"))),
        ([b"Cookie: a=\xff"], (("a", "\xff"),)),
        ([b"Cookie:"], ()),
    ],
)
def test_cookies_are_read_as_one_list_in_order(lines: list[bytes], pairs: tuple[tuple[str, str], ...]) -> None:
    assert accepted(head(*lines)).cookies == pairs


@pytest.mark.row("REQH-11")
def test_fields_keep_order_multiplicity_and_spelling() -> None:
    facts = accepted(head(b"Accept-Language: de", b"X-a:1", b"ACCEPT-LANGUAGE: en"))
    assert facts.headers == ((b"Host", b"a.test"), (b"Accept-Language", b"de"), (b"X-a", b"1"), (b"ACCEPT-LANGUAGE", b"en"))
    assert facts.passing == (b"Accept-Language: de", b"X-a:1", b"ACCEPT-LANGUAGE: en")


@pytest.mark.row("REQH-6", "REQH-13", "H1", "H2", "H7", "ROUTE-3")
@pytest.mark.parametrize(
    "name",
    [
        b"Authorization", b"Cookie", b"Host", b"Origin", b"Referer", b"X-CSRF", b"X-User", b"X-USER-Email", b"X.Forwarded.User",
        b"x-forwarded-for",
        b"X-Forwarded-Prefix", b"X-Forwarded-Email", b"X-Forwarded", b"Forwarded", b"X-Real-IP", b"X-Original-URL", b"X-Rewrite-URL",
        b"Client-Cert",
        b"X-Auth-Request-User", b"X-WEBAUTH-USER", b"X-Consumer-Custom-ID", b"X-Client-DN", b"Remote-User",
        b"Sec-CH-UA", b"Sec-Fetch-Site", b"X-HTTP-Method-Override", b"TE", b"Trailer",
        b"Keep-Alive",
        b"Proxy-Connection", b"Proxy-Authorization", b"DPoP", b"bff-handoff", b"X-Amzn-Oidc-Data", b"X-Goog-IAP-JWT-Assertion",
        b"SSL-Client-Verify",
        b"Front-End-Https",
        b"Access-Control-Request-Method", b"X-Request-Id",
        b"X~Forwarded~For", b"X!User", b"X|Real`IP", b"Content.Length", b"Transfer'Encoding", b"X+Forwarded*User", b"X-Originating-IP",
        b"Fly-Client-IP",
    ],
)  # fmt: skip
def test_what_no_api_may_hear_from_a_browser_does_not_pass(name: bytes) -> None:
    value = b"a.test" if name == b"Host" else b"x"
    host = b"" if name == b"Host" else HOST
    assert accepted(head(name + b": " + value, b"X-App: y", host=host)).passing == (b"X-App: y",)


@pytest.mark.row("REQH-14", "SSE-2")
@pytest.mark.parametrize(
    "line",
    [
        b"If-None-Match: \"a\"", b"If-Match: *", b"Range: bytes=0-1", b"If-Range: x", b"If-Modified-Since: x", b"Accept: */*",
        b"Content-Type: a/b",
        b"Content-Encoding: gzip", b"User-Agent: x", b"Last-Event-ID: 7", b"Accept-Encoding: br", b"X-App-Version: 1",
        b"Idempotency-Key: 1",
        b"Cache-Control: no-cache", b"Prefer: x", b"Via: 1.1 other",
    ],
)  # fmt: skip
def test_what_an_api_needs_passes_unchanged(line: bytes) -> None:
    assert accepted(head(line)).passing == (line,)


@pytest.mark.row("H3", "REQH-1")
def test_connection_names_are_noted_and_can_not_switch_our_own_checks_off() -> None:
    facts = accepted(head(b"Connection: keep-alive, Cookie, x-csrf,X-Foo", b"Connection: CLOSE", b"Cookie: a=b", b"X-CSRF: 1"))
    assert facts.connection == (b"cookie", b"x-csrf", b"x-foo")
    assert facts.cookies == (("a", "b"),)
    assert facts.csrf_header == "1"
    assert not facts.keep_alive


@pytest.mark.row("H3")
@pytest.mark.parametrize("value", [b"", b",", b"a b", b'"close"', b"close;x", b"cl\xffose"])
def test_a_connection_that_is_no_list_of_names_is_refused(value: bytes) -> None:
    refused(head(b"Connection: " + value))


@pytest.mark.parametrize(
    ("start", "lines", "keep"),
    [
        (b"GET /x HTTP/1.1", [], True),
        (b"GET /x HTTP/1.1", [b"Connection: close"], False),
        (b"GET /x HTTP/1.0", [], False),
        (b"GET /x HTTP/1.0", [b"Connection: Keep-Alive"], True),
    ],
)
def test_persistence_follows_version_and_connection(start: bytes, lines: list[bytes], keep: bool) -> None:
    assert accepted(head(*lines, start=start)).keep_alive is keep


def test_body_framing_is_read_once() -> None:
    assert accepted(head(b"Content-Length: 17", start=POST)).body_length == 17
    chunked = accepted(head(b"Transfer-Encoding: Chunked", start=POST))
    assert chunked.chunked
    assert chunked.body_length is None
    assert accepted(head(start=POST)).body_length == 0


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = b"Sec-WebSocket-Version: 13"
UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")


@pytest.mark.row("WS-3")
def test_a_complete_handshake_is_a_websocket() -> None:
    facts = accepted(head(*UPGRADE, KEY, VERSION))
    assert facts.websocket
    assert facts.keep_alive


@pytest.mark.row("WS-3", "M6")
@pytest.mark.parametrize(
    ("block", "status"),
    [
        (head(*UPGRADE, VERSION), 400),
        (head(*UPGRADE, b"Sec-WebSocket-Key: short", VERSION), 400),
        (head(*UPGRADE, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", VERSION), 400),
        (head(*UPGRADE, KEY), 426),
        (head(*UPGRADE, KEY, b"Sec-WebSocket-Version: 8"), 426),
        (head(*UPGRADE, KEY, VERSION, start=POST), 400),
        (head(*UPGRADE, KEY, VERSION, start=b"GET /x HTTP/1.0"), 400),
        (head(*UPGRADE, KEY, VERSION, b"Content-Length: 3"), 400),
        (head(*UPGRADE, KEY, VERSION, b"Transfer-Encoding: chunked"), 400),
    ],
)
def test_a_broken_handshake_is_refused(block: bytes, status: int) -> None:
    refusal = refused(block, status)
    if status == 426:
        assert ("Sec-WebSocket-Version", "13") in refusal.headers


@pytest.mark.row("FRAME-15", "M2")
@pytest.mark.parametrize(
    "lines",
    [
        (b"Upgrade: h2c", b"Connection: Upgrade"),
        (b"Upgrade: websocket, h2c", b"Connection: Upgrade"),
        (b"Upgrade: websocket",),
        (b"Upgrade: TLS/1.0", b"Connection: upgrade"),
    ],
)
def test_any_other_upgrade_is_ignored(lines: tuple[bytes, ...]) -> None:
    facts = accepted(head(*lines))
    assert not facts.websocket
    assert facts.passing == ()


@pytest.mark.row("REQH-7", "H2", "H5", "H11", "P3")
def test_nobody_believes_a_stranger_about_where_the_request_came_from() -> None:
    facts = accepted(
        head(
            b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.test",
            b"Forwarded: for=1.2.3.4;proto=https",
            b"X-Request-Id: mine",
        )
    )  # fmt: skip
    assert (facts.client_ip, facts.scheme, facts.host, facts.insecure) == ("192.0.2.7", "http", "a.test", False)
    assert facts.request_id != "mine"


@pytest.mark.row("REQH-7", "H11")
@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"[2001:db8::1]:443, 10.0.0.9", "2001:db8::1"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b"10.0.0.7, 10.0.0.8", "10.0.0.7"),
        (b"junk, 10.0.0.8", "10.0.0.8"),
        (b"junk", "10.0.0.1"),
        (b"999.1.1.1, 10.0.0.8", "10.0.0.8"),
        (b"1.2.3.4.5", "10.0.0.1"),
        (b", ,", "10.0.0.1"),
        (b"1.1.1.1, " * 49 + b"203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_ours(chain: bytes, client: str) -> None:
    assert accepted(head(b"X-Forwarded-For: " + chain), BEHIND).client_ip == client
    assert accepted(head(*[b"X-Forwarded-For: " + hop for hop in chain.split(b",")]), BEHIND).client_ip == client


@pytest.mark.row("REQH-7", "ROUTE-13")
def test_a_trusted_peer_tells_scheme_host_and_request_id() -> None:
    facts = accepted(
        head(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: A.test", b"X-Request-Id: abc-1", host=b"Host: internal\r\n"), BEHIND
    )
    assert (facts.scheme, facts.host, facts.request_id, facts.insecure) == ("https", "a.test", "abc-1", False)
    assert accepted(head(b"X-Forwarded-Proto: http"), BEHIND).insecure
    assert not accepted(head(), BEHIND).insecure


@pytest.mark.row("REQH-7")
def test_rfc_7239_is_read_where_nothing_else_came() -> None:
    facts = accepted(head(b'Forwarded: for=6.6.6.6, for="[2001:db8::9]:80";proto=https;host=a.test, for=10.0.0.5;proto=https'), BEHIND)
    assert (facts.client_ip, facts.scheme) == ("2001:db8::9", "https")
    assert accepted(head(b"Forwarded: proto=http"), BEHIND).insecure
    both = accepted(head(b"Forwarded: for=6.6.6.6", b"X-Forwarded-For: 203.0.113.9"), BEHIND)
    assert both.client_ip == "203.0.113.9"


@pytest.mark.row("REQH-7")
@pytest.mark.parametrize(
    "line",
    [b"X-Forwarded-Proto: ftp", b"X-Forwarded-Proto: https,http", b"X-Forwarded-Host: a.test, b.test", b"Forwarded: for",
    b"Forwarded: for=a;for=b",
     b'Forwarded: for="a', b"Forwarded: proto=gopher", b"Forwarded:"],
)  # fmt: skip
def test_a_trusted_peer_that_talks_nonsense_is_refused(line: bytes) -> None:
    refused(head(line), edge=BEHIND)
    accepted(head(line))


def test_a_forwarded_host_that_is_not_ours_is_misdirected() -> None:
    refused(head(b"X-Forwarded-Host: evil.test"), 421, BEHIND)


def test_a_unix_socket_peer_is_trusted_only_where_a_front_proxy_is_configured() -> None:
    line = b"X-Forwarded-For: 203.0.113.9"
    alone = Edge(peer_ip="", tls=False, trusted=(), hosts=EDGE.hosts)
    fronted = Edge(peer_ip="", tls=False, trusted=BEHIND.trusted, hosts=EDGE.hosts)
    assert accepted(head(line), alone).client_ip == ""
    assert accepted(head(line), fronted).client_ip == "203.0.113.9"


def test_request_ids_are_unique_and_a_bad_one_is_replaced() -> None:
    reader = HeadReader()
    ids = {accepted_by(reader, head()).request_id for _ in range(100)}
    assert len(ids) == 100
    assert accepted(head(b"X-Request-Id: a b"), BEHIND).request_id != "a b"
    assert accepted(head(b"X-Request-Id: " + b"a" * 65), BEHIND).request_id != "a" * 65


@pytest.mark.row("ROUTE-11")
def test_a_request_that_already_came_through_us_is_a_loop() -> None:
    refused(head(b"Via: 1.1 other, 1.1 bff"), 508)
    accepted(head(b"Via: 1.1 other, 1.1 bffx"))


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "kept"),
    [(TRACE, True), (TRACE.upper(), False), (b"00-" + b"0" * 32 + TRACE[35:], False), (b"junk", False), (b"", False)],
)
def test_a_malformed_trace_context_is_dropped_with_its_state(value: bytes, kept: bool) -> None:
    facts = accepted(head(b"traceparent: " + value, b"tracestate: a=b", b"X-App: 1"))
    assert (facts.traceparent == value.decode()) is kept
    assert len(facts.passing or ()) == (3 if kept else 1)


def test_fetch_metadata_and_content_fields_land_in_their_facts() -> None:
    facts = accepted(
        head(
            b"Origin: https://a.test", b"Referer: https://a.test/p", b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Mode: navigate",
            b"Sec-Fetch-Dest: document", b"Sec-Fetch-User: ?1", b"Accept: text/html", b"Accept: */*", b"Content-Type: text/plain",
            b"Sec-Purpose: prefetch;prerender",
        )
    )  # fmt: skip
    assert facts.origin == "https://a.test"
    assert facts.referer == "https://a.test/p"
    assert (facts.fetch_site, facts.fetch_mode, facts.fetch_dest, facts.fetch_user) == ("same-origin", "navigate", "document", True)
    assert facts.accept == "text/html,*/*"
    assert facts.content_type == "text/plain"
    assert facts.prefetch
    assert facts.wants_page


def test_the_csrf_header_may_have_another_name() -> None:
    reader = HeadReader(csrf_header="X-My-App")
    facts = reader.read(head(b"x-my-app: 1", b"X-CSRF: 2"), EDGE)
    assert isinstance(facts, Facts)
    assert facts.csrf_header == "1"
    assert facts.passing == (b"X-CSRF: 2",)


@pytest.mark.row("M13", "D1")
@pytest.mark.parametrize(
    ("buffer", "status"),
    [
        (b"GET /x HTTP/1.1\nHost: a.test\n\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a.test\n", 400),
        (b"\n", 400),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 414),
        (head(b"X: " + b"a" * MAX_HEAD_BYTES)[:-4], 431),
    ],
)
def test_a_head_that_can_not_become_good_is_refused_before_it_ends(buffer: bytes, status: int) -> None:
    refusal = check_unfinished(buffer)
    assert refusal is not None
    assert refusal.status == status


def test_a_head_that_is_only_unfinished_is_waited_for() -> None:
    block = head(b"Accept: */*")
    for end in range(len(block)):
        assert check_unfinished(block[:end]) is None
