"""The door's note to the agent: signed, short-lived, and the same at the other end whatever the browser sent."""

from __future__ import annotations

import string
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.clock import FakeClock
from bff.policy.facts import Facts
from bff.policy.handoff import MAX_AGE_S, PURPOSE, Handoff
from bff.policy.routes import METHODS, Admission, Route
from bff.policy.verdict import Admitted
from bff.session.model import Live
from bff.session.sealing import KeyRing
from bff.session.signing import Signer

USER = Route("bff.user", "/bff/user", Admission.API, METHODS, exact=True)
LOGOUT = Route("bff.logout", "/bff/logout", Admission.FORM, METHODS, exact=True)
FACTS = Facts(
    method="GET",
    path="/bff/user",
    query="a=b&c",
    host="app.test",
    headers=((b"X-Secret", b"not told"),),
    cookies=(("a", "1"), ("a", "2"), ("", "")),
    fetch_mode="cors",
    accept="application/json",
    content_type="text/plain",
    client_ip="192.0.2.1",
    request_id="req-1",
)


class Ends:
    """Door and agent of one instance."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ring = KeyRing.generate()
        self.signer = Signer(self.ring, clock=self.clock)
        self.door = Handoff(signer=self.signer)
        self.agent = Handoff(signer=self.signer, routes={USER.name: USER})

    def note(self, *, facts: Facts = FACTS, route: Route = USER, live: Live | None = None) -> bytes:
        return self.door.write(Admitted(facts, route, None, live))


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_a_verdict_arrives_as_it_was_given_but_for_what_the_agent_must_look_up_itself(ends: Ends) -> None:
    live = Live(None, seen_at=12.5, idle_s=60.0, key=b"\x00\xff" * 16, half=b"HALF")
    handed = ends.agent.read(ends.note(live=live))
    assert handed is not None
    assert handed.admitted == Admitted(replace(FACTS, headers=()), USER, None)
    assert (handed.key, handed.seen_at) == (live.key, 12.5)


def test_without_a_session_there_is_no_key(ends: Ends) -> None:
    handed = ends.agent.read(ends.note())
    assert handed is not None and (handed.key, handed.seen_at) == (b"", 0.0)


@given(
    query=st.none() | st.text(),
    cookies=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=40)), max_size=8),
    odd=st.none() | st.text(alphabet=st.characters(), max_size=40),
)
def test_whatever_text_the_door_read_arrives_letter_for_letter(query: str | None, cookies: list[tuple[str, str]], odd: str | None) -> None:
    ends = Ends()
    facts = replace(FACTS, headers=(), query=query, cookies=tuple(cookies), accept=odd, content_type=odd, fetch_mode=odd)
    note = ends.note(facts=facts)
    handed = ends.agent.read(note)
    assert handed is not None and handed.admitted.facts == facts
    assert set(note) <= set((string.ascii_letters + string.digits + "-_.:").encode()), "a header field's value, whatever it says"


@pytest.mark.parametrize(
    "value",
    ["\xff\x80", "".join(map(chr, range(256))), "\u20ac\U0001f600", "\x00\x7f", '"\\', "=;,", "x" * 60_000, "\xe9" * 16_000],
)
def test_odd_cookies_arrive_too(ends: Ends, value: str) -> None:
    facts = replace(FACTS, headers=(), cookies=(("odd", value), ("plain", "1")))
    handed = ends.agent.read(ends.note(facts=facts))
    assert handed is not None and handed.admitted.facts.cookies == facts.cookies


def test_a_note_is_good_for_a_minute(ends: Ends) -> None:
    note = ends.note()
    ends.clock.advance(MAX_AGE_S)
    assert ends.agent.read(note) is not None
    ends.clock.advance(1.5)
    assert ends.agent.read(note) is None


def test_a_note_from_the_future_is_none(ends: Ends) -> None:
    ends.clock.advance(100)
    note = ends.note()
    ends.clock.advance(-50)
    assert ends.agent.read(note) is None
    ends.clock.advance(50)
    assert ends.agent.read(note) is not None


def test_another_instances_note_is_none(ends: Ends) -> None:
    assert Ends().agent.read(ends.note()) is None
    assert ends.agent.read(ends.note()) is not None


def test_a_route_that_is_not_the_agents_is_none_however_well_signed(ends: Ends) -> None:
    assert ends.agent.read(ends.note(route=LOGOUT)) is None
    assert ends.agent.read(ends.note(route=replace(USER, name="api"))) is None
    assert ends.door.read(ends.note()) is None, "the door reads none at all"


@pytest.mark.row("S9")
def test_what_was_signed_for_another_purpose_is_none(ends: Ends) -> None:
    value = ends.signer.check_bytes(PURPOSE, ends.note(), MAX_AGE_S)
    assert ends.agent.read(ends.signer.sign_bytes("logout-state", value)) is None
    assert ends.agent.read(ends.signer.sign(PURPOSE, value.hex()).encode()) is None
    assert ends.agent.read(ends.signer.sign_bytes(PURPOSE, value)) is not None


def test_a_changed_note_is_none_wherever_it_was_changed(ends: Ends) -> None:
    note = ends.note()
    for place in range(len(note)):
        other = b"A" if note[place : place + 1] != b"A" else b"B"
        read = ends.agent.read(note[:place] + other + note[place + 1 :])
        # The last letter of the signature holds bits that base64 does not use.
        assert read is None or (place == len(note) - 1 and read == ends.agent.read(note)), place
    for cut in range(0, len(note), 7):
        assert ends.agent.read(note[:cut]) is None
        assert ends.agent.read(note[cut:]) is None or cut == 0


@pytest.mark.parametrize("junk", [b"", b".", b"..", b"a.b.c", b"\xff" * 20, b"\x00", b"x" * 300_000, b"." * 10_000, b"eyJ9.x.y"])
def test_anything_else_is_none(ends: Ends, junk: bytes) -> None:
    assert ends.agent.read(junk) is None


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail(junk: bytes) -> None:
    assert Ends().agent.read(junk) is None


@pytest.mark.parametrize(
    "value", [None, 1, "x", [], {}, ["bff.user"], [1] * 13, ["bff.user", "GET", "/", None, "h", [["a"]], None, None, None, "", "", "", 0.0]]
)
def test_what_is_signed_but_is_no_note_is_none(ends: Ends, value: object) -> None:
    assert ends.agent.read(ends.signer.sign_bytes(PURPOSE, msgspec.msgpack.encode(value))) is None


def test_a_verdict_says_nothing_that_the_agent_could_take_for_its_own_judgement(ends: Ends) -> None:
    """The agent gets no token, no half of a ticket and no raw field from the note."""
    live = Live(None, seen_at=1.0, idle_s=60.0, key=b"k" * 32, half=b"HALFHALF")
    said = repr(ends.signer.check_bytes(PURPOSE, ends.note(live=live), MAX_AGE_S))
    assert "HALFHALF" not in said and b"HALFHALF".hex() not in said and "not told" not in said and "X-Secret" not in said
