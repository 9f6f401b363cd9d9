"""What ended reaches metrics and access log in shares: small, in order, none lost, never more than the bound left waiting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from bff.base.clock import FakeClock
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route
from bff.proxy.accounts import MAX_ENDED, SHARE, Accounts
from bff.proxy.lane import AccessRecord
from bff.proxy.memo import Kept
from tests.proxy.rig import open_rig

ROUTE = Route("orders", "/api/orders/", Admission.API, METHODS)


class Books:
    """Accounts over a sink that keeps everything; ``at_once`` is how much each call brought."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        find = {"/api/orders/1": ROUTE}.get
        self.accounts = Accounts(sink=self.take, clock=self.clock, match=find)
        self.records: list[AccessRecord] = []
        self.at_once: list[int] = []

    def take(self, records: Sequence[AccessRecord], lanes: Any) -> None:
        self.records.extend(records)
        self.at_once.append(len(records))

    def end(self, count: int) -> None:
        now = self.clock.monotonic()
        for _ in range(count):
            self.accounts.ended.append((now, b"%d" % len(self.accounts.ended), None, None, 200, 0, 0, now, "ok"))


@pytest.mark.parametrize(("path", "name"), [("/api/orders/1", "orders"), ("/elsewhere", "")])
def test_who_was_refused_is_told_with_the_route_that_refused_them(path: str, name: str) -> None:
    books = Books()
    books.accounts.ended.append((1.0, b"1", None, Facts("GET", path, None, "a.test", ()), 401, 0, 0, 1.0, "unauthenticated"))
    books.accounts.hand_on_share()
    assert books.records[0][3] == name


@pytest.mark.parametrize("waiting", [1, SHARE, 300, 2500, MAX_ENDED])
def test_a_share_is_small_however_many_wait(waiting: int) -> None:
    books = Books()
    books.end(waiting)
    books.accounts.hand_on_share()
    assert books.at_once == [min(waiting, max(SHARE, waiting // 16))]


def test_all_come_in_order_and_once() -> None:
    books = Books()
    books.end(1000)
    while books.accounts.ended:
        books.accounts.hand_on_share()
    assert [record[1] for record in books.records] == [b"%d" % number for number in range(1000)]


def test_shares_keep_pace_with_any_rate_and_leave_no_more_than_the_bound() -> None:
    books = Books()
    for _ in range(200):
        books.end(1000)
        books.accounts.hand_on_share()
        assert len(books.accounts.ended) <= MAX_ENDED
    books.end(3 * MAX_ENDED)
    books.accounts.hand_on_share()
    assert len(books.accounts.ended) == MAX_ENDED


def test_the_next_share_comes_soon_while_some_wait_and_seldom_while_nothing_happens() -> None:
    books = Books()
    idle = books.accounts.hand_on_share()
    books.end(SHARE)
    gathering = books.accounts.hand_on_share()
    books.end(SHARE + 1)
    busy = books.accounts.hand_on_share()
    assert busy < gathering < idle


async def test_the_end_hands_on_whatever_is_left() -> None:
    books = Books()
    books.accounts.start()
    books.end(5000)
    books.accounts.stop([])
    assert len(books.records) == 5000
    assert not books.accounts.ended


# -- the look at everything -------------------------------------------------------------------------------------------


async def test_a_look_at_everything_is_taken_in_shares_of_a_fraction_of_a_millisecond() -> None:
    """Each reading of this clock takes a tenth of a millisecond."""
    async with open_rig() as rig:
        readings, looked_at, shares = count(), [], []
        rig.house.monotonic = lambda: next(readings) / 10_000
        rig.house._looking = (looked_at.append(number) or 1 for number in range(100))  # type: ignore[func-returns-value]
        while len(looked_at) < 100:
            before = len(looked_at)
            rig.house._on_tick()
            shares.append(len(looked_at) - before)
        assert max(shares) <= 3
        assert looked_at == list(range(100))


def test_a_sweep_looks_at_everything_in_shares_and_at_nothing_that_left_meanwhile() -> None:
    kept: Kept[int, int] = Kept(entries=1000, total_bytes=10_000, weigh=lambda key, value: 1)
    for number in range(300):
        kept.put(number, number)
    sweep, seen = kept.sweep(lambda value: value % 2 == 0), []
    seen.append(next(sweep))
    kept.drop(299)
    kept.drop(298)
    seen.extend(sweep)
    assert seen == [32, 32, 32, 32, 21]
    assert sorted(kept._kept) == [number for number in range(299) if number % 2]


async def test_a_look_that_fails_is_not_the_last() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask()

        def fail(live: object) -> bool:
            raise ValueError

        rig.house._believes = fail
        with pytest.raises(ValueError):
            rig.house._on_tick()
        rig.house._believes = lambda live: False
        rig.house._on_tick()
        rig.house._on_tick()
        assert len(rig.house.memo) == len(rig.house.patterns.kept) == 0
