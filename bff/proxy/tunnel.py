"""A WebSocket after its 101: two streams of frames, relayed as they are, ended in order when the session ends.

The relay reads enough framing to enforce masking, sizes and control frame rules, and to know where a frame of our own
(Close, Ping) may be put in. Close codes we send the browser: 4401 the session ended, 1001 we are going away, 1009 a
message too big, 1002/1007 a broken rule, 1011 the upstream is gone (WS-7 to WS-10, F56).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bff.policy.facts import Facts
from bff.proxy.frames import PING, FrameError, Frames, close_frame, control_frame
from bff.proxy.memo import Plan
from bff.proxy.tether import Tether
from bff.session.model import EndReason

if TYPE_CHECKING:
    from bff.proxy.exchange import Exchange
    from bff.proxy.upstream import UpstreamConnection

SESSION_ENDED, GOING_AWAY, UPSTREAM_GONE = 4401, 1001, 1011
CLOSE_S = 2.0
ANSWER_S = 10.0
"""How long the other side may take to answer a Close, before the connections end without its word (RFC 6455 §7.1.1)."""
OWN_PING = b"bff:alive?"


class Tunnel:
    """Owner: its door, from the 101 on. ``sent`` and ``received`` count bytes on the wire, towards and from the browser."""

    status = 101
    eof_mark: int | None = None

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, *, deflate: bool) -> None:
        limit = exchange.plan.route.limits.websocket_message_bytes
        self.door = exchange.door
        self.plan: Plan = exchange.plan
        self.facts: Facts = exchange.facts
        self.request_id = exchange.request_id
        self.started = exchange.started
        self.connection: UpstreamConnection | None = connection
        self.sent = self.received = 0
        self._up = Frames(masked=True, limit=limit, deflate=deflate)
        self._down = Frames(masked=False, limit=limit, deflate=deflate)
        self._up.own_ping = self._down.own_ping = OWN_PING
        self._ending: tuple[int, str] | None = None
        self._end_at = 0.0
        self._deadline = 0.0
        self._outcome = "ok"
        self._heard_browser = self._heard_upstream = self.door.house.coarse
        self._pinged_browser = self._pinged_upstream = False
        self._full_since = self._closed_since = 0.0
        live, judged = self.plan.live, self.plan.judged
        self._tether = Tether(live, judged, self._on_session_end) if live is not None and judged is not None else None

    def open(self, head: bytes, rest: bytes) -> None:
        """Send the browser its 101 and let both sides speak. ``rest`` are frames the upstream sent right behind its own."""
        if self.connection is None:
            return
        self.connection.occupant = self
        held = self.door.begin_tunnel(self)
        self.door.write(head)
        if rest:
            self.on_data(rest)
        if held:
            self.on_browser(held)

    # -- relaying ---------------------------------------------------------------------------------------------------

    def on_browser(self, data: bytes) -> None:
        connection = self.connection
        self._heard_browser = self.door.house.coarse
        self._pinged_browser = False
        if connection is None or self._ending is not None:
            return  # after a broken frame, or the session's end, nothing more passes, not even while a frame towards the browser ends
        self.received += len(data)
        try:
            passed = self._up.feed(data)
        except FrameError as error:
            connection.write(error.passed)
            self.end(error.code, error.reason, outcome="websocket_protocol")
            return
        if passed:
            connection.write(passed)

    def on_data(self, data: bytes) -> None:
        self._heard_upstream = self.door.house.coarse
        self._pinged_upstream = False
        if self._end_at:
            return
        try:
            passed = self._down.feed(data)
        except FrameError as error:
            self._to_browser(error.passed)
            self.end(UPSTREAM_GONE if error.code == 1002 else error.code, error.reason, outcome="upstream_protocol")
            return
        if passed:
            self._to_browser(passed)
        if self._ending is not None:
            self._try_end()

    def _to_browser(self, data: bytes) -> None:
        self.sent += len(data)
        if data:
            self.door.write(data)

    def on_browser_full(self) -> None:
        if self.connection is not None:
            self.connection.pause_reading()

    def on_browser_ready(self) -> None:
        self._heard_upstream = self.door.house.coarse
        if self.connection is not None:
            self.connection.resume_reading()

    def on_upstream_full(self) -> None:
        self._full_since = self.door.house.coarse
        self.door.pause_reading()

    def on_upstream_ready(self) -> None:
        self._full_since = 0.0
        self._heard_browser = self.door.house.coarse
        self.door.resume_reading()

    # -- ending -----------------------------------------------------------------------------------------------------

    def _on_session_end(self, reason: EndReason) -> None:
        self.end(SESSION_ENDED, "session ended", outcome="session_ended")

    def end(self, code: int, reason: str, *, outcome: str = "ok") -> None:
        """Close both sides with a Close frame, as soon as a frame boundary allows; by force a little later."""
        if self._ending is None:
            self._ending = (code, reason)
            self._outcome = outcome
            self._full_since = 0.0
            self._deadline = self.door.house.coarse + CLOSE_S
            self._try_end()

    def _try_end(self) -> None:
        if self._ending is None or self._end_at:
            return
        code, reason = self._ending
        if not self._down.at_boundary:
            return
        self._end_at = self.door.house.coarse + CLOSE_S
        if not self._down.closed:
            self._to_browser(close_frame(code, reason, masked=False))
        connection = self.connection
        if connection is not None and self._up.at_boundary and not self._up.closed:
            connection.write(close_frame(1001 if code >= 4000 else code, reason, masked=True))
        self._leave()
        self._drop_upstream()
        self.door.done(False, self.door.house.monotonic())

    def _drop_upstream(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.occupant = None
            connection.transport.close()

    def on_upstream_end(self, clean: bool) -> None:
        self.connection = None
        if self._end_at:
            return
        if self._down.closed:
            self._end_at = self.door.house.coarse
            self._leave()
            self.door.done(False, self.door.house.monotonic())
        elif self._down.at_boundary:
            self.end(UPSTREAM_GONE, "upstream gone", outcome="upstream_gone")
        else:
            self.cut()

    def on_browser_eof(self) -> None:
        """A WebSocket has no half-closed state worth keeping (RFC 6455 §7.1.1), but a browser that said Close may still read the answer."""
        if self._up.closed and not self._down.closed and self.connection is not None:
            return
        self.on_browser_gone()
        self.door.done(False, self.door.house.monotonic())

    def on_browser_gone(self) -> None:
        """The browser vanished: tell the upstream in its own words, then close."""
        if self._end_at:
            return
        self._end_at = self.door.house.coarse
        connection = self.connection
        if connection is not None and self._up.at_boundary and not self._up.closed:
            connection.write(close_frame(GOING_AWAY, "", masked=True))
        self._leave("aborted")
        self._drop_upstream()

    def cut(self) -> None:
        self.on_browser_gone()
        self.door.cut()

    def _leave(self, outcome: str = "") -> None:
        if self._tether is not None:
            self._tether.loose()
        self.plan.lane.active -= 1
        self.plan.seat.active -= 1
        house = self.door.house
        sizes = self.received, self.sent
        house.ended.append(
            (house.monotonic(), self.request_id, self.plan, self.facts, self.status, *sizes, self.started, outcome or self._outcome)
        )

    # -- the tick ---------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Called a few times a second: session life, dead peers, an ending that takes too long."""
        house = self.door.house
        if self._ending is not None:
            if now > self._deadline:
                self.cut()
            return
        if self._up.data:
            self._up.data = False
            house.touch(self.plan)
        if self._full_since and now - self._full_since > house.options.stall_s:
            self.end(UPSTREAM_GONE, "upstream stalled", outcome="upstream_timeout")
            return
        if self._up.closed or self._down.closed:
            self._check_closing(now)
        else:
            self._check_peers(now, house.options.ping_s)
        if self._tether is not None:
            self._tether.check(house.now())

    def _check_closing(self, now: float) -> None:
        """One side has said Close, or both: nobody is pinged any more, and nobody may keep the connections for that."""
        self._closed_since = self._closed_since or now
        both = self._up.closed and self._down.closed
        if now - self._closed_since > (CLOSE_S if both else ANSWER_S):
            self.end(UPSTREAM_GONE, "no answer to Close", outcome="ok" if self._down.closed else "upstream_timeout")

    def _check_peers(self, now: float, ping_s: float) -> None:
        connection = self.connection
        if not self._full_since and now - self._heard_browser > ping_s * (2 if self._pinged_browser else 1):
            if self._pinged_browser:
                self.cut()
                return
            if self._down.at_boundary:
                self._pinged_browser = True
                self.door.write(control_frame(PING, OWN_PING, masked=False))
        if connection is None or not self.door.writable:
            return
        if now - self._heard_upstream > ping_s * (2 if self._pinged_upstream else 1):
            if self._pinged_upstream:
                self.end(UPSTREAM_GONE, "upstream silent", outcome="upstream_timeout")
            elif self._up.at_boundary:
                self._pinged_upstream = True
                connection.write(control_frame(PING, OWN_PING, masked=True))
