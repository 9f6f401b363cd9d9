"""What ended and is not yet counted or logged: handed on in small shares, so that no request waits behind the log of many others.

Measured at 50,000 requests a second: shares of a quarter second held requests up for 40 ms (p99), shares of ten milliseconds,
300 records, for 3 ms, and these for none that could be told from the loop's own turns. They cost the same CPU.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from bff.base.clock import Clock
from bff.policy.facts import Facts
from bff.policy.routes import Route
from bff.proxy.lane import AccessRecord, Glimpse, Lane
from bff.proxy.memo import Plan

log = logging.getLogger("bff.proxy")

SHARE = 48
MAX_ENDED = 8192
NEXT_S, BATCH_S, IDLE_S = 0.001, 0.025, 0.05
"""Until the next share: while some wait, when none were left, when there were none."""

Ended = tuple[float, bytes, Plan | None, Facts | Glimpse | None, int, int, int, float, str]
"""(ended_at and, last but one, started_at in monotonic seconds; request id, plan, facts, status, received, sent; outcome)."""

Sink = Callable[[Sequence[AccessRecord], Sequence[Lane] | None], None]
"""Gets the records since the last call; a few times a second every lane as well, else None (their counters only grow). Must be quick."""


def no_sink(records: Sequence[AccessRecord], lanes: Sequence[Lane] | None) -> None:
    """For those who count nothing."""


class Accounts:
    """Owner: the door house. A request only appends to ``ended``. Bound: MAX_ENDED, and what one turn of the loop adds to it."""

    def __init__(self, *, sink: Sink, clock: Clock, match: Callable[[str], Route | None]) -> None:
        self.ended: list[Ended] = []
        self._match = match
        self._sink = sink
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to hand on, on the running loop."""
        if self._timer is None:
            self._wait(IDLE_S)

    def stop(self, lanes: Sequence[Lane]) -> None:
        """The last of it, all at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.hand_on(len(self.ended), lanes)

    def hand_on_share(self) -> float:
        """The oldest few, or as many as keep pace with what comes; seconds until the next share is due."""
        waiting = len(self.ended)
        self.hand_on(max(SHARE, waiting // 16, waiting - MAX_ENDED), None)
        if self.ended:
            return NEXT_S
        return BATCH_S if waiting else IDLE_S

    def hand_on(self, count: int, lanes: Sequence[Lane] | None) -> None:
        """Count the ``count`` oldest and give them to the sink."""
        ended = self.ended[:count]
        del self.ended[:count]
        shift = self._clock.now() - self._clock.monotonic()
        records: list[AccessRecord] = []
        for now, request_id, plan, facts, status, received, sent, started, outcome in ended:
            seconds = now - started
            route, session = "", b""
            if plan is not None:
                route, session = plan.lane.name, plan.session_key
                plan.lane.count(status, seconds, received, sent)
            elif type(facts) is Facts and (found := self._match(facts.path)) is not None:  # refused before it had a plan
                route = found.name
            records.append((now + shift, request_id, facts, route, session, status, received, sent, seconds, outcome))
        try:
            self._sink(records, lanes)
        except Exception as error:
            log.error("access sink failed: %s", type(error).__name__, exc_info=True)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._wait(self.hand_on_share())
