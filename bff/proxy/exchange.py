"""One HTTP call, from the judged head to the last byte of the answer.

The short way is synchronous: ``Door`` starts an exchange on a resting upstream connection, ``on_data`` finds the whole
answer in one read, and ``_finish`` hands the connection back. Everything else - waiting for the gatekeeper, connecting,
bodies in pieces, interim answers, retries, renewals - leaves that way early and meets the same few endings:
those of bff.proxy.call.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from bff.base.errors import UpstreamProtocol
from bff.policy.facts import Facts
from bff.policy.handoff import ENDED_HEADER
from bff.policy.verdict import Admitted, Refusal, Verdict
from bff.proxy.call import BODY, DONE, HEAD, WAIT, Call
from bff.proxy.challenge import Meaning, read_meaning, step_up_refusal
from bff.proxy.framing import LAST_CHUNK, ChunkedReader, FramingError, chunk
from bff.proxy.headers import response_head, switching_head
from bff.proxy.memo import Ready
from bff.proxy.refusals import BAD_ANSWER, BODY_MALFORMED, BODY_TOO_LARGE, NO_ANSWER, ROUTE_BUSY, SESSION_BUSY
from bff.proxy.renewal import renew
from bff.proxy.replies import Reply
from bff.proxy.response import MAX_RESPONSE_HEAD_BYTES, ResponseHead, read_response
from bff.proxy.tunnel import Tunnel
from bff.proxy.upload import BodyTooLarge, Upload
from bff.proxy.upstream import UpstreamConnection

MAX_INTERIM = 16
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SMALL_BODY_BYTES = 16 * 1024
"""So much of a body is passed on with its head, if all of it is there."""
_JOIN_BELOW = 16 * 1024


class Exchange(Call):
    """One call through an upstream connection. Owner: its door, from the head on until ``door.done``."""

    # -- the way to the upstream ------------------------------------------------------------------------------------

    def judge(self, facts: Facts) -> None:
        """Ask the gatekeeper: at once if everything is at hand, else in this exchange's one coroutine."""
        self.facts = facts
        self.epoch = self.door.house.epoch
        verdict = self.door.house.gatekeeper.judge_now(facts)
        if verdict is None:
            self._spawn(self._walk())
        else:
            self._ruled(verdict)

    async def _walk(self) -> None:
        verdict = await self.door.house.gatekeeper.judge(self.facts)
        self.task = None
        self._ruled(verdict)

    def _ruled(self, verdict: Verdict) -> None:
        if isinstance(verdict, Refusal):
            self.refuse(verdict)
        elif (self.facts.body_length or 0) > verdict.route.limits.body_bytes:
            self.refuse(BODY_TOO_LARGE)
        else:
            house = self.door.house
            self.plan = house.plan(verdict, self.door.edge)
            if self.epoch == house.epoch:  # else keys or routes were replaced while it waited: that verdict is the last by the old ones
                house.remember(self.block, self.plan)
            self._go()

    def go_again(self, ready: Ready) -> None:
        """A head judged before, and still good, on its way to a body or to a connection that is not at hand."""
        self.plan, before, after, self.seen, _ = ready
        self.parts = before + self.plan.tail, after
        self.door.house.touch(self.plan)
        self._go()

    def _go(self) -> None:
        """Take a seat, then a connection: one that rests, or a new one."""
        plan = self.plan
        lane, seat = plan.lane, plan.seat
        if lane.active >= lane.limit:
            self.refuse(ROUTE_BUSY)
            return
        if seat.active >= lane.session_limit and plan.live is not None:
            self.refuse(SESSION_BUSY)
            return
        self.seated = True
        lane.active += 1
        seat.active += 1
        connection = None if plan.websocket_key else plan.origin.take(replayable=plan.replayable)
        if connection is None:
            self._spawn(self._connect())
        else:
            self.start(connection)

    async def _connect(self) -> None:
        self.start(await self.plan.origin.connect(self.plan.route.limits.connect_s))

    def start(self, connection: UpstreamConnection) -> None:
        """Send the head, and as much of the body as the browser has sent already."""
        plan, door = self.plan, self.door
        self.task = None
        self.connection = connection
        connection.occupant = self
        self.stage = HEAD
        self.moved_at = door.house.monotonic()
        before, after = self.parts or plan.head
        head = before + self.request_id + after if after else before
        if not plan.bodiless and self.upload is None:
            length = (self.seen or self.facts).body_length
            if length is not None and length <= min(len(door.held), SMALL_BODY_BYTES):
                body, door.held = door.held[:length], door.held[length:]
                self.received = length
                self.body_sent = True
                connection.write(head + body)
                return
            self.upload = Upload(length, limit=plan.route.limits.body_bytes)
            held = door.begin_body()
            if plan.expects and not held:
                door.write(CONTINUE)
            if held:
                self.on_browser(held, prefix=head)
            else:
                connection.write(head)
            if door.eof_at and not (door.intake and door.intake.waiting) and self.upload is not None:
                self.cut()  # it half-closed behind a body that is not whole
            return
        connection.write(head)

    def on_browser(self, data: bytes, prefix: bytes = b"") -> None:
        """Body bytes from the browser."""
        upload, connection = self.upload, self.connection
        if upload is None or connection is None or self.stopped:
            return
        self.moved_at = self.door.house.coarse
        try:
            wire = upload.feed(data)
        except FramingError:
            self.refuse(BODY_MALFORMED)
            return
        except BodyTooLarge:
            self.refuse(BODY_TOO_LARGE)
            return
        self.received = upload.received
        if upload.done:
            self.upload = None
            self.body_sent = True
            self.door.end_body(upload.rest)
        connection.write(prefix + wire)

    def on_upstream_full(self) -> None:
        self.door.pause_reading()

    def on_upstream_ready(self) -> None:
        self.door.resume_reading()

    # -- the way back -----------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        """Bytes from the upstream. The common case - a known head and the whole body in one read - ends here."""
        plan, door = self.plan, self.door
        house = door.house
        if self.stage != HEAD or self.pending or plan.replies is None or self.upload is not None or not house.keeps_alive:
            self._on_more(data)
            return
        end = data.find(b"\r\n\r\n") + 4
        block = data[:end]
        reply = plan.replies.kept.get(block) or plan.replies.find_alike(block)
        if reply is None:
            self._on_more(data)
            return
        sent = len(data) - end
        if reply.length != sent or not reply.pooled or self.connection is None:
            self._deliver(reply, data[end:])
            return
        connection, self.connection = self.connection, None
        self.stage = DONE
        door.write(reply.head + data[end:])
        if not door.writable:
            connection.resume_reading()
        now = house.monotonic()
        plan.origin.give(connection, now)
        plan.lane.active -= 1
        plan.seat.active -= 1
        house.ended.append((now, self.request_id, plan, self.seen, reply.status, self.received, sent, self.started, "ok"))
        door.done(True, now)

    def _on_more(self, data: bytes) -> None:
        if self.stage == BODY:
            self._on_body(data)
            return
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n") + 4) > 3:
            block, self.pending = self.pending[:end], self.pending[end:]
            try:
                head = read_response(block, method=self.facts.method)
            except UpstreamProtocol:
                self.refuse(BAD_ANSWER)
                return
            if head.status == 101:
                self._on_switch(head)
                return
            if head.status >= 200:
                rest, self.pending = self.pending, b""
                self._on_head(block, head, rest)
                return
            self.interim += 1
            if self.interim > MAX_INTERIM:
                self.refuse(BAD_ANSWER)
                return
        if len(self.pending) > MAX_RESPONSE_HEAD_BYTES or _has_bare_line_feed(self.pending, len(data)):
            self.refuse(BAD_ANSWER)

    def _on_switch(self, head: ResponseHead) -> None:
        """101 is believed only as the answer to our own WebSocket handshake (FRAME-11, WS-5)."""
        connection, plan = self.connection, self.plan
        if connection is None or not self.facts.websocket:
            self.refuse(BAD_ANSWER)
            return
        try:
            answer = switching_head(head, self.whole(), rules=self.door.house.rules, sent_key=plan.websocket_key)
        except UpstreamProtocol:
            self.refuse(BAD_ANSWER)
            return
        rest, self.pending = self.pending, b""
        self.connection = None
        self.stage = DONE
        if self.tether is not None:
            self.tether.loose()
        Tunnel(self, connection, deflate=_has_deflate(head)).open(answer, rest)

    def _on_head(self, block: bytes, head: ResponseHead, rest: bytes) -> None:
        admitted = self.whole()
        if admitted.target is None and not self.heard and _changes_sessions(admitted, head, self.door.house.rules.session_cookie):
            self._wait_for(self._hear(block, head, rest))
            return
        if head.status == 401 and admitted.credential is not None and not self._on_challenge(block, head, rest):
            return
        if self.upload is not None and head.status >= 300:
            self.stopped = True  # the upstream has decided without the rest of the body: sending it could only lose the answer (BODY-7)
        plain = self._keeps()
        self.closing = not plain
        try:
            sent_head = response_head(head, admitted, rules=self.door.house.rules, keep_alive=plain)
        except UpstreamProtocol:
            self.refuse(BAD_ANSWER)
            return
        reply = Reply(head.status, sent_head, head.length, head.chunked, head.keep_alive, _is_stream(head))
        if plain and head.status != 401 and self.plan.replies is not None and not _sets_cookies(head):
            self.plan.replies.keep(block, reply)
        self._deliver(reply, rest)

    def _on_challenge(self, block: bytes, head: ResponseHead, rest: bytes) -> bool:
        """False if the 401 is dealt with here: a renewal runs, or the user must step up."""
        meaning, demand = read_meaning(head.headers)
        if meaning is Meaning.STEP_UP and demand is not None:
            self.refuse(step_up_refusal(demand))
            return False
        if meaning is Meaning.RENEW and self.plan.replayable and not self.renewed and self.plan.live is not None:
            self.renewed = True
            self._wait_for(renew(self, block, head, rest))
            return False
        return True

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Hold the answer back while ``work`` decides what becomes of it."""
        self.stage = WAIT
        if self.connection is not None:
            self.connection.pause_reading()
        self._spawn(work)

    async def _hear(self, block: bytes, head: ResponseHead, rest: bytes) -> None:
        """The agent has begun or ended sessions: know of it before the browser does, or its next request would meet the old state."""
        self.heard = True
        await self.door.house.hear(self.whole().live)
        self.resume_original(block, head, rest)

    def resume_original(self, block: bytes, head: ResponseHead, rest: bytes) -> None:
        """The upstream's own answer stands; it goes on from where it was held back."""
        self.task = None
        self.stage = HEAD
        if self.connection is not None:
            self.connection.resume_reading()
        self._on_head(block, head, rest)
        if self.connection is None:
            self.cut()  # it closed meanwhile, with the rest of its answer

    def _plan_anew(self, admitted: Admitted) -> None:
        self.plan = self.door.house.plan(admitted, self.door.edge)
        self.parts = None

    async def replay(self, admitted: Admitted) -> None:
        """Once more with another credential, on another connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.origin.discard(connection)
        self._plan_anew(admitted)
        origin = self.plan.origin
        self.start(origin.take(replayable=True) or await origin.connect(admitted.route.limits.connect_s))

    def _deliver(self, reply: Reply, rest: bytes) -> None:
        self.status = reply.status
        self.stage = BODY
        self.stream = reply.stream
        self.pooled = reply.pooled
        self.remaining = reply.length
        self.reader = ChunkedReader() if reply.chunked else None
        self._on_body(rest, reply.head)

    def _on_body(self, data: bytes, head: bytes = b"") -> None:
        self.moved_at = self.door.house.coarse
        if self.remaining is not None:
            self._on_counted(data, head)
            return
        payload, done = data, False
        if self.reader is not None:
            try:
                payload = self.reader.feed(data)
            except FramingError:
                self.cut()
                return
            done = self.reader.done
            self.pooled = self.pooled and not self.reader.rest
        self.sent += len(payload)
        wire = payload if self.plan.http_10 else chunk(payload) + (LAST_CHUNK if done else b"")
        if head or wire:
            self.door.write(head + wire)
        if done:
            self._finish(keep_alive=self._keeps())

    def _on_counted(self, data: bytes, head: bytes) -> None:
        remaining = self.remaining or 0
        if len(data) > remaining:
            data = data[:remaining]
            self.pooled = False  # bytes after the answer: the next exchange must not find them (FRAME-9)
        self.remaining = remaining - len(data)
        self.sent += len(data)
        if head and len(data) > _JOIN_BELOW:
            self.door.writelines([head, data])
        elif head or data:
            self.door.write(head + data if head else data)
        if self.remaining == 0:
            self._finish(keep_alive=self._keeps())

    def _keeps(self) -> bool:
        may = self.plan.keep_alive and not self.closing and self.door.house.keeps_alive
        return may and self.upload is None and not self.plan.websocket_key

    def on_upstream_end(self, clean: bool) -> None:
        """The upstream connection is gone."""
        connection, self.connection = self.connection, None
        if self.stage == HEAD:
            may_be_stale = connection is not None and (connection.reused or self.whole().target is None)
            unheard = may_be_stale and not self.pending and not self.interim
            if unheard and self.plan.replayable and not self.retried:
                # It rested too long and died, or the agent was restarted: nothing was answered, once more on a fresh one (BODY-6).
                self.retried = True
                self.stage = WAIT
                self._plan_anew(self.whole())
                self._spawn(self._connect())
            else:
                self.refuse(NO_ANSWER)
        elif self.stage == BODY:
            if clean and self.remaining is None and self.reader is None:
                if not self.plan.http_10:
                    self.door.write(LAST_CHUNK)
                self._finish(keep_alive=self._keeps())
            else:
                self.cut()


def _changes_sessions(admitted: Admitted, head: ResponseHead, cookie: bytes) -> bool:
    """Whether an answer of the agent's may come of a change to what this worker holds: a sign-out, an end, a sign-in that replaces the
    session it came with, or the one it began in. A first sign-in changes nothing that anybody knows. ``cookie``: the session's, and "="."""
    if admitted.facts.method not in ("GET", "HEAD"):
        return True
    return any(
        (lower := name.lower()) == ENDED_HEADER or (admitted.live is not None and lower == b"set-cookie" and value.startswith(cookie))
        for name, value in head.headers
    )


def _has_bare_line_feed(pending: bytes, new: int) -> bool:
    """Whether a line in the last ``new`` bytes ends without CR: such a head may never get its blank line, so why wait for it?"""
    start = max(len(pending) - new, 0)
    return pending.count(b"\n", start) != pending.count(b"\r\n", max(start - 1, 0))


def _sets_cookies(head: ResponseHead) -> bool:
    return any(name.lower() == b"set-cookie" for name, _ in head.headers)


def _is_stream(head: ResponseHead) -> bool:
    return any(name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in head.headers)


def _has_deflate(head: ResponseHead) -> bool:
    return any(name.lower() == b"sec-websocket-extensions" and b"permessage-deflate" in value.lower() for name, value in head.headers)
