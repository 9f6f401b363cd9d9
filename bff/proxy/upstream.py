"""Connections to upstreams: one bounded last-in-first-out pool for each origin, TLS, Unix sockets, a small breaker.

A connection belongs to one exchange at a time and goes back only when both messages ended exactly where their framing
said (FRAME-9, T4, T5). Whatever else happens to it, it is closed. Callbacks only: no task or future for each request.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Protocol, cast

from bff.base.clock import Clock
from bff.base.errors import ConfigError, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from bff.policy.routes import Upstream
from bff.proxy.turns import Turns

FRESH_S = 2.0
"""A request that can't be repeated takes a pooled connection only if it rested less than this: short keep-alive limits
at upstreams start at 2 s, and nobody can tell afterwards whether a request lost on a dying connection was processed."""

BULK_BYTES = 64 * 1024
FAILURES_TO_OPEN = 5
OPEN_S = 1.0


class Occupant(Protocol):
    """Whoever holds a connection: an exchange or a tunnel."""

    def on_data(self, data: bytes) -> None:
        """Bytes from the upstream."""

    def on_upstream_end(self, clean: bool) -> None:
        """The connection is gone; ``clean`` if the upstream ended it in an orderly way."""

    def on_upstream_full(self) -> None:
        """More is queued towards the upstream than we want to hold."""

    def on_upstream_ready(self) -> None:
        """The queue is empty again."""


class UpstreamBusy(UpstreamError):
    """All connections that this origin may have are in use: a fast 503, not a queue (BODY-9)."""

    code = "upstream_busy"
    status_hint = 503
    public = "The API behind us is at its limit. Please try again shortly."


class UpstreamConnection(asyncio.Protocol):
    """One connection. ``reused`` tells a fresh one from one that may have died in the pool. It reads unless its occupant
    has stopped it or it waits for a turn."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.occupant: Occupant | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.connected = False
        self.reused = False
        self.writable = True
        self.ended = False
        self.rested_at = 0.0
        self._stopped = self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.connected = True
        bound_writes(self.transport)
        self.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        occupant = self.occupant
        if occupant is None:
            self.origin.discard(self)  # nobody asked: whatever this is, it must not become the next user's answer (FRAME-9)
            return
        if len(data) < BULK_BYTES:
            occupant.on_data(data)
        else:
            self._on_bulk(occupant, data)

    def _on_bulk(self, occupant: Occupant, data: bytes) -> None:
        """More than a small answer: a turn that has no time left for it reads no further here."""
        clock, turns = self.origin.clock, self.origin.turns
        begun = clock.monotonic()
        occupant.on_data(data)
        turns.spend(clock.monotonic() - begun)
        if turns.over and not self._waits and not self.transport.is_closing():
            self._waits = True
            self.transport.pause_reading()
            turns.later(self._on_turn)

    def _on_turn(self) -> None:
        self._waits = False
        if not self._stopped and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_reading(self) -> None:
        self._stopped = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._stopped = False
        if not self._waits:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """Over TLS only a closure alert counts: anybody on the way can send a FIN (RFC 9112 §9.8)."""
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.origin.lost(self)
        occupant, self.occupant = self.occupant, None
        if occupant is not None:
            occupant.on_upstream_end(self.ended and exc is None)

    def pause_writing(self) -> None:
        self.writable = False
        if self.occupant is not None:
            self.occupant.on_upstream_full()

    def resume_writing(self) -> None:
        self.writable = True
        if self.occupant is not None:
            self.occupant.on_upstream_ready()


def end_sending(transport: asyncio.Transport) -> None:
    """Send an end, if there is anybody: where the peer has gone and the loop has not heard of it yet, asyncio raises (uvloop does not)."""
    with suppress(OSError):
        transport.write_eof()


def bound_writes(transport: asyncio.Transport) -> None:
    """Hold as little as possible: with a mark of 0 a queue stops its source at once, so no more than the last read waits
    (BODY-2). The TLS layers of both loops can't do with 0; they get 64 KiB."""
    if transport.get_extra_info("sslcontext") is None:
        transport.set_write_buffer_limits(high=0, low=0)
    else:
        transport.set_write_buffer_limits(high=64 * 1024, low=16 * 1024)


