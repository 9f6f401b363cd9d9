"""The 73 raw requests, byte for byte, with our verdict on each. Where the standards leave a choice the reason stands beside it.

``HOST`` stands for the header line that names this server. A refusal ends its connection, so that nothing behind it is read;
an accepted request is followed by the next one, unless it asked for the end of the connection itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

H: Final = b"HOST\r\n"
TE: Final = b"Transfer-Encoding: chunked\r\n\r\n"
GET: Final = b"GET /x HTTP/1.1\r\n" + H
POST: Final = b"POST /x HTTP/1.1\r\n" + H
CHUNKED: Final = POST + TE


@dataclass(frozen=True, slots=True)
class Raw:
    """``status``: 200 is served, anything else refused. ``targets`` is what the upstream sees. ``ends``: closed although served."""

    data: bytes
    status: int = 400
    why: str = ""
    targets: tuple[str, ...] = ("/x",)
    body: bytes | None = None
    ends: bool = False


def served(data: bytes, why: str = "", *, body: bytes = b"", ends: bool = False, targets: tuple[str, ...] = ("/x",)) -> Raw:
    return Raw(data, 200, why, targets, body, ends)


def get(*lines: bytes) -> bytes:
    return GET + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def line(target: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b" ".join((method, target, version)) + b"\r\n" + H + b"\r\n"


H2C: Final = get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")

REQUESTS: Final[dict[str, Raw]] = {
    "ok_get": served(get()),
    "no_host": Raw(b"GET /x HTTP/1.1\r\n\r\n"),
    "two_host": Raw(b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "bad_host_space": Raw(b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host_at": Raw(b"GET /x HTTP/1.1\r\nHost: a@evil\r\n\r\n"),
    "absform_mismatch": Raw(line(b"http://evil.test/x"), why="two spellings of one host are one too many; no browser sends them"),
    "cl_te": Raw(post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG")),
    "te_cl_two_te": Raw(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "te_xchunked": Raw(post(b"Transfer-Encoding: xchunked", b"Content-Length: 3", body=b"abc")),
    "te_chunked_identity": Raw(post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "te_identity": Raw(post(b"Transfer-Encoding: identity", b"Content-Length: 3", body=b"abc")),
    "te_tab": served(post(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n"), "a tab is optional white space (RFC 9110 5.6.3)"),
    "te_vt": Raw(post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "te_space_colon": Raw(post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "te_http10": Raw(b"POST /x HTTP/1.0\r\n" + H + TE + b"0\r\n\r\n"),
    "cl_dup_same": Raw(post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), why="refusing is allowed and simpler (RFC 9112 6.3)"),
    "cl_dup_diff": Raw(post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    "cl_plus": Raw(post(b"Content-Length: +3", body=b"abc")),
    "cl_neg": Raw(post(b"Content-Length: -3", body=b"abc")),
    "cl_hex": Raw(post(b"Content-Length: 0x3", body=b"abc")),
    "cl_under": Raw(post(b"Content-Length: 1_0", body=b"abcdefghij")),
    "cl_list": Raw(post(b"Content-Length: 3, 3", body=b"abc"), why="as cl_dup_same"),
    "cl_unicode": Raw(post(b"Content-Length: \xd9\xa3", body=b"abc")),
    "cl_huge": Raw(post(b"Content-Length: 99999999999999999999999999", body=b"abc")),
    "chunk_size_plus": Raw(CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk_size_0x": Raw(CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk_size_space": Raw(CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", why="no white space around a size: RFC 9112 7.1 has none"),
    "chunk_lf_only": Raw(CHUNKED + b"3\nabc\n0\n\n"),
    "chunk_bad_term": Raw(CHUNKED + b"3\r\nabcXX0\r\n\r\n"),
    "chunk_ext_lf": Raw(CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "chunk_ext_ok": served(CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n", body=b"abc"),
    "chunk_overflow": Raw(CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk_trailer_cl": Raw(
        CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 9\r\nX-User: evil\r\n\r\n",
        why="llhttp takes a trailer for a header and refuses; trailers that do not speak of framing are dropped",
    ),
    "bare_lf_headers": Raw(b"GET /x HTTP/1.1\nHOST\n\n"),
    "bare_cr_value": Raw(get(b"X-A: b\rX-User: evil")),
    "nul_value": Raw(get(b"X-A: b\x00c")),
    "obs_fold": Raw(get(b"X-A: b", b" X-User: evil")),
    "first_hdr_space": Raw(b"GET /x HTTP/1.1\r\n X-Pre: 1\r\n" + H + b"\r\n"),
    "hdr_name_space": Raw(get(b"X User: evil")),
    "hdr_no_colon": Raw(get(b"XUser")),
    "hdr_empty_name": Raw(get(b": v")),
    "hdr_underscore": Raw(get(b"X_Forwarded_Proto: https"), why="some servers read _ as -: it would be another header there"),
    "hdr_high_bytes": served(get(b"X-A: \xff\xfe"), "opaque data (RFC 9110 5.5); browsers send such cookies"),
    "hdr_del": Raw(get(b"X-A: a\x7fb")),
    "path_ctl": Raw(line(b"/x\x01y")),
    "path_space": Raw(line(b"/x y")),
    "path_frag": Raw(line(b"/x#/../y")),
    "path_raw8": Raw(line(b"/\xc3\xa9"), why="a target is ASCII (RFC 3986)"),
    "path_nul_enc": Raw(line(b"/x%00y"), why="a decoded control character ends strings elsewhere"),
    "path_crlf_enc": Raw(line(b"/x%0d%0ay"), why="as path_nul_enc"),
    "path_dotdot": Raw(line(b"/api/../auth/x"), why="refused, not resolved: what is judged is what is forwarded"),
    "path_dotdot_enc": Raw(line(b"/api/%2e%2e/auth/x"), why="as path_dotdot"),
    "path_slash_enc": Raw(line(b"/api%2fx"), why="an encoded slash matches only routes that opt in"),
    "path_backslash": Raw(line(b"/api\\..\\x"), why="browsers read a backslash as a slash"),
    "path_dblslash": Raw(line(b"//evil.test/x"), why="an empty segment; as a reference it would name another host"),
    "path_no_slash": Raw(line(b"x")),
    "asterisk_get": Raw(line(b"*")),
    "method_lower": Raw(line(b"/x", b"get"), 501, "methods are case-sensitive: this is another, unknown one"),
    "method_odd": Raw(line(b"/x", b"G@T")),
    "version_11x": Raw(line(b"/x", version=b"HTTP/1.1x")),
    "version_20": Raw(line(b"/x", version=b"HTTP/2.0"), 505),
    "version_09": Raw(b"GET /x\r\n\r\n"),
    "connect": Raw(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 405),
    "get_body_cl": served(get(b"Content-Length: 3") + b"abc", body=b"abc"),
    "expect_bogus": Raw(post(b"Expect: 200-maybe", b"Content-Length: 3", body=b"abc"), 417, "the only expectation known is 100-continue"),
    "hdr_100k": Raw(get(b"X-A: " + b"a" * 100_000), 431),
    "hdr_2000_small": Raw(get(*(b"X-%d: 1" % number for number in range(2000))), 431),
    "url_70k": Raw(line(b"/" + b"a" * 70_000), 414),
    "upgrade_h2c": served(H2C, "an upgrade to anything but websocket is ignored: never a 101"),
    "conn_strip": served(
        get(b"Connection: close, Cookie, X-Forwarded-For", b"Cookie: a=b"),
        "what Connection names is dropped; our own forwarded fields are written afterwards and stay",
        ends=True,
    ),
    "dup_cookie_hdr": served(get(b"Cookie: s=1", b"Cookie: s=2"), "read as one list; two of our name would be nobody's"),
    "empty_line_first": Raw(b"\r\n" + get(), why="RFC 9112 2.2 lets a server skip it; no browser of today sends it"),
    "pipelined2": served(
        b"GET /x/1 HTTP/1.1\r\n" + H + b"\r\nGET /x/2 HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n",
        "answered in order, one at a time",
        ends=True,
        targets=("/x/1", "/x/2"),
    ),
}  # fmt: skip
