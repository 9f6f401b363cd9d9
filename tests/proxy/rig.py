"""The door on a real socket between a raw client and a raw upstream, with a gatekeeper that says what a test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bff.base.clock import FakeClock
from bff.policy.facts import Facts
from bff.policy.handoff import Handoff
from bff.policy.routes import METHODS, Admission, Limits, Route, Upstream
from bff.policy.verdict import Admitted, Refusal, Target, Verdict
from bff.proxy.headers import HeaderRules
from bff.proxy.house import DoorHouse, DoorOptions
from bff.proxy.upstream import UpstreamPool
from bff.session.model import Credential, Live, Session
from bff.session.sealing import KeyRing
from bff.session.signing import Signer

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
AGENT_ROUTE = Route("bff.user", "/bff/user", Admission.API, METHODS, exact=True)
GET = b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n"


class Peer:
    """One accepted upstream connection: what came in, and how to answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.seen = b""

    async def head(self) -> bytes:
        block = await self.reader.readuntil(b"\r\n\r\n")
        self.seen += block
        return block

    async def read(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.seen += data
        return data

    async def until(self, end: bytes) -> bytes:
        data = await self.reader.readuntil(end)
        self.seen += data
        return data

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self) -> bytes:
        """What came until the other side closed (a reset counts)."""
        try:
            rest = await self.reader.read()
        except ConnectionError:
            rest = b""
        self.seen += rest
        return rest


Behaviour = Callable[[Peer], Awaitable[None]]


async def always_ok(peer: Peer) -> None:
    while True:
        head = await peer.head()
        size = field_of(head, b"content-length")
        if size:
            await peer.read(int(size))
        elif field_of(head, b"transfer-encoding"):
            await peer.until(b"0\r\n\r\n")
        await peer.send(OK)


def answering(*answers: bytes) -> Behaviour:
    """Answers body-less requests one after the other, over however many connections, then closes."""
    left = list(answers)

    async def behave(peer: Peer) -> None:
        while left:
            await peer.head()
            await peer.send(left.pop(0))

    return behave


def field_of(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


class RawUpstream:
    """Listens on loopback; each connection runs ``behave``. ``peers`` are all connections ever taken, in order."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.peers: list[Peer] = []
        self._arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> int:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self._arrived.set()
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            await self.behave(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def peer(self, number: int = 0) -> Peer:
        async with asyncio.timeout(5):
            while len(self.peers) <= number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.peers[number]

    @property
    def requests(self) -> int:
        return sum(peer.seen.count(b" HTTP/1.1\r\n") for peer in self.peers)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Client:
    """A raw browser."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await turns(3)

    async def head(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, *, bodiless: bool = False) -> tuple[int, bytes, bytes]:
        """(status, head, body) of one answer, decoded from either framing."""
        head = await self.head()
        status = int(head.split(b" ")[1])
        async with asyncio.timeout(5):
            if bodiless or status in (204, 304) or status < 200:
                return status, head, b""
            if field_of(head, b"transfer-encoding") == b"chunked":
                return status, head, await self._chunks()
            size = field_of(head, b"content-length")
            return status, head, await (self.reader.readexactly(int(size)) if size else self.reader.read())

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def rest(self) -> bytes:
        """Everything until the door closes; what came before a reset counts."""
        data = b""
        async with asyncio.timeout(5):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionError:
                pass
        return data

    async def was_reset(self) -> bool:
        async with asyncio.timeout(5):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                return True
        return False

    def close(self) -> None:
        self.writer.close()


async def turns(count: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until it holds, without guessing how long that takes."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Guard:
    """A gatekeeper under the test's thumb. ``waits``: None at once, then ``gate`` must open."""

    route: Route
    upstream: Upstream | None
    live: Live | None = None
    credential: Credential | None = None
    refusal: Refusal | None = None
    waits: bool = False
    valid_until: float = float("inf")
    set_cookies: tuple[str, ...] = ()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Facts] = field(default_factory=list)
    cancelled: int = 0
    failure: Exception | None = None

    def match(self, path: str) -> Route | None:
        return self.route if path.startswith(self.route.path) else None

    def judge_now(self, facts: Facts) -> Verdict | None:
        self.asked.append(facts)
        return None if self.waits else self._rule(facts)

    async def judge(self, facts: Facts) -> Verdict:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self._rule(facts)

    def _rule(self, facts: Facts) -> Verdict:
        if self.failure is not None:
            raise self.failure
        if self.refusal is not None:
            return self.refusal
        target = None if self.upstream is None else Target(self.upstream, facts.target)
        return Admitted(
            facts=facts,
            route=self.route,
            target=target,
            live=self.live,
            judged=self.live.session if self.live else None,
            credential=self.credential,
            valid_until=self.valid_until,
            set_cookies=self.set_cookies,
        )


@dataclass
class Desk:
    """Renews as told: ``fresh`` is a credential, an exception, or None for the same again."""

    fresh: Credential | Exception | None = None
    calls: int = 0

    async def renew(self, live: Live | None, *, audience: str, stale: Credential) -> Credential:
        self.calls += 1
        await asyncio.sleep(0)
        if isinstance(self.fresh, Exception):
            raise self.fresh
        return self.fresh or stale


def build_session(clock: FakeClock, *, subject: str = "anna", lasts_s: float = 3600.0) -> Session:
    return Session(
        key=subject.encode().ljust(32, b"."),
        version=1,
        issuer="https://id.test",
        subject=subject,
        created_at=clock.now(),
        expires_at=clock.now() + lasts_s,
    )


def build_live(clock: FakeClock, **changes: Any) -> Live:
    session = build_session(clock, **changes)
    return Live(session, clock.now(), 1800.0, key=session.key)


@dataclass
class Rig:
    house: DoorHouse
    guard: Guard
    desk: Desk
    upstream: RawUpstream
    pool: UpstreamPool
    handoff: Handoff
    clock: FakeClock
    port: int
    records: list[Any]
    touched: list[Live]
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=8 * 1024 * 1024)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def ask(self, request: bytes = GET, *, bodiless: bool = False) -> tuple[int, bytes, bytes]:
        """One request on a connection of its own."""
        client = await self.client()
        await client.send(request)
        answer = await client.answer(bodiless=bodiless)
        client.close()
        return answer

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.house.tick()

    def end_session(self) -> None:
        """As the keeper does it."""
        live = self.guard.live
        assert live is not None
        from bff.session.model import EndReason

        live.session = None
        watchers, live.watchers = live.watchers, frozenset()
        for watcher in watchers:
            watcher(EndReason.LOGOUT)

    @property
    def origin(self) -> Any:
        return self.pool.origin(self.guard.upstream)


