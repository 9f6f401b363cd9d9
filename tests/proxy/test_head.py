"""The head reader against the raw requests of appendix A and the spellings of a target."""

from __future__ import annotations

import pytest

from bff.policy.facts import Facts
from bff.proxy.head import HeadReader
from tests.proxy.heads import EDGE, POST, accepted, head, refused

# Appendix A of the attack catalogue: the heads of its raw requests, and what we decided where it leaves the decision open.
APPENDIX: dict[str, tuple[bytes, int]] = {
    "ok_get": (head(), 200),
    "no_host": (b"GET /x HTTP/1.1\r\n\r\n", 400),
    "two_host": (head(b"Host: b", host=b"Host: a.test\r\n"), 400),
    "bad_host_space": (head(host=b"Host: a b\r\n"), 400),
    "host_at": (head(host=b"Host: a@evil\r\n"), 400),
    "absform_mismatch": (head(start=b"GET http://evil.test/x HTTP/1.1"), 400),
    "absform_own": (head(start=b"GET http://a.test/x HTTP/1.1"), 400),
    "cl_te": (head(b"Content-Length: 6", b"Transfer-Encoding: chunked", start=POST), 400),
    "te_cl_two_te": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", start=POST), 400),
    "te_xchunked": (head(b"Transfer-Encoding: xchunked", b"Content-Length: 3", start=POST), 400),
    "te_chunked_identity": (head(b"Transfer-Encoding: chunked, identity", start=POST), 400),
    "te_identity": (head(b"Transfer-Encoding: identity", b"Content-Length: 3", start=POST), 400),
    "te_tab": (head(b"Transfer-Encoding:\tchunked", start=POST), 200),
    "te_vt": (head(b"Transfer-Encoding: \x0bchunked", start=POST), 400),
    "te_space_colon": (head(b"Transfer-Encoding : chunked", start=POST), 400),
    "te_http10": (head(b"Transfer-Encoding: chunked", start=b"POST /x HTTP/1.0"), 400),
    "cl_dup_same": (head(b"Content-Length: 3", b"Content-Length: 3", start=POST), 400),
    "cl_dup_diff": (head(b"Content-Length: 3", b"Content-Length: 4", start=POST), 400),
    "cl_plus": (head(b"Content-Length: +3", start=POST), 400),
    "cl_neg": (head(b"Content-Length: -3", start=POST), 400),
    "cl_hex": (head(b"Content-Length: 0x3", start=POST), 400),
    "cl_under": (head(b"Content-Length: 1_0", start=POST), 400),
    "cl_list": (head(b"Content-Length: 3, 3", start=POST), 400),
    "cl_unicode": (head(b"Content-Length: \xd9\xa3", start=POST), 400),
    "cl_huge": (head(b"Content-Length: 99999999999999999999999999", start=POST), 400),
    "cl_empty": (head(b"Content-Length:", start=POST), 400),
    "cl_plain": (head(b"Content-Length: 3", start=POST), 200),
    "bare_lf_headers": (b"GET /x HTTP/1.1\nHost: a.test\n\n\r\n\r\n", 400),
    "bare_cr_value": (head(b"X-A: b\x0dX-User: evil"), 400),
    "nul_value": (head(b"X-A: b\x00c"), 400),
    "obs_fold": (head(b"X-A: b", b" X-User: evil"), 400),
    "first_hdr_space": (b"GET /x HTTP/1.1\r\n X-Pre: 1\r\nHost: a.test\r\n\r\n", 400),
    "hdr_name_space": (head(b"X User: evil"), 400),
    "hdr_no_colon": (head(b"XUser"), 400),
    "hdr_empty_name": (head(b": v"), 400),
    "hdr_underscore": (head(b"X_Forwarded_Proto: https"), 400),
    "hdr_high_bytes": (head(b"X-A: \xff\xfe"), 200),
    "hdr_high_name": (head(b"X-\xc3\xa9: a"), 400),
    "hdr_del": (head(b"X-A: a\x7fb"), 400),
    "path_ctl": (head(start=b"GET /x\x01y HTTP/1.1"), 400),
    "path_space": (head(start=b"GET /x y HTTP/1.1"), 400),
    "path_frag": (head(start=b"GET /x#/../y HTTP/1.1"), 400),
    "path_raw8": (head(start=b"GET /\xc3\xa9 HTTP/1.1"), 400),
    "path_enc8": (head(start=b"GET /%c3%a9 HTTP/1.1"), 200),
    "path_nul_enc": (head(start=b"GET /x%00y HTTP/1.1"), 400),
    "path_crlf_enc": (head(start=b"GET /x%0d%0ay HTTP/1.1"), 400),
    "path_dotdot": (head(start=b"GET /api/../auth/x HTTP/1.1"), 400),
    "path_dotdot_enc": (head(start=b"GET /api/%2e%2e/auth/x HTTP/1.1"), 400),
    "path_slash_enc": (head(start=b"GET /api%2fx HTTP/1.1"), 200),
    "path_backslash": (head(start=b"GET /api\\..\\x HTTP/1.1"), 400),
    "path_dblslash": (head(start=b"GET //evil.test/x HTTP/1.1"), 400),
    "path_no_slash": (head(start=b"GET x HTTP/1.1"), 400),
    "asterisk_get": (head(start=b"GET * HTTP/1.1"), 400),
    "asterisk_options": (head(start=b"OPTIONS * HTTP/1.1"), 400),
    "method_lower": (head(start=b"get /x HTTP/1.1"), 501),
    "method_odd": (head(start=b"G@T /x HTTP/1.1"), 400),
    "version_11x": (head(start=b"GET /x HTTP/1.1x"), 400),
    "version_20": (head(start=b"GET /x HTTP/2.0"), 505),
    "version_preface": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "version_09": (b"GET /x\r\n\r\n", 400),
    "connect": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 405),
    "trace": (head(start=b"TRACE /x HTTP/1.1"), 405),
    "get_body_cl": (head(b"Content-Length: 3"), 200),
    "expect_bogus": (head(b"Expect: 200-maybe", b"Content-Length: 3", start=POST), 417),
    "expect_known": (head(b"Expect: 100-Continue", b"Content-Length: 3", start=POST), 200),
    "hdr_100k": (head(b"X-A: " + b"a" * 100_000), 431),
    "hdr_2000_small": (head(*[b"X-%d: 1" % i for i in range(2000)]), 431),
    "hdr_101_lines": (head(*[b"X-%d: 1" % i for i in range(100)]), 431),
    "hdr_100_lines": (head(*[b"X-%d: 1" % i for i in range(99)]), 200),
    "url_70k": (head(start=b"GET /" + b"a" * 70_000 + b" HTTP/1.1"), 414),
    "url_9k": (head(start=b"GET /" + b"a" * 9_000 + b" HTTP/1.1"), 414),
    "url_8k": (head(start=b"GET /" + b"a" * 8_191 + b" HTTP/1.1"), 200),
    "upgrade_h2c": (head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"), 200),
    "conn_strip": (head(b"Connection: close, Cookie, X-Forwarded-For", b"Cookie: a=b"), 200),
    "dup_cookie_hdr": (head(b"Cookie: s=1", b"Cookie: s=2"), 200),
    "empty_line_first": (b"\r\n" + head(), 400),
    "method_long": (head(start=b"A" * 300 + b" /x HTTP/1.1"), 501),
    "query_space": (head(start=b"GET /x?a b HTTP/1.1"), 400),
    "query_frag": (head(start=b"GET /x?a#b HTTP/1.1"), 400),
    "query_raw8": (head(start=b"GET /x?\xff HTTP/1.1"), 400),
    "query_odd": (head(start=b"GET /x?a=%2F&b=%zz&;{}|^`\\?/public HTTP/1.1"), 200),
}


