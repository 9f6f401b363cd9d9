"""Requests of the kinds that the corpora of llhttp, gunicorn and h11 hold, sent to the running door: what they call invalid never
reaches an API, and what browsers and clients really send does. Written anew for our routes; see docs/peers-test-cases.md."""

from __future__ import annotations

import pytest

from tests.harness.http import address_of
from tests.harness.raw import Outcome, exchange, split_at
from tests.harness.world import World

GET, POST = "GET /open/x HTTP/1.1", "POST /open/x HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


def request(line: str, *fields: str, body: str = "", end: str = "\r\n", host: str | None = "Host: {host}") -> str:
    return end.join([line, *([host] if host is not None else []), *fields]) + end * 2 + body


INVALID: dict[str, str] = {
    "no version": request("GET /open/x"),
    "another protocol": request("GET /open/x ICE/1.0"),
    "almost HTTP": request("GET /open/x IHTTP/1.0"),
    "lower-case http": request("GET /open/x http/1.1"),
    "version 1.": request("GET /open/x HTTP/1."),
    "version 01.1": request("GET /open/x HTTP/01.1"),
    "version 1.10": request("GET /open/x HTTP/1.10"),
    "version 1.2": request("GET /open/x HTTP/1.2"),
    "version 2.0": request("GET /open/x HTTP/2.0"),
    "version 0.9": request("GET /open/x HTTP/0.9"),
    "two spaces in the line": request("GET  /open/x HTTP/1.1"),
    "tabs in the line": request("GET\t/open/x\tHTTP/1.1"),
    "space at its end": request("GET /open/x HTTP/1.1 "),
    "space before it": request(" GET /open/x HTTP/1.1"),
    "space in the path": request("GET /open/x y HTTP/1.1"),
    "control in the path": request("GET /open/x\x01 HTTP/1.1"),
    "bytes above 127 in the path": request("GET /open/\xc3\xa9 HTTP/1.1"),
    "quotes in the path": request('GET /open/"x" HTTP/1.1'),
    "fragment": request("GET /open/x#y HTTP/1.1"),
    "no leading slash": request("GET open/x HTTP/1.1"),
    "absolute form, elsewhere": request("GET http://evil.example/open/x HTTP/1.1"),
    "absolute form with a password": request("GET http://a:b@{host}/open/x HTTP/1.1"),
    "asterisk": request("OPTIONS * HTTP/1.1"),
    "authority form": request("CONNECT {host} HTTP/1.1"),
    "method with a bracket": request("G[T /open/x HTTP/1.1"),
    "method with a colon": request("GET: /open/x HTTP/1.1"),
    "lower-case method": request("get /open/x HTTP/1.1"),
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PROXY protocol line": "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request(GET),
    "line of nothing first": "\r\n" + request(GET),
    "bare LF everywhere": request(GET, end="\n"),
    "bare LF once": request(GET, "A: b\nC: d"),
    "bare CR in a value": request(GET, "A: b\rC: d"),
    "NUL in a value": request(GET, "A: b\x00c"),
    "form feed in a value": request(GET, "A: b\x0cc"),
    "DEL in a value": request(GET, "A: b\x7fc"),
    "folded line": request(GET, "A: b", " c"),
    "folded first line": "GET /open/x HTTP/1.1\r\n Host: {host}\r\n\r\n",
    "space before the colon": request(GET, "A : b"),
    "tab before the colon": request(GET, "A\t: b"),
    "no colon": request(GET, "Nothing"),
    "no name": request(GET, ": b"),
    "brackets in a name": request(GET, "A[0]: b"),
    "quotes in a name": request(GET, 'A"b: c'),
    "NUL in a name": request(GET, "A\x00: b"),
    "bytes above 127 in a name": request(GET, "\xc3\xa9: b"),
    "no Host": request(GET, host=None),
    "no Host in 1.0": request("GET /open/x HTTP/1.0", host=None),
    "two Hosts": request(GET, "Host: {host}"),
    "empty Host": request(GET, host="Host:"),
    "Host of somebody else": request(GET, host="Host: evil.example"),
    "Host with a path": request(GET, host="Host: {host}/x"),
    "Host with a user": request(GET, host="Host: a@{host}"),
    "Host list": request(GET, host="Host: {host}, evil.example"),
    "length and chunked": request(POST, "Content-Length: 3", CHUNKED, body="0\r\n\r\n"),
    "chunked and length": request(POST, CHUNKED, "Content-Length: 3", body="0\r\n\r\n"),
    "two lengths": request(POST, "Content-Length: 3", "Content-Length: 4", body="abcd"),
    "the same length twice": request(POST, "Content-Length: 3", "Content-Length: 3", body="abc"),
    "length list": request(POST, "Content-Length: 3, 3", body="abc"),
    "length +3": request(POST, "Content-Length: +3", body="abc"),
    "length -1": request(POST, "Content-Length: -1"),
    "length 0x3": request(POST, "Content-Length: 0x3", body="abc"),
    "length 1_0": request(POST, "Content-Length: 1_0", body="0123456789"),
    "length with a space inside": request(POST, "Content-Length: 4 2", body="abcd"),
    "length of nothing": request(POST, "Content-Length:"),
    "length beyond counting": request(POST, "Content-Length: 99999999999999999999"),
    "coding nobody knows": request(POST, "Transfer-Encoding: xchunked", body="0\r\n\r\n"),
    "identity": request(POST, "Transfer-Encoding: identity", "Content-Length: 1", body="a"),
    "identity, chunked": request(POST, "Transfer-Encoding: identity, chunked", body="0\r\n\r\n"),
    "gzip, chunked": request(POST, "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
    "chunked, gzip": request(POST, "Transfer-Encoding: chunked, gzip", body="0\r\n\r\n"),
    "chunked twice": request(POST, "Transfer-Encoding: chunked, chunked", body="0\r\n\r\n"),
    "chunked on two lines": request(POST, CHUNKED, CHUNKED, body="0\r\n\r\n"),
    "chunked in quotes": request(POST, 'Transfer-Encoding: "chunked"', body="0\r\n\r\n"),
    "chunked and a comma": request(POST, "Transfer-Encoding: chunked,", body="0\r\n\r\n"),
    "chunked behind a form feed": request(POST, "Transfer-Encoding: \x0cchunked", body="0\r\n\r\n"),
    "chunked in 1.0": request("POST /open/x HTTP/1.0", CHUNKED, body="0\r\n\r\n"),
    "underscore for a dash": request(POST, "Transfer_Encoding: chunked", "Content-Length: 0"),
    "expectation nobody knows": request(POST, "Expect: miracles", "Content-Length: 0"),
}

BROKEN_BODIES: dict[str, str] = {
    "size with a sign": "+3\r\nabc\r\n0\r\n\r\n",
    "size with 0x": "0x3\r\nabc\r\n0\r\n\r\n",
    "size with an underscore": "1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "size with a space": "3 \r\nabc\r\n0\r\n\r\n",
    "size behind a space": " 3\r\nabc\r\n0\r\n\r\n",
    "no size": "\r\nabc\r\n0\r\n\r\n",
    "no hex": "g\r\nabc\r\n0\r\n\r\n",
    "size beyond counting": "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "more than the size": "3\r\nabcd\r\n0\r\n\r\n",
    "bare LF behind the size": "3\nabc\r\n0\r\n\r\n",
    "bare LF behind the data": "3\r\nabc\n0\r\n\r\n",
    "CR CR LF": "3\r\r\nabc\r\n0\r\n\r\n",
    "LF in an extension": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "CR in an extension": "3;a\rb\r\nabc\r\n0\r\n\r\n",
    "trailer without a colon": "3\r\nabc\r\n0\r\ntrailer\r\n\r\n",
    "trailer that folds": "3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
}

VALID: dict[str, tuple[str, str]] = {
    "as small as can be": (request(GET), ""),
    "fields in any case": (request("GET /open/x HTTP/1.1", "aCCePT: */*", host="hOsT: {host}"), ""),
    "no space behind the colon": (request(GET, "A:b", host="Host:{host}"), ""),
    "white space around a value": (request(GET, "A: \t b \t "), ""),
    "empty value": (request(GET, "A:"), ""),
    "bytes above 127 in a value": (request(GET, "A: \xc3\xa9"), ""),
    "every special character of a name": (request(GET, "!#$%&'*+-.^`|~09: x"), ""),
    "long value": (request(GET, f"A: {'b' * 8000}"), ""),
    "HTTP/1.0": (request("GET /open/x HTTP/1.0"), ""),
    "Host in capitals": (request(GET, host="Host: LOCALHOST:{port}"), ""),
    "body by length": (request(POST, "Content-Length: 5", body="hello"), "hello"),
    "length with leading zeros": (request(POST, "Content-Length: 005", body="hello"), "hello"),
    "GET with a body": (request(GET, "Content-Length: 5", body="hello"), "hello"),
    "chunked": (request(POST, CHUNKED, body="5\r\nhello\r\n0\r\n\r\n"), "hello"),
    "chunked in capitals": (request(POST, "Transfer-Encoding: CHUNKED", body="5\r\nhello\r\n0\r\n\r\n"), "hello"),
    "capital hex and leading zeros": (request(POST, CHUNKED, body="000A\r\n0123456789\r\n00\r\n\r\n"), "0123456789"),
    "extensions": (request(POST, CHUNKED, body='5;a=b;c="d e";f\r\nhello\r\n0;z\r\n\r\n'), "hello"),
    "trailers, which stay here": (request(POST, CHUNKED, body="5\r\nhello\r\n0\r\nA: b\r\nHost: evil.example\r\n\r\n"), "hello"),
    "chunk after chunk": (request(POST, CHUNKED, body="1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"), "hello"),
    "an upgrade nobody knows": (request(GET, "Connection: upgrade", "Upgrade: ws"), ""),
    "Connection with more names": (request(GET, "Connection: keep-alive, A", "A: hop"), ""),
}


async def send(world: World, text: str, *cuts: int, wait_s: float = 0.3) -> Outcome:
    host = world.app.removeprefix("http://")
    data = text.replace("{host}", host).replace("{port}", host.rpartition(":")[2]).encode("latin-1")
    return await exchange(address_of(world.app), split_at(data, *cuts), wait_s=wait_s, pause_s=0.005 if cuts else 0.0)


@pytest.mark.row("FRAME-1", "FRAME-2", "FRAME-4", "FRAME-9", "M1")
@pytest.mark.parametrize("name", INVALID)
async def test_what_the_corpora_call_invalid_never_reaches_an_api(world: World, name: str) -> None:
    outcome = await send(world, INVALID[name] + request(GET))
    assert not world.recorder.seen and len(outcome.statuses) == 1 and outcome.closed, outcome.statuses
    assert outcome.statuses[0] in (400, 405, 413, 417, 421, 501, 505)


@pytest.mark.row("FRAME-3", "FRAME-5")
@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_broken_chunked_body_is_refused_and_nothing_behind_it_is_a_request(world: World, name: str) -> None:
    outcome = await send(world, request(POST, CHUNKED, body=BROKEN_BODIES[name]) + request(GET))
    assert len(outcome.statuses) <= 1 and outcome.statuses != [200] and outcome.closed
    assert not [seen for seen in world.recorder.seen if seen.complete]


@pytest.mark.row("FRAME-4", "BODY-1")
@pytest.mark.parametrize("name", VALID)
async def test_what_clients_really_send_arrives_whole_however_it_is_cut(world: World, name: str) -> None:
    text, body = VALID[name]
    for cuts in ((), (1, 17, len(text) // 2, len(text) - 3)):
        world.recorder.clear()
        outcome = await send(world, text, *cuts)
        assert outcome.statuses == [200], outcome.answers
        (seen,) = world.recorder.seen
        assert seen.body == body.encode() and seen.target == "/open/x" and "evil" not in str(seen.headers)
        assert not {"a", "upgrade"} & {key.lower() for key, value in seen.headers if value in ("hop", "ws")}


async def test_requests_in_one_piece_are_answered_in_order_and_a_closing_one_is_the_last(world: World) -> None:
    many = request(GET) * 4 + request(GET, "Connection: close") + request(GET)
    outcome = await send(world, many)
    assert outcome.statuses == [200] * 5 and outcome.closed and len(world.recorder.seen) == 5
    world.recorder.clear()
    old = await send(world, request("GET /open/x HTTP/1.0") + request(GET))
    assert old.statuses == [200] and old.closed and len(world.recorder.seen) == 1