@asynccontextmanager
async def open_rig(
    behave: Behaviour = always_ok,
    *,
    limits: Limits | None = None,
    live: bool = False,
    token: bool = False,
    options: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    upstream_tls: ssl.SSLContext | None = None,
    door_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Rig]:
    clock = FakeClock()
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(repr(context)))
    raw = RawUpstream(behave)
    port = await raw.start(upstream_tls)
    place = replace(Upstream("http", "127.0.0.1", port), **(upstream or {}))
    the_route = Route("api", "/api/", Admission.API, METHODS, upstream=place, limits=limits or Limits(), **(route or {}))
    guard = Guard(the_route, place, live=build_live(clock) if live or token else None)
    if token:
        guard.credential = Credential(b"Bearer token-1", clock.now() + 600)
    records: list[Any] = []
    touched: list[Live] = []
    handoff = Handoff(signer=Signer(KeyRing.generate(), clock=clock), routes={AGENT_ROUTE.name: AGENT_ROUTE})
    the_pool = UpstreamPool(clock=clock, **(pool or {}))
    desk = Desk()
    house = DoorHouse(
        gatekeeper=guard,
        pool=the_pool,
        handoff=handoff,
        desk=desk,
        rules=HeaderRules(own_cookies="__Host-Http-bff", public_origin="https://a.test"),
        options=DoorOptions(hosts=frozenset({"a.test"}), clear_cookies=("gone=; Max-Age=0",), **(options or {})),
        clock=clock,
        touch=touched.append,
        sink=lambda new, lanes: records.extend(new),
    )
    server = await asyncio.get_running_loop().create_server(house, "127.0.0.1", 0, ssl=door_tls)
    rig = Rig(house, guard, desk, raw, the_pool, handoff, clock, server.sockets[0].getsockname()[1], records, touched)
    try:
        yield rig
    finally:
        server.close()
        house.stop()
        for client in rig.clients:
            client.close()
        await raw.stop()
        await turns()
    assert problems == []
    assert all(lane.active == 0 for lane in house.lanes.values()), "a seat was not given back"
    assert house.doors == set()
