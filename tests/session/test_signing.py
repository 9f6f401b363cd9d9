"""Signed values: ours, for one purpose, for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.clock import FakeClock
from bff.base.errors import SealBroken
from bff.session.sealing import KeyRing
from bff.session.signing import Signer


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=3))
def test_a_signed_value_comes_back(value: dict[str, object]) -> None:
    signer = Signer(KeyRing.generate(), clock=FakeClock())
    assert signer.check("logout", signer.sign("logout", value), 60) == value


@pytest.mark.row("S9")
def test_a_value_signed_for_one_purpose_is_nothing_for_another() -> None:
    signer = Signer(KeyRing.generate(), clock=FakeClock())
    with pytest.raises(SealBroken):
        signer.check("handoff", signer.sign("logout", 1), 60)


@pytest.mark.row("S13")
def test_a_value_is_over_after_its_time_by_our_clock() -> None:
    clock = FakeClock()
    signer = Signer(KeyRing.generate(), clock=clock)
    text = signer.sign("logout", 1)
    clock.advance(60)
    assert signer.check("logout", text, 60) == 1
    clock.advance(2)
    with pytest.raises(SealBroken):
        signer.check("logout", text, 60)


@pytest.mark.row("C1", "COOKIE-20")
def test_the_newest_key_signs_and_older_ones_still_verify() -> None:
    old = KeyRing.generate(now=100.0)
    new = old.rotated(now=200.0)
    clock = FakeClock()
    assert Signer(new, clock=clock).check("p", Signer(old, clock=clock).sign("p", 1), 60) == 1
    signed = Signer(new, clock=clock).sign("p", 2)
    assert Signer(new.without_older(150.0), clock=clock).check("p", signed, 60) == 2, "the newest key alone verifies it"
    with pytest.raises(SealBroken):
        Signer(old, clock=clock).check("p", signed, 60)


@pytest.mark.row("S10")
@given(st.text(max_size=60))
def test_made_up_text_is_refused(text: str) -> None:
    with pytest.raises(SealBroken):
        Signer(KeyRing.generate(), clock=FakeClock()).check("p", text, 60)
