"""The head reader's memory and its second judge, and heads that never end."""

from __future__ import annotations

import time

import pytest

from bff.policy.facts import Facts
from bff.policy.verdict import Refusal
from bff.proxy.head import HeadReader, SecondJudge
from bff.proxy.lines import LineReader
from tests.proxy.heads import BEHIND, EDGE, HOST, POST, accepted, accepted_by, head, refused

UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = b"Sec-WebSocket-Version: 13"


def test_the_memo_of_lines_is_bounded() -> None:
    reader = HeadReader(entries=50)
    for number in range(500):
        for _ in range(2):
            accepted_by(reader, head(b"X-A: %d" % number, start=b"GET /%d HTTP/1.1" % number))
    for memo in (reader.lines, reader.starts):
        assert len(memo.young) <= 50
        assert len(memo.old) <= 50
    for _ in range(2):
        accepted_by(reader, head(b"X-A: " + b"a" * 2000))
    assert max(len(line) for line in reader.lines.young) <= 1024
    reader.forget()
    assert not reader.lines.young
    assert not reader.starts.old


def test_a_line_that_came_once_takes_no_room() -> None:
    reader = HeadReader()
    for number in range(20_000):
        accepted_by(reader, head(b"X-%d: 1" % number))
    assert len(reader.lines.young) == 1
    assert len(reader.lines._read._names) <= 1024  # type: ignore[attr-defined]


@pytest.mark.row("M5")
def test_a_known_name_does_not_make_a_line_without_a_colon_a_field() -> None:
    """Our own grammar refuses it whatever came before, not llhttp alone."""
    read = LineReader()
    for name in (b"X-Free", b"Accept", b"Origin", b"X-CSRF", b"Cookie"):
        assert not isinstance(read(name + b": 1"), Refusal)
        assert isinstance(read(name), Refusal)
        assert not isinstance(read(name + b":"), Refusal)


BOMBS = [
    b"a" + b", " * 7000 + b"@",
    b"a" + b"\t,\t" * 5000 + b"\xff",
    b" ," * 7000,
    b"a=" * 7000,
    b";" * 15_000,
    b'"' * 15_000,
    b"a;" * 7000 + b'"',
]
LISTS = [
    b"Connection", b"Cookie", b"Range", b"Accept", b"Accept-Language", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"Via",
    b"If-None-Match",
    b"Sec-WebSocket-Extensions", b"Sec-WebSocket-Protocol", b"Traceparent", b"Expect", b"Host", b"Upgrade", b"Origin", b"Referer",
]  # fmt: skip


@pytest.mark.row("D7", "S11", "D3")
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_thousands_costs_no_more_than_its_length(name: bytes) -> None:
    """One pattern over a whole list tried every way to share out its spaces: 22 elements took a second of CPU, 40 the day."""
    for edge in (EDGE, BEHIND):
        for bomb in BOMBS:
            before = time.process_time()
            HeadReader().read(head(name + b": " + bomb, host=b"" if name == b"Host" else HOST), edge)
            assert time.process_time() - before < 0.1, bomb[:8]


@pytest.mark.row("D7", "ROUTE-5")
@pytest.mark.parametrize(
    "target", [b"/%" + b"25" * 4000 + b"41", b"/" + b"%25" * 2600, b"/" + b"a/" * 4000, b"/" + b"%2541" * 1600, b"/" + b";" * 8000]
)
def test_a_target_of_eight_kibibytes_costs_no_more_than_its_length(target: bytes) -> None:
    before = time.process_time()
    HeadReader().read(head(start=b"GET " + target + b" HTTP/1.1"), EDGE)
    assert time.process_time() - before < 0.05


@pytest.mark.row("M1")
def test_llhttp_is_asked_again_from_scratch_after_every_odd_head() -> None:
    reader = HeadReader()
    odd = [
        head(b"Content-Length: 3", start=POST),
        head(b"Connection: close"),
        head(*UPGRADE, KEY, VERSION),
        head(b"Upgrade: h2c", b"Connection: Upgrade"),
        head(b"Transfer-Encoding: chunked", start=POST),
        head(start=b"GET /x HTTP/1.0"),
        head(b"Connection: Keep-Alive", start=b"GET /x HTTP/1.0"),
        head(b"Proxy-Connection: close"),
        head(b"proxy-connection:  Close", start=b"GET /x HTTP/1.0"),
        head(b"Proxy-Connection: upgrade", b"Upgrade: h2c"),
        head(),
    ]
    for first in odd:
        for second in odd:
            accepted_by(reader, first)
            accepted_by(reader, second)


@pytest.mark.row("M1")
def test_a_field_that_only_llhttp_takes_for_a_close_ends_nobody_else_s_request() -> None:
    """Its parser takes nothing after a close, and one parser judges everybody's heads: such a head would have the next one refused."""
    judge = SecondJudge()
    for _ in range(3):
        assert judge.ends(head(b"Proxy-Connection: close"))
        assert judge.ends(head())
        assert judge.ends(head(b"Proxy-Connection: close"))
        assert judge.agrees(head(), accepted(head()))


@pytest.mark.row("M1", "M2")
def test_an_upgrade_beside_a_body_is_refused_because_readers_disagree_on_where_it_ends() -> None:
    refused(head(b"Upgrade: h2c", b"Connection: Upgrade", b"Content-Length: 4", start=POST))
    accepted(head(b"Upgrade: h2c", b"Content-Length: 4", start=POST))


@pytest.mark.row("M1", "M5")
def test_llhttp_alone_can_refuse() -> None:
    class Never:
        def agrees(self, block: bytes, facts: Facts) -> bool:
            return False

    reader = HeadReader()
    accepted_by(reader, head())
    reader._llhttp = Never()  # type: ignore[assignment]
    assert isinstance(reader.read(head(), EDGE), Refusal)


@pytest.mark.row("M1")
def test_llhttp_s_view_of_errors_and_ends_counts() -> None:
    facts, posted = accepted(head()), accepted(head(b"Content-Length: 3", start=POST))
    judge = SecondJudge()
    assert judge.agrees(head(), facts)
    assert not judge.agrees(b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", facts)
    assert not judge.agrees(head(b"Content-Length: 3", start=POST), facts)
    assert not judge.agrees(head(), posted)
    assert judge.agrees(head(b"Content-Length: 3", start=POST), posted)
