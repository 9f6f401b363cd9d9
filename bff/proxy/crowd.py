"""How many connections there may be, in all and of one address, and who gives way to a newcomer when all are taken (F52, D9, D15)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from bff.proxy.door import Door
    from bff.proxy.edge import Edge

LOOK_S = 0.25
MAX_LINGERING_REFUSED = 16


class Abortable(Protocol):
    def abort(self) -> None: ...


class Guest(Protocol):
    """One connection: a door, or one that is on its way to become one (bff/proxy/threshold.py)."""

    edge: Edge

    @property
    def transport(self) -> Abortable: ...

    @property
    def rests_since(self) -> float | None: ...


class Crowd:
    """Owner: the house. ``doors`` and ``arrivals``, whose TLS handshake is not done, are all connections of this worker. ``per_address`` 0:
    no such bound; trusted proxies and Unix sockets, which many browsers share, have none in any case.

    A full house does not refuse at once: a connection on which nothing runs gives way, of the address that holds most the one that rests
    longest; one that has just come only to somebody with less than half as many. So nobody keeps others out by opening connections and
    holding on, and a browser that lost one just connects again.
    """

    def __init__(self, *, limit: int, per_address: int) -> None:
        self.doors: set[Door] = set()
        self.arrivals: set[Guest] = set()
        self._expected: dict[Door, Guest] = {}
        self._limit = limit
        self._per_address = per_address
        self._addresses: dict[str, int] = {}
        self._resting: list[tuple[Guest, float]] = []
        self._looked_at = float("-inf")

    def __len__(self) -> int:
        return len(self.doors) + len(self.arrivals)

    def enter(self, door: Door, now: float) -> bool:
        """Count a connection in. False if it is one too many: it will be told so and closed."""
        if self._expected:
            self.leave(self._expected.pop(door, door))
        self.doors.add(door)
        return self._admit(door, now)

    def wait(self, arrival: Guest, now: float) -> bool:
        """The same for one that is no door yet; ``expect`` says which it will be, in whose favour it leaves."""
        self.arrivals.add(arrival)
        return self._admit(arrival, now)

    def expect(self, door: Door, arrival: Guest | None) -> None:
        if arrival is not None:
            self._expected[door] = arrival
        else:
            self._expected.pop(door, None)

    def leave(self, guest: Guest) -> None:
        held_by: set[Guest] = self.arrivals if guest in self.arrivals else cast("set[Guest]", self.doors)
        if guest not in held_by:
            return
        held_by.discard(guest)
        net = guest.edge.peer_net
        held = self._addresses[net] - 1
        if held:
            self._addresses[net] = held
        else:
            del self._addresses[net]

    @property
    def overfull(self) -> bool:
        """More refused connections linger than a few."""
        return len(self) > self._limit + MAX_LINGERING_REFUSED

    def _admit(self, guest: Guest, now: float) -> bool:
        edge = guest.edge
        held = self._addresses.get(edge.peer_net, 0) + 1
        self._addresses[edge.peer_net] = held
        if self._per_address and held > self._per_address and edge.peer_net and not edge.peer_trusted:
            return False
        return len(self) <= self._limit or self._make_room(now, 2 * held)

    def _make_room(self, now: float, few: int) -> bool:
        if not self._resting and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._resting = self._find_resting()
        while self._resting:
            guest, since = self._resting.pop()
            if (guest in self.arrivals or guest in self.doors) and guest.rests_since == since:
                if now - since < LOOK_S and self._addresses[guest.edge.peer_net] <= few:
                    self._resting.append((guest, since))
                    return False
                self.leave(guest)
                guest.transport.abort()
                return True
        return False

    def _find_resting(self) -> list[tuple[Guest, float]]:
        """Who may give way, the first at the end. Looked for a few times a second at most: it costs a microsecond for each connection."""
        guests: chain[Guest] = chain(self.doors, self.arrivals)
        found = [(guest, since) for guest in guests if (since := guest.rests_since) is not None]
        found.sort(key=lambda one: (not one[0].edge.peer_trusted, self._addresses[one[0].edge.peer_net], -one[1]))
        return found
