"""Two products in memory, one that remembers everything it may and one that remembers nothing, told the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import count
from typing import Any

from bff.base.clock import FakeClock
from bff.policy.facts import Facts
from bff.policy.handoff import Handoff
from bff.policy.routes import Limits, Policy, Upstream
from bff.policy.table import RouteTable
from bff.policy.verdict import Verdict
from bff.proxy.door import Door
from bff.proxy.gatekeeper import Gatekeeper
from bff.proxy.head import SecondJudge
from bff.proxy.headers import HeaderRules
from bff.proxy.house import DoorHouse, DoorOptions
from bff.proxy.upstream import Origin, UpstreamConnection, UpstreamPool
from bff.session.model import Credential, Live, Session
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from tests.proxy.gate import COOKIE, ORIGIN, SCOPES, Sessions, route
from tests.proxy.rig import OK, field_of

PLACE = Upstream("http", "api.internal", 80, "/v1/")
FLAT = Upstream("http", "flat.internal", 8080, "/w")
SALES = Policy(claims={"department": frozenset({"sales"})})
FAR, NEAR = "192.0.2.7", "10.0.0.1"
"""A browser, and a front proxy whose word is taken."""

ROUTES = [
    route(upstream=PLACE, limits=Limits(body_bytes=40)),
    route("/get/", upstream=PLACE, methods=frozenset({"GET", "HEAD"})),
    route("/sales/", upstream=PLACE, policy=SALES),
    route("/scoped/", upstream=PLACE, policy=Policy(scopes=SCOPES)),
    route("/fresh/", upstream=PLACE, policy=Policy(max_age_s=300)),
    route("/either/", upstream=PLACE, token="user_or_client", session=False),
    route("/greeting/", upstream=PLACE, token="user_or_none", session=False),
    route("/public/", upstream=PLACE, token="none", session=False),
    route("/files/", upstream=PLACE, encoded_slash=True),
    route("/flat", upstream=FLAT),
    route("/cookies/", upstream=PLACE, forward_cookies=frozenset({"theme", "*"})),
    route("/few/", upstream=PLACE, limits=Limits(concurrent=1)),
    route("/region/", upstream=None, by_claim={"eu": PLACE, "us": replace(PLACE, host="us.internal")}, claim="region"),
]
_OUR_ID = re.compile(rb"\b[0-9a-f]{8}-[0-9a-f]+\b")


class Desk:
    """Each session's own token, and the client's."""

    def __init__(self) -> None:
        self.until = 9000.0

    def at_hand(self, session: Session | None, *, token: str, audience: str, scopes: frozenset[str]) -> Credential | None:
        if session is None:
            return Credential(b"Bearer of-the-client", self.until, audience) if token == "client" else None
        text = f"Bearer of-{session.subject}-{session.version}"
        return Credential(text.encode(), self.until, audience, SCOPES if session.acr else frozenset())

    async def issue(self, live: Live | None, **asked: Any) -> Credential:
        credential = self.at_hand(None if live is None else live.session, **asked)
        assert credential is not None
        return credential


class Wire:
    """A transport that only notes what is written. The door's, and with ``answer`` the upstream's."""

    def __init__(self, peer: str = "") -> None:
        self.peer = peer
        self.out = b""
        self.closed = ""

    def get_extra_info(self, name: str) -> Any:
        return (self.peer, 4711) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.out += data

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return bool(self.closed)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.out += b"<half closed>"

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, **limits: int) -> None:
        """Nothing waits here."""

    def pause_reading(self) -> None:
        """What a test sends is taken all the same."""

    resume_reading = pause_reading


class Api(Wire):
    """The upstream's end: notes every whole request and answers it in the next turn."""

    def __init__(self, connection: UpstreamConnection, seen: list[bytes]) -> None:
        super().__init__()
        self.connection = connection
        self.seen = seen
        self.left = b""

    def write(self, data: bytes) -> None:
        self.left += data
        while (size := _whole(self.left)) is not None:
            self.seen.append(self.left[:size])
            self.left = self.left[size:]
            asyncio.get_running_loop().call_soon(self.connection.data_received, OK)

    def abort(self) -> None:
        if not self.closed:
            super().abort()
            if self.left:
                self.seen.append(b"<cut>" + self.left)
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    close = abort


def _whole(data: bytes) -> int | None:
    """How long the first whole request in ``data`` is."""
    end = data.find(b"\r\n\r\n") + 4
    if end == 3:
        return None
    head = data[:end]
    if field_of(head, b"transfer-encoding"):
        last = data.find(b"0\r\n\r\n", end - 2)
        return None if last < 0 else last + 5
    size = end + int(field_of(head, b"content-length") or 0)
    return size if len(data) >= size else None


class NearOrigin(Origin):
    seen: list[bytes]

    async def _open(self, connection: UpstreamConnection) -> None:
        connection.connection_made(Api(connection, self.seen))  # type: ignore[arg-type]


class NearPool(UpstreamPool):
    def __init__(self, *, clock: FakeClock, seen: list[bytes]) -> None:
        super().__init__(clock=clock)
        self.seen = seen

    def origin(self, upstream: Upstream | None) -> Origin:
        origin = super().origin(upstream)
        origin.__class__ = NearOrigin
        origin.seen = self.seen  # type: ignore[attr-defined]
        return origin


