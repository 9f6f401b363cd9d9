"""Whether something came before, in 128 KiB whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bff.base.met import SLOTS, Met


@given(st.integers())
def test_what_came_before_is_met_and_what_did_not_is_not(mark: int) -> None:
    met = Met()
    assert met.is_first(mark)
    assert not met.is_first(mark)
    assert not met.is_first(mark)


def test_zero_is_a_mark_like_others() -> None:
    met = Met()
    assert met.is_first(0) and not met.is_first(0)


def test_two_that_share_a_slot_push_each_other_out() -> None:
    met = Met()
    one, other = 5, 5 + (SLOTS << 4)
    assert met.is_first(one) and met.is_first(other)
    assert not met.is_first(other)
    assert met.is_first(one)


def test_what_is_told_apart_by_the_slot_alone_is_told_apart() -> None:
    met = Met()
    assert met.is_first(1) and met.is_first(2) and not met.is_first(1) and not met.is_first(2)


def test_most_of_what_comes_twice_is_met_though_thousands_came_between() -> None:
    met = Met()
    marks = [hash((number, "head")) for number in range(SLOTS // 4)]
    for mark in marks:
        met.is_first(mark)
    assert sum(not met.is_first(mark) for mark in marks) > 0.8 * len(marks)


def test_hardly_a_stranger_is_taken_for_known() -> None:
    met = Met()
    for number in range(4 * SLOTS):
        met.is_first(hash((number, "one")))
    assert all(met.is_first(hash((number, "other"))) for number in range(20_000))


def test_it_weighs_the_same_whatever_comes_and_forgets_when_told() -> None:
    met = Met()
    before = len(met._tags) * met._tags.itemsize
    for number in range(100_000):
        met.is_first(hash((number,)))
    assert len(met._tags) * met._tags.itemsize == before == 4 * SLOTS
    met.forget()
    assert met.is_first(hash((99_999,))) and len(met._tags) == SLOTS
