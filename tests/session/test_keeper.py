"""The keeper: who has a session, until when, and that "ended" is for ever and everywhere."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import SessionGone, StoreUnavailable
from bff.base.events import EventKind
from bff.base.secret import Secret
from bff.oauth.types import Identity
from bff.session.cookies import CookiePolicy
from bff.session.model import EndReason, Session
from bff.session.sealing import KeyRing
from bff.session.store import MemoryStore, SqliteStore
from tests.session.world import ALICE, BOB, IDLE_S, ISSUER, MAX_S, World, breathe, tick


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = MemoryStore(clock=clock) if request.param == "memory" else SqliteStore(tmp_path / "s" / "s.db", clock=clock)
    yield World(store, clock=clock)
    await store.close()


@pytest.fixture
def plain() -> World:
    return World()


def renamed(name: str) -> object:
    return lambda session: replace(session, claims={**session.claims, "name": name})


# --- beginning ---


async def test_a_begun_session_is_recalled_at_once_and_found_by_any_worker(world: World) -> None:
    live, value = await world.sign_in()
    assert world.keeper.recall(value) is live
    assert await world.keeper.find(value) is live
    other = await world.new_keeper().find(value)
    assert other is not None
    assert other.session == live.session


@pytest.mark.row("SESS-2", "S1", "S2")
async def test_a_login_issues_a_new_id_and_the_one_before_stops_working(world: World) -> None:
    first, old_value = await world.sign_in()
    second, new_value = await world.sign_in(previous=[first.key])
    assert new_value != old_value
    assert second.key != first.key
    assert second.half != first.half
    assert world.keeper.recall(old_value) is None
    assert await world.keeper.find(old_value) is None
    assert await world.new_keeper().find(old_value) is None
    assert await world.store.store.get(first.key) is None
    assert await world.keeper.find(new_value) is second


@pytest.mark.row("S1")
async def test_a_value_planted_before_login_never_becomes_a_session(world: World) -> None:
    planted = (await World().sign_in())[1]
    assert await world.keeper.find(planted) is None
    _, value = await world.sign_in()
    assert value != planted
    assert await world.keeper.find(planted) is None


@pytest.mark.row("SESS-3", "S2", "F20")
async def test_another_persons_login_inherits_nothing_and_hands_the_old_tokens_over_for_revocation(plain: World) -> None:
    alice, _ = await plain.sign_in(ALICE)
    handed: list[Session] = []
    tokens = plain.provider.login()
    bob, _ = await plain.keeper.begin(BOB, tokens, previous=[alice.key], replaced=handed.append)
    assert [session.subject for session in handed] == ["alice"]
    assert handed[0].refresh_token
    assert bob.session is not None
    assert (bob.session.subject, bob.session.claims, bob.session.acr, bob.session.refresh_token) == (
        "bob",
        {"name": "Bob"},
        "",
        tokens.refresh_token,
    )
    assert alice.session is None


@pytest.mark.row("SESS-2", "F39")
async def test_when_the_old_session_cannot_be_ended_no_new_one_begins(plain: World) -> None:
    first, _ = await plain.sign_in()
    plain.store.down.add("delete")
    with pytest.raises(StoreUnavailable):
        await plain.sign_in(previous=[first.key])
    assert "insert" not in plain.store.calls[1:]


@pytest.mark.row("PRIV-2")
async def test_of_forty_claims_only_the_listed_ones_are_kept(plain: World) -> None:
    claims = {f"claim{number}": "canary" for number in range(40)} | {"name": "A", "groups": ["x"], "at_hash": "y", "nonce": "n"}
    live, _ = await plain.sign_in(replace(ALICE, claims=claims))
    assert live.session is not None
    assert live.session.claims == {"name": "A", "groups": ["x"]}


@pytest.mark.row("PRIV-2")
async def test_without_a_list_the_id_tokens_own_claims_are_still_left_out(plain: World) -> None:
    keeper = plain.new_keeper(claims=None)
    claims = {"name": "A", "nonce": "n", "at_hash": "h", "exp": 1, "department": "x", "huge": 2**70}
    live, value = await plain.sign_in(replace(ALICE, claims=claims), keeper=keeper)
    assert live.session is not None
    assert live.session.claims == {"name": "A", "department": "x"}
    assert await plain.new_keeper(claims=None).find(value) is not None


@pytest.mark.row("COOKIE-12", "COOKIE-15", "F22", "COOKIE-11")
async def test_forty_kibibytes_of_claims_and_long_tokens_leave_the_cookies_size_alone(plain: World) -> None:
    sizes = set()
    for size in (0, 3_000, 12_000, 40_000):
        live, value = await plain.sign_in(replace(ALICE, claims={"name": "é" * size}))
        sizes.add(len(value))
        again = await plain.new_keeper().find(value)
        assert again is not None
        assert again.session == live.session
    assert sizes == {140}


@pytest.mark.row("TOKEN-4")
async def test_scopes_asked_for_hold_where_the_answer_names_none(plain: World) -> None:
    live, _ = await plain.sign_in()
    assert live.session is not None
    assert live.session.grants[""].scopes == {"openid", "orders"}
    plain.provider.scopes = ("openid",)
    live, _ = await plain.sign_in()
    assert live.session is not None
    assert live.session.grants[""].scopes == {"openid"}


# --- limits ---


@pytest.mark.row("SESS-4", "S3")
async def test_an_idle_session_is_over_and_its_entry_gone(world: World) -> None:
    live, value = await world.sign_in()
    reasons: list[EndReason] = []
    live.watch(reasons.append)
    world.clock.advance(IDLE_S - 1)
    assert await world.keeper.find(value) is live
    world.clock.advance(2)
    assert world.keeper.recall(value) is None
    assert await world.keeper.find(value) is None
    assert await world.store.store.get(live.key) is None
    assert reasons == [EndReason.IDLE]
    assert await world.keeper.find(value) is None


@pytest.mark.row("SESS-5", "F12")
async def test_activity_every_minute_does_not_move_the_absolute_limit(world: World) -> None:
    live, value = await world.sign_in()
    for _ in range(int(MAX_S / 600) - 1):
        world.clock.advance(600)
        found = await world.keeper.find(value)
        assert found is live
        world.keeper.touch(live)
        await tick(world.keeper)
    await world.keeper.update(live, lambda session: replace(session, expires_at=session.expires_at + 9999))
    world.clock.advance(600)
    assert await world.keeper.find(value) is None
    world.clock.advance(60)
    await tick(world.keeper)
    assert await world.store.store.get(live.key) is None


@pytest.mark.row("SESS-6", "F12")
async def test_being_asked_for_is_not_activity(world: World) -> None:
    _, value = await world.sign_in()
    for _ in range(int(IDLE_S / 60)):
        world.clock.advance(59)
        assert await world.keeper.find(value) is not None
    world.clock.advance(60)
    assert await world.keeper.find(value) is None


@pytest.mark.row("SESS-9")
async def test_the_session_ends_when_the_provider_said_that_its_own_does(plain: World) -> None:
    _, value = await plain.sign_in(replace(ALICE, session_expires_at=plain.clock.now() + 600))
    _, later = await plain.sign_in(replace(ALICE, session_expires_at=plain.clock.now() + 10**9))
    plain.clock.advance(599)
    assert await plain.keeper.find(value) is not None
    plain.clock.advance(1)
    assert await plain.keeper.find(value) is None and await plain.keeper.find(later) is not None


@pytest.mark.row("SESS-9")
async def test_a_lifetime_hint_of_the_provider_caps_the_session(plain: World) -> None:
    plain.provider.session_max_s = 600
    _, value = await plain.sign_in()
    plain.clock.advance(599)
    assert await plain.keeper.find(value) is not None
    plain.clock.advance(1)
    assert await plain.keeper.find(value) is None


@pytest.mark.row("SESS-4")
async def test_activity_seen_by_another_worker_keeps_the_session_alive_here(world: World) -> None:
    live, value = await world.sign_in()
    other = world.new_keeper()
    there = await other.find(value)
    assert there is not None
    for _ in range(20):
        world.clock.advance(IDLE_S / 10)
        other.touch(there)
        await tick(other)
    assert world.keeper.recall(value) is None, "as far as this worker knows it is idle"
    assert await world.keeper.find(value) is live
    assert live.seen_at == there.seen_at


@pytest.mark.row("SESS-4")
async def test_no_pattern_of_activity_on_one_worker_looks_idle_to_another(plain: World) -> None:
    _, value = await plain.sign_in()
    keepers = [plain.new_keeper() for _ in range(2)]
    gap_s = IDLE_S * 0.97
    for step in range(12):
        plain.clock.advance(gap_s)
        busy, asked = keepers[step % 2], keepers[(step + 1) % 2]
        live = await busy.find(value)
        assert live is not None
        busy.touch(live)
        await tick(busy)
        plain.clock.advance(IDLE_S * 0.02)
        assert await asked.find(value) is not None


async def test_touches_are_written_at_most_once_an_interval(plain: World) -> None:
    live, _ = await plain.sign_in()
    for _ in range(240):
        plain.clock.advance(0.25)
        plain.keeper.touch(live)
        await tick(plain.keeper)
    assert plain.store.calls.count("touch") == 1
    await plain.keeper.settle()
    row = await plain.store.store.get(live.key)
    assert row is not None
    assert row.seen_at == live.seen_at


async def test_settling_with_the_store_down_raises_nothing(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(1)
    plain.keeper.touch(live)
    plain.store.down.add("*")
    await plain.keeper.settle()


@pytest.mark.row("F49")
async def test_a_clock_that_jumps_back_a_minute_ends_and_extends_nothing(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock._now -= 60
    plain.keeper.touch(live)
    assert await plain.keeper.find(value) is live
    assert live.session is not None
    assert live.session.expires_at == live.session.created_at + MAX_S


@pytest.mark.row("COOKIE-17", "D15")
async def test_an_expired_or_foreign_cookie_is_refused_without_asking_the_store(plain: World) -> None:
    _, value = await plain.sign_in()
    plain.clock.advance(MAX_S)
    plain.store.calls.clear()
    stranger = (await World().sign_in())[1]
    for wrong in (value, stranger, "", "x" * 140, value[:-1], value + "A", "ü" * 140, "x" * 100_000):
        assert await plain.keeper.find(wrong) is None
    assert plain.store.calls == []


@pytest.mark.row("COOKIE-19", "S9")
async def test_another_instances_cookie_is_nobody(plain: World) -> None:
    _, value = await plain.sign_in()
    assert await plain.new_keeper(cookie=CookiePolicy(instance="https://b.example.com")).find(value) is None
    assert await plain.new_keeper().find(value) is not None


# --- ending ---


@pytest.mark.row("SESS-10", "S3")
@pytest.mark.parametrize("reason", [EndReason.LOGOUT, EndReason.ADMINISTRATOR, EndReason.BACKCHANNEL])
async def test_an_ended_session_is_over_on_every_worker_within_a_second(world: World, reason: EndReason) -> None:
    live, value = await world.sign_in()
    workers = [world.new_keeper() for _ in range(3)]
    heard: list[EndReason] = []
    for worker in workers:
        there = await worker.find(value)
        assert there is not None
        there.watch(heard.append)
        await tick(worker)
    ended = await world.keeper.end(live.key, reason)
    assert ended is not None
    assert ended.subject == "alice"
    assert world.keeper.recall(value) is None
    world.clock.advance(0.25)
    for worker in workers:
        await tick(worker)
        assert worker.recall(value) is None
        assert await worker.find(value) is None
    assert heard == [EndReason.ELSEWHERE] * 3
    assert await world.new_keeper().find(value) is None


@pytest.mark.row("S3", "SESS-10")
async def test_a_worker_that_hears_nothing_asks_the_store_after_a_second(world: World) -> None:
    live, value = await world.sign_in()
    other = world.new_keeper()
    await other.find(value)
    await world.keeper.end(live.key, EndReason.LOGOUT)
    world.clock.advance(0.9)
    assert other.recall(value) is not None, "the documented window"
    world.clock.advance(0.2)
    assert other.recall(value) is None
    assert await other.find(value) is None


async def test_a_worker_that_listens_recalls_without_asking(plain: World) -> None:
    _, value = await plain.sign_in()
    await tick(plain.keeper)
    plain.clock.advance(0.9)
    await plain.keeper.find(value)
    plain.clock.advance(0.2)
    await plain.keeper.find(value)
    plain.store.calls.clear()
    for _ in range(20):
        plain.clock.advance(0.25)
        await tick(plain.keeper)
        assert plain.keeper.recall(value) is not None
    assert plain.store.calls.count("get") == 0


@pytest.mark.row("F10", "REV-1")
async def test_ending_returns_the_newest_tokens_also_when_another_worker_renewed_them(plain: World) -> None:
    live, value = await plain.sign_in()
    other = plain.new_keeper()
    there = await other.find(value)
    assert there is not None
    await other.update(there, lambda session: replace(session, refresh_token=Secret("rotated elsewhere")))
    ended = await plain.keeper.end(live.key, EndReason.LOGOUT)
    assert ended is not None
    assert ended.refresh_token.reveal() == "rotated elsewhere"


async def test_ending_what_this_worker_never_saw_returns_none_and_ends_it(world: World) -> None:
    live, value = await world.sign_in()
    other = world.new_keeper()
    assert await other.end(live.key, EndReason.ADMINISTRATOR) is None
    assert await world.new_keeper().find(value) is None
    assert await other.end(b"\0" * 32, EndReason.ADMINISTRATOR) is None


@pytest.mark.row("T10", "F9")
async def test_fifty_ends_and_finds_at_once_raise_nothing(world: World) -> None:
    live, value = await world.sign_in()
    other = world.new_keeper()
    work = [keeper.end(live.key, EndReason.LOGOUT) for keeper in (world.keeper, other) for _ in range(25)]
    finds = [keeper.find(value) for keeper in (world.keeper, other) for _ in range(25)]
    await asyncio.gather(*work, *finds)
    assert await world.keeper.find(value) is None
    assert len([event for event in world.kinds(EventKind.SESSION_ENDED) if event.fields["reason"] == "logout"]) == 1


@pytest.mark.row("F39", "SESS-14")
async def test_a_logout_the_store_did_not_take_blocks_here_and_is_finished_later(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.store.down.add("delete")
    with pytest.raises(StoreUnavailable):
        await plain.keeper.end(live.key, EndReason.LOGOUT)
    assert plain.keeper.recall(value) is None
    with pytest.raises(StoreUnavailable):
        await plain.keeper.find(value)
    await tick(plain.keeper)
    assert await plain.store.store.get(live.key) is not None
    plain.store.down.clear()
    await tick(plain.keeper)
    assert await plain.store.store.get(live.key) is None
    assert await plain.keeper.find(value) is None


@pytest.mark.row("F39")
async def test_an_end_whose_acknowledgement_got_lost_is_an_end(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.store.after.add("delete")
    with pytest.raises(StoreUnavailable):
        await plain.keeper.end(live.key, EndReason.LOGOUT)
    plain.store.after.clear()
    assert await plain.keeper.find(value) is None
    assert await plain.keeper.end(live.key, EndReason.LOGOUT) is None


@pytest.mark.row("TOKEN-8")
async def test_a_caller_that_leaves_does_not_stop_an_end(plain: World) -> None:
    live, value = await plain.sign_in()
    going = asyncio.Event()
    plain.store.before["delete"] = going.wait
    ending = asyncio.ensure_future(plain.keeper.end(live.key, EndReason.LOGOUT))
    await breathe()
    ending.cancel()
    await breathe()
    going.set()
    await breathe()
    assert await plain.store.store.get(live.key) is None
    assert await plain.keeper.find(value) is None


async def test_watchers_are_told_once_and_one_that_fails_stops_no_other(plain: World) -> None:
    live, _ = await plain.sign_in()
    told: list[EndReason] = []

    def broken(reason: EndReason) -> None:
        raise ValueError

    live.watchers |= {broken, told.append}
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    await tick(plain.keeper)
    assert told == [EndReason.LOGOUT]
    assert any(event.outcome == "watcher_failed" for event in plain.events)


@pytest.mark.row("S3")
@pytest.mark.parametrize(("wait_s", "reason"), [(IDLE_S, EndReason.IDLE), (MAX_S, EndReason.EXPIRED)])
async def test_watchers_hear_of_time_running_out_though_nobody_asks(world: World, wait_s: float, reason: EndReason) -> None:
    live, _ = await world.sign_in()
    told: list[EndReason] = []
    live.watch(told.append)
    world.clock.advance(2)
    await tick(world.keeper)
    assert told == []
    if reason is EndReason.EXPIRED:
        live.seen_at = world.clock.now() + MAX_S
    world.clock.advance(wait_s)
    await tick(world.keeper)
    assert told == [reason]


@pytest.mark.row("S3", "F56")
async def test_a_session_that_fell_off_the_cache_still_tells_its_watchers(plain: World) -> None:
    keeper = plain.new_keeper(cached=4)
    live, value = await plain.sign_in(keeper=keeper)
    told: list[EndReason] = []
    live.watch(told.append)
    for _ in range(20):
        await plain.sign_in(BOB, keeper=keeper)
    await tick(keeper)
    await plain.new_keeper().end(live.key, EndReason.LOGOUT)
    await tick(keeper)
    assert told == [EndReason.ELSEWHERE]
    assert live.session is None
    assert await keeper.find(value) is None


# --- by person ---


@pytest.mark.row("SESS-11", "SESS-12", "S12", "PRIV-5")
async def test_all_sessions_of_a_person_end_also_after_the_oldest_has_gone(world: World) -> None:
    await tick(world.keeper)
    started = [await world.sign_in(replace(ALICE, sid=f"sid-{number}")) for number in range(5)]
    bob, bob_value = await world.sign_in(BOB)
    await world.keeper.end(started[0][0].key, EndReason.LOGOUT)
    other = world.new_keeper()
    ended = await other.end_where(issuer=ISSUER, subject="alice", reason=EndReason.BACKCHANNEL)
    assert ended == [], "the other worker could open none of them"
    assert [event.fields["count"] for event in world.kinds(EventKind.SESSION_ENDED) if "count" in event.fields] == [4]
    await tick(world.keeper)
    for _, value in started:
        assert await world.keeper.find(value) is None
        assert await world.new_keeper().find(value) is None
    assert await world.keeper.find(bob_value) is bob
    assert await world.keeper.find_rows(issuer=ISSUER, subject="alice") == []


@pytest.mark.row("SESS-12", "S12")
async def test_a_provider_sid_ends_just_its_session_and_returns_it(world: World) -> None:
    started = [await world.sign_in(replace(ALICE, sid=f"sid-{number}")) for number in range(3)]
    ended = await world.keeper.end_where(issuer=ISSUER, sid="sid-1", reason=EndReason.BACKCHANNEL)
    assert [session.sid for session in ended] == ["sid-1"]
    found = [await world.keeper.find(value) for _, value in started]
    assert [live is not None for live in found] == [True, False, True]


@pytest.mark.row("SESS-12")
async def test_subject_and_sid_together_end_that_session_and_those_without_sid(world: World) -> None:
    named = await world.sign_in(replace(ALICE, sid="x"))
    others = await world.sign_in(replace(ALICE, sid="y"))
    unnamed = await world.sign_in(replace(ALICE, sid=""))
    bobs = await world.sign_in(replace(BOB, sid="x"))
    await world.keeper.end_where(issuer=ISSUER, subject="alice", sid="x", reason=EndReason.BACKCHANNEL)
    alive = [await world.keeper.find(value) is not None for _, value in (named, others, unnamed, bobs)]
    assert alive == [False, True, False, True]


@pytest.mark.row("SESS-12", "J18", "T6")
async def test_the_same_subject_at_another_issuer_is_another_person(world: World) -> None:
    _, value = await world.sign_in(replace(ALICE, issuer="https://other.example.com"))
    await world.keeper.end_where(issuer=ISSUER, subject="alice", reason=EndReason.ADMINISTRATOR)
    await world.keeper.end_where(issuer="https://other.example.coma", subject="lice", reason=EndReason.ADMINISTRATOR)
    assert await world.keeper.find(value) is not None


@pytest.mark.row("COOKIE-20", "SESS-11", "F46")
async def test_a_person_is_found_after_keys_were_rotated(world: World) -> None:
    _, value = await world.sign_in()
    world.ring.adopt(world.ring.rotated())
    await world.sign_in()
    assert len(await world.keeper.find_rows(issuer=ISSUER, subject="alice")) == 2
    await world.keeper.end_where(issuer=ISSUER, subject="alice", reason=EndReason.ADMINISTRATOR)
    assert await world.keeper.find(value) is None


async def test_rows_are_listed_in_pages(world: World) -> None:
    for _ in range(5):
        await world.sign_in()
    first = await world.keeper.find_rows(limit=2)
    rest = await world.keeper.find_rows(after=first[-1].key)
    assert len(first) == 2
    assert len(rest) == 3
    by_person = await world.keeper.find_rows(issuer=ISSUER, subject="alice", after=first[-1].key, limit=2)
    assert [row.key for row in by_person] == [row.key for row in rest[:2]]


# --- updating ---


@pytest.mark.row("SESS-15", "F8")
async def test_updates_from_many_workers_at_once_all_count(world: World) -> None:
    live, value = await world.sign_in(replace(ALICE, claims={"name": "A", "groups": []}))
    workers = [world.keeper, *(world.new_keeper() for _ in range(4))]
    lives = [await worker.find(value) for worker in workers]

    async def add(number: int) -> None:
        worker, there = workers[number % 5], lives[number % 5]
        assert there is not None
        await worker.update(
            there, lambda session: replace(session, claims={**session.claims, "groups": [*session.claims["groups"], number]})
        )

    for wave in range(0, 25, 5):
        await asyncio.gather(*(add(number) for number in range(wave, wave + 5)))
    last = await world.keeper.reread(live)
    assert sorted(last.claims["groups"]) == list(range(25))
    assert last.version == 26


@pytest.mark.row("SESS-15", "F10")
async def test_a_late_writer_revives_nothing(world: World) -> None:
    live, value = await world.sign_in()
    other = world.new_keeper()
    there = await other.find(value)
    assert there is not None
    await world.keeper.end(live.key, EndReason.LOGOUT)
    for keeper, held in ((other, there), (world.keeper, live)):
        with pytest.raises(SessionGone):
            await keeper.update(held, lambda session: session)
        with pytest.raises(SessionGone):
            await keeper.reread(held)
    assert await world.store.store.get(live.key) is None
    assert await other.find(value) is None


@pytest.mark.row("F10", "SESS-15")
async def test_a_logout_between_write_and_answer_wins(plain: World) -> None:
    live, value = await plain.sign_in()

    async def log_out() -> None:
        await plain.new_keeper().end(live.key, EndReason.LOGOUT)
        await tick(plain.keeper)

    await tick(plain.keeper)
    plain.store.before["replace"] = log_out
    with pytest.raises(SessionGone):
        await plain.keeper.update(live, lambda session: session)
    assert await plain.keeper.find(value) is None


@pytest.mark.row("SESS-15")
async def test_an_update_changes_neither_person_nor_key_nor_birth(plain: World) -> None:
    live, _ = await plain.sign_in()
    old = live.session
    assert old is not None
    new = await plain.keeper.update(
        live, lambda session: replace(session, key=b"k" * 32, issuer="x", subject="eve", created_at=0.0, version=77, claims={})
    )
    assert (new.key, new.issuer, new.subject, new.created_at, new.version) == (old.key, old.issuer, old.subject, old.created_at, 2)
    assert new.claims == {}
    assert live.session is new


async def test_what_a_change_raises_comes_out_and_nothing_is_written(plain: World) -> None:
    live, _ = await plain.sign_in()

    def refuse(session: Session) -> Session:
        raise KeyError

    with pytest.raises(KeyError):
        await plain.keeper.update(live, refuse)
    assert "replace" not in plain.store.calls


async def test_endless_contention_is_store_unavailable(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.store.store.replace = lambda row, *, expected_version: asyncio.sleep(0, False)  # type: ignore[method-assign,assignment,union-attr]
    with pytest.raises(StoreUnavailable):
        await plain.keeper.update(live, lambda session: session)


@pytest.mark.row("S7", "S3")
async def test_another_workers_update_arrives_and_replaces_the_session_object(world: World) -> None:
    live, value = await world.sign_in()
    await tick(world.keeper)
    judged = live.session
    other = world.new_keeper()
    there = await other.find(value)
    assert there is not None
    await other.update(there, renamed("Alicia"))  # type: ignore[arg-type]
    world.clock.advance(0.25)
    await tick(world.keeper)
    assert live.session is not judged
    assert live.session is not None
    assert live.session.claims["name"] == "Alicia"
    assert world.keeper.recall(value) is live


async def test_an_answer_overtaken_by_our_own_write_does_not_end_or_revert_the_session(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(2)
    row = await plain.store.store.get(live.key)
    await plain.keeper.update(live, renamed("New"))  # type: ignore[arg-type]
    assert await plain.keeper._agree(live, row, plain.clock.monotonic())
    assert live.session is not None
    assert live.session.claims["name"] == "New"
    assert await plain.keeper.find(value) is live


async def test_a_read_that_was_under_way_during_a_change_is_made_again(plain: World) -> None:
    live, value = await plain.sign_in()
    reader = plain.new_keeper()
    await tick(reader)
    original = plain.store.store.get
    reads = 0

    async def slow_get(key: bytes) -> object:
        nonlocal reads
        reads += 1
        row = await original(key)
        if reads == 1:
            await plain.keeper.update(live, renamed("New"))  # type: ignore[arg-type]
            await tick(reader)
        return row

    plain.store.store.get = slow_get  # type: ignore[method-assign,assignment]
    found = await reader.find(value)
    assert found is not None
    assert found.session is not None
    assert found.session.claims["name"] == "New"


# --- trouble ---


@pytest.mark.row("SESS-14", "F36", "F4")
async def test_a_store_that_is_down_is_never_a_no_and_the_same_cookie_works_afterwards(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(2)
    plain.store.down.add("*")
    for keeper in (plain.keeper, plain.new_keeper()):
        assert keeper.recall(value) is None
        with pytest.raises(StoreUnavailable):
            await keeper.find(value)
        await tick(keeper)
    plain.store.down.clear()
    assert await plain.keeper.find(value) is live


@pytest.mark.row("F14", "F36")
async def test_an_outage_is_reported_once_until_it_is_over(plain: World) -> None:
    plain.store.down.add("*")
    for _ in range(5):
        await tick(plain.keeper)
    assert len(plain.kinds(EventKind.STORE_FAILED)) == 1
    plain.store.down.clear()
    await tick(plain.keeper)
    plain.store.down.add("*")
    await tick(plain.keeper)
    assert len(plain.kinds(EventKind.STORE_FAILED)) == 2


@pytest.mark.row("F42")
async def test_a_store_that_shows_an_older_version_than_was_seen_has_lost_the_session(plain: World) -> None:
    live, value = await plain.sign_in()
    old_row = await plain.store.store.get(live.key)
    assert old_row is not None
    await plain.keeper.update(live, lambda session: session)
    plain.store.store._rows[live.key] = old_row  # type: ignore[union-attr]
    plain.clock.advance(2)
    assert await plain.keeper.find(value) is None
    assert await plain.store.store.get(live.key) is None


@pytest.mark.row("SESS-13", "S10")
async def test_a_row_that_does_not_open_is_nobody_and_stays(plain: World) -> None:
    live, value = await plain.sign_in()
    row = await plain.store.store.get(live.key)
    assert row is not None
    plain.store.store._rows[live.key] = replace(row, sealed=row.sealed[:-1] + b"x")  # type: ignore[union-attr]
    assert await plain.new_keeper().find(value) is None
    assert await plain.store.store.get(live.key) is not None


@pytest.mark.row("F44")
async def test_a_record_rewritten_by_a_later_release_is_absent_here_but_not_ended(plain: World) -> None:
    live, value = await plain.sign_in()
    await tick(plain.keeper)
    row = await plain.store.store.get(live.key)
    assert row is not None
    later = replace(row, version=2, sealed=b"\x63" + row.sealed[1:])
    await plain.store.store.replace(later, expected_version=1)
    await tick(plain.keeper)
    assert plain.keeper.recall(value) is None
    assert await plain.keeper.find(value) is None
    with pytest.raises(SessionGone):
        await plain.keeper.reread(live)
    assert await plain.store.store.get(live.key) == later


@pytest.mark.row("PRIV-4", "F45")
async def test_idled_out_and_expired_rows_nobody_asks_for_are_purged(world: World) -> None:
    live, _ = await world.sign_in()
    world.clock.advance(IDLE_S + 61)
    await tick(world.keeper)
    assert await world.store.store.get(live.key) is not None, "not before activity elsewhere would have arrived"
    world.clock.advance(IDLE_S)
    await tick(world.keeper)
    assert await world.store.store.get(live.key) is None
    assert await world.keeper.find_rows(issuer=ISSUER, subject="alice") == []


@pytest.mark.row("F51")
async def test_what_ended_or_ran_out_leaves_memory_within_a_minute_and_what_lives_stays(world: World) -> None:
    ended, dead_cookie = await world.sign_in()
    await world.keeper.end(ended.key, EndReason.LOGOUT)
    await world.sign_in()
    world.clock.advance(IDLE_S)
    alive, cookie = await world.sign_in()
    await tick(world.keeper)
    assert list(world.keeper._shelf._recent) == [cookie]
    assert not world.keeper._shelf._older
    assert await world.keeper.find(dead_cookie) is None
    assert await world.keeper.find(cookie) is alive


async def test_missed_changes_make_everything_asked_for_again(plain: World) -> None:
    live, value = await plain.sign_in()
    await tick(plain.keeper)
    told: list[EndReason] = []
    live.watch(told.append)
    await plain.new_keeper().end(live.key, EndReason.LOGOUT)
    plain.store.store._changed.clear()  # type: ignore[union-attr]
    await tick(plain.keeper)
    assert told == [EndReason.ELSEWHERE]
    assert plain.keeper.recall(value) is None


async def test_run_goes_round_until_cancelled(plain: World) -> None:
    turns = 0

    async def pause(seconds: float) -> None:
        nonlocal turns
        turns += 1
        plain.clock.advance(seconds)
        await asyncio.sleep(0)

    keeper = plain.new_keeper(pause=pause)
    running = asyncio.ensure_future(keeper.run())
    await breathe(50)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert turns > 5
    assert plain.store.calls.count("changes") > 5


@pytest.mark.row("F39")
async def test_ends_the_store_never_takes_are_bounded(plain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bff.session.keeper.MAX_DOOMED", 3)
    started = [await plain.sign_in() for _ in range(5)]
    plain.store.down.add("delete")
    for live, _ in started:
        with pytest.raises(StoreUnavailable):
            await plain.keeper.end(live.key, EndReason.LOGOUT)
    assert len(plain.keeper._doomed) == 3
    assert all(plain.keeper.recall(value) is None for _, value in started)


# --- keys ---


@pytest.mark.row("COOKIE-20", "F46")
async def test_after_a_rotation_the_cookie_is_renewed_and_the_record_rewritten_so_the_old_key_can_go(world: World) -> None:
    live, value = await world.sign_in()
    assert live.renew_cookie == ""
    world.ring.adopt(world.ring.rotated(now=time.time()))
    world.keeper.forget_all()
    assert world.keeper.recall(value) is None
    assert await world.keeper.find(value) is live
    renewed = live.renew_cookie
    assert renewed
    assert renewed != value
    assert live.session is not None
    assert live.session.version == 2
    assert await world.keeper.find(renewed) is live
    assert live.renew_cookie == ""
    newest = KeyRing(world.ring._keys[:1])
    alone = world.new_keeper(ring=newest)
    assert await alone.find(value) is None, "the retired key's cookie is anonymous"
    there = await alone.find(renewed)
    assert there is not None
    assert there.session == live.session
    assert len(await alone.find_rows(issuer=ISSUER, subject="alice")) == 1


@pytest.mark.row("F46")
async def test_ten_rotations_one_worker_at_a_time_log_nobody_out(plain: World) -> None:
    _, value = await plain.sign_in()
    workers = [plain.new_keeper(ring=KeyRing(plain.ring._keys)) for _ in range(3)]
    for _ in range(10):
        new = workers[0]._ring.rotated(now=time.time())
        for worker in workers:
            worker._ring.adopt(new)
            worker.forget_all()
        for worker in workers:
            live = await worker.find(value)
            assert live is not None
            value = live.renew_cookie or value


async def test_rewriting_an_old_record_may_fail_without_harm(plain: World) -> None:
    _, value = await plain.sign_in()
    plain.ring.adopt(plain.ring.rotated(now=time.time()))
    plain.keeper.forget_all()
    plain.store.down.add("replace")
    assert await plain.keeper.find(value) is not None


async def test_rewriting_a_record_that_ends_meanwhile_finds_nobody(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.ring.adopt(plain.ring.rotated(now=time.time()))
    plain.keeper.forget_all()

    async def end() -> None:
        await plain.store.store.delete(live.key)

    plain.store.before["replace"] = end
    assert await plain.keeper.find(value) is None


@pytest.mark.row("F46")
async def test_a_key_that_is_retired_while_the_store_is_asked_opens_nothing_afterwards(plain: World) -> None:
    """What the shelf knows is not opened again: the cookie must not get there on the word of a key that has gone."""
    _, value = await plain.sign_in()
    plain.ring.adopt(plain.ring.rotated(now=time.time()))
    plain.keeper.forget_all()
    assert await plain.keeper.find(value) is not None, "the record is under the new key now"
    keeper = plain.new_keeper()

    async def retire() -> None:
        plain.ring.adopt(KeyRing(plain.ring._keys[:1]))
        keeper.forget_all()

    plain.store.before["get"] = retire
    assert await keeper.find(value) is None
    assert keeper.recall(value) is None


@pytest.mark.row("S9")
async def test_two_cookie_values_of_one_session_share_one_live(plain: World) -> None:
    _live, value = await plain.sign_in()
    plain.ring.adopt(plain.ring.rotated(now=time.time()))
    other = plain.new_keeper()
    first = await other.find(value)
    assert first is not None
    both = await asyncio.gather(other.find(value), other.find(first.renew_cookie))
    assert both == [first, first]


# --- the cache ---


async def test_the_cache_is_bounded_and_lets_lives_go(plain: World) -> None:
    keeper = plain.new_keeper(cached=10)
    values = [(await plain.sign_in(keeper=keeper))[1] for _ in range(50)]
    gc.collect()
    assert len(keeper._shelf) <= 10
    assert len(list(keeper._shelf.lives())) <= 10
    assert keeper.recall(values[-1]) is not None
    assert keeper.recall(values[0]) is None
    assert await keeper.find(values[0]) is not None


async def test_what_is_used_stays_in_the_cache(plain: World) -> None:
    keeper = plain.new_keeper(cached=10)
    _, hot = await plain.sign_in(keeper=keeper)
    for _ in range(50):
        await plain.sign_in(keeper=keeper)
        assert keeper.recall(hot) is not None


async def test_a_hundred_finds_at_once_read_the_store_once(plain: World) -> None:
    _, value = await plain.sign_in()
    other = plain.new_keeper()
    plain.store.calls.clear()
    found = await asyncio.gather(*(other.find(value) for _ in range(100)))
    assert len({id(live) for live in found}) == 1
    assert plain.store.calls.count("get") == 1


async def test_recalling_is_cheap(plain: World) -> None:
    _, value = await plain.sign_in()
    recall = plain.keeper.recall
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2000):
            recall(value)
        best = min(best, (time.perf_counter() - started) / 2000)
    assert best < 20e-6


# --- what is told ---


@pytest.mark.row("PRIV-1", "PRIV-6")
async def test_events_carry_pseudonyms_and_reasons_and_no_secret(plain: World) -> None:
    live, value = await plain.sign_in()
    session = live.session
    assert session is not None
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    (event,) = plain.kinds(EventKind.SESSION_ENDED)
    assert (event.session, event.subject) == plain.keeper.names_of(session)
    text = repr(event) + repr(live) + repr(session)
    for secret in (value, "alice", live.half.hex(), repr(live.half)):
        assert secret not in repr(event)
    for secret in (value, repr(live.half), session.refresh_token.reveal(), session.grants[""].access_token.reveal()):
        assert secret not in text


async def test_a_subject_with_odd_characters_is_its_own_person(world: World) -> None:
    for subject in ("a'b\"c", "ünï\u0000code", "a" * 255, " alice"):
        _, value = await world.sign_in(Identity(ISSUER, subject))
        await world.keeper.end_where(issuer=ISSUER, subject="alice", reason=EndReason.ADMINISTRATOR)
        assert await world.keeper.find(value) is not None
        await world.keeper.end_where(issuer=ISSUER, subject=subject, reason=EndReason.ADMINISTRATOR)
        assert await world.keeper.find(value) is None
