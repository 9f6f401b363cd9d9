"""Bulk in shares, and what one connection may have waiting: nobody holds the loop, nobody makes us hold much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bff.base.clock import FakeClock
from bff.proxy import turns as turns_module
from bff.proxy.door import MAX_HELD_BYTES, READING
from bff.proxy.intake import LEAST_PACE
from bff.proxy.turns import BUDGET_S, NEWCOMER_S, Turns
from tests.proxy.rig import GET, OK, Peer, always_ok, eventually, open_rig, turns

MIB = 1024 * 1024
ONE_READ = 256 * 1024
WHOLE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


async def test_work_is_done_at_once_while_the_turn_has_time_and_waits_in_order_when_it_has_none() -> None:
    clock, done = FakeClock(), []
    shares = Turns(monotonic=clock.monotonic)

    def work(name: str, seconds: float) -> None:
        done.append(name)
        clock.advance(seconds)

    shares.take(lambda: work("first", BUDGET_S / 2))
    shares.take(lambda: work("second", BUDGET_S))
    assert done == ["first", "second"]
    assert shares.over
    shares.take(lambda: work("third", 2 * BUDGET_S))
    shares.take(lambda: work("fourth", 0.0))
    assert done == ["first", "second"]
    await asyncio.sleep(0)
    assert done == ["first", "second", "third"]
    await asyncio.sleep(0)
    assert done == ["first", "second", "third", "fourth"]
    await asyncio.sleep(0)
    assert not shares.over


async def test_work_that_fails_keeps_nobody_from_their_turn() -> None:
    shares, done, problems = Turns(monotonic=FakeClock().monotonic), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context["exception"]))

    def fail() -> None:
        raise ValueError("on purpose")

    shares.later(fail)
    shares.later(lambda: done.append(1))
    await turns(3)
    assert done == [1]
    assert [str(problem) for problem in problems] == ["on purpose"]


@pytest.mark.row("D4")
async def test_however_much_is_pipelined_little_more_than_one_read_is_held_while_answers_go_on() -> None:
    gate = asyncio.Event()

    async def one_by_one(peer: Peer) -> None:
        while True:
            await peer.head()
            await gate.wait()
            await peer.send(OK)

    async with open_rig(one_by_one) as rig:
        client = await rig.client()
        flood = GET * (8 * MIB // len(GET))
        sending = asyncio.ensure_future(client.send(flood))
        await eventually(lambda: rig.upstream.requests == 1)
        gate.set()
        (door,) = rig.house.doors
        for _ in range(300):
            assert (await client.answer())[0] == 200
            assert len(door.held) <= MAX_HELD_BYTES + 2 * ONE_READ
        sending.cancel()
        client.writer.transport.abort()
        await eventually(lambda: not rig.house.doors)


@pytest.mark.row("D4", "F55")
async def test_who_reads_no_answers_is_asked_for_no_further_requests_and_gets_them_all_later() -> None:
    big = WHOLE_HEAD % MIB + b"x" * MIB

    async def large(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(big)

    async with open_rig(large) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET * 100)
        (door,) = await one_door(rig.house.doors)
        await eventually(lambda: not door.writable)
        for _ in range(20):
            await turns(20)
        asked = rig.upstream.requests
        assert asked < 20
        assert door.transport.get_write_buffer_size() <= 2 * MIB
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            assert len((await client.answer())[2]) == MIB


async def one_door(doors: set[object]) -> set[object]:
    await eventually(lambda: len(doors) == 1)
    return doors


@pytest.mark.row("BODY-1", "BODY-2")
async def test_bodies_both_ways_arrive_whole_when_no_turn_ever_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "BUDGET_S", 1e-9)
    body = bytes(range(256)) * (4 * MIB // 256)

    async def mirror(peer: Peer) -> None:
        await peer.head()
        taken = await peer.read(len(body))
        await peer.send(WHOLE_HEAD % len(taken) + taken)

    async with open_rig(mirror) as rig:
        client = await rig.client()
        head = b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(body)
        sending = asyncio.ensure_future(client.send(head + body))
        status, _, answered = await client.answer()
        await sending
        assert (status, answered) == (200, body)


@pytest.mark.row("BODY-1", "M1")
async def test_the_request_behind_a_body_is_found_when_both_came_in_one_piece() -> None:
    """The body is longer than what is taken at once, so its rest and the next request wait together."""
    async with open_rig(always_ok) as rig:
        client = await rig.client()
        size = 5 * LEAST_PACE + 7
        await client.send(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size + GET)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        assert [peer.seen.count(b" HTTP/1.1\r\n") for peer in rig.upstream.peers] == [2]


class Patient(Turns):
    """Turns that never come: what waits for one is kept."""

    def __init__(self, kept: list[Callable[[], None]]) -> None:
        super().__init__(monotonic=time.monotonic)
        self._kept = kept

    def later(self, work: Callable[[], None]) -> None:
        self._kept.append(work)


@pytest.mark.row("D4")
async def test_what_arrives_while_requests_wait_for_their_turn_is_bounded_too() -> None:
    """Held without a bound in that moment, 50 connections took 228 MiB and the loop was busy copying for a second (seen)."""
    request = b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n"
    async with open_rig(always_ok) as rig:
        waiting: list[Callable[[], None]] = []
        rig.house.turns = Patient(waiting)  # type: ignore[assignment]
        flood = await rig.client()
        await flood.send(request * 2)
        await eventually(lambda: waiting)
        (door,) = rig.house.doors
        assert door.mode == READING and door.held
        sending = asyncio.ensure_future(flood.send(request * (8 * MIB // len(request))))
        await eventually(lambda: not door.reading)
        await turns(50)
        assert len(door.held) < MIB
        sending.cancel()
        flood.writer.transport.abort()


@pytest.mark.row("D9")
async def test_a_flood_of_one_byte_chunks_lets_others_through() -> None:
    """Measured in work and not in time: of 400,000 of them no more than a few shares are read before somebody else is answered."""

    async def swallow_or_answer(peer: Peer) -> None:
        head = await peer.head()
        if head.startswith(b"GET"):
            await peer.send(OK)
        await peer.ended()

    async with open_rig(swallow_or_answer) as rig:
        rig.house.monotonic = rig.house.turns.monotonic = time.monotonic
        flood = await rig.client()
        await flood.send(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        await eventually(lambda: rig.upstream.requests == 1)
        sending = asyncio.ensure_future(flood.send(b"1\r\na\r\n" * 400_000))
        (door,) = rig.house.doors
        await eventually(lambda: door.exchange is not None and door.exchange.received > 0)
        before = door.exchange.received if door.exchange else 0
        assert (await rig.ask())[0] == 200
        after = door.exchange.received if door.exchange else 0
        assert after - before < 100_000
        sending.cancel()
        flood.writer.transport.abort()


@pytest.mark.row("BODY-4")
@pytest.mark.parametrize("missing", [0, 1])
async def test_a_half_closed_connection_still_gets_its_answer_if_the_body_behind_it_is_whole(missing: int) -> None:
    """All of it was there before the upstream was reached, and is more than one share."""
    size = 10 * LEAST_PACE
    async with open_rig(always_ok) as rig:
        rig.guard.waits = True
        client = await rig.client()
        await client.send(b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size - 1))
        await eventually(lambda: rig.guard.asked)
        await client.send(b"x")
        (door,) = rig.house.doors
        await eventually(lambda: len(door.held) == size)
        if missing:
            door.held = door.held[:-1]  # as if it had not arrived: what the browser counts as sent is not ours to know
        client.writer.write_eof()
        await eventually(lambda: door.eof_at)
        rig.guard.gate.set()
        if missing:
            assert await client.was_reset()
        else:
            assert (await client.answer())[0] == 200


async def test_what_was_spent_beyond_a_turn_is_missing_in_the_next_but_somebody_always_gets_on() -> None:
    """As many newcomers as a turn may accept leave bulk one share of it."""
    clock, done = FakeClock(), []
    shares = Turns(monotonic=clock.monotonic)
    for number in range(4):
        shares.later(lambda number=number: done.append(number))
    for turn in range(1, 4):
        shares.spend(100 * NEWCOMER_S)
        await asyncio.sleep(0)
        assert len(done) == turn
    await asyncio.sleep(0)
    assert done == [0, 1, 2, 3]
