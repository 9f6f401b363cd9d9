"""The keeper of sessions: begin, recall, find, update, end. The only place that opens records and that says "ended".

A session that this worker holds is trusted for at most a second without word from the store (FRESH_S): a logout
anywhere is effective everywhere within that time. Whoever cannot be asked is not a "no": StoreUnavailable, never None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from bff.base.clock import Clock
from bff.base.errors import SealBroken, SessionGone, StoreUnavailable
from bff.base.events import Event, EventKind, Probe, no_probe
from bff.base.flight import Flights
from bff.oauth.types import Identity, TokenSet
from bff.session.build import allowed_claims, bounded, build_session
from bff.session.cookies import CookiePolicy
from bff.session.lookup import find_indexed
from bff.session.model import EndReason, Live, Session
from bff.session.reads import Reads
from bff.session.record import find_session, is_current, seal_again, seal_record
from bff.session.rounds import FRESH_S, Rounds
from bff.session.sealing import KeyRing
from bff.session.shelf import Shelf
from bff.session.store.port import Row, SessionStore
from bff.session.ticket import Ticket, build_ticket, open_ticket, seal_ticket

WRITE_ATTEMPTS = 10
MAX_DOOMED = 10_000


class Keeper:
    """Sessions of one process over a shared store. ``claims`` is the allow-list (None: all but the ID token's own). Who ``only_sends``
    holds them without what the agent alone has use for (``Session.held_to_send``), and so can update none.

    Mutable state, all owned here: the shelf (bound ``cached``), flights, ends the store has not taken yet (10,000).
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        ring: KeyRing,
        cookie: CookiePolicy,
        clock: Clock,
        idle_s: float,
        max_s: float,
        claims: frozenset[str] | None,
        probe: Probe = no_probe,
        cached: int = 20_000,
        only_sends: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._ring = ring
        self._cookie = cookie
        self._clock = clock
        self._idle_s = idle_s
        self._max_s = max_s
        self._claims = claims
        self._probe = probe
        self._find = partial(find_session, ring=ring, to_send=only_sends)
        self._shelf = Shelf(cached=cached)
        self._finding: Flights[str, Live | None] = Flights()
        self._ending: Flights[bytes, Session | None] = Flights()
        self._doomed: dict[bytes, EndReason] = {}
        self._reads = Reads(store=store, clock=clock)
        self._rounds = Rounds(
            store=store,
            shelf=self._shelf,
            clock=clock,
            idle_s=idle_s,
            probe=probe,
            pause=pause,
            check_again=self.check_again,
            was_changed=self._reads.was_changed,
            end_doomed=self.end_doomed,
        )

    async def begin(
        self,
        identity: Identity,
        tokens: TokenSet,
        *,
        previous: Sequence[bytes] = (),
        scopes: Sequence[str] = (),
        replaced: Callable[[Session], object] | None = None,
    ) -> tuple[Live, str]:
        """A new session under a new id, whatever the browser held before (SESS-2): the live session and its cookie value.

        Those under the keys ``previous`` are ended first and, where this worker can open them, handed to ``replaced``
        so that their tokens can be revoked (SESS-3). ``scopes`` are those asked for: they hold where the token answer
        names none (RFC 6749 §5.1). StoreUnavailable: then nothing began.
        """
        for key in previous:
            old = await self.end(key, EndReason.REPLACED)
            if old is not None and replaced is not None:
                replaced(old)
        now, asked_at = self._clock.now(), self._clock.monotonic()
        longest_s = self._max_s if tokens.session_max_s is None else min(self._max_s, max(0.0, tokens.session_max_s))
        ends_at = now + longest_s
        ticket = build_ticket(ends_at if identity.session_expires_at is None else min(ends_at, identity.session_expires_at))
        session = build_session(ticket, identity, tokens, scopes=scopes, claims=self.allowed(identity.claims), now=now)
        live = self._live_of(ticket.half, session, seen_at=now, checked_at=asked_at)
        await self._store.insert(seal_record(session, half=ticket.half, ring=self._ring, seen_at=now))
        value = seal_ticket(ticket, ring=self._ring, cookie=self._cookie)
        self._shelf.put(value, live)
        return live, value

    def recall(self, cookie_value: str) -> Live | None:
        """The hot path: the session behind a cookie value if this worker knows it for sure right now. None means ask ``find``."""
        live = self._shelf.find(cookie_value)
        if live is None or (session := live.session) is None or not self.believes(live):
            return None
        now = self._clock.now()
        return live if now < session.expires_at and now < live.seen_at + live.idle_s else None

    def believes(self, live: Live) -> bool:
        """Whether what this worker holds of ``live`` may be used without asking the store: it was read within the last second, or
        the store has been telling us of every change since (design: "Invalidation")."""
        monotonic = self._clock.monotonic()
        return monotonic - live.checked_at <= FRESH_S or self._rounds.vouches(live, monotonic)

    async def find(self, cookie_value: str, *, seen_at: float = 0.0) -> Live | None:
        """The session behind a cookie value; None: there is none (forged, ended, expired). StoreUnavailable.

        One flight per cookie value; a cancelled caller leaves it flying. ``seen_at`` is activity that another process vouches for:
        it may be on its way to the store, and must not be missed (SESS-6).
        """
        live = self.recall(cookie_value)
        return live if live is not None else await self._finding.join(cookie_value, lambda: self._load(cookie_value, seen_at))

    async def hold(self, key: bytes, half: bytes, *, seen_at: float = 0.0) -> Live:
        """The session that another process of this instance holds under ``key``, for as long as the caller holds it.
        ``seen_at`` as for ``find``. SessionGone, StoreUnavailable."""
        known = self._shelf.find_key(key)
        if known is not None and known.session is not None and self.believes(known):
            return known
        row, asked_at = await self._reads.get(key)
        live = self._shelf.find_key(key) or self._build_live(half, row)
        if live is not None:
            self._shelf.know(live)
            live.seen_at = max(live.seen_at, seen_at)
        if live is None or not await self._agree(live, row, asked_at):
            raise SessionGone("ended or unreadable")
        return live

    async def hear(self, live: Live | None = None) -> None:
        """Take in now what the store has to tell: the agent, another process, has changed something. From a silent one we learn to doubt
        ``live``."""
        try:
            await self._rounds.hear()
        except StoreUnavailable:
            if live is not None:
                live.checked_at = float("-inf")

    async def update(self, live: Live, change: Callable[[Session], Session]) -> Session:
        """Apply ``change`` to the newest version and store it (compare and set; read again and apply again when another
        writer was first). What ``change`` raises comes out. SessionGone: a late writer revives nothing (SESS-15).

        Identity, key and start cannot change, and the end can only come nearer (SESS-5). StoreUnavailable: it may or
        may not have been written.
        """
        for _ in range(WRITE_ATTEMPTS):
            old, asked_at = self._alive(live), self._clock.monotonic()
            new = bounded(old, change(old))
            row = seal_record(new, half=live.half, ring=self._ring, seen_at=live.seen_at)
            if await self._store.replace(row, expected_version=old.version):
                if self._alive(live).version < new.version:
                    live.session, live.checked_at, live.known_at = new, asked_at, self._clock.monotonic()
                return new
            await self.reread(live)
        raise StoreUnavailable("a session is written to by too many at once")

    async def reread(self, live: Live) -> Session:
        """The session as the store has it now. SessionGone, StoreUnavailable."""
        self._alive(live)
        if not await self._agree(live, *await self._reads.get(live.key)):
            raise SessionGone("ended or unreadable")
        return self._alive(live)

    async def end(self, key: bytes, reason: EndReason) -> Session | None:
        """End it everywhere; idempotent. Returns it as last stored, if this worker ever opened it (for revocation).

        Here it is over at once, even when the store fails: then StoreUnavailable, and the end is tried again until
        the store has taken it (F39). A cancelled caller's end goes on.
        """
        return await self._ending.join(key, lambda: self._end(key, reason))

    async def end_where(self, *, issuer: str, subject: str = "", sid: str = "", reason: EndReason) -> list[Session]:
        """End all sessions of a person, or of one of the provider's sessions (SESS-11, SESS-12, PRIV-5). With both, the
        person's sessions with that sid and those that never had one. Returns those that this worker could open; the
        event tells how many there were. StoreUnavailable: some may be left, so call again.
        """
        ended = []
        rows = await find_indexed(self._store, self._ring, issuer=issuer, subject=subject, sid=sid)
        for row in rows:
            session = await self.end(row.key, reason)
            if session is not None:
                ended.append(session)
        fields = {"reason": reason.value, "count": len(rows), "opened": len(ended)}
        name = self._ring.pseudonym("subject", issuer, subject) if subject else ""
        self._probe(Event(EventKind.SESSION_ENDED, subject=name, fields=fields))
        return ended

    async def find_rows(self, *, issuer: str = "", subject: str = "", sid: str = "", after: bytes = b"", limit: int = 100) -> list[Row]:
        """Rows for administration, in key order behind ``after``: of a person, of a provider session, or all."""
        if not subject and not sid:
            return list(await self._store.list(after=after, limit=limit))
        rows = await find_indexed(self._store, self._ring, issuer=issuer, subject=subject, sid=sid)
        return [row for row in rows if row.key > after][:limit]

    def touch(self, live: Live) -> None:
        """The user did something. Reaches the store within a tenth of the idle limit, a minute at most."""
        now = self._clock.now()
        if now > live.seen_at:
            live.seen_at = now
            self._rounds.dirty[live.key] = live

    def forget_all(self) -> None:
        """Keys were reloaded: every cookie has to be opened again. Sessions and their watchers stay as they are."""
        self._shelf.forget_cookies()

    async def run(self) -> None:
        """Background work until cancelled: hear of changes, write activity down, notice expiry, purge."""
        await self._rounds.run()

    async def settle(self) -> None:
        """Write down every activity that is only known here: for the end of a worker. Raises nothing."""
        await self._rounds.flush(everything=True)

    def adopt(self, claims: frozenset[str] | None) -> None:
        """Keep these claims of logins from now on: the routes that decide by them came anew (SIGHUP)."""
        self._claims = claims

    def allowed(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """The claims that a session may hold (PRIV-2)."""
        return allowed_claims(claims, self._claims)

    def names_of(self, session: Session) -> tuple[str, str]:
        """Pseudonyms of session and subject, for events."""
        return self._name_of(session.key), self._ring.pseudonym("subject", session.issuer, session.subject)

    def finish(self, live: Live, reason: EndReason) -> None:
        """Over in this worker: nothing recalls it any more, and its watchers are told, once."""
        session, live.session = live.session, None
        if session is None:
            return
        self._rounds.dirty.pop(live.key, None)
        name, subject = self.names_of(session)
        self._probe(Event(EventKind.SESSION_ENDED, session=name, subject=subject, fields={"reason": reason.value}))
        watchers, live.watchers = live.watchers, frozenset()
        for watcher in watchers:
            try:
                watcher(reason)
            except Exception as error:
                self._probe(Event(EventKind.SESSION_ENDED, outcome="watcher_failed", fields={"error": type(error).__name__}))

    async def check_again(self, live: Live) -> None:
        """Bring a live session up to what the store says, ending it if need be. StoreUnavailable."""
        if live.session is not None:
            await self._agree(live, *await self._reads.get(live.key))

    async def end_doomed(self) -> None:
        """Try the ends again that the store has not taken. StoreUnavailable."""
        for key in list(self._doomed):
            await self._bury(key)

    async def _load(self, cookie_value: str, seen_at: float) -> Live | None:
        opened = self._open_ticket(cookie_value)
        if opened is None:
            return None
        ticket, newest = opened
        if ticket.key in self._doomed:
            await self._bury(ticket.key)
            return None
        known = self._shelf.find_key(ticket.key)
        if known is not None and known.session is None:
            return None
        row, asked_at = await self._reads.get(ticket.key)
        # Looked up again: another cookie value of the same session may have brought it in meanwhile.
        live = self._shelf.find_key(ticket.key) or self._build_live(ticket.half, row)
        # So is the ticket: keys may have been retired meanwhile, and what the shelf knows is not opened again.
        if live is None or self._open_ticket(cookie_value) is None:
            return None
        self._shelf.put(cookie_value, live)
        live.seen_at = max(live.seen_at, seen_at)
        if not await self._agree(live, row, asked_at):
            return None
        live.renew_cookie = "" if newest else seal_ticket(ticket, ring=self._ring, cookie=self._cookie)
        return live if await self._reseal(live, row) else None

    def _open_ticket(self, cookie_value: str) -> tuple[Ticket, bool] | None:
        """None without asking the store: what we did not seal, or what is over, is cheap to refuse (D15)."""
        try:
            ticket, newest = open_ticket(cookie_value, ring=self._ring, cookie=self._cookie)
        except SealBroken:
            return None
        return (ticket, newest) if self._clock.now() < ticket.expires_at else None

    def _build_live(self, half: bytes, row: Row | None) -> Live | None:
        if row is None or (session := self._find(row, half)) is None:
            return None
        return self._live_of(half, session, seen_at=row.seen_at, checked_at=float("-inf"))

    def _live_of(self, half: bytes, session: Session, *, seen_at: float, checked_at: float) -> Live:
        live = Live(session, seen_at, self._idle_s, key=session.key, half=half, checked_at=checked_at, stored_seen_at=seen_at)
        live.known_at = self._clock.monotonic()
        return live

    async def _agree(self, live: Live, row: Row | None, asked_at: float) -> bool:
        """Take in what the store said at ``asked_at``. False when there is no session to be had from it."""
        session = live.session
        if session is None:
            return False
        if row is None:
            self.finish(live, self._why_over(live, session.expires_at) or EndReason.ELSEWHERE)
            return False
        live.stored_seen_at = max(live.stored_seen_at, row.seen_at)
        live.seen_at = max(live.seen_at, row.seen_at)
        over = self._why_over(live, row.expires_at)
        if over is None and row.version < session.version and asked_at > live.known_at:
            # A store that shows less than we have seen was restored or replays: what else has it forgotten? (4.3, F42)
            over = EndReason.ELSEWHERE
        if over is not None:
            with suppress(StoreUnavailable):  # over it is; the end is noted and tried again
                await self.end(live.key, over)
            return False
        return self._take_in(live, session, row, asked_at)

    def _take_in(self, live: Live, session: Session, row: Row, asked_at: float) -> bool:
        if row.version < session.version:
            return True  # an answer that our own newer write overtook
        if row.version > session.version:
            newer = self._find(row, live.half)
            if newer is None:
                live.checked_at = float("-inf")  # F44: written by a release or key we do not know: absent here, but not ended
                return False
            live.session, live.known_at = newer, self._clock.monotonic()
        live.checked_at = max(live.checked_at, asked_at)
        return True

    def _why_over(self, live: Live, expires_at: float) -> EndReason | None:
        now = self._clock.now()
        if now >= expires_at:
            return EndReason.EXPIRED
        return EndReason.IDLE if now >= live.idle_until else None

    async def _reseal(self, live: Live, row: Row | None) -> bool:
        """Write a record again that an old key sealed, so that the key can retire (COOKIE-20). False: it is gone."""
        if row is None or is_current(row, ring=self._ring):
            return True
        newer = seal_again(row, half=live.half, ring=self._ring, seen_at=live.seen_at)
        with suppress(StoreUnavailable):
            if newer is not None:
                await self._store.replace(newer, expected_version=row.version)
            try:
                await self.reread(live)
            except SessionGone:
                return False
        return True

    async def _end(self, key: bytes, reason: EndReason) -> Session | None:
        live = self._shelf.find_key(key)
        session = live.session if live is not None else None
        if len(self._doomed) < MAX_DOOMED:
            self._doomed[key] = reason
        if live is not None:
            self.finish(live, reason)
        if live is not None and session is not None:
            session = await self._latest(live, session)
        deleted = await self._bury(key)
        if deleted and session is None:
            self._probe(Event(EventKind.SESSION_ENDED, session=self._name_of(key), fields={"reason": reason.value}))
        return session

    async def _latest(self, live: Live, session: Session) -> Session:
        """The session as stored just before its end: another worker may have renewed its tokens (F10)."""
        row = await self._store.get(live.key)
        return (self._find(row, live.half) if row is not None and row.version > session.version else None) or session

    async def _bury(self, key: bytes) -> bool:
        deleted = await self._store.delete(key)
        self._doomed.pop(key, None)
        return deleted

    def _name_of(self, key: bytes) -> str:
        return self._ring.pseudonym("session", key.hex())

    @staticmethod
    def _alive(live: Live) -> Session:
        if live.session is None:
            raise SessionGone("ended")
        return live.session
