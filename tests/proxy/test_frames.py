"""WebSocket framing in one direction: what passes, what breaks, and that any cut of the stream reads the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.proxy.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_FRAGMENTS,
    PING,
    PONG,
    TEXT,
    FrameError,
    Frames,
    close_frame,
    control_frame,
    mask,
)

KEY = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = False, rsv: int = 0) -> bytes:
    first = bytes([(0x80 if fin else 0) | rsv | opcode])
    flag = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        length = bytes([flag | size])
    elif size < 65_536:
        length = bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([flag | 127]) + size.to_bytes(8, "big")
    return first + length + (KEY + mask(payload, KEY) if masked else payload)


def frames(*, masked: bool = False, limit: int = 1 << 20, deflate: bool = False) -> Frames:
    return Frames(masked=masked, limit=limit, deflate=deflate)


def feed(data: bytes, *, step: int = 0, **options: object) -> tuple[bytes, int]:
    """(what passed, the close code earned or 0), fed whole or in steps."""
    reader = frames(**options)  # type: ignore[arg-type]
    passed = b""
    try:
        for at in range(0, len(data), step or len(data)):
            passed += reader.feed(data[at : at + (step or len(data))])
    except FrameError as error:
        return passed + error.passed, error.code
    return passed, 0


GOOD = [
    frame(TEXT, b"hello"),
    frame(BINARY, b"x" * 126) + frame(BINARY, b"y" * 70_000),
    frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b", fin=False) + frame(CONTINUATION, b""),
    frame(TEXT) + frame(PONG) + frame(CLOSE),
    close_frame(1000, "bye", masked=False),
    close_frame(4999, "", masked=False),
]


@pytest.mark.row("WS-9")
@pytest.mark.parametrize("data", GOOD)
@pytest.mark.parametrize("step", [0, 1, 3, 64])
def test_proper_frames_pass_unchanged_however_they_are_cut(data: bytes, step: int) -> None:
    assert feed(data, step=step) == (data, 0)


@pytest.mark.row("WS-7", "M6")
@pytest.mark.parametrize("step", [0, 1, 3, 64])
@pytest.mark.parametrize("rest", [frame(TEXT, b"x"), frame(CLOSE), b"\xff" * 200, b"GET / HTTP/1.1\r\n\r\n", b"\x81"])
def test_what_follows_a_close_is_thrown_away(rest: bytes, step: int) -> None:
    close = close_frame(1000, "bye", masked=False)
    assert feed(frame(TEXT, b"a") + close + rest, step=step) == (frame(TEXT, b"a") + close, 0)


BAD = {
    "masked from a server": (frame(TEXT, b"x", masked=True), 1002),
    "a reserved bit": (frame(TEXT, b"x", rsv=0x40), 1002),
    "another reserved bit": (frame(TEXT, b"x", rsv=0x20), 1002),
    "an unknown opcode": (frame(0x3, b"x"), 1002),
    "an unknown control opcode": (frame(0xB, b"x"), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "a fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close 1005": (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "close 1006": (frame(CLOSE, (1006).to_bytes(2, "big")), 1002),
    "close 1015": (frame(CLOSE, (1015).to_bytes(2, "big")), 1002),
    "close 999": (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
    "close 1016": (frame(CLOSE, (1016).to_bytes(2, "big")), 1002),
    "close 5000": (frame(CLOSE, (5000).to_bytes(2, "big")), 1002),
    "a close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "a 16-bit length that needs 7": (b"\x81\x7e\x00\x05hello", 1002),
    "a 64-bit length that needs 16": (b"\x82\x7f" + (5).to_bytes(8, "big") + b"hello", 1002),
    "a length with the top bit": (b"\x82\x7f" + (1 << 63).to_bytes(8, "big"), 1002),
    "a frame too big": (frame(BINARY, b"x" * 2000), 1009),
    "a message too big": (frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 600), 1009),
}


@pytest.mark.row("WS-7", "WS-9", "D11")
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_broken_rule_earns_its_code_and_nothing_of_the_frame_passes(case: str, step: int) -> None:
    data, code = BAD[case]
    good = frame(PING, b"before")
    passed, found = feed(good + data, step=step, limit=1000)
    assert found == code
    assert (good + data).startswith(passed)
    assert len(passed) < len(good + data)


def test_a_client_must_mask_and_its_control_frames_are_read_through_the_mask() -> None:
    assert feed(frame(TEXT, b"x"), masked=True)[1] == 1002
    data = frame(TEXT, b"hello", masked=True) + close_frame(1000, "bye", masked=True)
    assert feed(data, masked=True, step=1) == (data, 0)
    assert feed(frame(CLOSE, (1005).to_bytes(2, "big"), masked=True), masked=True)[1] == 1002


def test_compressed_messages_pass_only_where_compression_was_agreed() -> None:
    data = frame(TEXT, b"x", rsv=0x40, fin=False) + frame(CONTINUATION, b"y")
    assert feed(data, deflate=True) == (data, 0)
    assert feed(frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", rsv=0x40), deflate=True)[1] == 1002
    assert feed(frame(PING, b"x", rsv=0x40), deflate=True)[1] == 1002


@pytest.mark.row("D11")
def test_a_message_of_endless_fragments_ends() -> None:
    reader = frames(limit=1 << 30)
    reader.feed(frame(TEXT, b"", fin=False))
    with pytest.raises(FrameError) as caught:
        reader.feed(frame(CONTINUATION, b"", fin=False) * MAX_FRAGMENTS)
    assert caught.value.code == 1009


def test_our_own_pong_goes_no_further() -> None:
    reader = frames(masked=True)
    reader.own_ping = b"own"
    other = control_frame(PONG, b"theirs", masked=True)
    assert reader.feed(control_frame(PONG, b"own", masked=True) + other + control_frame(PONG, b"own", masked=True)) == other


def test_a_boundary_is_where_another_frame_may_go() -> None:
    reader = frames()
    assert reader.at_boundary
    reader.feed(frame(TEXT, b"hello")[:4])
    assert not reader.at_boundary
    reader.feed(b"llo")
    assert reader.at_boundary
    assert reader.feed(b"\x81") == b""
    assert reader.at_boundary


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 20), st.booleans())
def test_any_bytes_read_the_same_whole_and_in_pieces(data: bytes, step: int, masked: bool) -> None:
    if data:
        assert feed(data, masked=masked, limit=500) == feed(data, step=step, masked=masked, limit=500)


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(payload: bytes, key: bytes) -> None:
    assert mask(mask(payload, key), key) == payload
