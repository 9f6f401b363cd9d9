"""The credential desk: one renewal per session however many ask, nothing lost, nobody logged out without cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import (
    GrantRefused,
    GrantRevoked,
    ProviderError,
    ProviderMisbehaved,
    ProviderUnavailable,
    SessionGone,
    StoreUnavailable,
    TokenInvalid,
)
from bff.base.events import EventKind
from bff.base.secret import Secret
from bff.session.credentials import CredentialDesk
from bff.session.keeper import Keeper
from bff.session.model import Credential, EndReason, Grant, Live, Session
from bff.session.renewal import fresh_until
from bff.session.store import MemoryStore, SqliteStore
from tests.session.world import ALICE, BOB, LIFE_S, Trouble, World, breathe, tick

API = "https://api.example.com"


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = MemoryStore(clock=clock) if request.param == "memory" else SqliteStore(tmp_path / "s" / "s.db", clock=clock)
    yield World(store, clock=clock)
    await store.close()


@pytest.fixture
def plain() -> World:
    return World()


def user(world: World, live: Live | None, audience: str = "", desk: CredentialDesk | None = None) -> object:
    return (desk or world.desk).issue(live, token="user", audience=audience)


def at_hand(world: World, live: Live, audience: str = "") -> Credential | None:
    return world.desk.at_hand(live.session, token="user", audience=audience)


def tokens_of(session: Session | None) -> Grant:
    assert session is not None
    return session.grants[""]


async def worker(world: World, value: str, store: Trouble | None = None) -> tuple[Keeper, CredentialDesk, Live]:
    """Another worker process with this session in its hands."""
    keeper = world.new_keeper(store=store)
    live = await keeper.find(value)
    assert live is not None
    return keeper, world.new_desk(keeper, store=store), live


# --- at hand ---


async def test_a_fresh_token_is_at_hand_and_nobody_is_asked(plain: World) -> None:
    live, _ = await plain.sign_in()
    credential = at_hand(plain, live)
    assert credential is not None
    assert credential.authorization == b"Bearer h.own-1.s"
    assert credential.scopes == {"openid", "orders"}
    assert await user(plain, live) == credential  # type: ignore[misc]
    assert plain.provider.redeemed == []


@pytest.mark.row("TOKEN-13", "F13")
async def test_a_token_is_renewed_before_the_call_when_twenty_seconds_are_left(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S - 37)
    assert at_hand(plain, live) is not None
    plain.clock.advance(17)
    assert at_hand(plain, live) is None
    renewed = await user(plain, live)  # type: ignore[misc]
    assert renewed.authorization == b"Bearer h.own-2.s"
    assert at_hand(plain, live) == renewed


@pytest.mark.row("TOKEN-13", "F11")
def test_the_margin_is_jittered_by_session_and_never_more_than_half_the_life() -> None:
    def session(key: bytes, refresh: str = "r") -> Session:
        return Session(key=key, version=1, issuer="i", subject="s", created_at=0, expires_at=9e9, refresh_token=Secret(refresh))

    long, short = Grant(Secret("t"), 300.0, frozenset(), issued_at=0.0), Grant(Secret("t"), 4.0, frozenset(), issued_at=0.0)
    times = {fresh_until(session(bytes([byte])), long, margin_s=30.0) for byte in range(256)}
    assert len(times) > 100
    assert min(times) >= 264.0
    assert max(times) == 270.0
    assert fresh_until(session(b"\xff"), short, margin_s=30.0) == 2.0
    assert fresh_until(session(b"\xff", refresh=""), long, margin_s=30.0) == 300.0


async def test_no_token_means_nothing_to_attach(plain: World) -> None:
    live, _ = await plain.sign_in()
    nothing = plain.desk.at_hand(live.session, token="none", audience="")
    assert nothing is not None
    assert nothing.authorization == b""


@pytest.mark.row("TOKEN-1")
@pytest.mark.parametrize("spelling", ["bearer", "BEARER", "Bearer"])
async def test_bearer_in_any_spelling_is_sent_as_bearer(plain: World, spelling: str) -> None:
    plain.provider.token_type = spelling
    live, _ = await plain.sign_in()
    credential = at_hand(plain, live)
    assert credential is not None
    assert credential.authorization.startswith(b"Bearer ")


# --- once ---


@pytest.mark.row("TOKEN-6", "F1", "T9")
async def test_fifty_calls_over_four_workers_at_expiry_are_one_refresh_and_fifty_successes(world: World) -> None:
    _, value = await world.sign_in()
    workers = [await worker(world, value) for _ in range(4)]
    for round_ in range(1, 11):
        world.clock.advance(LIFE_S + 1)
        for keeper, _, there in workers:
            keeper.touch(there)
        calls = [workers[number % 4][1].issue(workers[number % 4][2], token="user", audience="") for number in range(50)]
        answers = await asyncio.gather(*calls)
        assert len({answer.authorization for answer in answers}) == 1
        assert len(world.provider.redeemed) == round_
        assert world.provider.reuse == 0
    assert world.kinds(EventKind.SESSION_ENDED) == []


@pytest.mark.row("TOKEN-6", "F3")
async def test_a_straggler_just_after_the_renewal_finds_the_new_tokens_in_the_record(world: World) -> None:
    live, value = await world.sign_in()
    _, desk, there = await worker(world, value)
    world.clock.advance(LIFE_S + 1)
    first = await user(world, live)  # type: ignore[misc]
    for _ in range(3):
        assert (await desk.issue(there, token="user", audience="")).authorization == first.authorization
        world.clock.advance(0.04)
    assert len(world.provider.redeemed) == 1


@pytest.mark.row("TOKEN-7")
async def test_a_rotated_token_is_stored_before_any_waiter_proceeds(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    stored = asyncio.Event()
    plain.store.before["replace"] = stored.wait
    calls = [asyncio.ensure_future(user(plain, live)) for _ in range(5)]  # type: ignore[arg-type]
    await breathe(50)
    assert plain.provider.redeemed == ["rt-1"]
    assert not any(call.done() for call in calls)
    stored.set()
    await asyncio.gather(*calls)
    _, desk, there = await worker(plain, value)
    plain.clock.advance(LIFE_S + 1)
    await desk.issue(there, token="user", audience="")
    assert plain.provider.redeemed == ["rt-1", "rt-2"]


@pytest.mark.row("TOKEN-7")
async def test_an_answer_without_refresh_token_keeps_the_old_one(plain: World) -> None:
    plain.provider.rotate = False
    live, _ = await plain.sign_in()
    for _ in range(3):
        plain.clock.advance(LIFE_S + 1)
        await user(plain, live)  # type: ignore[misc]
    assert plain.provider.redeemed == ["rt-1"] * 3


@pytest.mark.row("TOKEN-8")
async def test_a_caller_that_leaves_does_not_stop_the_refresh(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    call = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    plain.provider.gate.set()
    await breathe(50)
    assert tokens_of(live.session).access_token.reveal() == "h.own-2.s"
    assert (await user(plain, live)).authorization == b"Bearer h.own-2.s"  # type: ignore[misc]
    assert plain.provider.redeemed == ["rt-1"]


@pytest.mark.row("F2", "C6")
async def test_another_workers_lease_is_waited_for_and_its_result_used(plain: World) -> None:
    live, value = await plain.sign_in()
    _, desk, there = await worker(plain, value)
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    slow = asyncio.ensure_future(desk.issue(there, token="user", audience=""))
    await breathe()
    waiting = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe(8)
    plain.provider.gate.set()
    assert (await waiting).authorization == (await slow).authorization
    assert plain.provider.redeemed == ["rt-1"]


@pytest.mark.row("F2")
async def test_who_waited_long_enough_gets_the_old_token_while_it_lives_and_then_a_503(plain: World) -> None:
    live, _ = await plain.sign_in()
    await plain.store.store.acquire(b"refresh:" + live.key, b"another worker", 1000.0)
    plain.clock.advance(LIFE_S - 20)
    old = await user(plain, live)  # type: ignore[misc]
    assert old.authorization == b"Bearer h.own-1.s"
    assert old.fresh_until <= plain.clock.now() + 1.0, "asked for again soon"
    plain.clock.advance(30)
    with pytest.raises(ProviderUnavailable) as caught:
        await user(plain, live)  # type: ignore[misc]
    assert caught.value.retry_after_s
    assert live.session is not None, "never logged out"
    assert plain.provider.redeemed == []


@pytest.mark.row("F2")
async def test_a_provider_slower_than_we_wait_answers_a_later_call(plain: World) -> None:
    live, _ = await plain.sign_in()
    desk = plain.new_desk(plain.keeper, wait_s=0.02)
    plain.clock.advance(LIFE_S - 10)
    plain.provider.gate = asyncio.Event()
    assert (await desk.issue(live, token="user", audience="")).authorization == b"Bearer h.own-1.s"
    plain.clock.advance(20)
    with pytest.raises(ProviderUnavailable):
        await desk.issue(live, token="user", audience="")
    plain.provider.gate.set()
    await breathe(50)
    assert (await desk.issue(live, token="user", audience="")).authorization == b"Bearer h.own-2.s"
    assert plain.provider.redeemed == ["rt-1"]


@pytest.mark.row("F2", "C6")
async def test_a_lease_is_renewed_while_the_provider_is_slow_and_given_back_afterwards(plain: World) -> None:
    live, _value = await plain.sign_in()
    renewals = asyncio.Event()

    async def pause(seconds: float) -> None:
        if seconds > 6:
            await renewals.wait()
            renewals.clear()
        await asyncio.sleep(0)

    desk = plain.new_desk(plain.keeper, pause=pause)
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    slow = asyncio.ensure_future(desk.issue(live, token="user", audience=""))
    await breathe()
    for _ in range(6):
        plain.clock.advance(15)
        assert not await plain.store.store.acquire(b"refresh:" + live.key, b"other", 20.0)
        renewals.set()
        await breathe()
    plain.provider.gate.set()
    await slow
    assert await plain.store.store.acquire(b"refresh:" + live.key, b"other", 20.0)


@pytest.mark.row("C6")
async def test_a_store_that_refuses_the_lease_prevents_a_refresh(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.store.down.add("acquire")
    with pytest.raises(StoreUnavailable):
        await user(plain, live)  # type: ignore[misc]
    assert plain.provider.redeemed == []
    plain.store.down.clear()
    assert await user(plain, live)  # type: ignore[misc]


@pytest.mark.row("F41", "F40")
@pytest.mark.parametrize("broken", ["acquire", "replace"])
async def test_the_old_token_is_used_while_it_lives_when_the_store_takes_no_writes(plain: World, broken: str) -> None:
    live, _ = await plain.sign_in()
    old = (await user(plain, live)).authorization  # type: ignore[misc]
    plain.clock.advance(LIFE_S - 10)
    plain.store.down.add(broken)
    assert (await user(plain, live)).authorization == old  # type: ignore[misc]
    plain.clock.advance(11)
    with pytest.raises(StoreUnavailable):
        await user(plain, live)  # type: ignore[misc]
    plain.store.down.clear()
    assert (await user(plain, live)).authorization != old  # type: ignore[misc]
    assert plain.provider.redeemed == ["rt-1"]


@pytest.mark.row("C6", "F5")
async def test_a_worker_that_lost_its_lease_does_not_overwrite_newer_tokens(plain: World) -> None:
    live, value = await plain.sign_in()
    other, _, there = await worker(plain, value)
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    slow = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    plain.clock.advance(21)
    grant = Grant(Secret("h.theirs.s"), plain.clock.now() + 300, frozenset(), issued_at=plain.clock.now())
    await other.update(there, lambda session: replace(session, refresh_token=Secret("rt-theirs"), grants={"": grant}))
    plain.provider.gate.set()
    assert (await slow).authorization == b"Bearer h.theirs.s"
    assert (await plain.keeper.reread(live)).refresh_token.reveal() == "rt-theirs"


@pytest.mark.row("F7", "F48")
async def test_a_worker_that_dies_while_renewing_blocks_the_session_no_longer_than_its_lease(plain: World) -> None:
    live, _value = await plain.sign_in()
    await plain.store.store.acquire(b"refresh:" + live.key, b"the dead", 20.0)
    plain.clock.advance(LIFE_S + 1)
    assert await user(plain, live)  # type: ignore[misc]
    assert plain.provider.redeemed == ["rt-1"]


@pytest.mark.row("F7", "PRIV-7")
async def test_an_invalid_grant_after_a_lease_that_nobody_gave_back_is_recorded_as_in_doubt(plain: World) -> None:
    def told() -> list[bool]:
        failed = [event for event in plain.events if event.kind is EventKind.TOKEN_REFRESH_FAILED]
        return [bool(event.fields.get("in_doubt")) for event in failed]

    for dead_lease in (False, True):
        live, _value = await plain.sign_in()
        plain.clock.advance(LIFE_S + 1)
        if dead_lease:
            await plain.store.store.acquire(b"refresh:" + live.key, b"the dead", 5.0)
        plain.provider.failures = [GrantRevoked("invalid_grant")]
        with pytest.raises(GrantRevoked):
            await user(plain, live)  # type: ignore[misc]
    assert told() == [False, True]


# --- failures ---


FAILURES: list[ProviderError] = [
    ProviderUnavailable("refused"),
    ProviderUnavailable("429", retry_after_s=30.0),
    ProviderMisbehaved("HTML"),
    GrantRefused("invalid_client"),
    GrantRefused("temporarily_unavailable"),
    TokenInvalid("nonce"),
    TokenInvalid("alg"),
]


@pytest.mark.row("TOKEN-9", "F4", "F25", "F27")
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure.code}-{failure.detail}")
async def test_every_failure_but_invalid_grant_keeps_the_session_and_the_old_token_to_its_end(plain: World, failure: ProviderError) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S - 20)
    plain.provider.failures = [failure]
    assert (await user(plain, live)).authorization == b"Bearer h.own-1.s"  # type: ignore[misc]
    plain.clock.advance(21)
    plain.provider.failures = [failure] * 2
    with pytest.raises(ProviderUnavailable) as caught:
        await user(plain, live)  # type: ignore[misc]
    assert caught.value.retry_after_s
    assert caught.value.retry_after_s > 0
    plain.provider.failures = []
    plain.clock.advance(61)
    assert (await user(plain, live)).authorization.startswith(b"Bearer h.own-")  # type: ignore[misc]
    assert await plain.keeper.find(value) is live
    assert all(event.outcome == failure.code for event in plain.kinds(EventKind.TOKEN_REFRESH_FAILED))


@pytest.mark.row("TOKEN-9", "F32")
async def test_retry_after_is_respected(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [ProviderUnavailable("429", retry_after_s=90.0)]
    for _ in range(9):
        with pytest.raises(ProviderUnavailable):
            await user(plain, live)  # type: ignore[misc]
        plain.clock.advance(9.9)
    assert len(plain.provider.redeemed) == 1
    plain.clock.advance(1)
    await user(plain, live)  # type: ignore[misc]


@pytest.mark.row("F14", "F25")
async def test_a_provider_that_refuses_for_ten_minutes_is_asked_a_few_times_only(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [ProviderMisbehaved("x")] * 1000
    for _ in range(1200):
        plain.clock.advance(0.5)
        with pytest.raises(ProviderUnavailable):
            await user(plain, live)  # type: ignore[misc]
    assert 8 <= len(plain.provider.redeemed) <= 30
    assert len(plain.kinds(EventKind.TOKEN_REFRESH_FAILED)) == len(plain.provider.redeemed)


@pytest.mark.row("F25", "F11")
async def test_a_provider_that_is_down_is_probed_once_a_second_for_all_sessions_together(plain: World) -> None:
    lives = [(await plain.sign_in())[0] for _ in range(60)]
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [ProviderUnavailable("down")] * 10_000
    await asyncio.gather(*(user(plain, live) for live in lives[:40]), return_exceptions=True)  # type: ignore[arg-type]
    started = len(plain.provider.redeemed)
    assert started <= 40
    for _ in range(10):
        plain.clock.advance(1)
        await asyncio.gather(*(user(plain, live) for live in lives), return_exceptions=True)  # type: ignore[arg-type]
    assert len(plain.provider.redeemed) - started <= 11
    plain.provider.failures = []
    for _ in range(130):
        plain.clock.advance(1)
        answers = await asyncio.gather(*(user(plain, live) for live in lives), return_exceptions=True)  # type: ignore[arg-type]
    assert not any(isinstance(answer, BaseException) for answer in answers)
    assert all(live.session for live in lives), "0 sessions lost"


@pytest.mark.row("F11")
async def test_hundreds_of_sessions_that_expire_together_queue_at_the_provider(plain: World) -> None:
    lives = [(await plain.sign_in())[0] for _ in range(300)]
    plain.clock.advance(LIFE_S + 1)
    await asyncio.gather(*(user(plain, live) for live in lives))  # type: ignore[arg-type]
    assert plain.provider.most_concurrent <= 32
    assert len(plain.provider.redeemed) == 300
    assert plain.provider.reuse == 0


@pytest.mark.row("TOKEN-9", "SESS-8", "F4")
async def test_invalid_grant_ends_the_session_for_everybody(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.good.clear()
    told: list[EndReason] = []
    live.watch(told.append)
    answers = await asyncio.gather(*(user(plain, live) for _ in range(10)), return_exceptions=True)  # type: ignore[arg-type]
    assert all(isinstance(answer, GrantRevoked) for answer in answers)
    assert told == [EndReason.REVOKED]
    assert len(plain.provider.redeemed) == 1
    assert await plain.keeper.find(value) is None
    assert await plain.new_keeper().find(value) is None
    with pytest.raises(SessionGone):
        await user(plain, live)  # type: ignore[misc]


@pytest.mark.row("F5")
async def test_invalid_grant_is_not_believed_when_the_record_holds_newer_tokens(plain: World) -> None:
    live, value = await plain.sign_in()
    other, _, there = await worker(plain, value)
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    losing = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    grant = Grant(Secret("h.theirs.s"), plain.clock.now() + 300, frozenset(), issued_at=plain.clock.now())
    await other.update(there, lambda session: replace(session, refresh_token=Secret("rt-theirs"), grants={"": grant}))
    plain.provider.good = {"rt-theirs"}
    plain.provider.gate.set()
    assert (await losing).authorization == b"Bearer h.theirs.s"
    assert await plain.keeper.find(value) is live


@pytest.mark.row("F5", "T9")
async def test_invalid_grant_with_a_newer_refresh_token_for_another_audience_tries_that_one_once(plain: World) -> None:
    live, value = await plain.sign_in()
    other, _, there = await worker(plain, value)
    plain.provider.gate = asyncio.Event()
    losing = asyncio.ensure_future(user(plain, live, API))  # type: ignore[arg-type]
    await breathe()
    await other.update(there, lambda session: replace(session, refresh_token=Secret("rt-theirs")))
    plain.provider.good = {"rt-theirs"}
    plain.provider.failures = [GrantRevoked("invalid_grant")]
    plain.provider.gate.set()
    assert (await losing).authorization.startswith(b"Bearer h.https://api")
    assert plain.provider.redeemed == ["rt-1", "rt-theirs"]


@pytest.mark.row("F5", "F7", "C6")
async def test_in_doubt_about_a_dead_lease_invalid_grant_waits_for_its_holders_late_write(plain: World) -> None:
    live, value = await plain.sign_in()
    other, _, there = await worker(plain, value)
    plain.clock.advance(LIFE_S + 1)
    await plain.store.store.acquire(b"refresh:" + live.key, b"cut off", 3.0)
    plain.provider.good.clear()
    pauses = 0

    async def pause(seconds: float) -> None:
        nonlocal pauses
        await World.pause(plain, seconds)
        pauses += 1
        if plain.provider.redeemed and seconds == 0.25 and pauses > 5:
            grant = Grant(Secret("h.late.s"), plain.clock.now() + 300, frozenset(), issued_at=plain.clock.now())
            await other.update(there, lambda session: replace(session, refresh_token=Secret("rt-late"), grants={"": grant}))

    desk = plain.new_desk(plain.keeper, pause=pause)
    assert (await desk.issue(live, token="user", audience="")).authorization == b"Bearer h.late.s"
    assert await plain.keeper.find(value) is live


@pytest.mark.row("F4", "SESS-14")
async def test_invalid_grant_while_the_store_is_down_ends_nothing(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.good.clear()

    async def fail() -> None:
        plain.store.down.add("get")

    plain.provider.gate = asyncio.Event()
    call = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    plain.store.down.add("get")
    plain.provider.gate.set()
    with pytest.raises(StoreUnavailable):
        await call
    plain.store.down.clear()
    assert live.session is not None
    assert await plain.keeper.find(value) is live


@pytest.mark.row("TOKEN-11", "SESS-3")
@pytest.mark.parametrize("rule", ["iss", "sub"])
async def test_an_answer_for_somebody_else_ends_the_session(plain: World, rule: str) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [TokenInvalid(rule)]
    told: list[EndReason] = []
    live.watch(told.append)
    with pytest.raises(SessionGone):
        await user(plain, live)  # type: ignore[misc]
    assert told == [EndReason.IDENTITY_CHANGED]
    assert await plain.keeper.find(value) is None
    await plain.desk.close(1)
    assert ("rt-1", "refresh_token") in plain.provider.revoked


@pytest.mark.row("SESS-8")
async def test_without_a_refresh_token_the_session_ends_with_its_token_and_not_before(plain: World) -> None:
    live, value = await plain.sign_in(refresh=False)
    plain.clock.advance(LIFE_S - 1)
    assert at_hand(plain, live) is not None
    plain.clock.advance(1)
    assert at_hand(plain, live) is None
    with pytest.raises(GrantRevoked):
        await user(plain, live)  # type: ignore[misc]
    assert await plain.keeper.find(value) is None
    assert plain.provider.redeemed == []


async def test_without_a_refresh_token_another_audience_is_a_refusal_and_no_end(plain: World) -> None:
    live, value = await plain.sign_in(refresh=False)
    with pytest.raises(GrantRefused) as caught:
        await user(plain, live, API)  # type: ignore[misc]
    assert not isinstance(caught.value, GrantRevoked)
    assert await plain.keeper.find(value) is live
    stale = at_hand(plain, live)
    assert stale is not None
    assert await plain.desk.renew(live, audience="", stale=stale) == stale


@pytest.mark.row("TOKEN-3", "F14")
async def test_a_token_that_is_over_on_arrival_does_not_ask_for_a_refresh_at_every_call(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.life_s = -100
    for _ in range(100):
        assert await user(plain, live)  # type: ignore[misc]
    assert len(plain.provider.redeemed) == 1


# --- logout and store trouble ---


@pytest.mark.row("F10", "SESS-15", "REV-1")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_logout_wins_over_a_refresh_in_flight_and_the_new_tokens_are_revoked(plain: World, where: str) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    call = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    keeper = plain.keeper if where == "here" else plain.new_keeper()
    ended = await keeper.end(live.key, EndReason.LOGOUT)
    if ended is not None:
        plain.desk.revoke_later(ended)
    plain.provider.gate.set()
    with pytest.raises(SessionGone):
        await call
    await plain.desk.close(1)
    assert ("rt-2", "refresh_token") in plain.provider.revoked, "the latest one"
    assert await plain.store.store.get(live.key) is None
    assert await plain.new_keeper().find(value) is None


@pytest.mark.row("F10", "REV-1")
async def test_an_opaque_access_token_that_came_too_late_is_revoked_too(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    original = plain.provider._tokens
    plain.provider._tokens = lambda audience, refresh=True, opaque=False: original(audience, refresh=refresh, opaque=True)  # type: ignore[method-assign]
    plain.provider.gate = asyncio.Event()
    call = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    plain.provider.gate.set()
    with pytest.raises(SessionGone):
        await call
    await plain.desk.close(1)
    assert set(plain.provider.revoked) == {("rt-2", "refresh_token"), ("opaque-2", "access_token")}


@pytest.mark.row("F39", "TOKEN-7", "F6")
async def test_tokens_the_store_would_not_take_are_kept_and_stored_by_the_next_call(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.store.down.add("replace")
    with pytest.raises(StoreUnavailable):
        await user(plain, live)  # type: ignore[misc]
    with pytest.raises(StoreUnavailable):
        await user(plain, live)  # type: ignore[misc]
    assert plain.provider.redeemed == ["rt-1"], "the spent refresh token is not tried again"
    plain.store.down.clear()
    assert (await user(plain, live)).authorization == b"Bearer h.own-2.s"  # type: ignore[misc]
    assert (await plain.keeper.reread(live)).refresh_token.reveal() == "rt-2"
    assert await plain.keeper.find(value) is live


@pytest.mark.row("F39")
async def test_a_short_store_hiccup_while_saving_is_sat_out(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.store.down.add("replace")

    async def pause(seconds: float) -> None:
        await World.pause(plain, seconds)
        plain.store.down.clear()

    assert await plain.new_desk(plain.keeper, pause=pause).issue(live, token="user", audience="")


@pytest.mark.row("F39")
async def test_a_save_whose_acknowledgement_got_lost_is_not_taken_for_another_workers(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.store.after.add("replace")

    async def pause(seconds: float) -> None:
        await World.pause(plain, seconds)
        plain.store.after.clear()

    desk = plain.new_desk(plain.keeper, pause=pause)
    assert (await desk.issue(live, token="user", audience="")).authorization == b"Bearer h.own-2.s"


@pytest.mark.row("F39", "REV-1")
async def test_logout_revokes_tokens_the_store_never_took(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.store.down.add("replace")
    with pytest.raises(StoreUnavailable):
        await user(plain, live)  # type: ignore[misc]
    plain.store.down.clear()
    ended = await plain.keeper.end(live.key, EndReason.LOGOUT)
    assert ended is not None
    plain.desk.revoke_later(ended)
    await plain.desk.close(1)
    assert {token for token, _ in plain.provider.revoked} == {"rt-1", "rt-2"}


# --- what a refresh brings ---


@pytest.mark.row("S7", "TOKEN-11", "PRIV-2")
async def test_new_claims_acr_and_auth_time_count_from_the_refresh_on_and_lost_groups_are_lost(plain: World) -> None:
    live, value = await plain.sign_in(replace(ALICE, claims={"name": "Alice", "groups": ["admin"]}))
    plain.clock.advance(LIFE_S + 1)
    plain.provider.identity = replace(ALICE, claims={"name": "Alice B", "secret": "x"}, acr="2", auth_time=5, amr=(), sid="sid-9")
    await user(plain, live)  # type: ignore[misc]
    session = live.session
    assert session is not None
    assert session.claims == {"name": "Alice B"}
    assert (session.acr, session.auth_time, session.amr, session.sid) == ("2", 5, ("pwd",), "sid-9")
    ended = await plain.keeper.end_where(issuer=ALICE.issuer, sid="sid-9", reason=EndReason.BACKCHANNEL)
    assert len(ended) == 1
    assert await plain.keeper.find(value) is None


@pytest.mark.row("TOKEN-11")
async def test_an_id_token_that_did_not_pass_replaces_nothing(plain: World) -> None:
    live, _ = await plain.sign_in()
    for identity, kept in ((None, "id-1"), (ALICE, "id-3")):
        plain.clock.advance(LIFE_S + 1)
        plain.provider.identity = identity
        await user(plain, live)  # type: ignore[misc]
        assert live.session is not None
        assert live.session.id_token.reveal() == kept


async def test_a_refresh_without_id_token_leaves_claims_alone(plain: World) -> None:
    live, _ = await plain.sign_in()
    before = live.session
    plain.clock.advance(LIFE_S + 1)
    await user(plain, live)  # type: ignore[misc]
    assert before is not None
    assert live.session is not None
    assert live.session.claims == before.claims
    assert live.session is not before


@pytest.mark.row("TOKEN-4")
async def test_scopes_in_the_answer_replace_the_grants_and_none_keep_them(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    assert (await user(plain, live)).scopes == {"openid", "orders"}  # type: ignore[misc]
    plain.provider.scopes = ("openid",)
    plain.clock.advance(LIFE_S + 1)
    assert (await user(plain, live)).scopes == {"openid"}  # type: ignore[misc]
    assert tokens_of(live.session).scopes == {"openid"}


@pytest.mark.row("SESS-5", "SESS-9")
async def test_a_refresh_never_moves_the_end_outwards_but_a_hint_may_bring_it_nearer(plain: World) -> None:
    live, value = await plain.sign_in()
    assert live.session is not None
    end = live.session.expires_at
    plain.clock.advance(LIFE_S + 1)
    plain.provider.session_max_s = 10**9
    await user(plain, live)  # type: ignore[misc]
    assert live.session.expires_at == end
    plain.clock.advance(LIFE_S + 1)
    plain.provider.session_max_s = 600
    await user(plain, live)  # type: ignore[misc]
    end = live.session.expires_at
    plain.clock.advance(LIFE_S + 1)
    plain.provider.identity = replace(ALICE, session_expires_at=end - 100)
    await user(plain, live)  # type: ignore[misc]
    plain.clock.advance(500 - (LIFE_S + 1))
    assert await plain.keeper.find(value) is None


@pytest.mark.row("SESS-6")
async def test_a_refresh_is_not_user_activity(plain: World) -> None:
    live, _ = await plain.sign_in()
    seen_at = live.seen_at
    plain.clock.advance(LIFE_S + 1)
    await user(plain, live)  # type: ignore[misc]
    assert live.seen_at == seen_at


# --- audiences ---


@pytest.mark.row("TOKEN-12", "T2", "T3", "T7")
async def test_each_audience_has_its_own_token_and_never_sees_anothers(plain: World) -> None:
    live, _ = await plain.sign_in()
    audiences = ["", API, API + "/", API.upper(), "https://b.example.com"]
    answers = await asyncio.gather(*(user(plain, live, audience) for audience in audiences for _ in range(10)))  # type: ignore[arg-type]
    by_audience = {answer.audience: set() for answer in answers}  # type: ignore[var-annotated]
    for answer in answers:
        by_audience[answer.audience].add(answer.authorization)
    assert set(by_audience) == set(audiences)
    assert all(len(found) == 1 for found in by_audience.values())
    assert len(set().union(*by_audience.values())) == len(audiences)
    assert b"https://b.example.com" in next(iter(by_audience["https://b.example.com"]))


@pytest.mark.row("TOKEN-6", "TOKEN-12", "F1", "T9")
async def test_many_audiences_at_once_never_redeem_one_refresh_token_twice(world: World) -> None:
    _live, value = await world.sign_in()
    workers = [await worker(world, value) for _ in range(3)]
    audiences = [f"https://api{number}.example.com" for number in range(4)]
    world.clock.advance(LIFE_S + 1)
    await asyncio.gather(*(desk.issue(there, token="user", audience=audience) for _, desk, there in workers for audience in audiences))
    assert world.provider.reuse == 0
    assert len(world.provider.redeemed) == len(set(world.provider.redeemed)) == 4
    assert sorted(world.provider.audiences) == audiences


@pytest.mark.row("TOKEN-9", "F14")
@pytest.mark.parametrize("error", ["interaction_required", "mfa_required", "consent_required", "login_required"])
async def test_a_provider_that_wants_to_see_the_person_is_told_so_each_time_and_the_session_stays(plain: World, error: str) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [GrantRefused(error)]
    for _ in range(2):
        with pytest.raises(GrantRefused) as caught:
            await user(plain, live)  # type: ignore[misc]
        assert caught.value.needs_person
    assert len(plain.provider.redeemed) == 1 and live.session is not None
    plain.clock.advance(2)
    assert (await user(plain, live)).authorization  # type: ignore[misc]


@pytest.mark.row("TOKEN-9")
@pytest.mark.parametrize("error", ["invalid_target", "invalid_scope"])
async def test_an_audience_the_provider_refuses_is_that_routes_fault_alone(plain: World, error: str) -> None:
    live, value = await plain.sign_in()
    plain.provider.failures = [GrantRefused(error)]
    with pytest.raises(GrantRefused) as caught:
        await user(plain, live, API)  # type: ignore[misc]
    assert caught.value.error == error
    assert at_hand(plain, live) is not None
    assert await user(plain, live, "https://b.example.com")  # type: ignore[misc]
    assert await plain.keeper.find(value) is live


@pytest.mark.row("T1", "T6")
async def test_two_hundred_users_renewing_at_once_each_get_their_own(plain: World) -> None:
    lives = [(await plain.sign_in(replace(BOB, subject=f"user-{number}")))[0] for number in range(200)]
    plain.clock.advance(LIFE_S + 1)
    answers = await asyncio.gather(*(user(plain, live) for live in lives for _ in range(3)))  # type: ignore[arg-type]
    for place, answer in enumerate(answers):
        session = lives[place // 3].session
        assert answer.authorization == b"Bearer " + tokens_of(session).access_token.reveal().encode()
    assert len({answer.authorization for answer in answers}) == 200


# --- forced renewal ---


@pytest.mark.row("TOKEN-10")
async def test_a_token_an_api_refused_is_renewed_once_for_all_who_hold_it(plain: World) -> None:
    live, _ = await plain.sign_in()
    stale = at_hand(plain, live)
    assert stale is not None
    answers = await asyncio.gather(*(plain.desk.renew(live, audience="", stale=stale) for _ in range(20)))
    assert {answer.authorization for answer in answers} == {b"Bearer h.own-2.s"}
    late = await plain.desk.renew(live, audience="", stale=stale)
    assert late.authorization == b"Bearer h.own-2.s"
    assert len(plain.provider.redeemed) == 1


@pytest.mark.row("TOKEN-10", "F14")
async def test_an_api_that_refuses_every_token_does_not_get_a_refresh_each_time(plain: World) -> None:
    live, _ = await plain.sign_in()
    for _ in range(100):
        current = at_hand(plain, live)
        assert current is not None
        await plain.desk.renew(live, audience="", stale=current)
        plain.clock.advance(0.1)
    assert len(plain.provider.redeemed) <= 4, "at most one in two and a half seconds, whatever the jitter"
    current = at_hand(plain, live)
    assert current is not None
    current = await plain.desk.renew(live, audience="", stale=current)
    assert await plain.desk.renew(live, audience="", stale=current) == current, "the same one: do not repeat the call"


@pytest.mark.row("TOKEN-10", "TOKEN-9")
async def test_a_forced_renewal_that_fails_never_gives_the_refused_token_back_as_new(plain: World) -> None:
    live, _ = await plain.sign_in()
    stale = at_hand(plain, live)
    assert stale is not None
    plain.provider.failures = [ProviderUnavailable("x")]
    with pytest.raises(ProviderUnavailable):
        await plain.desk.renew(live, audience="", stale=stale)
    assert live.session is not None


# --- the client's own ---


@pytest.mark.row("T2", "TOKEN-12", "T6")
async def test_client_tokens_are_kept_per_audience_and_scope_set(plain: World) -> None:
    slots = [
        ("", frozenset[str]()),
        (API, frozenset()),
        (API, frozenset({"a"})),
        (API, frozenset({"a", "b"})),
        (API + "a", frozenset({"b"})),
    ]
    for _ in range(2):
        answers = await asyncio.gather(
            *(plain.desk.issue(None, token="client", audience=audience, scopes=scopes) for audience, scopes in slots for _ in range(5))
        )
        assert len({answer.authorization for answer in answers}) == 5
    assert len(plain.provider.client_calls) == 5
    assert plain.desk.at_hand(None, token="client", audience=API, scopes=frozenset({"a"})) is not None
    assert plain.desk.at_hand(None, token="client", audience=API, scopes=frozenset({"c"})) is None


async def test_client_tokens_are_renewed_in_time_and_used_to_their_end_in_trouble(plain: World) -> None:
    first = await plain.desk.issue(None, token="client", audience=API)
    plain.clock.advance(LIFE_S - 20)
    plain.provider.failures = [ProviderUnavailable("down", retry_after_s=25.0)]
    assert (await plain.desk.issue(None, token="client", audience=API)).authorization == first.authorization
    assert (await plain.desk.issue(None, token="client", audience=API)).authorization == first.authorization
    assert len(plain.provider.client_calls) == 2
    plain.clock.advance(21)
    with pytest.raises(ProviderUnavailable):
        await plain.desk.issue(None, token="client", audience=API)
    plain.clock.advance(10)
    assert (await plain.desk.issue(None, token="client", audience=API)).authorization != first.authorization


async def test_a_refused_client_says_so_and_is_not_asked_again_at_once(plain: World) -> None:
    plain.provider.failures = [GrantRefused("unauthorized_client")]
    for _ in range(2):
        with pytest.raises(GrantRefused):
            await plain.desk.issue(None, token="client", audience=API)
    assert len(plain.provider.client_calls) == 1
    assert len(plain.kinds(EventKind.CLIENT_CREDENTIAL_REFUSED)) == 1


@pytest.mark.row("TOKEN-10")
async def test_a_refused_client_token_is_fetched_anew_once(plain: World) -> None:
    stale = await plain.desk.issue(None, token="client", audience=API)
    live, _ = await plain.sign_in()
    fresh = await plain.desk.renew(live, audience=API, stale=stale)
    assert fresh.authorization != stale.authorization
    assert await plain.desk.renew(None, audience=API, stale=fresh) == fresh, "not twice in a row"
    assert plain.provider.redeemed == []
    assert len(plain.provider.client_calls) == 2


async def test_user_or_client_is_the_users_where_there_is_a_session_and_else_the_clients(plain: World) -> None:
    live, _ = await plain.sign_in()
    mine = await plain.desk.issue(live, token="user_or_client", audience="")
    theirs = await plain.desk.issue(None, token="user_or_client", audience="")
    assert mine == at_hand(plain, live)
    assert theirs.authorization.startswith(b"Bearer h.client-")
    assert plain.desk.at_hand(None, token="user_or_client", audience="") == theirs
    assert plain.desk.at_hand(live.session, token="user_or_client", audience="") == mine
    assert plain.desk.at_hand(None, token="user", audience="") is None
    with pytest.raises(SessionGone):
        await plain.desk.issue(None, token="user", audience="")


async def test_an_ended_session_never_falls_back_to_the_clients_token(plain: World) -> None:
    live, _ = await plain.sign_in()
    await plain.desk.issue(None, token="client", audience="")
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    with pytest.raises(SessionGone):
        await plain.desk.issue(live, token="user_or_client", audience="")


# --- revocation and the end ---


@pytest.mark.row("REV-1")
async def test_the_refresh_token_and_opaque_access_tokens_are_revoked_with_their_hints(plain: World) -> None:
    live, _ = await plain.sign_in(opaque=True)
    session = live.session
    assert session is not None
    plain.desk.revoke_later(session)
    plain.desk.revoke_later((await plain.sign_in())[0].session or session)
    await plain.desk.close(1)
    assert plain.provider.revoked == [("rt-1", "refresh_token"), ("rt-2", "refresh_token"), ("opaque-1", "access_token")]
    assert len(plain.kinds(EventKind.TOKEN_REVOKED)) == 2


@pytest.mark.row("REV-2", "F31")
async def test_a_provider_that_is_away_is_tried_again_until_it_hears(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.provider.revoke_failures = [ProviderUnavailable("503", retry_after_s=5.0), ProviderUnavailable("x"), ProviderUnavailable("x")]
    assert live.session is not None
    plain.desk.revoke_later(live.session)
    await breathe(50)
    assert plain.provider.revoked == [("rt-1", "refresh_token")]
    assert max(plain.pauses) >= 5.0


@pytest.mark.row("REV-2")
async def test_a_provider_that_never_comes_back_or_refuses_is_given_up_with_an_event(plain: World) -> None:
    live, _ = await plain.sign_in()
    session = live.session
    assert session is not None
    plain.pauses.clear()

    async def pause(seconds: float) -> None:
        plain.pauses.append(seconds)
        plain.clock.advance(seconds)
        await asyncio.sleep(0)

    desk = plain.new_desk(plain.keeper, pause=pause)
    plain.provider.revoke_failures = [ProviderUnavailable("x")] * 1000
    desk.revoke_later(session)
    await breathe(300)
    assert 300 < sum(plain.pauses) < 3600
    plain.provider.revoke_failures = [GrantRefused("unsupported_token_type")]
    desk.revoke_later(session)
    await breathe(10)
    assert [event.outcome for event in plain.kinds(EventKind.TOKEN_REVOCATION_FAILED)] == ["provider_unavailable", "grant_refused"]


@pytest.mark.row("REV-2", "F31")
async def test_waiting_revocations_are_bounded_and_closing_gives_the_rest_up(plain: World) -> None:
    live, _ = await plain.sign_in()
    session = live.session
    assert session is not None

    async def never(seconds: float) -> None:
        await asyncio.Event().wait()

    desk = plain.new_desk(plain.keeper, pause=never)
    plain.provider.revoke_failures = [ProviderUnavailable("x")] * 5000
    for _ in range(1100):
        desk.revoke_later(session)
    await breathe(400)
    assert len(desk._revocations) == 1000
    await desk.close(0.01)
    assert len(desk._revocations) == 0
    outcomes = [event.outcome for event in plain.kinds(EventKind.TOKEN_REVOCATION_FAILED)]
    assert outcomes.count("queue_full") == 100
    assert outcomes.count("shutdown") == 1000


async def test_a_session_without_anything_to_revoke_is_no_work(plain: World) -> None:
    live, _ = await plain.sign_in(refresh=False)
    assert live.session is not None
    plain.desk.revoke_later(live.session)
    assert len(plain.desk._revocations) == 0


@pytest.mark.row("TOKEN-8", "F47")
async def test_closing_waits_for_a_refresh_whose_tokens_must_reach_the_store(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.gate = asyncio.Event()
    call = asyncio.ensure_future(user(plain, live))  # type: ignore[arg-type]
    await breathe()
    closing = asyncio.ensure_future(plain.desk.close(5))
    await breathe()
    assert not closing.done()
    plain.provider.gate.set()
    await closing
    assert tokens_of(live.session).access_token.reveal() == "h.own-2.s"
    await call


@pytest.mark.row("PRIV-1", "PRIV-7")
async def test_events_of_renewal_and_revocation_name_nobody_and_hold_no_token(plain: World) -> None:
    live, _ = await plain.sign_in()
    plain.clock.advance(LIFE_S + 1)
    plain.provider.failures = [ProviderUnavailable("x")]
    with pytest.raises(ProviderUnavailable):
        await user(plain, live)  # type: ignore[misc]
    plain.clock.advance(61)
    await user(plain, live)  # type: ignore[misc]
    plain.provider.good.clear()
    plain.clock.advance(LIFE_S + 1)
    with pytest.raises(GrantRevoked):
        await user(plain, live)  # type: ignore[misc]
    kinds = {event.kind for event in plain.events}
    assert {EventKind.TOKEN_REFRESHED, EventKind.TOKEN_REFRESH_FAILED, EventKind.SESSION_ENDED} <= kinds
    for event in plain.events:
        assert event.session
        for secret in ("alice", "rt-", "h.own"):
            assert secret not in repr(event)


async def test_nothing_is_left_behind_by_finished_work(plain: World) -> None:
    lives = [(await plain.sign_in())[0] for _ in range(20)]
    plain.clock.advance(LIFE_S + 1)
    await asyncio.gather(*(user(plain, live) for live in lives))  # type: ignore[arg-type]
    await breathe()
    assert len(plain.desk._flights) == 0
    assert len(plain.desk._turns) == 0
    assert plain.desk._unsaved == {}
    await tick(plain.keeper)
