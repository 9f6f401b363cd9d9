"""What a browser sends of a body or through a tunnel, on its way to the upstream in shares of a turn (bff.proxy.turns)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bff.proxy.door import Door

SMALL_BYTES = 1024
"""So few are passed on at once: what they cost is bounded by their number."""
SHARE_S, QUICK_S = 0.0005, 0.0002
LEAST_PACE, MOST_PACE = 2 * 1024, 256 * 1024


class Intake:
    """Owner: a door, while it is SENDING or a TUNNEL. ``waiting`` is what came and was not passed on, at most two reads; ``wanted`` is
    False while the upstream takes no more. ``_pace`` is how many bytes are taken before the clock is looked at: few as long as they are
    dear to read, such as frames of one byte."""

    __slots__ = ("_door", "_pace", "waiting", "wanted")

    def __init__(self, door: Door, waiting: bytes) -> None:
        self._door = door
        self._pace = LEAST_PACE
        self.waiting = waiting
        self.wanted = True

    @property
    def reads(self) -> bool:
        """There is room for more."""
        return self.wanted and not self.waiting

    def first(self) -> bytes:
        """What is at hand, or as much of it as is taken at once."""
        data, self.waiting = self.waiting[:LEAST_PACE], self.waiting[LEAST_PACE:]
        self._go_on()
        return data

    def take(self, data: bytes) -> None:
        """Bytes from the browser."""
        if self.waiting:
            self.waiting += data
        elif len(data) > SMALL_BYTES:
            self.waiting = data
            self._door.house.turns.take(self._feed)
        elif self._door.exchange is not None:
            self._door.exchange.on_browser(data)

    def resume(self) -> None:
        self.wanted = True
        self._go_on()

    def end(self) -> bytes:
        """What nobody took. This intake passes nothing on any more."""
        rest, self.waiting = self.waiting, b""
        return rest

    def _go_on(self) -> None:
        if self.waiting and self.wanted:
            self._door.house.turns.later(self._feed)

    def _feed(self) -> None:
        """One share."""
        door, data, at = self._door, self.waiting, 0
        begun = now = door.house.monotonic()
        self.waiting = b""
        while at < len(data) and self.wanted and door.intake is self and door.exchange is not None and now - begun < SHARE_S:
            piece = data[at : at + self._pace]
            at += len(piece)
            door.exchange.on_browser(piece)
            now, before = door.house.monotonic(), now
            self._pace = min(self._pace * 2, MOST_PACE) if now - before < QUICK_S else LEAST_PACE
        if at < len(data) and door.intake is self:
            self.waiting = data[at:]
            self._go_on()
        elif at < len(data):
            door.data_received(data[at:])
        elif door.eof_at and door.intake is self and door.exchange is not None:
            door.exchange.on_browser_eof()
        door.regulate()
