"""How many connections there may be, in all and of one address, and who gives way to a newcomer when all are taken (F52, D9, D15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bff.proxy.door import Door

LOOK_S = 0.25
MAX_LINGERING_REFUSED = 16


class Crowd:
    """Owner: the house. ``doors`` are all connections of this worker. ``per_address`` 0: no such bound; trusted proxies and Unix sockets,
    which many browsers share, have none in any case.

    A full house does not refuse at once: a connection on which nothing runs gives way, of the address that holds most the one that rests
    longest; one that has just come only to somebody with less than half as many. So nobody keeps others out by opening connections and
    holding on, and a browser that lost one just connects again.
    """

    def __init__(self, *, limit: int, per_address: int) -> None:
        self.doors: set[Door] = set()
        self._limit = limit
        self._per_address = per_address
        self._addresses: dict[str, int] = {}
        self._resting: list[tuple[Door, float]] = []
        self._looked_at = float("-inf")

    def enter(self, door: Door, now: float) -> bool:
        """Count a connection in. False if it is one too many: it will be told so and closed."""
        self.doors.add(door)
        edge = door.edge
        held = self._addresses.get(edge.peer_net, 0) + 1
        self._addresses[edge.peer_net] = held
        if self._per_address and held > self._per_address and edge.peer_net and not edge.peer_trusted:
            return False
        return len(self.doors) <= self._limit or self._make_room(now, 2 * held)

    def leave(self, door: Door) -> None:
        if door not in self.doors:
            return
        self.doors.discard(door)
        net = door.edge.peer_net
        held = self._addresses[net] - 1
        if held:
            self._addresses[net] = held
        else:
            del self._addresses[net]

    @property
    def overfull(self) -> bool:
        """More refused connections linger than a few."""
        return len(self.doors) > self._limit + MAX_LINGERING_REFUSED

    def _make_room(self, now: float, few: int) -> bool:
        if not self._resting and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._resting = self._find_resting()
        while self._resting:
            door, since = self._resting.pop()
            if door in self.doors and door.rests_since == since:
                if now - since < LOOK_S and self._addresses[door.edge.peer_net] <= few:
                    self._resting.append((door, since))
                    return False
                self.leave(door)
                door.transport.abort()
                return True
        return False

    def _find_resting(self) -> list[tuple[Door, float]]:
        """Who may give way, the first at the end. Looked for a few times a second at most: it costs a microsecond for each connection."""
        found = [(door, since) for door in self.doors if (since := door.rests_since) is not None]
        found.sort(key=lambda one: (not one[0].edge.peer_trusted, self._addresses[one[0].edge.peer_net], -one[1]))
        return found
