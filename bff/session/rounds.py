"""What the keeper does when nobody asks: hear of changes, write activity down, notice expiry, purge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bff.base.clock import Clock
from bff.base.errors import SessionGone, StoreUnavailable
from bff.base.events import Event, EventKind, Probe
from bff.base.flight import Flights
from bff.session.model import Live
from bff.session.shelf import Shelf
from bff.session.store.port import SessionStore

FRESH_S = 1.0
LISTEN_EVERY_S = 0.25
NOTICE_EVERY_S = 1.0
PURGE_EVERY_S = 60.0
MAX_FLUSH_S = 60.0
PURGE_ROUNDS = 20
TOUCHES_A_ROUND = 200
BREATH = 50
"""So many store reads in a row before the loop gets its turn."""


class Rounds:
    """One keeper's background work. Mutable: cursor and times of the last word from the store, ``dirty`` lives whose
    activity the store does not know yet, lives that changed and have not been read since (bound of both: live sessions of
    this worker). ``hear`` alone raises StoreUnavailable.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        shelf: Shelf,
        clock: Clock,
        idle_s: float,
        probe: Probe,
        pause: Callable[[float], Awaitable[None]],
        check_again: Callable[[Live], Awaitable[None]],
        was_changed: Callable[[bytes | None], None],
        end_doomed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._clock = clock
        self._idle_s = idle_s
        self._flush_s = min(MAX_FLUSH_S, idle_s / 10)
        self._probe = probe
        self._pause = pause
        self._check_again = check_again
        self._was_changed = was_changed
        self._end_doomed = end_doomed
        self.dirty: dict[bytes, Live] = {}
        self._cursor = 0
        self._heard_at = float("-inf")
        self._trusted_from = float("inf")
        self._noticed_at = self._purged_at = clock.monotonic()
        self._failing = False
        self._asking = asyncio.Lock()
        self._questions: Flights[int, None] = Flights()
        self._asked = 0
        self._unread: dict[bytes, Live] = {}

    def vouches(self, live: Live, now: float) -> bool:
        """Whether the store would have told of a change to it: it was read after we began to listen, and we still hear."""
        return now - self._heard_at <= FRESH_S and live.checked_at >= self._trusted_from

    async def run(self) -> None:
        while True:
            await self.step()
            await self._pause(LISTEN_EVERY_S)

    async def step(self) -> None:
        """One round. A store that fails is reported once, until it answers again (F14)."""
        try:
            await self._listen()
            await self._end_doomed()
            await self.flush()
            await self._notice()
            await self._purge()
        except StoreUnavailable as error:
            if not self._failing:
                self._probe(Event(EventKind.STORE_FAILED, outcome=error.code, fields={"detail": error.detail}))
            self._failing = True
        else:
            self._failing = False

    async def flush(self, *, everything: bool = False) -> None:
        """Write down activity: at once when the store's word is older than the interval, so that no other worker ever
        takes a session for idle that is not; else when the interval is over."""
        now = self._clock.now()
        for live in [live for live in self.dirty.values() if live.seen_at <= live.stored_seen_at]:
            del self.dirty[live.key]  # a renewal has written it down
        due = [live for live in self.dirty.values() if everything or now - live.stored_seen_at >= self._flush_s]
        for live in due if everything else due[:TOUCHES_A_ROUND]:
            seen_at = live.seen_at
            try:
                await self._store.touch(live.key, seen_at)
            except StoreUnavailable:
                if everything:
                    return
                raise
            live.stored_seen_at = max(live.stored_seen_at, seen_at)
            if live.seen_at == seen_at:
                self.dirty.pop(live.key, None)

    async def hear(self) -> None:
        """What the store has to tell, by a question that begins after this call: whoever calls while one is under way shares the next.
        A caller who leaves does not stop it, or watchers would not be told. StoreUnavailable: nothing is vouched for."""
        await self._questions.join(self._asked, self._ask_next)

    async def _ask_next(self) -> None:
        async with self._asking:
            self._asked += 1
            try:
                await self._ask()
            except StoreUnavailable:
                self._heard_at = float("-inf")
                raise

    async def _listen(self) -> None:
        async with self._asking:
            await self._ask()

    async def _ask(self) -> None:
        asked_at = self._clock.monotonic()
        changes = await self._store.changes(self._cursor)
        first, self._cursor = self._cursor == 0, changes.cursor
        self._heard_at = asked_at
        if first or changes.keys is None:
            self._trusted_from = self._clock.monotonic()
            self._was_changed(None)
            # Anything may have changed: all is read again when it is asked for, and here what nobody asks for but somebody watches.
            for live in self._shelf.lives():
                live.checked_at = float("-inf")
                if live.watchers:
                    self._unread[live.key] = live
        for key in changes.keys or ():
            self._was_changed(key)
            known = self._shelf.find_key(key)
            if known is not None and known.session is not None:
                known.checked_at = float("-inf")
                self._unread[key] = known
        await self._read()

    async def _read(self) -> None:
        """Read what changed. What the store does not give now stays for the next question: the cursor is past it already."""
        for place, (key, live) in enumerate(list(self._unread.items()), start=1):
            await self._check([live])
            del self._unread[key]
            if place % BREATH == 0:
                await asyncio.sleep(0)

    async def _notice(self) -> None:
        """Tell the watchers of sessions whose time is over; the others find out when they are next asked for."""
        now = self._clock.now()
        if self._clock.monotonic() - self._noticed_at < NOTICE_EVERY_S:
            return
        self._noticed_at = self._clock.monotonic()
        watched = (live for live in self._shelf.lives() if live.watchers and live.session is not None)
        await self._check([live for live in watched if live.session and (now >= live.session.expires_at or now >= live.idle_until)])

    async def _check(self, lives: list[Live]) -> None:
        for place, live in enumerate(lives, start=1):
            try:
                await self._check_again(live)
            except SessionGone:
                continue
            if place % BREATH == 0:
                await asyncio.sleep(0)

    async def _purge(self) -> None:
        """Remove what expired or idled out unnoticed (PRIV-4). Idle by a wide margin only: activity may be on its way."""
        if self._clock.monotonic() - self._purged_at < PURGE_EVERY_S:
            return
        self._purged_at = self._clock.monotonic()
        now = self._clock.now()
        self._shelf.drop_over(now)
        for _ in range(PURGE_ROUNDS):
            if not await self._store.purge(now, seen_before=now - self._idle_s - 2 * self._flush_s):
                return
            await asyncio.sleep(0)