@dataclass
class Answered:
    """All that can be seen of what became of some bytes, without ids that are made up."""

    out: bytes
    closed: str
    seen: list[bytes] = field(default_factory=list)


class Counting(Gatekeeper):
    """Counts what was judged."""

    def __init__(self, *, product: Product, **parts: Any) -> None:
        super().__init__(**parts)
        self._product = product

    def judge_now(self, facts: Facts) -> Verdict | None:
        self._product.judged += 1
        return super().judge_now(facts)


class Product:
    """A door house with its gatekeeper. ``remembers`` False: every memory is emptied before everything that it is told."""

    def __init__(self, *, remembers: bool) -> None:
        self.remembers = remembers
        self.clock = FakeClock(2000.0)
        self.seen: list[bytes] = []
        self.keeper = Sessions()
        self.desk = Desk()
        for subject, claims in (("alice", {"department": "sales", "region": "eu"}), ("bob", {"department": "legal", "region": "us"})):
            session = Session(
                subject.encode() * 8, 1, "https://id.test", subject, 1000.0, 9000.0, auth_time=1900, acr="high", claims=claims
            )
            self.keeper.warm[subject] = Live(session, seen_at=1990.0, idle_s=3600.0, key=session.key)
        self.lives = dict(self.keeper.warm)
        self.first = {subject: live.session for subject, live in self.lives.items() if live.session is not None}
        self.judged = 0
        self.gatekeeper = Counting(
            product=self,
            table=RouteTable(ROUTES),
            keeper=self.keeper,
            desk=self.desk,
            origin=ORIGIN,
            cookie=COOKIE,
            clock=self.clock,
        )
        self.records: list[Any] = []
        self.house = DoorHouse(
            gatekeeper=self.gatekeeper,
            pool=NearPool(clock=self.clock, seen=self.seen),
            handoff=Handoff(signer=Signer(KeyRing.generate(), clock=self.clock)),
            desk=None,  # type: ignore[arg-type]
            rules=HeaderRules(own_cookies=COOKIE.session_name, public_origin=ORIGIN),
            options=DoorOptions(hosts=frozenset({"a.test"}), trusted=(ip_network("10.0.0.0/8"),), https=True),
            clock=self.clock,
            sink=lambda records, lanes: self.records.extend(records),
        )
        self.house.ids = 1 << 32
        self.house.reader._ids = count(1 << 32)
        if not remembers:
            self.house.remember = lambda block, plan: None  # type: ignore[method-assign]

    def forget(self) -> None:
        """As if nothing had been sent yet."""
        self.house.forget()
        self.house.reader.lines._read._names.clear()  # type: ignore[attr-defined]
        self.house.reader._llhttp = SecondJudge()

    def open(self, peer: str = FAR) -> tuple[Door, Wire]:
        wire = Wire(peer)
        door = self.house()
        door.connection_made(wire)  # type: ignore[arg-type]
        return door, wire

    async def tell(self, *pieces: bytes, peer: str = FAR, ends: bool = True) -> Answered:
        """Send pieces, each in a turn of its own, over a new connection."""
        door, wire = self.open(peer)
        self.seen.clear()
        for piece in pieces:
            if wire.closed:
                break
            if not self.remembers:
                self.forget()
            door.data_received(piece)
            await turn()
        if ends and not wire.closed:
            door.eof_received()
            await turn()
        await turn()
        if not wire.closed:
            wire.closed = "open"
        answered = Answered(_OUR_ID.sub(b"ID", wire.out), wire.closed, [_OUR_ID.sub(b"ID", request) for request in self.seen])
        door.connection_lost(None)
        await turn()
        return answered

    # -- what may happen between two requests -----------------------------------------------------------------------

    def end(self, subject: str) -> None:
        self.lives[subject].session = None
        self.keeper.warm.pop(subject, None)

    def renew(self, subject: str, **changes: Any) -> None:
        live = self.lives[subject]
        if live.session is not None:
            live.session = replace(live.session, version=live.session.version + 1, **changes)

    def begin(self, subject: str) -> None:
        """Signed in again where the session had ended, with the same cookie value."""
        if self.lives[subject].session is None:
            session = replace(self.first[subject], version=100)
            self.lives[subject] = self.keeper.warm[subject] = Live(session, seen_at=self.clock.now(), idle_s=3600.0, key=session.key)

    def demand(self, which: list[int], policy: Policy) -> None:
        """Another policy for some of the routes, as by SIGHUP."""
        self.gatekeeper.adopt(RouteTable([replace(row, policy=policy) if at in which else row for at, row in enumerate(ROUTES)]))
        self.house.forget()


class Twins:
    """The two of them. Whatever they are told, they must answer alike."""

    def __init__(self) -> None:
        self.remembering = Product(remembers=True)
        self.forgetting = Product(remembers=False)

    def __iter__(self) -> Iterator[Product]:
        return iter((self.remembering, self.forgetting))

    def happen(self, event: Callable[[Product], None]) -> None:
        for product in self:
            event(product)

    async def tell(self, *pieces: bytes, peer: str = FAR, ends: bool = True, times: int = 1) -> None:
        expected = await self.forgetting.tell(*pieces, peer=peer, ends=ends)
        for _ in range(times):
            assert await self.remembering.tell(*pieces, peer=peer, ends=ends) == expected, pieces


async def turn() -> None:
    """Until everything that is ready has run."""
    for _ in range(6):
        await asyncio.sleep(0)
