"""Signed values: ours, for one purpose, for a while."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner
from itsdangerous.encoding import base64_encode

from bff.base.clock import FakeClock, SystemClock
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


@pytest.mark.row("S9")
def test_bytes_signed_for_one_purpose_are_nothing_for_another_nor_for_the_other_kind() -> None:
    """Of one signer, whose tools stay ready: what one of them derived is of no use to the next."""
    signer = Signer(KeyRing.generate(), clock=FakeClock())
    signed, text = signer.sign_bytes("handoff", b"x"), signer.sign("handoff", "x")
    assert signer.check_bytes("handoff", signed, 60) == b"x"
    for purpose, value in (("logout", signed), ("handoff", text.encode())):
        with pytest.raises(SealBroken):
            signer.check_bytes(purpose, value, 60)
    with pytest.raises(SealBroken):
        signer.check("handoff", signed.decode(), 60)


@pytest.mark.row("C1", "COOKIE-20")
def test_a_signer_at_work_follows_its_ring_through_a_rotation_and_a_retirement() -> None:
    """SIGHUP: the ring is replaced in place, under a signer that has signed and checked by the old keys already."""
    first = KeyRing.generate(now=100.0)
    second = first.rotated(now=200.0)
    ring = KeyRing.generate()
    ring.adopt(first)
    signer, clock = Signer(ring, clock=FakeClock()), FakeClock()
    text, signed = signer.sign("p", 1), signer.sign_bytes("p", b"1")
    assert signer.check("p", text, 60) == 1 and signer.check_bytes("p", signed, 60) == b"1"
    ring.adopt(second)
    assert signer.check("p", text, 60) == 1 and signer.check_bytes("p", signed, 60) == b"1"
    newer, newer_signed = signer.sign("p", 2), signer.sign_bytes("p", b"2")
    for old in (
        lambda: Signer(first, clock=clock).check("p", newer, 60),
        lambda: Signer(first, clock=clock).check_bytes("p", newer_signed, 60),
    ):
        with pytest.raises(SealBroken):
            old()
    ring.adopt(second.without_older(150.0))
    for retired in (lambda: signer.check("p", text, 60), lambda: signer.check_bytes("p", signed, 60)):
        with pytest.raises(SealBroken):
            retired()
    assert signer.check("p", newer, 60) == 2 and signer.check_bytes("p", newer_signed, 60) == b"2"


def test_a_derived_key_is_the_library_s_own() -> None:
    """We keep what it would derive at each use; this holds the two together, for each key of a ring."""
    ring = KeyRing.generate(now=100.0).rotated(now=200.0).rotated(now=300.0)
    keys = ring.signing_keys("p")
    assert len(keys) == 3
    how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    plain = TimestampSigner(keys, salt="bff bytes p", **how)  # type: ignore[arg-type]
    ours = Signer(ring, clock=SystemClock())
    assert ours.check_bytes("p", plain.sign(base64_encode(b"x")), 60) == b"x"
    assert plain.unsign(ours.sign_bytes("p", b"x"), max_age=60) == base64_encode(b"x")
    for key in keys:
        assert ours.check_bytes("p", TimestampSigner([key], salt="bff bytes p", **how).sign(base64_encode(b"y")), 60) == b"y"  # type: ignore[arg-type]