class Origin:
    """The pool of one upstream. Owner: UpstreamPool. ``open`` counts every connection, resting, busy or being made."""

    def __init__(self, *, upstream: Upstream, clock: Clock, turns: Turns, limit: int, resting: int, rest_s: float) -> None:
        self.upstream = upstream
        self.clock = clock
        self.turns = turns
        self.open = 0
        self.idle: list[UpstreamConnection] = []
        self._limit = limit
        self._resting = resting
        self._rest_s = rest_s
        self._failures = 0
        self._closed_until = 0.0
        self._tls: ssl.SSLContext | None = None

    def take(self, *, replayable: bool) -> UpstreamConnection | None:
        """The connection used last, or None: then ``connect``."""
        idle = self.idle
        while idle:
            if not replayable and self.clock.monotonic() - idle[-1].rested_at > FRESH_S:
                return None
            connection = idle.pop()
            if not connection.transport.is_closing():
                connection.reused = True
                return connection
        return None

    def give(self, connection: UpstreamConnection, now: float) -> None:
        """Back to rest. The caller vouches that both messages ended where they should."""
        connection.occupant = None
        if len(self.idle) >= self._resting or not connection.writable:
            self.discard(connection)
            return
        connection.rested_at = now
        self.idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Close at once and forget it; the occupant is not told."""
        connection.occupant = None
        if connection in self.idle:
            self.idle.remove(connection)
        connection.transport.abort()

    def lost(self, connection: UpstreamConnection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    async def connect(self, timeout_s: float) -> UpstreamConnection:
        """A fresh connection. UpstreamBusy at the bound, UpstreamUnreachable, UpstreamTimeout("connect"). A cancelled
        call leaves nothing behind."""
        now = self.clock.monotonic()
        if self.open >= self._limit and not self._make_room():
            raise UpstreamBusy(f"{self.open} connections")
        if now < self._closed_until:
            raise UpstreamUnreachable("failed a moment ago")
        if self._failures >= FAILURES_TO_OPEN:
            self._closed_until = now + OPEN_S  # this call is the one that probes; the others fail fast meanwhile (OPS-7)
        connection = UpstreamConnection(self)
        self.open += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._open(connection)
        except TimeoutError:
            self._failed(connection)
            raise UpstreamTimeout("connect") from None
        except (OSError, ssl.SSLError) as error:
            self._failed(connection)
            raise UpstreamUnreachable(type(error).__name__) from error
        except BaseException:
            self._abandon(connection)
            raise
        if connection.transport.is_closing():  # it left, or spoke first, before anybody could listen
            self._failed(connection)
            raise UpstreamUnreachable("closed at once")
        self._failures = 0
        self._closed_until = 0.0
        return connection

    async def _open(self, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        upstream = self.upstream
        if upstream.socket_path:
            await loop.create_unix_connection(lambda: connection, upstream.socket_path)
        elif upstream.scheme == "https":
            await loop.create_connection(lambda: connection, upstream.host, upstream.port, ssl=self.tls(), server_hostname=upstream.host)
        else:
            await loop.create_connection(lambda: connection, upstream.host, upstream.port)

    def tls(self) -> ssl.SSLContext:
        """The TLS settings towards this upstream, read from its files on first use. ConfigError if they can't be."""
        if self._tls is None:
            self._tls = build_tls(self.upstream)
        return self._tls

    def _make_room(self) -> bool:
        """At the bound with all connections resting too long for this request: one of them gives way."""
        if not self.idle:
            return False
        self.idle.pop(0).transport.abort()
        return True

    def _failed(self, connection: UpstreamConnection) -> None:
        self._failures += 1
        self._abandon(connection)

    def _abandon(self, connection: UpstreamConnection) -> None:
        if connection.connected:
            connection.transport.abort()  # its connection_lost counts it out
        else:
            self.open -= 1

    def sweep(self, now: float) -> None:
        """Close what rested too long; the oldest stand first."""
        while self.idle and now - self.idle[0].rested_at > self._rest_s:
            self.idle.pop(0).transport.close()

    def close(self) -> None:
        for connection in self.idle:
            connection.transport.close()
        self.idle.clear()


def build_tls(upstream: Upstream) -> ssl.SSLContext:
    """Verified TLS 1.2+ (ROUTE-10): the system's authorities, or only those of ``ca_file``; a client certificate if named."""
    try:
        context = ssl.create_default_context(cafile=upstream.ca_file or None)
        if upstream.client_cert_file:
            context.load_cert_chain(upstream.client_cert_file, upstream.client_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS files of upstream {upstream.authority} cannot be read: {type(error).__name__}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class UpstreamPool:
    """Every origin this worker talks to. Bounds: ``connections`` for each origin, of which ``resting`` may be idle,
    each for at most ``rest_s`` seconds. ``agent_socket`` is where routes without an upstream go."""

    def __init__(self, *, clock: Clock, agent_socket: str = "", connections: int = 1024, resting: int = 256, rest_s: float = 30.0) -> None:
        self.turns = Turns(monotonic=clock.monotonic)
        self._clock = clock
        self._agent = Upstream("http", "agent", 80, socket_path=agent_socket)
        self._connections = connections
        self._resting = resting
        self._rest_s = rest_s
        self._origins: dict[Upstream, Origin] = {}

    def origin(self, upstream: Upstream | None) -> Origin:
        """The pool of an upstream; None means the agent."""
        key = upstream or self._agent
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin(
                upstream=key, clock=self._clock, turns=self.turns, limit=self._connections, resting=self._resting, rest_s=self._rest_s
            )
        return origin

    @property
    def open(self) -> int:
        return sum(origin.open for origin in self._origins.values())

    def sweep(self, now: float) -> None:
        for origin in self._origins.values():
            origin.sweep(now)

    def close(self) -> None:
        for origin in self._origins.values():
            origin.close()
