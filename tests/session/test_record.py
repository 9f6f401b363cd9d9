"""The sealed record: what it keeps, who can open it, and how it outlives releases."""

from __future__ import annotations

import os
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from bff.base.errors import SealBroken
from bff.base.secret import Secret
from bff.session import record
from bff.session.model import Grant, Session
from bff.session.record import open_record, seal_record
from bff.session.sealing import KeyRing, derive
from bff.session.store.port import Row

RING = KeyRing.generate()
HALF = os.urandom(32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def session(**changes: object) -> Session:
    base = Session(
        key=os.urandom(32),
        version=3,
        issuer="https://id.example.com",
        subject="alice",
        created_at=100.0,
        expires_at=900.0,
        sid="sid-1",
        acr="2",
        amr=("pwd", "otp"),
        auth_time=99,
        claims={"groups": ["a", "b"], "nested": {"x": None}},
        grants={"": Grant(Secret("canary-access"), 400.0, frozenset({"a", "b"}), issued_at=100.0)},
        refresh_token=Secret("canary-refresh"),
        id_token=Secret("canary-id"),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def seal(value: Session, *, half: bytes = HALF, ring: KeyRing = RING) -> Row:
    return seal_record(value, half=half, ring=ring, seen_at=value.created_at)


@given(claims=st.dictionaries(st.text(max_size=8), json_values, max_size=4), version=st.integers(1, 2**40), subject=st.text(max_size=20))
def test_a_session_comes_back_whole(claims: dict[str, object], version: int, subject: str) -> None:
    value = session(claims=claims, version=version, subject=subject.encode("utf-8", "ignore").decode())
    assert open_record(seal(value), half=HALF, ring=RING) == value


@pytest.mark.row("SESS-13", "PRIV-1")
def test_a_stored_row_shows_no_token_and_no_name() -> None:
    row = seal(session())
    blob = b"|".join((row.key, row.sealed, *row.indexes))
    for canary in (b"canary", b"alice", b"sid-1", b"id.example.com", b"groups"):
        assert canary not in blob


@pytest.mark.row("SESS-13", "C5")
def test_store_dump_and_key_ring_together_open_nothing_without_the_cookies_half() -> None:
    row = seal(session())
    for half in (b"", bytes(32), os.urandom(32), row.key, HALF[:-1]):
        with pytest.raises(SealBroken):
            open_record(row, half=half, ring=RING)
    assert open_record(row, half=HALF, ring=RING).subject == "alice"


@pytest.mark.row("SESS-13")
def test_cookie_and_dump_open_nothing_without_the_key_ring() -> None:
    row = seal(session())
    with pytest.raises(SealBroken):
        open_record(row, half=HALF, ring=KeyRing.generate())


@pytest.mark.row("C2", "SESS-13")
def test_a_row_copied_under_another_key_or_version_opens_for_nobody() -> None:
    row, other = seal(session()), seal(session())
    for forged in (
        replace(row, key=other.key),
        replace(row, version=row.version + 1),
        replace(row, version=row.version - 1),
        replace(row, sealed=other.sealed),
        replace(row, sealed=row.sealed[:-1]),
        replace(row, sealed=b""),
        replace(row, sealed=row.sealed[:20]),
    ):
        with pytest.raises(SealBroken):
            open_record(forged, half=HALF, ring=RING)


@pytest.mark.row("S10")
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(place: int, bit: int) -> None:
    row = seal(session())
    place %= len(row.sealed)
    flipped = row.sealed[:place] + bytes([row.sealed[place] ^ 1 << bit]) + row.sealed[place + 1 :]
    with pytest.raises(SealBroken):
        open_record(replace(row, sealed=flipped), half=HALF, ring=RING)


def _sealed_payload(payload: bytes, row: Row, *, fmt: int = record.FORMAT) -> Row:
    key = RING.newest()
    header = bytes([fmt]) + key.id_bytes
    cipher = AESGCM(derive(HALF + RING.subkey(key, "record half"), b"record", row.key))
    nonce = os.urandom(12)
    return replace(row, sealed=header + nonce + cipher.encrypt(nonce, payload, record._context(header, row.key, row.version)))


@pytest.mark.row("F44")
def test_a_record_with_fields_of_a_later_release_is_read_and_one_without_our_latest_is_too() -> None:
    value = session()
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(record._pack(value)))
    later = _sealed_payload(msgspec.msgpack.encode([*fields, "new field", 7]), seal(value))
    assert open_record(later, half=HALF, ring=RING) == value
    fields[7] = {audience: grant[:-1] for audience, grant in fields[7].items()}
    earlier = _sealed_payload(msgspec.msgpack.encode(fields), seal(value))
    assert open_record(earlier, half=HALF, ring=RING).grants[""].issued_at == 0.0


@pytest.mark.row("F44")
@pytest.mark.parametrize(("fmt", "readable"), [(record.FORMAT, True), (record.FORMAT - 1, True), (record.FORMAT + 1, False), (99, False)])
def test_this_format_and_the_one_before_are_readable_and_no_other(fmt: int, readable: bool) -> None:
    value = session()
    row = _sealed_payload(msgspec.msgpack.encode(record._pack(value)), seal(value), fmt=fmt)
    if readable:
        assert open_record(row, half=HALF, ring=RING) == value
    else:
        with pytest.raises(SealBroken):
            open_record(row, half=HALF, ring=RING)


@pytest.mark.row("F44")
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode(["only", "two"]), msgspec.msgpack.encode({"a": 1})])
def test_a_well_sealed_payload_that_is_no_session_is_refused(payload: bytes) -> None:
    with pytest.raises(SealBroken):
        open_record(_sealed_payload(payload, seal(session())), half=HALF, ring=RING)


def test_only_what_the_newest_key_sealed_is_current() -> None:
    ring = RING.rotated()
    assert record.is_current(seal(session()), ring=RING)
    assert not record.is_current(seal(session()), ring=ring)
    assert open_record(seal(session()), half=HALF, ring=ring).subject == "alice"


@pytest.mark.row("SESS-12")
def test_a_session_without_sid_has_one_index_and_equal_subjects_of_two_issuers_share_none() -> None:
    assert len(seal(session(sid="")).indexes) == 1
    one, two = seal(session()), seal(session(issuer="https://other.example.com"))
    assert not set(one.indexes) & set(two.indexes)
    assert one.indexes == seal(session()).indexes
