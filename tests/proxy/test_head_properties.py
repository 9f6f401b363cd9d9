"""Differential and property tests: whatever is accepted, llhttp and h11 accept with the same meaning."""

from __future__ import annotations

import contextlib
from urllib.parse import unquote

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.policy.facts import Facts
from bff.policy.path import judge_path
from bff.policy.verdict import Refusal
from bff.proxy.head import read_facts
from tests.proxy.heads import EDGE, POST, accepted, head
from tests.proxy.test_head import APPENDIX

# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────

FRAGMENTS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"Host: a.test", b"Content-Length: 3", b"Transfer-Encoding: chunked",
    b"chunked", b"GET /x HTTP/1.1",
     b"POST /a%2e HTTP/1.1", b"/", b"%2f", b"%", b"..", b"?", b"#", b"Cookie: a=b", b"Connection: close", b"Upgrade: websocket", b"\x00",
     b"\xff", b"_", b"X-A: 1",
     b"HTTP/1.0", b"Expect: 100-continue", b"0", b"Origin: null"]
)  # fmt: skip
SOUP = st.lists(FRAGMENTS | st.binary(max_size=6), max_size=25).map(b"".join)


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A correct head with a few bytes replaced, inserted or removed."""
    block = bytearray(head(*draw(st.lists(st.sampled_from([b"X-A: b", b"Content-Length: 5", b"Transfer-Encoding: chunked",
    b"Cookie: a=b; c=d",
        b"Connection: keep-alive", b"Accept: */*", b"Expect: 100-continue"]), max_size=4)),
        start=draw(st.sampled_from([b"GET /x HTTP/1.1", POST, b"GET /a/b?c=d HTTP/1.1", b"PUT /%41 HTTP/1.0"]))))  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(block) - 1))
        block[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2) | FRAGMENTS)
    return bytes(block) + b"\r\n\r\n"


class Heard:
    """What llhttp makes of a head, told by its own callbacks."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.ended = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_message_complete(self) -> None:
        self.ended = True


def agree_on(block: bytes, facts: Facts) -> None:
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(block)
    assert heard.url == facts.target.encode()
    assert parser.get_method() == facts.method.encode()
    assert parser.get_http_version() == ("1.0" if facts.http_10 else "1.1")
    assert [(n.lower(), v) for n, v in heard.fields] == [(n.lower(), v) for n, v in facts.headers]
    assert heard.ended is (facts.body_length == 0)

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    connection.receive_data(block)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == facts.method.encode()
    assert event.target == facts.target.encode()
    assert [(bytes(n), bytes(v)) for n, v in event.headers] == [
        (n.lower(), v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in facts.headers
    ]
    body = connection.next_event()
    if facts.body_length == 0:
        assert isinstance(body, h11.EndOfMessage)
    else:
        assert body is h11.NEED_DATA


@pytest.mark.row("M1", "M5", "P13")
@settings(max_examples=600, deadline=None)
@given(SOUP.map(lambda soup: soup + b"\r\n\r\n") | nearly_right())
def test_whatever_is_accepted_llhttp_and_h11_accept_with_the_same_meaning(block: bytes) -> None:
    facts = read_facts(block, edge=EDGE)
    assert isinstance(facts, Facts | Refusal)
    # A block has its blank line at the end only; the door finds the first one.
    if isinstance(facts, Facts) and block.index(b"\r\n\r\n") == len(block) - 4:
        agree_on(block, facts)


@pytest.mark.row("P13")
@pytest.mark.parametrize("name", [name for name, (_, status) in APPENDIX.items() if status == 200])
def test_every_accepted_example_means_the_same_to_llhttp_and_h11(name: str) -> None:
    block = APPENDIX[name][0]
    agree_on(block, accepted(block))


PATH_PARTS = st.sampled_from(
    [
        "/",
        "a",
        "api",
        ".",
        "..",
        "%2e",
        "%2E",
        "%252e",
        "%2f",
        "%252f",
        "%5c",
        "%25",
        "%255c",
        ";",
        "%3b",
        "%00",
        "%41",
        "%c3%a9",
        "~",
        "@",
        ":",
    ]
)


@pytest.mark.row("P5", "P6", "P7", "ROUTE-4")
@settings(max_examples=600, deadline=None)
@given(st.lists(PATH_PARTS, max_size=12).map(lambda parts: "/" + "".join(parts)))
def test_no_amount_of_decoding_moves_an_accepted_path_elsewhere(path: str) -> None:
    facts = read_facts(head(start=f"GET {path} HTTP/1.1".encode()), edge=EDGE)
    if isinstance(facts, Refusal):
        assert not judge_path(path.encode()).usable or "%" in path
        return
    assert facts.path == path
    seen = path
    for _ in range(6):
        segments = seen.split(";")[0].split("/")
        assert ".." not in segments
        assert "." not in segments
        assert "\\" not in seen
        if not facts.encoded_slash:
            assert seen.count("/") == path.count("/")
        seen = unquote(seen)
