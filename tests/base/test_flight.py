"""Single flights where callers and work end at odd moments: who is told what, when, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from bff.base.flight import Flights


class Broken(Exception):
    """The work's own failure."""


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_outcome_reaches_its_callers_in_the_turn_after_the_work() -> None:
    flights: Flights[str, int] = Flights()
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    callers = [asyncio.ensure_future(flights.join("a", lambda: gate)) for _ in range(3)]
    await turns()
    gate.set_result(7)
    await asyncio.sleep(0)  # the work hears of it
    await asyncio.sleep(0)  # and its callers of that
    assert [caller.done() for caller in callers] == [True] * 3
    assert [caller.result() for caller in callers] == [7] * 3


@pytest.mark.row("TOKEN-6")
async def test_whoever_asks_behind_the_outcome_begins_anew_and_never_waits_for_work_that_is_over() -> None:
    """A caller's very next step, while the task of the flight before may not be done yet."""
    flights: Flights[str, int] = Flights()
    runs: list[int] = []

    async def work() -> int:
        runs.append(1)
        await asyncio.sleep(0)
        return len(runs)

    async def twice() -> tuple[int, int]:
        return await flights.join("a", work), await flights.join("a", work)

    async with asyncio.timeout(5):
        assert list(await asyncio.gather(twice(), twice())) == [(1, 2), (1, 2)]
    assert len(flights) == 0


async def test_work_that_is_over_without_waiting_for_anything_is_told_to_all() -> None:
    flights: Flights[str, str] = Flights()

    async def at_once() -> str:
        return "there"

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(flights.join("a", at_once) for _ in range(3))) == ["there"] * 3
    assert len(flights) == 0


async def test_work_that_fails_before_its_first_await_is_told_to_all() -> None:
    flights: Flights[str, str] = Flights()

    def refuses() -> asyncio.Future[str]:
        raise Broken

    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*(flights.join("a", refuses) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Broken] * 3
    assert len(flights) == 0


async def test_work_that_is_cancelled_from_within_leaves_nobody_waiting() -> None:
    flights: Flights[str, str] = Flights()
    gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    callers = [asyncio.ensure_future(flights.join("a", lambda: gone)) for _ in range(2)]
    await turns()
    gone.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)
    assert len(flights) == 0


async def test_work_that_is_cancelled_before_it_began_leaves_nobody_waiting() -> None:
    flights: Flights[str, str] = Flights()
    begun: list[int] = []

    async def work() -> str:
        begun.append(1)
        return "done"

    callers = [asyncio.ensure_future(flights.join("a", work)) for _ in range(2)]
    asyncio.get_running_loop().call_soon(lambda: [one.task.cancel() for one in flights._running.values() if one.task])
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2 and begun == []
    assert len(flights) == 0


@pytest.mark.row("F47")
async def test_whoever_joins_work_that_was_just_cancelled_is_not_left_waiting() -> None:
    """A drain cancels what is late; until its task has ended the flight is still there to be joined."""
    flights: Flights[str, str] = Flights()
    never = asyncio.Event()

    async def endless() -> str:
        await never.wait()
        return "never"

    first = asyncio.ensure_future(flights.join("a", endless))
    await turns()
    await flights.drain(0.0)
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await flights.join("a", endless)
    await turns()
    assert first.cancelled() and len(flights) == 0


@pytest.mark.row("TOKEN-8")
async def test_a_caller_who_leaves_in_the_turn_of_the_outcome_takes_it_from_nobody() -> None:
    flights: Flights[str, int] = Flights()
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    leaving, staying = (asyncio.ensure_future(flights.join("a", lambda: gate)) for _ in range(2))
    await turns()
    gate.set_result(7)
    await asyncio.sleep(0)
    leaving.cancel()  # its value is already on the way
    assert await staying == 7
    await turns()
    assert leaving.cancelled() or leaving.result() == 7


async def left_alone(*, in_the_same_turn: bool) -> None:
    """Work that fails, and callers who leave before that or in the same turn."""
    flights: Flights[str, int] = Flights()
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    callers = [asyncio.ensure_future(flights.join("a", lambda: gate)) for _ in range(2)]
    await turns()
    if in_the_same_turn:
        gate.set_exception(Broken())
        await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await turns()
    if not in_the_same_turn:
        gate.set_exception(Broken())
        await turns()
    assert len(flights) == 0
    assert all(caller.cancelled() or isinstance(caller.exception(), Broken) for caller in callers)


@pytest.mark.row("TOKEN-8")
@pytest.mark.parametrize("in_the_same_turn", [False, True])
async def test_a_failure_that_nobody_stayed_for_is_no_complaint_of_the_loop(in_the_same_turn: bool) -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
    await left_alone(in_the_same_turn=in_the_same_turn)
    gc.collect()
    await turns()
    assert heard == []


async def test_callers_who_left_are_forgotten_while_the_work_goes_on() -> None:
    """A provider that hangs, and a browser that asks and hangs up, again and again."""
    flights: Flights[str, int] = Flights()
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    staying = asyncio.ensure_future(flights.join("a", lambda: gate))
    for _ in range(50):
        leaving = asyncio.ensure_future(flights.join("a", lambda: gate))
        await asyncio.sleep(0)
        leaving.cancel()
        await turns(2)
    assert len(flights._running["a"].waiting) == 1
    gate.set_result(7)
    assert await staying == 7


class Panicked(BaseException):
    """As what a panic in a Rust library is to Python."""


async def test_what_is_no_exception_reaches_the_callers_too() -> None:
    flights: Flights[str, int] = Flights()
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))

    async def panics() -> int:
        await asyncio.sleep(0)
        raise Panicked

    for _ in range(2):
        with pytest.raises(Panicked):
            await flights.join("a", panics)
    gc.collect()
    assert len(flights) == 0 and heard == []
