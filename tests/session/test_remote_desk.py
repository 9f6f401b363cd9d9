"""A worker's desk and the agent's, with a real Unix socket between them: two keepers, one store, one provider."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from bff.base.errors import GrantRefused, GrantRevoked, ProviderUnavailable, SessionGone, StoreUnavailable
from bff.base.events import EventKind
from bff.session.desk_client import MAX_HELD, RemoteDesk
from bff.session.desk_server import DeskServer
from bff.session.desk_wire import MAX_FRAME, Answer, Hello, Holder, Wish, frame, read_frame
from bff.session.model import Credential, EndReason, Live
from tests.session.world import BOB, IDLE_S, LIFE_S, Trouble, World, breathe, tick

API = "https://api.example.com"
SECRET = b"s" * 32


class Instance(World):
    """A worker (``keeper``, ``remote``) and the agent (``agent_keeper``, ``agent_desk``) of one instance."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = str(folder / "desk.sock")
        self.keeper = self.new_keeper(only_sends=True)
        self.agent_keeper = self.new_keeper()
        self.agent_desk = self.new_desk(self.agent_keeper)
        self.listener: asyncio.Server | None = None
        self.lines: list[asyncio.StreamWriter] = []
        self.connects = 0
        self.remote = self.new_remote()

    def new_remote(self, *, secret: bytes = SECRET, wait_s: float = 5.0) -> RemoteDesk:
        return RemoteDesk(keeper=self.keeper, connect=self.connect, secret=secret, clock=self.clock, wait_s=wait_s)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connects += 1
        return await asyncio.open_unix_connection(self.path)

    async def start_agent(self) -> None:
        server = DeskServer(keeper=self.agent_keeper, desk=self.agent_desk, secret=SECRET)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.lines.append(writer)
            await server.serve(reader, writer)

        self.listener = await asyncio.start_unix_server(serve, self.path)

    async def stop_agent(self) -> None:
        """As a killed process would: nobody listens, and every line breaks."""
        assert self.listener is not None
        self.listener.close()
        Path(self.path).unlink(missing_ok=True)
        while self.lines:
            self.lines.pop().transport.abort()
        await breathe()

    async def expired(self) -> tuple[Live, str]:
        """Somebody signed in, with a token that has run out."""
        live, value = await self.sign_in()
        self.clock.advance(LIFE_S + 1)
        return live, value

    async def issue(self, live: Live | None, **more: object) -> Credential:
        return await self.remote.issue(live, **{"token": "user", "audience": "", **more})  # type: ignore[arg-type]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Instance]:
    made = Instance(tmp_path)
    await made.start_agent()
    yield made
    await made.remote.close(1.0)
    await made.agent_desk.close(1.0)
    if made.listener is not None:
        made.listener.close()
    for line in made.lines:
        line.transport.abort()
    await breathe()


# -- at hand ----------------------------------------------------------------------------------------------------------


async def test_what_is_fresh_is_at_hand_and_nobody_is_asked(world: Instance) -> None:
    live, _ = await world.sign_in()
    ready = world.remote.at_hand(live.session, token="user", audience="")
    assert ready is not None and await world.issue(live) == ready
    assert world.connects == 0


async def test_what_has_run_out_or_was_never_there_is_not_at_hand(world: Instance) -> None:
    live, _ = await world.expired()
    assert world.remote.at_hand(live.session, token="user", audience="") is None
    assert world.remote.at_hand(live.session, token="user", audience=API) is None
    assert world.remote.at_hand(None, token="user", audience="") is None
    assert world.remote.at_hand(None, token="client", audience=API) is None


async def test_no_token_is_always_at_hand(world: Instance) -> None:
    ready = world.remote.at_hand(None, token="none", audience="")
    assert ready is not None and ready.authorization == b""


# -- issue ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("TOKEN-6", "TOKEN-7")
async def test_a_renewal_is_the_agents_and_its_token_is_at_hand_here_afterwards(world: Instance) -> None:
    live, _ = await world.expired()
    fresh = await world.issue(live)
    assert world.provider.redeemed == ["rt-1"]
    assert live.session is not None and live.session.version == 2
    assert world.remote.at_hand(live.session, token="user", audience="") == fresh


