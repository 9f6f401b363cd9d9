"""Raw requests beyond the appendix: what else a smuggler sends. Each is followed by a hidden one of a signed-in user."""

from __future__ import annotations

from itertools import count
from typing import Final

import pytest

from tests.harness.raw import exchange, split_at
from tests.strict.conftest import Stage
from tests.strict.requests import CHUNKED, H, get, line, post
from tests.strict.splits import HANG_S, hidden_bytes

NUMBERS: Final = count(10_000)
Z: Final = b"0\r\n\r\n"
TE: Final = b"Transfer-Encoding: chunked"
UPGRADE: Final = (b"Connection: Upgrade", b"Upgrade: h2c")

REFUSED: Final[dict[str, tuple[bytes, int]]] = {
    "absolute_own": (line(b"http://HOSTNAME/x"), 400),
    "authority_form": (line(b"HOSTNAME"), 400),
    "asterisk_options": (line(b"*", b"OPTIONS"), 400),
    "trace": (line(b"/x", b"TRACE"), 405),
    "method_300": (line(b"/x", b"A" * 300), 501),
    "method_pri": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "method_dunder": (line(b"/x", b"__init__"), 501),
    "version_12": (line(b"/x", version=b"HTTP/1.2"), 505),
    "version_lower": (line(b"/x", version=b"http/1.1"), 400),
    "version_10_digits": (line(b"/x", version=b"HTTP/1.10"), 400),
    "two_spaces": (b"GET  /x HTTP/1.1\r\n" + H + b"\r\n", 400),
    "tabs": (b"GET\t/x\tHTTP/1.1\r\n" + H + b"\r\n", 400),
    "cr_before_crlf": (b"GET /x HTTP/1.1\r\r\n" + H + b"\r\n", 400),
    "lf_blank_line": (b"GET /x HTTP/1.1\r\n" + H + b"\n", 400),
    "encoded_nine_times": (line(b"/x/%" + b"25" * 9 + b"41"), 400),
    "dots_and_spaces": (line(b"/x/..%20/y"), 400),
    "host_userinfo": (b"GET /x HTTP/1.1\r\nHost: me@HOSTNAME\r\n\r\n", 400),
    "host_list": (b"GET /x HTTP/1.1\r\nHost: HOSTNAME, evil\r\n\r\n", 400),
    "host_dot": (b"GET /x HTTP/1.1\r\nHost: localhost.\r\n\r\n", 421),
    "host_zero_port": (b"GET /x HTTP/1.1\r\nHost: localhost:000080\r\n\r\n", 400),
    "te_list": (post(b"Transfer-Encoding: identity, chunked", body=Z), 400),
    "te_gzip": (post(b"Transfer-Encoding: gzip, chunked", body=Z), 400),
    "te_comma": (post(b"Transfer-Encoding: chunked,", body=Z), 400),
    "te_parameter": (post(b"Transfer-Encoding: chunked;q=1", body=Z), 400),
    "te_quoted": (post(b'Transfer-Encoding: "chunked"', body=Z), 400),
    "te_empty": (post(b"Transfer-Encoding:", body=Z), 400),
    "te_bom": (post(b"Transfer-Encoding: \xef\xbb\xbfchunked", body=Z), 400),
    "te_nul": (post(b"Transfer-Encoding: chunked\x00", body=Z), 400),
    "te_folded": (post(b"Transfer-Encoding:\r\n chunked", body=Z), 400),
    "te_then_cl": (post(TE, b"Content-Length: 3", body=Z), 400),
    "cl_empty": (post(b"Content-Length:"), 400),
    "cl_exponent": (post(b"Content-Length: 1e1", body=b"0123456789"), 400),
    "cl_wraps_64_bit": (post(b"Content-Length: 18446744073709551619", body=b"abc"), 400),
    "cl_minus_zero": (post(b"Content-Length: -0"), 400),
    "cl_and_spaced_cl": (post(b"Content-Length: 3", b"Content-Length : 0", body=b"abc"), 400),
    "cl_beyond_the_limit": (post(b"Content-Length: 999999999999", body=b"abc"), 413),
    "expect_list": (post(b"Expect: 100-continue, x", b"Content-Length: 3", body=b"abc"), 417),
    "expect_twice": (post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), 400),
    "upgrade_with_body": (post(*UPGRADE, b"Content-Length: 3", body=b"abc"), 400),
    "upgrade_with_chunks": (post(*UPGRADE, TE, body=b"3\r\nabc\r\n" + Z), 400),
    "upgrade_twice": (get(*UPGRADE, b"Upgrade: websocket"), 400),
    "websocket_bare": (get(b"Connection: Upgrade", b"Upgrade: websocket"), 426),
    "websocket_post": (post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3", body=b"abc"), 400),
    "connection_bomb": (get(b"Connection: a" + b", " * 60 + b"@"), 400),
    "chunk_negative": (CHUNKED + b"-3\r\nabc\r\n" + Z, 400),
    "chunk_space_first": (CHUNKED + b" 3\r\nabc\r\n" + Z, 400),
    "chunk_space_extension": (CHUNKED + b"3 ;a\r\nabc\r\n" + Z, 400),
    "chunk_underscore": (CHUNKED + b"3_0\r\nabc\r\n" + Z, 400),
    "chunk_quoted_crlf": (CHUNKED + b'3;a="x\r\ny"\r\nabc\r\n' + Z, 400),
    "chunk_extension_long": (CHUNKED + b"3;" + b"a" * 5000 + b"\r\nabc\r\n" + Z, 400),
    "chunk_empty_line": (CHUNKED + b"\r\n3\r\nabc\r\n" + Z, 400),
    "chunk_too_long": (CHUNKED + b"3\r\nabcd\r\n" + Z, 400),
    "chunk_bare_cr": (CHUNKED + b"3\rabc\r\n" + Z, 400),
    "chunk_last_lf": (CHUNKED + b"3\r\nabc\r\n0\r\n\n", 400),
    "trailer_coding": (CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "trailer_folded": (CHUNKED + b"0\r\n X: y\r\n\r\n", 400),
    "trailer_endless": (CHUNKED + b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 400),
}  # fmt: skip

SERVED: Final[dict[str, tuple[bytes, bytes]]] = {
    "te_case": (post(b"Transfer-Encoding: CHUNKED", body=b"3\r\nabc\r\n" + Z), b"abc"),
    "te_dotted_is_another_field": (post(b"Transfer.Encoding: chunked"), b""),
    "cl_zeros": (post(b"Content-Length: 00000003", body=b"abc"), b"abc"),
    "chunk_zeros": (CHUNKED + b"0003\r\nabc\r\n00000\r\n\r\n", b"abc"),
    "chunk_quoted": (CHUNKED + b'3;a="x;y"\r\nabc\r\n' + Z, b"abc"),
    "chunk_last_extension": (CHUNKED + b"3\r\nabc\r\n0;a=b\r\n\r\n", b"abc"),
    "trailer_dropped": (CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: x\r\nHost: evil\r\n\r\n", b"abc"),
    "get_chunked": (b"GET /x HTTP/1.1\r\n" + H + TE + b"\r\n\r\n3\r\nabc\r\n" + Z, b"abc"),
    "delete_body": (b"DELETE /x HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "expect_without_waiting": (post(b"Expect: 100-Continue", b"Content-Length: 3", body=b"abc"), b"abc"),
    "upgrade_ignored": (get(*UPGRADE), b""),
}  # fmt: skip


async def follow(stage: Stage, data: bytes) -> tuple[list[int], bool, int]:
    """(statuses, closed, hidden requests served)."""
    number = next(NUMBERS)
    raw = data.replace(b"HOSTNAME", stage.host).replace(b"HOST\r\n", b"Host: " + stage.host + b"\r\n") + hidden_bytes(stage, number)
    outcome = await exchange(stage.address, split_at(raw, len(data) // 2), pause_s=0.004, wait_s=HANG_S)
    return outcome.statuses, outcome.closed, stage.targets().count(f"/hidden/{number}")


@pytest.mark.row("M1", "M3", "M4", "M5", "M13", "M14", "FRAME-1", "FRAME-2", "FRAME-3", "FRAME-4", "FRAME-5", "P11", "D7")
@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_ends_its_connection_and_reaches_nobody(name: str, stage: Stage) -> None:
    data, status = REFUSED[name]
    assert await follow(stage, data) == ([status], True, 0)
    assert not [seen for seen in stage.upstream.seen if seen.complete], "a refused request arrived whole"


@pytest.mark.row("M1", "M13", "FRAME-13")
@pytest.mark.parametrize("name", SERVED)
async def test_an_odd_but_proper_request_is_served_with_its_body_and_so_is_the_next(name: str, stage: Stage) -> None:
    data, body = SERVED[name]
    assert await follow(stage, data) == ([200, 200], True, 1)
    mine = [seen for seen in stage.upstream.seen if seen.target == "/x"]
    assert [seen.body for seen in mine] == [body]
    assert not mine[0].all("upgrade") + mine[0].all("trailer") + mine[0].all("authorization") + mine[0].all("expect")


@pytest.mark.row("P1", "P6", "P8", "ROUTE-4", "ROUTE-7")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/up/strong", 401), ("/up/strong/x", 401), ("/up/%73trong", 404), ("/up/%2573trong/x", 404), ("/up/strong;a=b", 404),
        ("/up/Strong", 404), ("/up/strong.", 404), ("/up/strong%20/x", 404), ("/up/strength", 200), ("/up/A%20b;c", 200),
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_leads_around_the_stricter_route(path: str, status: int, stage: Stage) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: HOSTNAME\r\nCookie: {stage.cookie}\r\nX-CSRF: 1\r\n\r\n".encode()
    statuses, _, _ = await follow(stage, head)
    assert statuses[0] == status
    assert [seen.target for seen in stage.upstream.seen if not seen.target.startswith("/hidden")] == ([path] if status == 200 else [])
