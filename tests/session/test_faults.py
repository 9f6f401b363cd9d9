"""Whole lives of sessions under every single store failure, and under any order of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bff.base.errors import BffError, GrantRevoked, SessionGone, StoreUnavailable
from bff.session.keeper import Keeper
from bff.session.model import EndReason, Live
from tests.session.world import ALICE, IDLE_S, LIFE_S, MAX_S, World, tick


class FailingOnce:
    """A store whose ``k``-th command fails: before it happened, or after it (the answer is lost)."""

    def __init__(self, store: Any, k: int, *, after: bool) -> None:
        self._store = store
        self._left = k
        self._after = after

    @property
    def has_failed(self) -> bool:
        return self._left <= 0

    def __getattr__(self, name: str) -> Any:
        async def call(*args: object, **named: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise StoreUnavailable("reset before")
            answer = await getattr(self._store, name)(*args, **named)
            if self._left == 0:
                raise StoreUnavailable("reset after")
            return answer

        return call


async def attempt(work: Callable[[], Awaitable[Any]]) -> Any:
    """The result, or the failure: never anything that is not ours."""
    try:
        return await work()
    except BffError as error:
        return error


@pytest.mark.row("F39", "SESS-14", "SESS-15", "F10")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("k", range(1, 26))
async def test_no_failed_store_command_leaves_more_privilege_than_was_acknowledged(k: int, after: bool) -> None:
    world = World()
    failing = FailingOnce(world.store.store, k, after=after)
    keeper = world.new_keeper(store=failing)
    desk = world.new_desk(keeper, store=failing)

    begun = await attempt(lambda: world.sign_in(keeper=keeper))
    if isinstance(begun, BffError):
        begun = await world.sign_in(keeper=keeper)
    live, value = begun
    await tick(keeper)
    for _ in range(2):
        world.clock.advance(LIFE_S + 1)
        renewed = await attempt(lambda: desk.issue(live, token="user", audience=""))
        if isinstance(renewed, BffError):
            assert isinstance(renewed, StoreUnavailable), "a store failure is a 503, nothing else"
            renewed = await desk.issue(live, token="user", audience="")
        assert renewed.fresh_until > world.clock.now()
    assert world.provider.reuse == 0, "no refresh token was redeemed twice"
    assert await world.new_keeper().find(value) is not None

    ended = await attempt(lambda: keeper.end(live.key, EndReason.LOGOUT))
    if isinstance(ended, StoreUnavailable):
        found = await attempt(lambda: keeper.find(value))
        assert found is None, "what failed to end is not served here again"
        await keeper.end(live.key, EndReason.LOGOUT)
    assert await keeper.find(value) is None
    assert await world.new_keeper().find(value) is None
    again = await attempt(lambda: world.sign_in(keeper=keeper))
    if isinstance(again, BffError):
        again = await world.sign_in(keeper=keeper)
    assert await keeper.find(again[1]) is again[0]


async def test_the_sweep_reaches_every_command() -> None:
    world = World()
    counting = FailingOnce(world.store.store, 10_000, after=False)
    keeper = world.new_keeper(store=counting)
    desk = world.new_desk(keeper, store=counting)
    live, _ = await world.sign_in(keeper=keeper)
    await tick(keeper)
    for _ in range(2):
        world.clock.advance(LIFE_S + 1)
        await desk.issue(live, token="user", audience="")
    await keeper.end(live.key, EndReason.LOGOUT)
    assert 8 < 10_000 - counting._left < 25


class SessionLife(RuleBasedStateMachine):
    """Two workers, any order of login, calls, activity, time, renewal and logout, against a model of what must hold."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.keepers = [self.world.keeper, self.world.new_keeper()]
        self.desks = [self.world.desk, self.world.new_desk(self.keepers[1])]
        self.born: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.keys: dict[str, bytes] = {}

    def do(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def is_over(self, value: str) -> bool:
        now = self.world.clock.now()
        return value in self.ended or now >= self.born[value] + MAX_S or now >= self.seen[value] + IDLE_S

    def find(self, worker: int, value: str) -> Live | None:
        live: Live | None = self.do(self.keepers[worker].find(value))
        if self.is_over(value):
            stale_for = self.world.clock.now() - self.ended.get(value, float("-inf"))
            assert live is None or stale_for <= 1.0, "an ended session was served"
        return live

    @rule(target=tickets, worker=st.integers(0, 1))
    def log_in(self, worker: int) -> str:
        live, value = self.do(self.world.sign_in(ALICE, keeper=self.keepers[worker]))
        self.born[value] = self.seen[value] = self.world.clock.now()
        self.keys[value] = live.key
        return str(value)

    @rule(value=tickets, worker=st.integers(0, 1), active=st.booleans())
    def call(self, value: str, worker: int, active: bool) -> None:
        live = self.find(worker, value)
        if live is None:
            return
        assert live.session is not None
        assert live.key == self.keys[value]
        if active and not self.is_over(value):
            self.keepers[worker].touch(live)
            self.seen[value] = max(self.seen[value], self.world.clock.now())

    @rule(value=tickets, worker=st.integers(0, 1))
    def renew(self, value: str, worker: int) -> None:
        live = self.find(worker, value)
        if live is None:
            return
        try:
            credential = self.do(self.desks[worker].issue(live, token="user", audience=""))
        except (SessionGone, GrantRevoked):
            assert self.is_over(value), "a live session lost its tokens"
            return
        assert live.session is not None
        assert credential.authorization.endswith(live.session.grants[""].access_token.reveal().encode())

    @rule(value=consumes(tickets), worker=st.integers(0, 1))
    def log_out(self, value: str, worker: int) -> None:
        self.do(self.keepers[worker].end(self.keys[value], EndReason.LOGOUT))
        self.ended.setdefault(value, self.world.clock.now())
        assert self.keepers[worker].recall(value) is None
        self.find(worker, value)

    @rule(seconds=st.sampled_from([0.25, 1.5, 60.0, LIFE_S, IDLE_S / 2, IDLE_S + 1]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(worker=st.integers(0, 1))
    def background(self, worker: int) -> None:
        self.do(tick(self.keepers[worker]))

    @rule()
    def rotate_keys(self) -> None:
        if len(self.world.ring.kids) < 5:
            self.world.ring.adopt(self.world.ring.rotated())
            for keeper in self.keepers:
                keeper.forget_all()

    @invariant()
    def no_refresh_token_is_redeemed_twice(self) -> None:
        assert self.world.provider.reuse == 0

    @invariant()
    def what_ended_is_not_recalled_after_a_second(self) -> None:
        now = self.world.clock.now()
        for value, at in self.ended.items():
            for keeper in self.keepers:
                assert keeper.recall(value) is None or now - at <= 1.0

    def teardown(self) -> None:
        self.do(self.world.desk.close(1))
        self.loop.close()


SessionLife.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSessionLife = pytest.mark.row("SESS-4", "SESS-5", "SESS-10", "SESS-15", "TOKEN-6", "F8", "T10")(SessionLife.TestCase)


@pytest.mark.row("T10", "F9", "F10")
async def test_logins_calls_renewals_and_logouts_of_one_person_at_once_raise_nothing_unexpected() -> None:
    world = World()
    keepers: list[Keeper] = [world.keeper, world.new_keeper()]
    started = [await world.sign_in(keeper=keepers[number % 2]) for number in range(20)]
    world.clock.advance(LIFE_S + 1)

    async def call(number: int) -> object:
        live, value = started[number % 20]
        keeper = keepers[number % 2]
        if number % 7 == 0:
            return await attempt(lambda: keeper.end(live.key, EndReason.LOGOUT))
        found = await attempt(lambda: keeper.find(value))
        if not isinstance(found, Live):
            return found
        return await attempt(lambda: world.new_desk(keeper).issue(found, token="user", audience=""))

    answers = await asyncio.gather(*(call(number) for number in range(200)), return_exceptions=True)
    for answer in answers:
        assert not isinstance(answer, BaseException) or isinstance(answer, (SessionGone, GrantRevoked)), answer
    assert world.provider.reuse == 0
