"""The timed store: the whole port, nothing changed, every call observed."""

from __future__ import annotations

import inspect

import pytest

from bff.base.clock import FakeClock
from bff.base.errors import StoreUnavailable
from bff.session.store import MemoryStore, Row, SessionStore
from bff.session.store.timed import TimedStore


async def test_answers_and_errors_pass_and_every_call_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed call too: that is when somebody looks."""
    clock = FakeClock()
    seen: list[tuple[str, float]] = []
    inner = MemoryStore(clock=clock)
    store: SessionStore = TimedStore(inner, observe=lambda op, seconds: seen.append((op, seconds)), monotonic=clock.monotonic)
    row = Row(b"k" * 32, 1, b"sealed", clock.now(), clock.now(), clock.now() + 60)
    await store.insert(row)
    assert await store.get(row.key) == row
    assert await store.list() == [row]

    async def slow() -> None:
        clock.advance(2.0)
        raise StoreUnavailable

    monkeypatch.setattr(inner, "ping", slow)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert seen == [("insert", 0.0), ("get", 0.0), ("list", 0.0), ("ping", 2.0)]


def test_the_whole_port_is_there() -> None:
    """A method added to the port must be added here."""
    port = {name for name, _ in inspect.getmembers(SessionStore, inspect.isfunction) if not name.startswith("_")}
    assert port <= set(vars(TimedStore))
