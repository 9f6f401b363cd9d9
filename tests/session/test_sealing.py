"""The key ring: what it seals opens for the same purpose, context and ring, and for nothing else."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.base.errors import ConfigError, SealBroken
from bff.session.sealing import KeyRing, decode_text, encode_text, join_prefixed
from bff.session.ticket import build_ticket

RING = KeyRing.generate()


def entry(secret: bytes | None = None, kid: str = "00000001", created_at: float = 1.0) -> dict[str, object]:
    return {"kid": kid, "secret": base64.b64encode(os.urandom(32) if secret is None else secret).decode(), "created_at": created_at}


def ring_text(*entries: dict[str, object]) -> str:
    return json.dumps({"keys": list(entries)})


@given(plain=st.binary(max_size=300), context=st.binary(max_size=40))
def test_what_was_sealed_opens_for_the_same_purpose_and_context(plain: bytes, context: bytes) -> None:
    assert RING.open("ticket", RING.seal("ticket", plain, context), context) == (plain, True)


@pytest.mark.row("COOKIE-18", "S10")
@settings(max_examples=300)
@given(data=st.data())
def test_no_changed_sealed_text_opens(data: st.DataObject) -> None:
    sealed = RING.seal("ticket", b"0123456789", b"ctx")
    place = data.draw(st.integers(0, len(sealed) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    letter = data.draw(st.sampled_from("ABCxyz019-_=+/ \n\tä"))
    changed = {
        "flip": sealed[:place] + letter + sealed[place + 1 :],
        "cut": sealed[:place],
        "insert": sealed[:place] + letter + sealed[place:],
        "append": sealed + letter * (place + 1),
    }[kind]
    if changed != sealed:
        with pytest.raises(SealBroken):
            RING.open("ticket", changed, b"ctx")


@pytest.mark.row("S10")
def test_twenty_thousand_mutations_and_splices_of_two_values_are_all_refused() -> None:
    one, two = decode_text(RING.seal("t", b"a" * 72)), decode_text(RING.seal("t", b"b" * 72))
    refused = 0
    candidates = [one[:cut] + two[cut:] for cut in range(1, len(one) - 1) if one[:cut] + two[cut:] not in (one, two)]
    for _ in range(20_000 - len(candidates)):
        place = secrets.randbelow(len(one))
        candidates.append(one[:place] + bytes([one[place] ^ (1 << secrets.randbelow(8))]) + one[place + 1 :])
    for candidate in candidates:
        try:
            RING.open("t", encode_text(candidate))
        except SealBroken:
            refused += 1
    assert refused == len(candidates)


@pytest.mark.row("COOKIE-19", "S9", "C9")
def test_each_purpose_refuses_what_was_sealed_for_every_other() -> None:
    purposes = ["ticket", "pending login", "record", "signing"]
    for sealed_for in purposes:
        sealed = RING.seal(sealed_for, b"x")
        for opened_as in purposes:
            if opened_as == sealed_for:
                assert RING.open(opened_as, sealed) == (b"x", True)
            else:
                with pytest.raises(SealBroken):
                    RING.open(opened_as, sealed)


@pytest.mark.row("C2", "T6")
@given(parts=st.lists(st.binary(max_size=6), max_size=4), other=st.lists(st.binary(max_size=6), max_size=4))
def test_different_fields_never_join_to_the_same_bytes(parts: list[bytes], other: list[bytes]) -> None:
    assert (join_prefixed(*parts) == join_prefixed(*other)) == (parts == other)


@pytest.mark.row("C2", "T6")
def test_bytes_shifted_between_issuer_and_subject_give_another_index() -> None:
    assert RING.indexes("subject", "https://a", "bc") != RING.indexes("subject", "https://ab", "c")
    assert RING.indexes("subject", "x", "y") != RING.indexes("sid", "x", "y")
    assert RING.indexes("subject", "x", "Y") != RING.indexes("subject", "x", "y")
    assert RING.indexes("subject", "x", "é") != RING.indexes("subject", "x", "e\u0301")
    assert RING.indexes("subject", "x", "y\0") != RING.indexes("subject", "x", "y")
    assert RING.indexes("subject", "x", "y") == RING.indexes("subject", "x", "y")


@pytest.mark.row("COOKIE-18")
@given(st.binary(max_size=200))
def test_only_canonical_base64url_is_read(data: bytes) -> None:
    text = encode_text(data)
    assert decode_text(text) == data
    for wrong in (text + "=", text + "==", text + "\n", " " + text, text + "A" if len(text) % 4 == 0 else text[:-1] + "\u00e9"):
        if wrong != text:
            with pytest.raises(SealBroken):
                decode_text(wrong)


@pytest.mark.row("COOKIE-18")
def test_the_unused_bits_of_the_last_letter_must_be_zero() -> None:
    assert decode_text("QQ") == b"A"
    for loose in ("QR", "QS", "QX"):
        with pytest.raises(SealBroken):
            decode_text(loose)


@pytest.mark.row("COOKIE-20", "F46", "C1")
def test_a_rotated_ring_opens_old_values_and_says_that_they_are_old() -> None:
    old = KeyRing.generate()
    new = old.rotated()
    sealed = old.seal("ticket", b"x")
    assert new.open("ticket", sealed) == (b"x", False)
    assert new.open("ticket", new.seal("ticket", b"y")) == (b"y", True)
    with pytest.raises(SealBroken):
        old.open("ticket", new.seal("ticket", b"y"))


@pytest.mark.row("COOKIE-20", "C1")
def test_the_newest_key_alone_opens_what_the_rotated_ring_seals_and_a_removed_key_opens_nothing() -> None:
    ring = KeyRing.generate(now=100.0).rotated(now=200.0).rotated(now=300.0)
    only_newest = ring.without_older(250.0)
    assert len(only_newest.kids) == 1
    assert only_newest.open("t", ring.seal("t", b"x")) == (b"x", True)
    retired = KeyRing.generate(now=100.0)
    sealed = retired.seal("t", b"x")
    with pytest.raises(SealBroken):
        retired.rotated(now=200.0).without_older(150.0).open("t", sealed)


@pytest.mark.row("F46")
def test_ten_rotations_lose_nothing() -> None:
    ring = KeyRing.generate()
    sealed = [ring.seal("t", b"0")]
    for step in range(1, 11):
        ring = KeyRing.from_json(ring.rotated().to_json())
        sealed.append(ring.seal("t", str(step).encode()))
    assert [ring.open("t", text)[0] for text in sealed] == [str(step).encode() for step in range(11)]


@pytest.mark.row("F46")
def test_a_key_from_the_future_opens_but_does_not_seal_until_its_time() -> None:
    times = [1000.0]
    first = KeyRing.generate(now=500.0)
    text = first.rotated(now=1060.0).to_json()
    keys = KeyRing.from_json(text)
    ring = KeyRing(keys._keys, now=lambda: times[0])
    early = ring.seal("t", b"x")
    assert first.open("t", early) == (b"x", True), "instances that have not loaded the new key still open it"
    times[0] = 1061.0
    assert ring.open("t", early) == (b"x", False)
    with pytest.raises(SealBroken):
        first.open("t", ring.seal("t", b"y"))
    assert ring.indexes("subject", "i", "s")[0] == keys.indexes("subject", "i", "s")[0]


@pytest.mark.row("F46", "COOKIE-20")
def test_a_key_that_would_begin_later_than_the_one_put_in_front_stands_back_and_still_opens() -> None:
    times = [1000.0]
    pending = KeyRing.generate(now=500.0).rotated(now=1060.0)
    ring = KeyRing(KeyRing.from_json(pending.rotated(now=1000.0).to_json())._keys, now=lambda: times[0])
    assert ring.newest().kid == ring.kids[0] and ring.kids[1:] == pending.kids
    times[0] = 2000.0
    assert ring.newest().kid == ring.kids[0], "the key added last has the last word"
    other_instance = KeyRing(pending._keys, now=lambda: times[0])
    assert ring.open("t", other_instance.seal("t", b"x")) == (b"x", False)
    assert pending.begins_after(1000.0) == pending.kids[:1] and pending.begins_after(1060.0) == ()


@pytest.mark.row("COOKIE-20")
def test_the_key_that_seals_stays_even_behind_one_whose_time_has_not_come() -> None:
    pending = KeyRing.generate(now=100.0).rotated(now=500.0).rotated(now=1060.0)
    ring = KeyRing(pending._keys, now=lambda: 1000.0)
    assert ring.without_older(2000.0).kids == pending.kids[:2]
    assert [ring.sealer_at(when).kid for when in (1.0, 100.0, 700.0, 1060.0)] == [ring.kids[place] for place in (2, 2, 1, 0)]


@pytest.mark.row("F46")
def test_adopting_new_keys_reaches_whoever_holds_the_ring() -> None:
    ring = KeyRing.generate()
    before = ring.seal("t", b"x")
    ring.adopt(ring.rotated())
    assert ring.open("t", before) == (b"x", False)
    ring.adopt(KeyRing.generate())
    with pytest.raises(SealBroken):
        ring.open("t", before)


def test_a_ring_survives_its_file() -> None:
    ring = KeyRing.generate().rotated()
    again = KeyRing.from_json(ring.to_json())
    assert again.kids == ring.kids
    assert again.open("t", ring.seal("t", b"x"), b"")[0] == b"x"
    assert again.admin_token() == ring.admin_token()


@pytest.mark.row("C3", "C9")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"keys": []}',
        '{"keys": "no"}',
        ring_text(entry(b"short")),
        ring_text(entry(b"correct horse battery staple 32b")),
        ring_text(entry(b"\0" * 32)),
        ring_text(entry(kid="XYZ")),
        ring_text(entry(kid="0000000G")),
        ring_text(entry(), entry()),
        ring_text(entry(created_at=1.0), entry(kid="00000002", created_at=2.0)),
        ring_text({**entry(), "surprise": 1}),
        ring_text({**entry(), "secret": "not base64!"}),
        ring_text(*[entry(kid=f"{n:08x}", created_at=100.0 - n) for n in range(33)]),
    ],
)
def test_a_key_file_that_is_weak_or_wrong_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        KeyRing.from_json(text)


@pytest.mark.row("C3", "C9")
def test_a_good_key_file_is_taken() -> None:
    assert KeyRing.from_json(ring_text(entry(created_at=2.0), entry(kid="00000002", created_at=1.0))).kids == ("00000001", "00000002")


@pytest.mark.row("PRIV-1", "C3")
def test_no_problem_and_no_repr_shows_a_secret() -> None:
    secret = base64.b64encode(b"correct horse battery staple 32b").decode()
    with pytest.raises(ConfigError) as caught:
        KeyRing.from_json(json.dumps({"keys": [{"kid": "zz", "secret": secret, "created_at": 1}]}))
    assert len(caught.value.problems) >= 2
    assert secret not in str(caught.value)
    ring = KeyRing.generate()
    assert repr(ring._keys[0].secret) not in repr(ring._keys[0])
    ticket = build_ticket(1.0)
    assert repr(ticket.half) not in repr(ticket)


@pytest.mark.row("C9")
def test_every_derived_value_is_its_own() -> None:
    ring = KeyRing.generate()
    values = [
        ring.admin_token(),
        ring.pseudonym("a"),
        ring.pseudonym("a", ""),
        ring.pseudonym("", "a"),
        *ring.signing_keys("one"),
        *ring.signing_keys("two"),
        ring.indexes("subject", "a")[0].hex(),
        ring.subkey(ring.newest(), "seal ticket").hex(),
        ring.subkey(ring.newest(), "ticket").hex(),
    ]
    assert len(set(values)) == len(values)
    assert len(ring.pseudonym("a")) == 16


@pytest.mark.row("SESS-1", "C7")
def test_ids_are_unique_and_without_structure() -> None:
    tickets = [build_ticket(0.0) for _ in range(20_000)]
    halves = {ticket.session_id for ticket in tickets} | {ticket.half for ticket in tickets} | {ticket.key for ticket in tickets}
    assert len(halves) == 60_000
    for place in range(32):
        most = Counter(ticket.session_id[place] for ticket in tickets).most_common(1)[0][1]
        assert most < 20_000 / 256 * 2, "one byte value twice as often as chance would have it"


@pytest.mark.row("SESS-1")
def test_ids_come_from_the_secrets_module_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fixed(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    monkeypatch.setattr("bff.session.ticket.secrets.token_bytes", fixed)
    ticket = build_ticket(0.0)
    assert (ticket.session_id, ticket.half) == (bytes(32), bytes(32))
    assert asked == [32, 32]


@pytest.mark.row("C7")
def test_a_forked_child_draws_other_ids() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, build_ticket(0.0).session_id)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 32) != build_ticket(0.0).session_id
    os.close(read)
    os.close(write)