@pytest.mark.row("TOKEN-6", "F1")
async def test_however_many_ask_at_once_one_wish_is_sent_and_one_token_redeemed(world: Instance) -> None:
    live, _ = await world.expired()
    got = await asyncio.gather(*(world.issue(live) for _ in range(50)))
    assert len(set(got)) == 1 and len(world.provider.redeemed) == 1
    assert world.remote._line._numbers == 1


@pytest.mark.row("TOKEN-6", "F3")
async def test_two_workers_who_ask_at_once_share_a_renewal(world: Instance) -> None:
    live, value = await world.expired()
    other_keeper = world.new_keeper()
    other = RemoteDesk(keeper=other_keeper, connect=world.connect, secret=SECRET, clock=world.clock)
    theirs = await other_keeper.find(value)
    assert theirs is not None
    got = await asyncio.gather(world.issue(live), other.issue(theirs, token="user", audience=""))
    assert got[0] == got[1] and len(world.provider.redeemed) == 1 and world.provider.reuse == 0
    await other.close(1.0)


async def test_sessions_and_audiences_do_not_get_each_others(world: Instance) -> None:
    ada, _ = await world.sign_in()
    ben, _ = await world.sign_in(BOB)
    world.clock.advance(LIFE_S + 1)
    got = await asyncio.gather(world.issue(ada), world.issue(ben), world.issue(ada, audience=API), world.issue(ben, audience=API))
    assert len({one.authorization for one in got}) == 4
    assert [one.audience for one in got] == ["", "", API, API]
    for live, kept in ((ada, got[0]), (ben, got[1])):
        assert world.remote.at_hand(live.session, token="user", audience="") == kept


