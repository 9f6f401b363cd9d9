"""Raw requests at the door (attacks.md, appendix A), whole and split: one verdict, no hidden second request."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from tests.proxy.rig import OK, Client, Rig, answering, eventually, open_rig, turns

H = b"Host: a.test\r\n"
CANARY = b"GET /api/canary HTTP/1.1\r\nHost: a.test\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /api/x HTTP/1.1\r\n" + H + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def get(*lines: bytes, target: bytes = b"/api/x", version: bytes = b"HTTP/1.1", method: bytes = b"GET", host: bytes = H) -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


REFUSED = {
    "no_host": get(host=b""),
    "two_host": get(host=b"Host: a.test\r\nHost: b\r\n"),
    "bad_host_space": get(host=b"Host: a b\r\n"),
    "host_at": get(host=b"Host: a@evil\r\n"),
    "absform_mismatch": get(target=b"http://evil.test/x"),
    "cl_te": post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
    "te_cl_two_te": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "te_xchunked": post(b"Transfer-Encoding: xchunked", b"Content-Length: 3", body=b"abc"),
    "te_chunked_identity": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "te_identity": post(b"Transfer-Encoding: identity", b"Content-Length: 3", body=b"abc"),
    "te_vt": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "te_space_colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "te_http10": b"POST /api/x HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "cl_dup_same": post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    "cl_dup_diff": post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"),
    "cl_plus": post(b"Content-Length: +3", body=b"abc"),
    "cl_neg": post(b"Content-Length: -3", body=b"abc"),
    "cl_hex": post(b"Content-Length: 0x3", body=b"abc"),
    "cl_under": post(b"Content-Length: 1_0", body=b"abcdefghij"),
    "cl_list": post(b"Content-Length: 3, 3", body=b"abc"),
    "cl_unicode": post(b"Content-Length: \xd9\xa3", body=b"abc"),
    "cl_huge": post(b"Content-Length: 99999999999999999999999999", body=b"abc"),
    "chunk_size_plus": chunked(b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk_size_0x": chunked(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk_size_space": chunked(b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk_lf_only": chunked(b"3\nabc\n0\n\n"),
    "chunk_bad_term": chunked(b"3\r\nabcXX0\r\n\r\n"),
    "chunk_ext_lf": chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "chunk_overflow": chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk_trailer_cl": chunked(b"3\r\nabc\r\n0\r\nContent-Length: 9\r\nX-User: evil\r\n\r\n"),
    "bare_lf_headers": b"GET /api/x HTTP/1.1\nHost: a.test\n\n",
    "bare_cr_value": get(b"X-A: b\rX-User: evil"),
    "nul_value": get(b"X-A: b\x00c"),
    "obs_fold": get(b"X-A: b", b" X-User: evil"),
    "first_hdr_space": b"GET /api/x HTTP/1.1\r\n X-Pre: 1\r\n" + H + b"\r\n",
    "hdr_name_space": get(b"X User: evil"),
    "hdr_no_colon": get(b"XUser"),
    "hdr_empty_name": get(b": v"),
    "hdr_underscore": get(b"X_Forwarded_Proto: https"),
    "hdr_del": get(b"X-A: a\x7fb"),
    "path_ctl": get(target=b"/api/x\x01y"),
    "path_space": get(target=b"/api/x y"),
    "path_frag": get(target=b"/api/x#/../y"),
    "path_raw8": get(target=b"/api/\xc3\xa9"),
    "path_nul_enc": get(target=b"/api/x%00y"),
    "path_crlf_enc": get(target=b"/api/x%0d%0ay"),
    "path_dotdot": get(target=b"/api/../auth/x"),
    "path_dotdot_enc": get(target=b"/api/%2e%2e/auth/x"),
    "path_backslash": get(target=b"/api\\..\\x"),
    "path_dblslash": get(target=b"//evil.test/x"),
    "path_no_slash": get(target=b"x"),
    "asterisk_get": get(target=b"*"),
    "method_odd": get(method=b"G@T"),
    "version_11x": get(version=b"HTTP/1.1x"),
    "version_20": get(version=b"HTTP/2.0"),
    "version_09": b"GET /api/x\r\n\r\n",
    "connect": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
    "expect_bogus": post(b"Expect: 200-maybe", b"Content-Length: 3", body=b"abc"),
    "hdr_100k": get(b"X-A:" + b"a" * 100_000),
    "hdr_2000_small": get(*[b"X-%d: 1" % number for number in range(2000)]),
    "url_70k": get(target=b"/" + b"a" * 70_000),
    "empty_line_first": b"\r\n" + get(),
    "h2_preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "other_host": get(host=b"Host: b.test\r\n"),
}

SERVED = {
    "ok_get": (get(), [b"/api/x"]),
    "te_tab": (post(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n"), [b"/api/x"]),
    "chunk_ext_ok": (chunked(b"3;a=b\r\nabc\r\n0\r\n\r\n"), [b"/api/x"]),
    "chunk_trailer": (chunked(b"3\r\nabc\r\n0\r\nX-User: evil\r\n\r\n"), [b"/api/x"]),
    "get_body_cl": (get(b"Content-Length: 3") + b"abc", [b"/api/x"]),
    "hdr_high_bytes": (get(b"X-A: \xff\xfe"), [b"/api/x"]),
    "upgrade_h2c": (
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        [b"/api/x"],
    ),
    "conn_strip": (get(b"Connection: close, Cookie, X-Forwarded-For", b"Cookie: a=b"), [b"/api/x"]),
    "pipelined2": (get(target=b"/api/1") + get(b"Connection: close", target=b"/api/2"), [b"/api/1", b"/api/2"]),
    "ok_post": (post(b"Content-Length: 3", body=b"abc"), [b"/api/x"]),
}


def splits(request: bytes) -> list[tuple[bytes, ...]]:
    """Whole, in two at many places (around every line end and the edges), and byte by byte where it is short."""
    places = {1, 2, 3, 5, 17, len(request) - 1, len(request) - 2}
    at = -1
    while (at := request.find(b"\r", at + 1)) >= 0 and len(places) < 40:
        places |= {at, at + 1, at + 2}
    ways: list[tuple[bytes, ...]] = [(request,)]
    ways += [(request[:place], request[place:]) for place in sorted(places) if 0 < place < len(request)]
    if len(request) <= 120:
        ways.append(tuple(request[place : place + 1] for place in range(len(request))))
    return ways


async def send_all(client: Client, pieces: tuple[bytes, ...]) -> None:
    with suppress(ConnectionError):  # refused before the last piece: the answer is still to be read
        await client.send(*pieces)


def statuses(data: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


async def refused_once(rig: Rig, pieces: tuple[bytes, ...]) -> int:
    client = await rig.client()
    await send_all(client, pieces)
    data = await client.rest()
    client.close()
    found = statuses(data)
    assert len(found) == 1, (pieces, data)
    assert b"Connection: close" in data or b", close" in data
    return found[0]


@pytest.mark.row("M1", "M4", "M5", "FRAME-1", "FRAME-2", "FRAME-3", "FRAME-4", "FRAME-5", "REQH-10", "P2", "P10")
@pytest.mark.parametrize("case", REFUSED)
async def test_a_malformed_request_is_refused_alike_however_it_arrives(case: str) -> None:
    """M1, RC6: 4xx, closed, and what follows it is never a request."""
    async with open_rig() as rig:
        found = set()
        for pieces in splits(REFUSED[case]):
            found.add(await refused_once(rig, (*pieces[:-1], pieces[-1] + CANARY)))
        assert len(found) == 1
        assert 400 <= found.pop() < 500 or case in ("version_20", "h2_preface", "connect")
        assert all(b"canary" not in peer.seen for peer in rig.upstream.peers)
        assert all(peer.seen.count(b" HTTP/1.1\r\n") <= 1 for peer in rig.upstream.peers)


@pytest.mark.row("M1", "FRAME-13", "FRAME-15", "M2", "T8")
@pytest.mark.parametrize("case", SERVED)
async def test_a_proper_request_is_served_alike_however_it_arrives(case: str) -> None:
    """The positive twins: one answer for each request, in order."""
    request, targets = SERVED[case]
    async with open_rig() as rig:
        for pieces in splits(request):
            before = rig.upstream.requests
            client = await rig.client()
            await client.send(*pieces)
            for _ in targets:
                status, head, body = await client.answer()
                assert (status, body) == (200, b"{}"), (case, pieces)
            assert rig.upstream.requests == before + len(targets)
            client.close()
        seen = b"".join(peer.seen for peer in rig.upstream.peers)
        assert b"evil" not in seen
        assert b"pgrade" not in seen
        assert b"cookie" not in seen.lower()


@pytest.mark.row("M10", "REQH-1")
async def test_a_chunked_body_reaches_the_api_framed_anew() -> None:
    async with open_rig() as rig:
        await rig.ask(chunked(b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-User: evil\r\n\r\n"))
        head, _, body = rig.upstream.peers[0].seen.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert b"Content-Length" not in head
        assert body in (b"5\r\nabcde\r\n0\r\n\r\n", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


@pytest.mark.row("T8", "D4")
async def test_pipelined_answers_keep_their_order_and_their_bodies() -> None:
    answers = [OK.replace(b"{}", b"%02d" % number) for number in range(30)]
    async with open_rig(answering(*answers)) as rig:
        client = await rig.client()
        await client.send(b"".join(get(target=b"/api/%d" % number) for number in range(30)))
        bodies = [(await client.answer())[2] for _ in range(30)]
        assert bodies == [b"%02d" % number for number in range(30)]
        assert len(rig.upstream.peers) == 1


@pytest.mark.row("D4")
async def test_a_flood_of_pipelined_requests_waits_outside() -> None:
    """D4: at most 64 KiB and one read more are held while an exchange runs."""

    async def never(peer: object) -> None:
        await peer.ended()  # type: ignore[attr-defined]

    async with open_rig(never) as rig:
        client = await rig.client()
        client.writer.write(get() * 40_000)
        await eventually(lambda: any(not door.reading for door in rig.house.doors))
        await turns(50)
        door = next(iter(rig.house.doors))
        assert len(door.held) <= 64 * 1024 + 256 * 1024
        client.writer.transport.abort()
        rig.house.stop()


async def test_pipelined_refusals_do_not_nest() -> None:
    async with open_rig() as rig:
        from bff.policy.verdict import Refusal

        rig.guard.refusal = Refusal(403, "csrf_refused", "No.")
        client = await rig.client()
        await client.send(get() * 3000)
        for _ in range(3000):
            assert (await client.answer())[0] == 403


@pytest.mark.row("M1")
async def test_the_unread_body_of_a_refused_request_is_not_the_next_request() -> None:
    """M1: skipped when it is all there, else the connection ends."""
    from bff.policy.verdict import Refusal

    async with open_rig() as rig:
        rig.guard.refusal = Refusal(403, "csrf_refused", "No.")
        client = await rig.client()
        await client.send(post(b"Content-Length: %d" % len(CANARY), body=CANARY) + get(b"Connection: close", target=b"/api/y"))
        assert statuses(await client.rest()) == [403, 403]
        assert [facts.path for facts in rig.guard.asked] == ["/api/x", "/api/y"]

        client = await rig.client()
        await client.send(post(b"Content-Length: %d" % (len(CANARY) + 1)), CANARY)
        assert statuses(await client.rest()) == [403]
        client = await rig.client()
        await client.send(chunked(b""), CANARY)
        assert statuses(await client.rest()) == [403]
        assert rig.upstream.peers == []


@pytest.mark.row("M1", "T5")
async def test_bytes_behind_a_body_whose_upstream_died_are_a_request_of_their_own() -> None:
    """A refusal after the body was sent must not skip those bytes a second time."""

    async def read_and_die(peer: object) -> None:
        head = await peer.head()  # type: ignore[attr-defined]
        if b"POST" in head:
            await peer.read(3)  # type: ignore[attr-defined]
            return
        await peer.send(OK)  # type: ignore[attr-defined]

    async with open_rig(read_and_die) as rig:
        client = await rig.client()
        await client.send(post(b"Content-Length: 3", body=b"abc") + get(b"Connection: close", target=b"/api/second"))
        assert statuses(await client.rest()) == [502, 200]
        assert [facts.path for facts in rig.guard.asked] == ["/api/x", "/api/second"]


@pytest.mark.row("M6")
async def test_bytes_behind_a_refused_upgrade_are_never_a_request() -> None:
    from bff.policy.verdict import Refusal

    upgrade = get(
        b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    async with open_rig() as rig:
        rig.guard.refusal = Refusal(403, "origin_refused", "No.")
        client = await rig.client()
        await client.send(upgrade + CANARY)
        assert statuses(await client.rest()) == [403]
        rig.guard.refusal = None
        client = await rig.client()
        await client.send(upgrade + CANARY)  # the upstream answers 200: an HTTP answer, then the end
        assert statuses(await client.rest()) == [200]
        assert b"canary" not in b"".join(peer.seen for peer in rig.upstream.peers)


async def test_http_10_gets_a_plain_answer_and_the_end_of_the_connection() -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with open_rig(answering(OK, chunks)) as rig:
        for body in (b"{}", b"abcde"):
            client = await rig.client()
            await client.send(b"GET /api/x HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
            head, _, rest = (await client.rest()).partition(b"\r\n\r\n")
            assert rest == body
            assert b"chunked" not in head
            assert b"Connection: close" in head
