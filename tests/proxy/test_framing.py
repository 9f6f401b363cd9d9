"""The chunked coding: every split the same, every malformed byte refused."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.proxy.framing import LAST_CHUNK, MAX_TRAILER_BYTES, ChunkedReader, FramingError, chunk

GOOD = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"3;a=b\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b'3;a="q;\\"\r\n'.replace(b"\r\n", b'";b\r\n') + b"abc\r\n0\r\n\r\n", b"abc"),
    (b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
    (b"3\r\nabc\r\n0\r\nX-Length: 9\r\nX-User: evil\r\n\r\n", b"abc"),
    (b"2\r\n\r\n\r\n1\r\nx\r\n0;e\r\n\r\n", b"\r\nx"),
]
BAD = [
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"3\t\r\nabc\r\n0\r\n\r\n",
    b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"3\r\nabcXX0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    b'3;a="b\r\nabc\r\n0\r\n\r\n',
    b"3;\r\nabc\r\n0\r\n\r\n",
    b"3 ;a\r\nabc\r\n0\r\n\r\n",
    b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    b"\r\nabc\r\n0\r\n\r\n",
    b"g\r\nabc\r\n0\r\n\r\n",
    b"\xd9\xa3\r\nabc\r\n0\r\n\r\n",
    b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\n fold: a\r\n\r\n",
    b"0\r\nX: a\nb: c\r\n\r\n",
    b"0\r\nX : a\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 300 + b"\r\n",
    b"0\r\nX: " + b"a" * MAX_TRAILER_BYTES + b"\r\n\r\n",
    b"0\r\n\n",
]


@pytest.mark.row("M4", "FRAME-13")
@pytest.mark.parametrize(("coded", "payload"), GOOD)
def test_every_split_of_a_good_body_decodes_alike(coded: bytes, payload: bytes) -> None:
    for first in range(len(coded) + 1):
        for second in range(first, len(coded) + 1):
            reader = ChunkedReader()
            got = b"".join(reader.feed(part) for part in (coded[:first], coded[first:second], coded[second:]))
            assert (got, reader.done, reader.rest) == (payload, True, b"")


@pytest.mark.row("M4", "M14", "FRAME-3")
@pytest.mark.parametrize("coded", BAD)
def test_every_split_of_a_bad_body_is_refused(coded: bytes) -> None:
    for cut in range(0, len(coded) + 1, 1 if len(coded) < 200 else 97):
        reader = ChunkedReader()
        with pytest.raises(FramingError):
            for part in (coded[:cut], coded[cut:]):
                reader.feed(part)
            assert reader.done, "a malformed body was taken for an unfinished one"
    reader = ChunkedReader()
    with pytest.raises(FramingError):
        for at in range(len(coded)):
            reader.feed(coded[at : at + 1])


@pytest.mark.row("FRAME-9", "FRAME-13")
def test_what_follows_the_body_is_kept_apart() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == b"a"
    assert reader.rest == b"GET / HTTP/1.1\r\n"
    assert reader.feed(b"more") == b""
    assert reader.rest == b"GET / HTTP/1.1\r\nmore"


@pytest.mark.row("FRAME-7")
@pytest.mark.parametrize("coded", [coded for coded, _ in GOOD])
def test_a_truncated_body_is_never_done(coded: bytes) -> None:
    for end in range(len(coded)):
        reader = ChunkedReader()
        reader.feed(coded[:end])
        assert not reader.done


def test_nothing_is_written_as_no_chunk_at_all() -> None:
    assert chunk(b"") == b""
    assert chunk(b"a" * 16) == b"10\r\n" + b"a" * 16 + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"


def test_a_bytearray_may_be_fed() -> None:
    reader = ChunkedReader()
    assert reader.feed(bytearray(b"1\r\na\r\n0\r\n\r\n")) == b"a"  # type: ignore[arg-type]


@pytest.mark.row("M4")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=6), st.binary(max_size=8))
def test_what_we_write_we_read_under_any_split(parts: list[bytes], cuts: list[int], after: bytes) -> None:
    coded = b"".join(chunk(part) for part in parts) + LAST_CHUNK + after
    edges = [0, *sorted(min(cut, len(coded)) for cut in cuts), len(coded)]
    reader = ChunkedReader()
    got = b"".join(reader.feed(coded[a:b]) for a, b in pairwise(edges))
    assert got == b"".join(parts)
    assert reader.done
    assert reader.rest == after


@pytest.mark.row("M4")
@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"0", b"3", b"a", b"\r\n", b"\n", b"\r", b"abc", b";", b"=", b'"', b" ", b"X: y", b":", b"\x00"]), max_size=14
    ).map(b"".join)
)
def test_what_we_accept_h11_accepts_with_the_same_payload(coded: bytes) -> None:
    reader = ChunkedReader()
    try:
        payload = reader.feed(coded)
    except FramingError:
        return
    if not reader.done:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded)
    heard = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            heard += event.data
        else:
            assert isinstance(event, h11.Request), event
    assert heard == payload
    assert connection.trailing_data[0] == reader.rest
