"""What one process learns of another's changes: hold, hear, and the rounds' question behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import SessionGone, StoreUnavailable
from bff.session.keeper import Keeper
from bff.session.model import EndReason, Live
from bff.session.store import MemoryStore, SqliteStore
from tests.session.world import IDLE_S, LIFE_S, MAX_S, World, breathe, tick


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = MemoryStore(clock=clock) if request.param == "memory" else SqliteStore(tmp_path / "s.db", clock=clock)
    yield World(store, clock=clock)
    await store.close()


@pytest.fixture
def plain() -> World:
    return World()


async def seen_elsewhere(world: World, value: str) -> tuple[Keeper, Live]:
    """Another process that listens and knows the session."""
    keeper = world.new_keeper()
    await tick(keeper)
    live = await keeper.find(value)
    assert live is not None
    return keeper, live


# -- hold -------------------------------------------------------------------------------------------------------------


async def test_a_session_is_held_by_key_and_half_without_its_cookie(world: World) -> None:
    live, _ = await world.sign_in()
    agent = world.new_keeper()
    held = await agent.hold(live.key, live.half)
    assert held is not live and held.session == live.session
    assert await agent.hold(live.key, live.half) is held


async def test_neither_an_unknown_key_nor_another_half_holds_anything(world: World) -> None:
    live, _ = await world.sign_in()
    for key, half in ((b"x" * 32, live.half), (live.key, b"x" * len(live.half)), (b"", b"")):
        with pytest.raises(SessionGone):
            await world.new_keeper().hold(key, half)
    assert (await world.new_keeper().hold(live.key, live.half)).session == live.session


@pytest.mark.row("SESS-9")
async def test_what_has_ended_is_not_held_again_by_who_held_it(world: World) -> None:
    live, _ = await world.sign_in()
    agent = world.new_keeper()
    held = await agent.hold(live.key, live.half)
    await world.keeper.end(live.key, EndReason.LOGOUT)
    await tick(agent)
    world.clock.advance(1.5)
    with pytest.raises(SessionGone):
        await agent.hold(live.key, live.half)
    assert held.session is None


@pytest.mark.row("SESS-5", "SESS-6")
@pytest.mark.parametrize("after_s", [IDLE_S, MAX_S])
async def test_a_session_whose_time_is_over_is_not_held(world: World, after_s: float) -> None:
    live, _ = await world.sign_in()
    world.clock.advance(after_s - 1)
    active = world.clock.now() if after_s == MAX_S else 0.0
    held = await world.new_keeper().hold(live.key, live.half, seen_at=active)
    assert held.session is not None
    world.clock.advance(1)
    with pytest.raises(SessionGone):
        await world.new_keeper().hold(live.key, live.half, seen_at=active)


async def test_a_renewal_by_another_process_is_held_once_it_is_heard_of(world: World) -> None:
    live, value = await world.sign_in()
    agent = world.new_keeper()
    held = await agent.hold(live.key, live.half)
    await world.keeper.update(live, lambda session: session)
    world.clock.advance(1.5)
    again = await agent.hold(live.key, live.half)
    assert again is held and held.session is not None and held.session.version == 2


@pytest.mark.row("F36")
async def test_a_store_that_is_down_is_no_end(plain: World) -> None:
    live, _ = await plain.sign_in()
    agent = plain.new_keeper()
    plain.store.down.add("get")
    with pytest.raises(StoreUnavailable):
        await agent.hold(live.key, live.half)
    plain.store.down.clear()
    assert (await agent.hold(live.key, live.half)).session == live.session


async def test_nothing_is_kept_of_a_session_that_nobody_holds(plain: World) -> None:
    live, _ = await plain.sign_in()
    agent = plain.new_keeper()
    await agent.hold(live.key, live.half)
    assert agent._shelf.find_key(live.key) is None and len(agent._shelf) == 0


@pytest.mark.row("SESS-6")
async def test_activity_that_the_store_does_not_know_yet_counts_if_the_door_vouches_for_it(plain: World) -> None:
    live, value = await plain.sign_in()
    plain.clock.advance(IDLE_S - 1)
    seen_at = plain.clock.now()
    plain.clock.advance(2)
    assert await plain.new_keeper().find(value, seen_at=seen_at)
    assert (await plain.new_keeper().hold(live.key, live.half, seen_at=seen_at)).session is not None
    with pytest.raises(SessionGone):
        await plain.new_keeper().hold(live.key, live.half)
    assert await plain.new_keeper().find(value, seen_at=seen_at) is None, "idle it was for who did not know, and over is over"


# -- hear -------------------------------------------------------------------------------------------------------------


@pytest.mark.row("SESS-9", "S6")
async def test_an_end_elsewhere_is_effective_here_as_soon_as_it_is_heard_of(world: World) -> None:
    live, value = await world.sign_in()
    worker, known = await seen_elsewhere(world, value)
    told: list[EndReason] = []
    known.watch(told.append)
    await world.keeper.end(live.key, EndReason.LOGOUT)
    assert worker.recall(value) is known, "not heard of yet"
    await worker.hear(known)
    assert worker.recall(value) is None and known.session is None and len(told) == 1


@pytest.mark.row("SESS-9", "S6")
async def test_an_end_is_effective_here_even_when_the_store_cannot_say_what_changed(plain: World) -> None:
    """More changes than it keeps: then all is read again, and nothing believed for the second that it would be else."""
    live, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    worker._rounds._cursor = 0
    assert worker.recall(value) is known
    await worker.hear(known)
    assert worker.recall(value) is None and await worker.find(value) is None


async def test_a_renewal_elsewhere_is_here_as_soon_as_it_is_heard_of(world: World) -> None:
    live, value = await world.sign_in()
    worker, known = await seen_elsewhere(world, value)
    before = known.session
    await world.keeper.update(live, lambda session: session)
    await worker.hear()
    assert known.session is not before and worker.recall(value) is known


async def test_who_hears_of_nothing_goes_on_as_before(world: World) -> None:
    _, value = await world.sign_in()
    worker, known = await seen_elsewhere(world, value)
    await worker.hear(known)
    await worker.hear()
    assert worker.recall(value) is known


@pytest.mark.row("SESS-9", "F36")
async def test_a_store_that_is_silent_makes_us_doubt_the_session_and_ends_nothing(plain: World) -> None:
    _, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    plain.store.down.add("changes")
    await worker.hear(known)
    assert worker.recall(value) is None and known.session is not None
    assert await worker.find(value) is known, "the store can be asked for it all the same"
    plain.store.down.add("get")
    await worker.hear(known)
    with pytest.raises(StoreUnavailable):
        await worker.find(value)
    plain.store.down.clear()
    assert await worker.find(value) is known


@pytest.mark.row("SESS-9", "SSE-4", "BODY-4")
async def test_a_browser_that_leaves_while_we_hear_keeps_no_stream_from_its_end(plain: World) -> None:
    """Who signs out leaves the page, often before the answer is there; the streams of other tabs must still be told."""
    live, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    told: list[EndReason] = []
    known.watch(told.append)
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    reading = asyncio.Event()

    async def leave() -> None:
        reading.set()
        await breathe(5)

    plain.store.before["get"] = leave
    hearing = asyncio.ensure_future(worker.hear(known))
    await reading.wait()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    await breathe()
    assert len(told) == 1 and known.session is None


@pytest.mark.row("SESS-9", "SSE-4", "F36")
async def test_a_change_that_could_not_be_read_when_it_was_heard_of_is_read_later(plain: World) -> None:
    """The cursor is past it: nobody would tell of it again, and a stream would outlive its session."""
    live, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    told: list[EndReason] = []
    known.watch(told.append)
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    plain.store.down.add("get")
    await tick(worker)
    assert told == [] and worker.recall(value) is None
    plain.store.down.clear()
    await tick(worker)
    assert len(told) == 1 and worker._rounds._unread == {}


@pytest.mark.row("F36")
async def test_those_who_hear_while_a_question_is_under_way_share_the_next_and_never_queue_up(plain: World) -> None:
    """A store that takes seconds to answer, and a storm of sign-ins: the last waits for two answers, not for a hundred."""
    _, value = await plain.sign_in()
    worker, _ = await seen_elsewhere(plain, value)
    slow = asyncio.Event()
    plain.store.calls.clear()
    plain.store.before["changes"] = slow.wait  # type: ignore[assignment]
    first = asyncio.ensure_future(worker.hear())
    await breathe()
    others = [asyncio.ensure_future(worker.hear()) for _ in range(100)]
    await breathe()
    assert plain.store.calls == ["changes"] and not first.done()
    slow.set()
    await asyncio.gather(first, *others)
    assert plain.store.calls == ["changes"] * 2


async def test_a_question_that_had_begun_is_not_taken_for_an_answer_to_a_later_change(plain: World) -> None:
    live, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    slow = asyncio.Event()
    plain.store.before["changes"] = slow.wait  # type: ignore[assignment]
    first = asyncio.ensure_future(worker.hear())
    await breathe()
    await plain.keeper.end(live.key, EndReason.LOGOUT)
    second = asyncio.ensure_future(worker.hear(known))
    await breathe()
    assert not second.done()
    slow.set()
    await second
    assert known.session is None and first.done()


async def test_a_question_whose_askers_have_all_left_fails_in_silence(plain: World) -> None:
    _, value = await plain.sign_in()
    worker, known = await seen_elsewhere(plain, value)
    plain.store.down.add("changes")
    hearing = asyncio.ensure_future(worker.hear(known))
    await asyncio.sleep(0)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    await breathe()
    assert len(worker._rounds._questions) == 0
    assert worker.recall(value) is not None or known.session is not None


async def test_hearing_and_the_rounds_do_not_lose_each_others_changes(world: World) -> None:
    signed = [await world.sign_in() for _ in range(6)]
    worker = world.new_keeper()
    await tick(worker)
    known = [await worker.find(value) for _, value in signed]
    for place, (live, _) in enumerate(signed):
        await world.keeper.end(live.key, EndReason.LOGOUT)
        await asyncio.gather(*((worker.hear(), tick(worker)) if place % 2 else (tick(worker), worker.hear())))
        assert [one is not None and one.session is None for one in known] == [True] * (place + 1) + [False] * (5 - place)


@pytest.mark.row("TOKEN-6")
async def test_a_token_renewed_elsewhere_is_at_hand_here_after_hearing(world: World) -> None:
    live, value = await world.sign_in()
    world.clock.advance(LIFE_S + 1)
    worker, known = await seen_elsewhere(world, value)
    desk = world.new_desk(worker)
    fresh = await world.desk.issue(live, token="user", audience="")
    assert desk.at_hand(known.session, token="user", audience="") is None
    await worker.hear()
    assert desk.at_hand(known.session, token="user", audience="") == fresh
