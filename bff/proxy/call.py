"""The state of one HTTP call and its endings: ``_finish`` (the answer is complete), ``refuse`` (an answer of ours) and
``cut`` (the answer had begun: the browser must notice). Whatever happens on the way ends in exactly one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from bff.base.errors import BffError
from bff.policy.facts import Facts
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.deadlines import check_body, check_head, check_waiting, seems_gone
from bff.proxy.framing import ChunkedReader
from bff.proxy.lane import Glimpse
from bff.proxy.memo import Plan
from bff.proxy.patterns import Pattern
from bff.proxy.refusals import INTERNAL, refusal_of
from bff.proxy.tether import Tether
from bff.proxy.upload import Upload
from bff.session.model import EndReason

if TYPE_CHECKING:
    from bff.proxy.door import Door
    from bff.proxy.upstream import UpstreamConnection

log = logging.getLogger("bff.proxy")

WAIT, HEAD, BODY, DONE = range(4)


class Call:
    """Owner: its door, from the head on until ``door.done``. Holds one upstream connection at most.

    ``parts``: the head to send, in place of the plan's own. ``stopped``: the rest of the body is thrown away. ``closing``: the answer
    said ``Connection: close``, which nothing takes back. ``epoch``: the house's, when the judgement began.
    """

    stage = WAIT
    status = 0
    sent = 0
    received = 0
    moved_at = 0.0
    remaining: int | None = None
    interim = 0
    seen: Facts | Glimpse | None = None
    _facts: Facts | None = None
    plan: Plan = cast(Plan, None)
    parts: tuple[bytes, bytes] | None = None
    block = b""
    epoch = 0
    body_sent = False
    seated = False
    retried = False
    renewed = False
    heard = False
    stopped = False
    closing = False
    stream = False
    pooled = False
    eof_mark: int | None = None
    pending = b""
    connection: UpstreamConnection | None = None
    upload: Upload | None = None
    reader: ChunkedReader | None = None
    task: asyncio.Task[None] | None = None
    tether: Tether | None = None

    def __init__(self, door: Door, request_id: bytes, started: float) -> None:
        self.door = door
        self.request_id = request_id
        self.started = started

    @property
    def facts(self) -> Facts:
        """The request. One that a pattern let through is read in full only now: the short way does without."""
        if self._facts is None:
            self._facts = self.whole().facts
        return self._facts

    @facts.setter
    def facts(self, facts: Facts) -> None:
        self._facts = self.seen = facts

    def whole(self) -> Admitted:
        """The verdict on this very request."""
        plan = self.plan
        if isinstance(plan, Pattern):
            plan = self.plan = self.door.house.settle(plan, self.block)
        if plan.admitted is None:
            raise RuntimeError("a plan without a verdict")
        return plan.admitted

    # -- the browser's side -----------------------------------------------------------------------------------------

    def on_browser_full(self) -> None:
        if self.connection is not None:
            self.connection.pause_reading()

    def on_browser_ready(self) -> None:
        if self.connection is not None and self.stage != WAIT:
            self.connection.resume_reading()

    def on_browser_eof(self) -> None:
        """The browser sends no more. A body that can't be completed is aborted; else see ``check``."""
        unsent = 0 if self.body_sent else self.facts.body_length or 0
        if self.upload is not None or (self.stage == WAIT and unsent > len(self.door.held)):
            self.cut()
        else:
            self.eof_mark = self.sent

    def on_browser_gone(self) -> None:
        """Cancel at once (BODY-4). A refresh under way goes on for the others: the desk shields it (TOKEN-8)."""
        if self.stage != DONE:
            self._close(0 if self.stage != BODY else self.status, "aborted")

    # -- endings ----------------------------------------------------------------------------------------------------

    def _finish(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        connection, self.connection = self.connection, None
        door = self.door
        now = door.house.monotonic()
        if connection is not None:
            if self.pooled and self.upload is None:
                if not door.writable:
                    connection.resume_reading()
                self.plan.origin.give(connection, now)
            else:
                self.plan.origin.discard(connection)
        self._leave(now, "ok")
        door.done(keep_alive, now)

    def _leave(self, now: float, outcome: str) -> None:
        """Give up the seat and write the record."""
        self.stage = DONE
        if self.tether is not None:
            self.tether.loose()
        plan = self.plan
        if self.seated:
            plan.lane.active -= 1
            plan.seat.active -= 1
        seen = self.seen or self.facts
        self.door.house.ended.append((now, self.request_id, plan, seen, self.status, self.received, self.sent, self.started, outcome))

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal of ours, or cut if an answer has begun."""
        if self.stage == DONE:
            return
        if self.stage == BODY:
            self.cut()
            return
        door = self.door
        keep = door.answer(refusal, self.facts, self.request_id, body_left=self._body_left())
        self._close(refusal.status, refusal.code)
        door.done(keep, door.house.monotonic())

    def _body_left(self) -> int | None:
        if self.body_sent:
            return 0
        return None if self.upload is not None else self.facts.body_length

    def cut(self) -> None:
        """The browser must see that this answer is not whole (FRAME-7)."""
        if self.stage != DONE:
            self._close(self.status, "aborted")
            self.door.cut()

    def end_stream(self) -> None:
        """We are going away: an event stream ends, without its last chunk but with all that was sent (OPS-6). EventSource comes again."""
        if self.stage != BODY or not self.stream:
            return
        if self.facts.http_10:
            self.cut()  # there the end of the connection would be the end of the answer
            return
        self._close(self.status, "going_away")
        self.door.done(False, self.door.house.monotonic())

    def _close(self, status: int, outcome: str) -> None:
        self.status = status
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.origin.discard(connection)
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        self.task = None
        self._leave(self.door.house.monotonic(), outcome)

    def on_session_end(self, reason: EndReason) -> None:
        self.cut()

    @property
    def waits_for_body(self) -> bool:
        """It is the browser's turn: the upstream would take more of the body."""
        return self.upload is not None and (self.connection is None or self.connection.writable)

    def check(self, now: float) -> None:
        """Called a few times a second."""
        if self.eof_mark is not None and seems_gone(self, now):
            self.cut()
        elif self.stage == WAIT:
            check_waiting(self, now)
        elif self.stage == HEAD:
            check_head(self, now)
        elif self.stage == BODY:
            check_body(self, now)

    # -- the one coroutine -------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.get_running_loop().create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BffError as error:
            self.refuse(refusal_of(error))
        except Exception as error:
            log.error("exchange failed: %s", type(error).__name__, exc_info=True)
            self.refuse(INTERNAL)
