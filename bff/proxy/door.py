"""The door: one browser connection. Heads come in, each is judged, at most one exchange or tunnel runs at a time.

The hot path reads top to bottom: ``data_received`` finds the exact bytes in the memo, or the pattern that they follow,
compares what may have changed since that was judged, takes a resting upstream connection and writes the head to it;
``Exchange.on_data`` writes the answer back. Whatever is not at hand leaves for ``_read`` and meets the same functions there.

What arrives while an exchange runs is its body or waits, bounded (D4). After any framing error nothing that follows
is read as a request (M1, M6).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from bff.policy.facts import Facts
from bff.policy.verdict import Refusal
from bff.proxy.call import HEAD
from bff.proxy.exchange import Exchange
from bff.proxy.head import MAX_HEAD_BYTES, check_unfinished
from bff.proxy.intake import Intake
from bff.proxy.refusals import DOOR_FULL, HEAD_LATE
from bff.proxy.turns import NEWCOMER_S
from bff.proxy.upstream import bound_writes, end_sending

if TYPE_CHECKING:
    from bff.proxy.house import DoorHouse
    from bff.proxy.memo import Ready
    from bff.proxy.tunnel import Tunnel

READING, BUSY, SENDING, TUNNEL, LINGERING = range(5)
MAX_HELD_BYTES = 64 * 1024
TLS_LINGER_S = 0.5
_ABORT = struct.pack("ii", 1, 0)


class Door(asyncio.Protocol):
    """Owner: the loop; known to its house from ``connection_made`` to ``connection_lost``.

    ``mode`` says what arriving bytes are: READING heads, BUSY (held), SENDING (a body on its way up), TUNNEL, LINGERING
    (thrown away). ``intake`` takes them while it is SENDING or TUNNEL. ``moved_at`` is when the connection last came to rest;
    ``head_at`` when an unfinished head began.
    """

    def __init__(self, house: DoorHouse) -> None:
        self.house = house
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.mode = READING
        self.held = b""
        self.intake: Intake | None = None
        self.exchange: Exchange | Tunnel | None = None
        self.writable = True
        self.reading = True
        self.made_at = self.moved_at = self.head_at = self.stalled_at = self.eof_at = 0.0
        self._stalled_size = 0
        self._drained = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write, self.writelines = self.transport.write, self.transport.writelines
        bound_writes(self.transport)
        self.made_at = self.moved_at = self.house.monotonic()
        self.edge = self.house.edge_of(self.transport)
        self.house.turns.spend(NEWCOMER_S)
        if not self.house.crowd.enter(self, self.moved_at):
            self.refuse(DOOR_FULL)
            if self.house.crowd.overfull:
                self.transport.close()  # no lingering: the descriptors kept back for health and administration would go with it (F52)

    # -- the hot path -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.mode or self.held:
            self._on_more(data)
            return
        if not data.endswith(b"\r\n\r\n"):
            self._read(data)
            return
        house = self.house
        ready = house.find_ready(data)
        if ready is None or ready[0].edge is not self.edge:
            ready = house.find_alike(data, self.edge)
        if ready is None or not ready[0].bodiless:
            self._read(data, ready)
            return
        plan, before, after, seen, _ = ready
        live = plan.live
        now = house.now()
        if now >= plan.valid_until or (live is not None and (live.session is not plan.judged or now >= live.seen_at + live.idle_s)):
            self._read(data, ready)
            return
        lane, seat = plan.lane, plan.seat
        connection = None
        if lane.active < lane.limit and seat.active < lane.session_limit:
            connection = plan.origin.take(replayable=plan.replayable)
        if connection is None:
            self._read(data, ready)
            return
        if live is not None and now - live.seen_at >= plan.touch_s:
            house.touch(plan)
        lane.active += 1
        seat.active += 1
        request_id = seen.request_id.encode() if plan.named else house.next_id()
        exchange = Exchange(self, request_id, house.monotonic())
        exchange.plan = plan
        exchange.seen = seen
        exchange.block = data
        exchange.seated = True
        exchange.stage = HEAD
        exchange.moved_at = exchange.started
        exchange.connection = connection
        connection.occupant = exchange
        self.exchange = exchange
        self.mode = BUSY
        connection.write(before + plan.tail + request_id + after)

    # -- everything else that arrives -------------------------------------------------------------------------------

    def _on_more(self, data: bytes) -> None:
        mode = self.mode
        if self.intake is not None:
            self.intake.take(data)
            self.regulate()
        elif mode == LINGERING:
            self._drained += len(data)
            if self._drained > self.house.options.linger_bytes:
                self.transport.abort()
        elif mode == BUSY or (self.held and not self.head_at):
            # In the second case whole requests wait for ``_next``: searching only the new bytes would run them together.
            self.held += data
            if len(self.held) > MAX_HELD_BYTES:
                self.regulate()
        else:
            self._read(data)

    def _read(self, data: bytes, ready: Ready | None = None) -> None:
        """A head, or part of one, behind whatever part was held. ``ready`` is what was found for exactly ``data``."""
        known = len(self.held)
        data = self.held + data if known else data
        start = max(known - 3, 0)
        end = data.find(b"\r\n\r\n", start) + 4
        if end == 3:
            self._wait_for_head(data, known)
            return
        block, self.held = (data, b"") if end == len(data) else (data[:end], data[end:])
        self.head_at = 0.0
        if len(self.held) > MAX_HELD_BYTES:
            self.regulate()
        house = self.house
        ready = ready or house.look_up(block, self.edge)
        if ready is not None and ready[0].good_at(house.now()):
            request_id = ready[3].request_id.encode() if ready[0].named else house.next_id()
            self._begin(request_id, block).go_again(ready)
            return
        if house.asked is not None and house.asked.take(self, block):
            return
        facts = house.reader.read(block, self.edge)
        if isinstance(facts, Refusal):
            self.refuse(facts)
            return
        self._begin(facts.request_id.encode(), block).judge(facts)

    def _begin(self, request_id: bytes, block: bytes) -> Exchange:
        self.mode = BUSY
        exchange = self.exchange = Exchange(self, request_id, self.house.monotonic())
        exchange.block = block
        if self.eof_at:
            exchange.eof_mark = 0
        return exchange

    def _wait_for_head(self, data: bytes, known: int) -> None:
        """Judge only what is new, so that a head sent byte by byte costs no more than its length."""
        if len(data) <= MAX_HEAD_BYTES:
            refusal = check_unfinished(data[known - 1 if known and data[known - 1] == 13 else known :])
        else:
            refusal = check_unfinished(data)
        if refusal is not None:
            self.refuse(refusal)
            return
        if self.eof_at:
            self._linger(more=False)
            return
        self.held = data
        self.head_at = self.head_at or self.house.monotonic()

    def _next(self) -> None:
        """The next pipelined request: ten thousand of them must not nest, starve others or be answered to one who does not read."""
        if self.mode == READING and self.held and self.writable and not self.transport.is_closing():
            data, self.held = self.held, b""
            self._read(data)

    # -- what the exchange asks for ---------------------------------------------------------------------------------

    def begin_body(self) -> bytes:
        """From now on the browser's bytes go to the exchange; returns those that came already, or as many as are taken at once."""
        self.intake = Intake(self, self.held)
        self.held = b""
        self.mode = SENDING
        first = self.intake.first()
        self.regulate()
        return first

    def end_body(self, rest: bytes) -> None:
        self.mode = BUSY
        self.held = rest + self._end_intake()

    def _end_intake(self) -> bytes:
        intake, self.intake = self.intake, None
        return intake.end() if intake is not None else b""

    def begin_tunnel(self, tunnel: Tunnel) -> bytes:
        self.exchange = tunnel
        held = self.begin_body()
        self.mode = TUNNEL
        return held

    def answer(self, refusal: Refusal, facts: Facts | None, request_id: bytes, *, body_left: int | None) -> bool:
        """Write a refusal; True if the connection can take another request.

        ``body_left`` is how much of this request's body was not read yet, None for unknown. What is at hand is skipped;
        with more to come the connection ends here, so that a body is never read as a request (M1).
        """
        keep = False
        if facts is not None and body_left is not None and body_left <= len(self.held):
            self.held = self.held[body_left:]
            keep = facts.keep_alive and not facts.http_10 and not facts.websocket and not refusal.close and self.house.keeps_alive
        self.write(self.house.render(refusal, facts, request_id, keep_alive=keep))
        return keep

    def refuse(self, refusal: Refusal) -> None:
        """A refusal outside any exchange: nothing was understood, so nothing after it is believed either."""
        request_id = self.house.next_id()
        self.answer(refusal, None, request_id, body_left=None)
        self.house.count_unread(refusal, request_id)
        self._linger(more=True)

    def done(self, keep_alive: bool, now: float) -> None:
        """The exchange is over; its answer is written."""
        self.exchange = None
        if not keep_alive or (self.eof_at and not self.held):
            self._linger(more=self.mode == SENDING or bool(self.held))
            return
        self.moved_at = now
        self.mode = READING
        if not self.reading:
            self.regulate()
        if self.held:
            self.house.turns.later(self._next)

    def cut(self) -> None:
        """End without an end: the browser must not take what it has for the whole. A reset where the transport allows."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.exchange = None
        self.mode = LINGERING
        self._end_intake()
        self.transport.abort()

    def pause_reading(self) -> None:
        if self.intake is not None:
            self.intake.wanted = False
        self.regulate()

    def resume_reading(self) -> None:
        if self.intake is not None:
            self.intake.resume()
        self.regulate()

    def regulate(self) -> None:
        """Read only while there is room for what comes."""
        if self.intake is not None:
            reading = self.intake.reads
        elif self.mode == LINGERING:
            reading = True
        else:
            reading = len(self.held) <= MAX_HELD_BYTES and (self.writable or self.mode == BUSY)
        if reading is not self.reading and not self.transport.is_closing():
            self.reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _linger(self, *, more: bool) -> None:
        """Close so that the answer arrives: closing with unread bytes would make the kernel reset it away (RFC 9112 §9.6).

        ``more``: the browser may still be sending. TLS has no half-closed state, so there the end comes at once, or with
        more to come after half a second of throwing it away.
        """
        self.mode = LINGERING
        self.held = b""
        self._end_intake()
        self.moved_at = self.house.monotonic()
        if self.transport.can_write_eof() and not self.eof_at:
            end_sending(self.transport)
        elif self.eof_at or not more:
            self.transport.close()
            return
        else:
            self.moved_at -= max(self.house.options.linger_s - TLS_LINGER_S, 0.0)
        self.resume_reading()

    # -- the connection itself --------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """True keeps the sending side: a browser that half-closed still gets its answer."""
        self.eof_at = self.house.monotonic()
        exchange = self.exchange
        if exchange is None:
            if self.mode == READING and b"\r\n\r\n" in self.held:
                return True
            self.mode = LINGERING
            return False
        if self.intake is not None and self.intake.waiting:
            return self.transport.can_write_eof()  # the intake tells it when that is done
        exchange.on_browser_eof()
        return self.exchange is exchange and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.house.crowd.leave(self)
        exchange, self.exchange = self.exchange, None
        self.mode = LINGERING
        self.held = b""
        self._end_intake()
        if exchange is not None:
            exchange.on_browser_gone()

    def pause_writing(self) -> None:
        self.writable = False
        self.stalled_at = self.house.coarse
        self._stalled_size = 0
        if self.exchange is not None:
            self.exchange.on_browser_full()
        else:
            self.regulate()

    def resume_writing(self) -> None:
        self.writable = True
        if self.exchange is not None:
            self.exchange.on_browser_ready()
        elif self.mode == READING:
            self.regulate()
            if self.held:
                self.house.turns.later(self._next)

    @property
    def rests_since(self) -> float | None:
        """Since when nothing but perhaps a part of a head has come here, or the last answer is written. None: busy."""
        return None if self.exchange is not None or not self.writable or (self.held and not self.head_at) else self.moved_at

    # -- the tick ---------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Called a few times a second: slow heads, idle connections, readers that stopped reading (D9)."""
        options = self.house.options
        if not self.writable and self._stalled(now, options.stall_s):
            self.cut_off()
        elif self.exchange is not None:
            self.exchange.check(now)
        elif self.mode == LINGERING:
            if not self.writable:
                self.moved_at = now  # a slow reader has not got all of its answer yet
            elif now - self.moved_at > options.linger_s:
                self.transport.abort()
        elif self.head_at:
            if now - self.head_at > options.head_s:
                self.refuse(HEAD_LATE)
        elif now - self.moved_at > options.idle_s:
            self.close_idle()

    def cut_off(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.cut()
        else:
            self.cut()

    def leave(self) -> None:
        """The end of the process: cut what is not whole. An answer that the kernel has in full is left to it."""
        if self.exchange is not None or self.transport.get_write_buffer_size():
            self.cut_off()
        else:
            self.transport.close()

    def _stalled(self, now: float, stall_s: float) -> bool:
        """A slow reader is served as long as it takes anything at all."""
        size = self.transport.get_write_buffer_size()
        if size != self._stalled_size:
            self._stalled_size = size
            self.stalled_at = now
        return now - self.stalled_at > stall_s

    def close_idle(self) -> None:
        """Close between requests: nothing is lost, a browser repeats what crossed it on the way."""
        if self.exchange is None and self.mode == READING:
            self._linger(more=False)