@pytest.mark.row("M1", "M3", "M5", "FRAME-1", "FRAME-2", "FRAME-3", "FRAME-4", "FRAME-5", "REQH-10", "REQH-16")
@pytest.mark.parametrize("name", APPENDIX)
def test_each_raw_request_gets_the_verdict_we_documented(name: str) -> None:
    block, status = APPENDIX[name]
    if status == 200:
        accepted(block)
    else:
        refused(block, status)


@pytest.mark.row("M1", "M13")
@pytest.mark.parametrize("name", APPENDIX)
def test_a_remembered_line_gets_the_same_verdict_as_a_new_one(name: str) -> None:
    block, _ = APPENDIX[name]
    reader = HeadReader()
    first, again = reader.read(block, EDGE), reader.read(block, EDGE)
    if isinstance(first, Facts) and isinstance(again, Facts):
        assert first.headers == again.headers
        assert first.target == again.target
    else:
        assert first == again


REFUSED_TARGETS = [
    b"/..", b"/.", b"/../", b"/./x", b"/a/..", b"/a/.", b"/a/./b", b"/%2e%2e/x", b"/%2E%2E", b"/.%2e/x", b"/%2e./x", b"/%252e%252e/x",
    b"/%25252e%25252e/x", b"/a/%2e", b"/a/..;/x", b"/a/..;v=1/x", b"/a/.;/x", b"/a/..%3b/x", b"/a/%2e%2e%3bx", b"/a/;/x", b"/;x", b"/a//b",
    b"//", b"///api", b"/a%5cb", b"/a%255cb", b"/..%5cx", b"/a\\b", b"/%00", b"/%0a", b"/%1f", b"/%7f", b"/%2500", b"/%250d%250a", b"/%zz",
    b"/%2", b"/%", b"/a%2", b"/%c0%af", b"/%c0%ae%c0%ae/x", b"/%ff", b"/%25ff", b"/%ed%a0%80", b"/%c2%85", b"/a#b", b"/a|b", b"/a[b",
    b"/a^b",
    b"/a`b", b"/a{b}", b'/a"b', b"/a<b>", b"x", b"", b"?x", b"http:/x", b"/..%2fadmin", b"/a/..%252fadmin", b"/api%2f..%2fadmin", b"@evil/",
    b"/%" + b"25" * 9 + b"41", b"/a/..%20/x", b"/a/.%20", b"/a/..%2520;x/b",
]  # fmt: skip
ACCEPTED_TARGETS = [
    b"/", b"/x", b"/x/", b"/a/b/c", b"/...", b"/a%20/b", b"/..x", b"/x..", b"/.x", b"/.well-known/x", b"/a;b", b"/a;v=1/b", b"/a:b@c",
    b"/!$&'()*+,=~-._",
    b"/%" + b"25" * 7 + b"41",
    b"/%41", b"/%2541", b"/100%25", b"/%e2%82%ac", b"/a%20b", b"/a%3fb", b"/a%23b", b"/a%3bb", b"/x?", b"/x?a=../..", b"/x?a=//e",
    b"/x?%00",
    b"/x?a=b&a=c;d", b"/?x", b"/x?/y?z", b"/%7euser", b"/a.b", b"/a,b", b"/x?a=[1]&b={c}|d", b"/x?'\"<>",
]  # fmt: skip


@pytest.mark.row("ROUTE-5", "ROUTE-6", "ROUTE-9", "P2", "P5", "P6", "P7", "P10")
@pytest.mark.parametrize("target", REFUSED_TARGETS)
def test_a_target_that_two_readers_could_read_differently_is_refused(target: bytes) -> None:
    refused(head(start=b"GET " + target + b" HTTP/1.1"))


@pytest.mark.row("ROUTE-4", "ROUTE-8")
@pytest.mark.parametrize("target", ACCEPTED_TARGETS)
def test_a_canonical_target_is_kept_byte_for_byte(target: bytes) -> None:
    facts = accepted(head(start=b"GET " + target + b" HTTP/1.1"))
    assert target.decode() == facts.target
    assert not facts.encoded_slash


@pytest.mark.row("ROUTE-6")
@pytest.mark.parametrize("target", [b"/a%2fb", b"/a%2Fb", b"/a%252fb", b"/a%2f%2fb", b"/%2f", b"/a/b%2F"])
def test_an_encoded_slash_is_noted_in_any_depth(target: bytes) -> None:
    assert accepted(head(start=b"GET " + target + b" HTTP/1.1")).encoded_slash
