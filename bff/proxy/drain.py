"""The end of a worker, connection by connection: who is let go at once, and who is waited for (F47, OPS-6)."""

from __future__ import annotations

from collections.abc import Collection

from bff.proxy.call import Call
from bff.proxy.door import Door
from bff.proxy.tunnel import GOING_AWAY, Tunnel

FRESH_S = 1.0


def end_what_may(doors: Collection[Door], now: float) -> int:
    """Idle connections close, WebSockets get 1001, event streams end; how many connections are left.

    To be called until 0: what was under way may become a WebSocket or a stream later. A connection that was just accepted has its
    first request still to come, and one whose answer is written has it still to read: closing either would lose a request that
    nobody repeats.
    """
    for door in list(doors):
        exchange: object = door.exchange
        if isinstance(exchange, Tunnel):
            exchange.end(GOING_AWAY, "going away")
        elif isinstance(exchange, Call):
            exchange.end_stream()
        elif exchange is None and not door.head_at and not door.held and (door.moved_at > door.made_at or now - door.made_at > FRESH_S):
            door.close_idle()
    return len(doors)
