"""Header sections: found by their exact bytes but for one trace, and never for anything that is not one head judged before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.proxy.house import DoorHouse
from bff.proxy.lines import LineReader
from bff.proxy.sections import cut_trace
from tests.proxy.gate import World
from tests.proxy.test_patterns import EDGES, OWN, TRACE, build_house, check_alike, write

OTHER = TRACE.replace(b"a", b"c")
LINE = b"traceparent: " + TRACE


def taught(*lines: bytes, start: bytes = b"GET /api/x") -> tuple[World, DoorHouse]:
    """A house that remembers the section of such a head."""
    world = World()
    house = build_house(world, world.clock)
    for _ in range(2):
        check_alike(world, house, write(start, [b"Host: a.test", OWN, b"X-CSRF: 1", *lines]), EDGES[0])
    assert len(house.patterns.sections) == 1
    return world, house


def without_lines(house: DoorHouse) -> DoorHouse:
    """From now on nothing is found line by line."""
    house.patterns._find_by_lines = lambda *given: None  # type: ignore[method-assign, assignment, return-value]
    return house


def head(trace: bytes, start: bytes = b"GET /api/x", more: tuple[bytes, ...] = ()) -> bytes:
    return write(start, [b"Host: a.test", OWN, b"X-CSRF: 1", b"traceparent: " + trace, *more])


def test_another_address_and_another_trace_are_found_without_a_look_at_the_lines() -> None:
    world, house = taught(LINE, b"Accept: a")
    without_lines(house)
    assert check_alike(world, house, head(OTHER, b"GET /api/other/y?z=1", (b"Accept: a",)), EDGES[0])


def test_a_section_without_a_trace_is_found_for_another_address_too() -> None:
    world, house = taught(b"Accept: a")
    without_lines(house)
    assert check_alike(world, house, write(b"GET /api/y", [b"Host: a.test", OWN, b"X-CSRF: 1", b"Accept: a"]), EDGES[0])


@pytest.mark.row("M10")
@pytest.mark.parametrize(
    "trace",
    [b"", b"\0", b"\0" * 55, TRACE[:-1], TRACE + b"0", TRACE.upper(), b"00-" + b"0" * 32 + TRACE[35:], TRACE[:-2] + b"\r\n",
     b" " + TRACE[1:], TRACE + b"\r\n" + LINE, TRACE + b"\n", TRACE[:20] + b"\r\n\r\n" + TRACE[24:]],
)  # fmt: skip
def test_what_is_no_trace_is_never_cut_out(trace: bytes) -> None:
    _, house = taught(LINE)
    without_lines(house)
    assert house.find_alike(head(trace), EDGES[0]) is None
    assert house.find_alike(head(OTHER), EDGES[0]) is not None, "its positive twin"


@pytest.mark.row("M1", "M10")
def test_only_one_whole_head_with_exactly_these_fields_is_found() -> None:
    _, house = taught(LINE)
    without_lines(house)
    one = head(OTHER)
    odd = [
        one + one, one + b"x", one[:-2], one[:-4], b"\r\n" + one, one + b"\r\n\r\n", one.replace(b"\r\n", b"\n"),
        one.replace(b"X-CSRF: 1", b"X-CSRF: 0"), one.replace(b"alice", b"bob"), one.replace(b"HTTP/1.1", b"HTTP/1.0"),
        one.replace(b"GET /api", b"POST /api"), one.replace(b"/api/x", b"/get/x"), one.replace(b"/api/x", b"/api//x"),
        one.replace(b"/api/x", b"/api/../x"), one.replace(b"/api/x", b"/api/x\0"), one.replace(b"traceparent", b"Traceparent"),
    ]  # fmt: skip
    for block in odd:
        assert house.find_alike(block, EDGES[0]) is None, block
    assert house.find_alike(one, EDGES[1]) is None, "it came in by another edge"
    assert house.find_alike(one, EDGES[0]) is not None


def test_a_head_with_an_empty_trace_is_not_one_whose_trace_was_cut_out() -> None:
    """An empty field is what is left in either case."""
    _, house = taught(LINE)
    assert cut_trace(head(b""))[0] == cut_trace(head(OTHER))[0]
    assert house.find_alike(head(b""), EDGES[0]) is None


@pytest.mark.row("M1")
def test_llhttp_sees_every_head_that_goes_by_a_section() -> None:
    _, house = taught(LINE)
    seen: list[bytes] = []
    house.reader.ends = lambda block: bool(seen.append(block))  # type: ignore[method-assign, func-returns-value]
    assert house.find_alike(head(OTHER), EDGES[0]) is None
    assert seen[0] == head(OTHER)


def test_nothing_of_a_session_that_ended_stays_in_memory() -> None:
    world, house = taught(LINE)
    world.live.session = None
    house.tick()
    assert len(house.patterns.sections) == 0


def test_sections_are_bounded_in_bytes() -> None:
    world = World()
    house = build_house(world, world.clock)
    for number in range(1500):
        block = write(b"GET /public/x", [b"Host: a.test", b"Accept: %d" % number + b"a" * 2000])
        for _ in range(2):
            check_alike(world, house, block, EDGES[0])
    assert 0 < house.patterns.sections._bytes <= 2 * 1024 * 1024
    assert len(house.patterns.sections) <= 1024


@given(st.lists(st.sampled_from([b"A: 1", LINE, b"traceparent: " + OTHER, b"traceparent: x", b"traceparent: "]), max_size=5))
def test_what_is_cut_out_is_the_value_of_a_line_that_the_line_reader_takes_for_a_trace(lines: list[bytes]) -> None:
    fields = b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n"
    rest, trace = cut_trace(fields)
    if trace is None:
        assert rest == fields
        return
    at = next(number for number, line in enumerate(lines) if line[:11] == b"traceparent")
    assert LineReader()(lines[at])[2].encode() == trace  # type: ignore[index]
    lines[at] = b"traceparent: "
    assert cut_trace(fields.replace(trace, trace + b"0")) == (fields.replace(trace, trace + b"0"), None)
    assert rest == b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n"
