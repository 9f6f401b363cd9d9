"""The threshold of a TLS door: who has connected and whose handshake is still to come or under way (D9, F52).

The loop's own listener builds a TLS layer for each connection at once, 43 KiB, and tells nobody of it before the handshake is done. So
connections are accepted here. Each counts in the house's crowd from then on and gives way like any that rests; one that says nothing costs
a socket; and no more than ``handshakes`` have a TLS layer and have not finished, of which those that rest longest give way as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from itertools import islice
from typing import Any, cast

from bff.proxy.crowd import Crowd
from bff.proxy.door import Door
from bff.proxy.house import DoorHouse

log = logging.getLogger("bff.proxy")

ACCEPTS_IN_A_TURN = 16
HANDSHAKES = 512
TRIES = 8
HANDSHAKE_S = 0.0003
"""What a handshake costs of the loop's time, about: it counts towards the turn's (bff/proxy/turns.py)."""

TICK_S = 0.25
OUT_OF_FILES_S = 0.1
SHUTDOWN_S = 5.0
_TLS_HANDSHAKE = b"\x16"
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Arrival:
    """One connection before its door. To the crowds it is a guest that rests. Owner: the threshold."""

    __slots__ = ("_peer", "_threshold", "edge", "rests_since", "sock", "task")

    def __init__(self, threshold: Threshold, sock: socket.socket, peer: Any, now: float) -> None:
        self._threshold = threshold
        self._peer = peer
        self.sock = sock
        self.rests_since = now
        self.task: asyncio.Task[None] | None = None
        self.edge = threshold.house.edge_of(cast(asyncio.Transport, self))

    @property
    def transport(self) -> Arrival:
        return self

    def get_extra_info(self, name: str) -> Any:
        return self._peer if name == "peername" else None

    def abort(self) -> None:
        self._threshold.turn_away(self)


class Threshold:
    """Accepts for ``house`` and hands over what has finished its handshake. Bound: the house's crowd."""

    def __init__(self, *, house: DoorHouse, tls: ssl.SSLContext, patience_s: float, handshakes: int = HANDSHAKES) -> None:
        self.house = house
        self._tls = tls
        self._patience_s = patience_s
        self._crowd = house.crowd
        self._handshakes = Crowd(limit=handshakes, per_address=0)
        self._arrivals: dict[Arrival, None] = {}
        self._waiting: dict[str, dict[Arrival, None]] = {}
        """Who has said hello and waits for a handshake, by address: each address in its turn, so that nobody waits behind a crowd."""
        self._listeners: set[socket.socket] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK_S, self._on_tick)

    # -- accepting --------------------------------------------------------------------------------------------------

    def open(self, listener: socket.socket) -> None:
        """Accept from ``listener``, which is ours from now on."""
        self._listeners.add(listener)
        self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Accept no more."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()

    def stop(self) -> None:
        """Turn away who is still here."""
        self.close()
        self._timer.cancel()
        for arrival in list(self._arrivals):
            self.turn_away(arrival)

    async def settle(self, within_s: float) -> None:
        """Until nobody is left whose handshake is under way or may come, at most ``within_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._arrivals:  # noqa: ASYNC110 - what ends by itself, at the end of a process
                    await asyncio.sleep(0.02)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_IN_A_TURN):
            try:
                sock, peer = listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._pause(listener)
                return
            self.welcome(sock, peer)

    def _pause(self, listener: socket.socket) -> None:
        """Out of files: the listener would stay readable, and the loop would turn for nothing else."""
        self._loop.remove_reader(listener)
        self._loop.call_later(OUT_OF_FILES_S, lambda: self.open(listener) if listener in self._listeners else None)

    def welcome(self, sock: socket.socket, peer: Any) -> None:
        """Take in one accepted connection, or close it: before the handshake nobody can be told why."""
        sock.setblocking(False)
        now = self.house.monotonic()
        arrival = Arrival(self, sock, peer, now)
        if self._crowd.wait(arrival, now):
            self._arrivals[arrival] = None
            self._look_for_hello(arrival)
        else:
            self._crowd.leave(arrival)
            sock.close()

    # -- handshakes -------------------------------------------------------------------------------------------------

    def _look_for_hello(self, arrival: Arrival) -> None:
        """Most often it has come with the connection; else it is waited for without anything built."""
        try:
            first = arrival.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._loop.add_reader(arrival.sock, self._on_hello, arrival)
            return
        except OSError:
            first = b""
        if first != _TLS_HANDSHAKE:
            self.turn_away(arrival)
            return
        self._waiting.setdefault(arrival.edge.peer_net, {})[arrival] = None
        self.house.turns.later(self._begin_next)

    def _on_hello(self, arrival: Arrival) -> None:
        self._loop.remove_reader(arrival.sock)
        self._look_for_hello(arrival)

    def _begin_next(self) -> None:
        """The handshake of somebody who waits, of the address whose turn it is; of one of the next few where there is no room for it."""
        now = self.house.monotonic()
        for net in list(islice(self._waiting, TRIES)):
            waiting = self._waiting.pop(net)
            arrival = next(iter(waiting))
            room = self._handshakes.wait(arrival, now)
            if room:
                del waiting[arrival]
            else:
                self._handshakes.leave(arrival)
            if waiting:
                self._waiting[net] = waiting
            if room and arrival in self._arrivals:  # else the one that gave way was itself
                self._begin(arrival, now)
                return

    def _begin(self, arrival: Arrival, now: float) -> None:
        self.house.turns.spend(HANDSHAKE_S)
        door = self.house()
        self._crowd.expect(door, arrival)
        arrival.task = self._loop.create_task(self._shake_hands(arrival, door, now))
        arrival.task.add_done_callback(lambda task: self._finished(arrival, door, task))

    async def _shake_hands(self, arrival: Arrival, door: Door, now: float) -> None:
        left_s = max(self._patience_s - (now - arrival.rests_since), TICK_S)
        await self._loop.connect_accepted_socket(
            lambda: door, arrival.sock, ssl=self._tls, ssl_handshake_timeout=left_s, ssl_shutdown_timeout=SHUTDOWN_S
        )

    def _finished(self, arrival: Arrival, door: Door, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, OSError):
            log.error("unexpected %s in a handshake", type(failure).__name__, exc_info=failure)
        if task.cancelled() or failure is not None:
            arrival.sock.close()
        self._crowd.expect(door, None)
        self._leave(arrival)
        self._handshakes.leave(arrival)
        if self._waiting:
            self.house.turns.later(self._begin_next)

    def turn_away(self, arrival: Arrival) -> None:
        """Close at once, whatever it is about."""
        waiting = self._waiting.get(arrival.edge.peer_net, {})
        if waiting.pop(arrival, arrival) is None and not waiting:
            del self._waiting[arrival.edge.peer_net]
        if arrival.task is not None:
            arrival.task.cancel()
            return
        self._loop.remove_reader(arrival.sock)
        self._leave(arrival)
        arrival.sock.close()

    def _leave(self, arrival: Arrival) -> None:
        self._crowd.leave(arrival)
        self._arrivals.pop(arrival, None)

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._on_tick)
        late = self.house.monotonic() - self._patience_s
        for arrival in [one for one in self._arrivals if one.rests_since < late and one.task is None]:
            self.turn_away(arrival)
        if self._waiting:
            self.house.turns.later(self._begin_next)
