"""Access lines on their way out: whole, in order, and never in the way of a request."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.observe import outlet
from bff.observe.outlet import PIECE_BYTES, Outlet, cut

LINES = b"".join(b"%06d %s\n" % (number, b"x" * (number % 300)) for number in range(2000))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read_all(reader: int) -> bytes:
    data = b""
    while True:
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            return data


@pytest.mark.row("PRIV-8", "F55")
def test_a_pipe_that_nobody_reads_costs_lines_beyond_the_bound_and_no_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    out = Outlet(writer, limit_bytes=320_000)
    out(LINES)
    assert 0 < out.waiting < len(LINES)
    with pytest.raises(BlockingIOError):
        out(LINES)
    got = b""
    while out.waiting:
        got += read_all(reader)
        out(b"")
    assert got + read_all(reader) == LINES, "what was taken arrives whole, in order and once"


def test_a_second_way_to_the_pipe_that_is_forbidden_is_done_without(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(outlet.os, "open", forbidden)
        out = Outlet(pipe[1])
    out(LINES)
    assert out.waiting
    first = read_all(pipe[0])
    out.close()
    assert LINES.startswith(first + read_all(pipe[0]))
    assert os.get_blocking(pipe[1]), "our logs write to the same pipe and wait for it"


def test_a_socket_and_a_file_take_lines_too(tmp_path: Path) -> None:
    """Under systemd standard output is a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        out = Outlet(ours.fileno(), limit_bytes=1 << 22)
        out(LINES * 3)
        assert out.waiting
        got = b""
        while len(got) < 3 * len(LINES):
            got += theirs.recv(1 << 20)
            out(b"")
        assert got == LINES * 3 and ours.getblocking()
    with (tmp_path / "log").open("wb") as file:
        Outlet(file.fileno())(LINES)
    assert (tmp_path / "log").read_bytes() == LINES


def test_at_the_end_a_slow_reader_is_waited_for_but_not_for_long(pipe: tuple[int, int]) -> None:
    out = Outlet(pipe[1])
    out(LINES)
    out.close(timeout_s=0.05)
    assert out.waiting and LINES.startswith(read_all(pipe[0]))
    out.close()
    assert len(read_all(pipe[0])) > 0


def test_a_reader_that_is_gone_is_an_error_each_time() -> None:
    reader, writer = os.pipe()
    out = Outlet(writer)
    os.close(reader)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            out(b"line\n")
    out.close()
    os.close(writer)


@given(st.lists(st.integers(0, 3 * PIECE_BYTES), max_size=8))
def test_pieces_are_whole_lines_and_together_what_they_were_cut_from(sizes: list[int]) -> None:
    lines = [b"x" * size + b"\n" for size in sizes]
    pieces = cut(b"".join(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") and (len(piece) <= PIECE_BYTES or piece.count(b"\n") == 1) for piece in pieces)