@pytest.mark.row("TOKEN-8")
async def test_a_caller_who_leaves_does_not_stop_the_renewal(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.gate = asyncio.Event()
    leaving, staying = asyncio.ensure_future(world.issue(live)), asyncio.ensure_future(world.issue(live))
    while not world.provider.redeemed:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    world.provider.gate.set()
    assert (await staying).authorization == b"Bearer h.own-2.s"
    assert len(world.provider.redeemed) == 1


@pytest.mark.row("TOKEN-8", "F6")
async def test_a_worker_that_dies_in_the_middle_leaves_the_renewal_to_the_agent(world: Instance) -> None:
    live, value = await world.expired()
    world.provider.gate = asyncio.Event()
    asking = asyncio.ensure_future(world.issue(live))
    while not world.provider.redeemed:
        await asyncio.sleep(0)
    world.remote._line.close()
    for _ in range(100):
        await asyncio.sleep(0)
    world.provider.gate.set()
    asking.cancel()
    heir = await world.new_keeper().find(value)
    assert heir is not None and heir.session is not None
    for _ in range(1000):
        if (await world.keeper.reread(heir)).version == 2:
            break
        await asyncio.sleep(0)
    assert heir.session.version == 2, "what came back is in the store for whoever asks next"
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_store_that_is_down_for_the_second_look_does_not_cost_the_token(world: Instance) -> None:
    live, _ = await world.expired()
    trouble = Trouble(world.store)  # type: ignore[arg-type]
    worker = world.new_keeper(store=trouble)
    remote = RemoteDesk(keeper=worker, connect=world.connect, secret=SECRET, clock=world.clock)
    trouble.down.add("get")
    assert (await remote.issue(live, token="user", audience="")).authorization == b"Bearer h.own-2.s"
    assert live.session is not None and live.session.version == 1
    await remote.close(1.0)


@pytest.mark.row("SESS-4", "SESS-6")
async def test_the_activity_that_asks_for_a_renewal_is_written_down_with_it_and_not_once_more(world: Instance) -> None:
    _, value = await world.sign_in()
    trouble = Trouble(world.store)
    worker = world.new_keeper(store=trouble, only_sends=True)
    remote = RemoteDesk(keeper=worker, connect=world.connect, secret=SECRET, clock=world.clock)
    world.clock.advance(LIFE_S + 1)
    live = await worker.find(value)
    assert live is not None
    worker.touch(live)
    await remote.issue(live, token="user", audience="")
    row = await world.store.get(live.key)
    assert row is not None and row.seen_at == live.seen_at == world.clock.now()
    for _ in range(2):
        await tick(worker)
        world.clock.advance(120.0)
    assert "touch" not in trouble.calls
    await remote.close(1.0)


@pytest.mark.row("SESS-6")
async def test_activity_that_only_this_worker_knows_of_keeps_the_agent_from_taking_the_session_for_idle(world: Instance) -> None:
    live, _ = await world.sign_in()
    world.clock.advance(IDLE_S - 1)
    world.keeper.touch(live)
    world.clock.advance(2)
    assert (await world.issue(live)).authorization == b"Bearer h.own-2.s"
    world.clock.advance(IDLE_S + 1)
    with pytest.raises(SessionGone):
        await world.issue(live)


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("TOKEN-9", "SESS-9")
async def test_a_revoked_grant_ends_the_session_here_at_once(world: Instance) -> None:
    live, value = await world.expired()
    world.provider.good.clear()
    told: list[EndReason] = []
    live.watch(told.append)
    with pytest.raises(GrantRevoked) as caught:
        await world.issue(live)
    assert caught.value.error == "invalid_grant"
    assert live.session is None and len(told) == 1 and await world.keeper.find(value) is None
    with pytest.raises(SessionGone):
        await world.issue(live)


@pytest.mark.row("SESS-9")
async def test_a_session_that_ended_at_the_agent_is_over_here_once_it_is_asked_about(world: Instance) -> None:
    live, _ = await world.expired()
    await world.agent_keeper.end(live.key, EndReason.LOGOUT)
    with pytest.raises(SessionGone):
        await world.issue(live)
    assert live.session is None


async def test_a_refusal_of_one_audience_leaves_the_session_alone(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.failures.append(GrantRefused("invalid_target"))
    with pytest.raises(GrantRefused) as caught:
        await world.issue(live, audience=API)
    assert caught.value.error == "invalid_target" and live.session is not None
    assert (await world.issue(live)).authorization


@pytest.mark.row("F25", "TOKEN-9")
async def test_an_outage_keeps_the_session_and_says_when_to_come_again(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.failures.append(ProviderUnavailable("down", retry_after_s=7.0))
    with pytest.raises(ProviderUnavailable) as caught:
        await world.issue(live)
    assert caught.value.retry_after_s == pytest.approx(7.0, rel=0.3) and live.session is not None


@pytest.mark.row("F36")
async def test_a_store_that_is_down_is_said_to_be_and_ends_nothing(world: Instance) -> None:
    live, _ = await world.expired()
    world.store.down.add("*")
    with pytest.raises(StoreUnavailable):
        await world.issue(live)
    world.store.down.clear()
    assert live.session is not None and (await world.issue(live)).authorization


async def test_somebody_who_asks_without_a_session_gets_no_users_token(world: Instance) -> None:
    with pytest.raises(SessionGone):
        await world.issue(None)


async def test_a_key_without_its_half_opens_nothing(world: Instance) -> None:
    live, _ = await world.expired()
    stranger = Live(live.session, seen_at=live.seen_at, idle_s=live.idle_s, key=live.key, half=b"x" * len(live.half))
    with pytest.raises(SessionGone):
        await world.issue(stranger)
    assert (await world.issue(live)).authorization


# -- renew ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("TOKEN-10")
async def test_a_token_that_an_api_refuses_is_renewed_before_its_time_and_only_once(world: Instance) -> None:
    live, _ = await world.sign_in()
    stale = world.remote.at_hand(live.session, token="user", audience="")
    assert stale is not None
    got = await asyncio.gather(*(world.remote.renew(live, audience="", stale=stale) for _ in range(20)))
    assert len(set(got)) == 1 and got[0].authorization != stale.authorization
    assert len(world.provider.redeemed) == 1
    assert world.remote.at_hand(live.session, token="user", audience="") == got[0]
    assert await world.remote.renew(live, audience="", stale=got[0]) == got[0], "not twice within moments: the upstream's answer stands"


# -- the client's own tokens ------------------------------------------------------------------------------------------


async def client_token(world: Instance, *scopes: str) -> Credential:
    return await world.remote.issue(None, token="client", audience=API, scopes=frozenset(scopes))


@pytest.mark.row("T2")
async def test_the_clients_own_token_is_kept_here_by_audience_and_scopes(world: Instance) -> None:
    one, other = await client_token(world, "a"), await client_token(world, "a", "b")
    assert one != other and len(world.provider.client_calls) == 2
    assert await client_token(world, "a") == one
    assert world.remote.at_hand(None, token="user_or_client", audience=API, scopes=frozenset({"a"})) == one
    assert world.remote._line._numbers == 2, "nobody was asked a third time"
    world.clock.advance(LIFE_S + 1)
    assert await client_token(world, "a") != one


@pytest.mark.row("T2", "ZTA-4")
async def test_a_users_call_never_gets_the_clients_token_nor_the_other_way_round(world: Instance) -> None:
    live, _ = await world.sign_in()
    own = await world.remote.issue(live, token="client", audience="")
    assert own != await world.issue(live)
    assert world.remote.at_hand(live.session, token="client", audience="") == own
    assert world.remote.at_hand(live.session, token="user", audience="") != own


async def test_the_clients_tokens_kept_here_are_bounded(world: Instance) -> None:
    credential = Credential(b"Bearer x", world.clock.now() + 60)
    for number in range(MAX_HELD + 5):
        world.remote._hold(str(number), frozenset(), credential)
    assert len(world.remote._held) == MAX_HELD
    assert world.remote.at_hand(None, token="client", audience="0") is None
    assert world.remote.at_hand(None, token="client", audience=str(MAX_HELD + 4)) == credential


@pytest.mark.row("TOKEN-10")
async def test_a_refused_client_token_is_renewed_for_all_who_hold_it(world: Instance) -> None:
    stale = await client_token(world, "a")
    first, second = await asyncio.gather(*(world.remote.renew(None, audience=API, stale=stale) for _ in range(2)))
    assert first == second != stale and await client_token(world, "a") == first


@pytest.mark.row("ZTA-4", "TOKEN-10")
async def test_who_comes_late_with_a_refused_client_token_gets_the_newer_one_and_not_a_persons(world: Instance) -> None:
    """Two calls of one person on a route with the client's token meet a 401; the first has renewed it when the second asks."""
    scopes = frozenset({"a"})
    stale = await world.remote.issue(None, token="client", audience="", scopes=scopes)
    fresh = await world.remote.renew(None, audience="", stale=stale)
    late = await world.remote.renew(None, audience="", stale=stale)
    assert late == fresh != stale
    assert world.provider.redeemed == [] and len(world.provider.client_calls) == 2


# -- the line ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("F48")
async def test_a_line_that_breaks_in_the_middle_of_a_call_is_made_anew_and_the_call_repeated(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.gate = asyncio.Event()
    asking = asyncio.ensure_future(world.issue(live))
    while not world.provider.redeemed:
        await asyncio.sleep(0)
    world.lines.pop().transport.abort()
    world.provider.gate.set()
    assert (await asking).authorization == b"Bearer h.own-2.s"
    assert world.connects == 2 and world.provider.redeemed == ["rt-1"], "the agent lived: its renewal was joined, not repeated"


@pytest.mark.row("F48")
async def test_a_line_that_broke_while_nobody_spoke_is_made_anew(world: Instance) -> None:
    live, _ = await world.expired()
    await world.issue(live)
    await world.stop_agent()
    await world.start_agent()
    world.clock.advance(LIFE_S + 1)
    assert (await world.issue(live)).authorization == b"Bearer h.own-3.s"
    assert world.connects == 2


@pytest.mark.row("F48")
async def test_while_the_agent_is_away_a_call_is_told_to_come_again_and_succeeds_when_it_is_back(world: Instance) -> None:
    live, _ = await world.expired()
    await world.stop_agent()
    with pytest.raises(ProviderUnavailable) as caught:
        await world.issue(live)
    assert caught.value.retry_after_s and live.session is not None
    await world.start_agent()
    assert (await world.issue(live)).authorization


@contextmanager
def hanging(path: str) -> Iterator[None]:
    """A process that listens, and does nothing else any more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        yield


@asynccontextmanager
async def serving(path: str, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[None]:
    """Another program in the agent's place."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(EOFError, OSError):
            await serve(reader, writer)
        writer.close()

    listener = await asyncio.start_unix_server(handle, path)
    yield
    listener.close()
    for writer in writers:
        writer.transport.abort()
    await breathe()


@pytest.mark.row("F48", "F2")
async def test_an_agent_that_hangs_costs_a_call_its_patience_and_no_more(world: Instance) -> None:
    live, _ = await world.expired()
    await world.stop_agent()
    remote = world.new_remote(wait_s=0.05)
    with hanging(world.path):
        for _ in range(3):
            with pytest.raises(ProviderUnavailable) as caught:
                await remote.issue(live, token="user", audience="")
            assert caught.value.retry_after_s == 1.0
        assert remote._line._waiting == {} and len(remote._flights) == 0
    await remote.close(1.0)


@pytest.mark.row("F48")
async def test_an_agent_that_does_not_read_is_not_sent_more_and_more(world: Instance) -> None:
    """It hangs for hours, and calls that need it come all the time: what waits to be sent to it stays small."""
    live, _ = await world.expired()
    await world.stop_agent()
    remote = world.new_remote(wait_s=0.02)
    audience = "https://" + "x" * 40_000
    with hanging(world.path):
        for number in range(60):
            with pytest.raises(ProviderUnavailable):
                await remote.issue(live, token="user", audience=f"{audience}{number}")
        assert remote._line._writer is not None
        assert remote._line._writer.transport.get_write_buffer_size() < 256 * 1024
        remote._line._writer.transport.abort()
    await remote.close(1.0)


@pytest.mark.row("F48")
async def test_a_line_that_is_gone_before_anything_is_said_on_it_is_noticed_at_once(world: Instance) -> None:
    live, _ = await world.expired()
    await world.stop_agent()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """At once."""

    async with serving(world.path, hang_up), asyncio.timeout(2):
        with pytest.raises(ProviderUnavailable, match="not there"):
            await world.issue(live)


async def test_a_line_that_ended_between_opening_and_asking_is_not_waited_on(world: Instance) -> None:
    live, _ = await world.expired()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await world.connect()
        if world.connects == 1:
            reader = asyncio.StreamReader()
            reader.feed_eof()
        return reader, writer

    remote = RemoteDesk(keeper=world.keeper, connect=connect, secret=SECRET, clock=world.clock)
    async with asyncio.timeout(2):
        assert (await remote.issue(live, token="user", audience="")).authorization
    await remote.close(1.0)


async def test_a_line_that_is_closed_as_soon_as_it_is_open_is_made_anew(world: Instance) -> None:
    live, _ = await world.expired()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await world.connect()
        if world.connects == 1:
            writer.transport.abort()
            await breathe()
            writer.write = None  # type: ignore[method-assign, assignment]
        return reader, writer

    remote = RemoteDesk(keeper=world.keeper, connect=connect, secret=SECRET, clock=world.clock)
    assert (await remote.issue(live, token="user", audience="")).authorization
    assert world.connects == 2
    await remote.close(1.0)


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\3\x93\xc0\xc0", (MAX_FRAME + 1).to_bytes(4, "big")])
async def test_an_answer_that_is_none_breaks_the_line_and_the_call_is_repeated(world: Instance, junk: bytes) -> None:
    live, _ = await world.expired()
    await world.stop_agent()
    broken = 0

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        broken += 1
        await read_frame(reader)
        await read_frame(reader)
        writer.write(junk)
        await reader.read()

    async with serving(world.path, babble):
        with pytest.raises(ProviderUnavailable):
            await world.issue(live)
    assert broken == 3


async def test_an_answer_to_nobody_is_passed_over(world: Instance) -> None:
    live, _ = await world.expired()
    await world.issue(live)
    world.lines[-1].write(frame(Answer(999)) + frame(Answer(1)))
    world.clock.advance(LIFE_S + 1)
    assert (await world.issue(live)).authorization == b"Bearer h.own-3.s"
    assert world.connects == 1


async def test_close_lets_a_renewal_end_and_then_hangs_up(world: Instance) -> None:
    live, _ = await world.expired()
    asking = asyncio.ensure_future(world.issue(live))
    await asyncio.sleep(0)
    await world.remote.close(2.0)
    assert (await asking).authorization == b"Bearer h.own-2.s"
    assert world.remote._line._writer is not None and world.remote._line._writer.is_closing()


async def test_close_does_not_wait_longer_than_told(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.gate = asyncio.Event()
    asking = asyncio.ensure_future(world.issue(live))
    while not world.provider.redeemed:
        await asyncio.sleep(0)
    await world.remote.close(0.01)
    with pytest.raises(asyncio.CancelledError):
        await asking
    world.provider.gate.set()


# -- who may speak to the agent's desk --------------------------------------------------------------------------------


async def knock(world: Instance, *frames: bytes) -> bytes:
    """All that the desk says to these bytes before it hangs up."""
    reader, writer = await asyncio.open_unix_connection(world.path)
    try:
        writer.write(b"".join(frames))
        async with asyncio.timeout(2):
            return await reader.read()
    finally:
        writer.close()


def wish_for(live: Live) -> bytes:
    return frame(Wish(1, Holder(live.key, live.half), "user", "", []))


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        frame(Hello(b"")),
        frame(Hello(b"t" * 32)),
        frame(Hello(SECRET[:-1])),
        frame(Hello(SECRET + b"s")),
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        frame(Answer(1)),
        b"\0\0\0\x09" + msgspec.msgpack.encode({"secret": 1}),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["none", "empty", "wrong", "short", "long", "nothing", "huge", "another message", "of another type", "http"],
)
async def test_who_does_not_know_the_secret_is_hung_up_on_and_nothing_happens(world: Instance, hello: bytes) -> None:
    live, _ = await world.expired()
    assert await knock(world, hello, wish_for(live)) == b""
    assert world.provider.redeemed == []


async def test_who_knows_it_is_answered_until_a_frame_is_none(world: Instance) -> None:
    live, _ = await world.expired()
    reader, writer = await asyncio.open_unix_connection(world.path)
    writer.write(frame(Hello(SECRET)) + wish_for(live))
    answer = msgspec.msgpack.decode(await read_frame(reader), type=Answer)
    assert answer.number == 1 and answer.credential is not None
    writer.write(b"\0\0\0\1x")
    assert await reader.read() == b""
    writer.close()


async def test_a_worker_with_another_secret_gets_nothing_and_is_told_so(world: Instance) -> None:
    live, _ = await world.expired()
    remote = world.new_remote(secret=b"t" * 32)
    with pytest.raises(ProviderUnavailable):
        await remote.issue(live, token="user", audience="")
    assert world.provider.redeemed == []
    await remote.close(1.0)


async def test_a_failure_that_is_nobodys_reaches_the_worker_as_one_of_ours_and_the_line_stays(world: Instance) -> None:
    live, _ = await world.expired()
    world.provider.failures.append(RuntimeError("a bug"))
    with pytest.raises(Exception) as caught:
        await world.issue(live)
    assert type(caught.value).__name__ == "BffError" and "bug" not in str(caught.value)
    assert (await world.issue(live)).authorization and world.connects == 1


# -- hearing of it elsewhere ------------------------------------------------------------------------------------------


@pytest.mark.row("SESS-10", "TOKEN-6")
async def test_a_renewal_asked_for_by_one_worker_is_known_at_the_other_after_its_next_round(world: Instance) -> None:
    live, value = await world.expired()
    other_keeper = world.new_keeper()
    await tick(other_keeper)
    theirs = await other_keeper.find(value)
    fresh = await world.issue(live)
    await tick(other_keeper)
    assert theirs is not None
    assert world.remote.at_hand(theirs.session, token="user", audience="") == fresh
    assert len(world.kinds(EventKind.TOKEN_REFRESHED)) == 1
