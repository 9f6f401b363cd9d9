"""The door's calls to the agent: answers that wait until a change is heard of, an agent that dies, and whose token is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bff.policy.routes import METHODS, Admission, Route
from bff.session.model import Credential, Live
from tests.proxy.rig import GET, OK, Client, Rig, eventually, open_rig, turns
from tests.proxy.test_exchange_answers import stale_then_ok

SETS_COOKIE = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: __Host-Http-bff=v\r\n\r\n")
BEGINS_LOGIN = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: __Host-Http-bff-login-1=v\r\n\r\n")
USER = b"GET /bff/user HTTP/1.1\r\nHost: a.test\r\n\r\n"
LOGOUT = b"POST /bff/logout HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Agent:
    """In the agent's place: ``answers`` by turn; None is a death before the first byte. The last one is for all to come."""

    answers: list[bytes | None]
    closes: bool = False
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    writer.transport.abort()
                    return
                writer.write(answer)
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass
class Ear:
    """The house's ``hear``: notes who asked, and waits for the gate."""

    asked: list[Live | None] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0

    async def __call__(self, live: Live | None) -> None:
        self.asked.append(live)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise


@asynccontextmanager
async def beside(folder: Path, agent: Agent, **more: object) -> AsyncIterator[tuple[Rig, Ear]]:
    path = str(folder / "agent.sock")
    server = await asyncio.start_unix_server(agent.serve, path)
    async with open_rig(pool={"agent_socket": path}, **more) as rig:  # type: ignore[arg-type]
        rig.guard.upstream = None
        rig.guard.route = Route("agent", "/bff/", Admission.API, METHODS)
        ear = rig.house.hear = Ear()
        yield rig, ear
        ear.gate.set()
        for client in rig.clients:
            client.close()
        await turns()
        rig.pool.close()
        for writer in agent.writers:
            writer.transport.abort()
        await eventually(lambda: rig.pool.open == 0)
    server.close()


async def sent(rig: Rig, request: bytes) -> Client:
    client = await rig.client()
    await client.send(request)
    return client


# -- hearing ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("SESS-9", "S6")
@pytest.mark.parametrize(("request_", "answer"), [(USER, SETS_COOKIE), (LOGOUT, OK), (LOGOUT, SETS_COOKIE)])
async def test_an_answer_that_may_come_of_a_change_reaches_the_browser_once_the_change_is_heard_of(
    tmp_path: Path, request_: bytes, answer: bytes
) -> None:
    async with beside(tmp_path, Agent([answer]), live=True) as (rig, ear):
        client = await sent(rig, request_)
        await eventually(lambda: ear.asked)
        await turns(50)
        assert client.reader._buffer == b"", "nothing before it is heard of"  # type: ignore[attr-defined]
        assert ear.asked == [rig.guard.live]
        ear.gate.set()
        assert (await client.answer())[::2] == (200, b"{}")


async def test_an_answer_that_changes_nothing_waits_for_nothing(tmp_path: Path) -> None:
    async with beside(tmp_path, Agent([BEGINS_LOGIN, OK])) as (rig, ear):
        assert (await (await sent(rig, USER)).answer())[0] == 200
        assert (await (await sent(rig, USER.replace(b"GET", b"HEAD"))).answer(bodiless=True))[0] == 200
        assert ear.asked == []


async def test_an_apis_answer_never_waits(tmp_path: Path) -> None:
    async with open_rig() as rig:
        ear = rig.house.hear = Ear()
        assert (await rig.ask(GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")))[0] == 200
        assert ear.asked == []


async def test_an_agent_that_closes_behind_its_answer_while_we_hear_loses_nothing_of_it(tmp_path: Path) -> None:
    async with beside(tmp_path, Agent([SETS_COOKIE], closes=True)) as (rig, ear):
        client = await sent(rig, LOGOUT)
        await eventually(lambda: ear.asked)
        await turns(50)
        ear.gate.set()
        assert (await client.answer())[::2] == (200, b"{}")


@pytest.mark.row("FRAME-7")
async def test_an_answer_that_broke_off_while_we_hear_is_not_passed_for_whole(tmp_path: Path) -> None:
    async with beside(tmp_path, Agent([SETS_COOKIE.replace(b"Length: 2", b"Length: 9")], closes=True)) as (rig, ear):
        client = await sent(rig, LOGOUT)
        await eventually(lambda: ear.asked)
        await turns(50)
        ear.gate.set()
        await client.head()
        assert len(await client.rest()) < 9


@pytest.mark.row("BODY-4")
async def test_a_browser_that_leaves_while_we_hear_leaves_nothing_behind(tmp_path: Path) -> None:
    async with beside(tmp_path, Agent([SETS_COOKIE])) as (rig, ear):
        client = await sent(rig, LOGOUT)
        await eventually(lambda: ear.asked)
        client.writer.transport.abort()
        await eventually(lambda: any(door.eof_at for door in rig.house.doors))
        rig.pass_time(1.0)
        await eventually(lambda: ear.left == 1)
        assert rig.house.active == 0 and all(lane.active == 0 for lane in rig.house.lanes.values())
        await eventually(lambda: rig.pool.open == 0)


# -- an agent that dies -----------------------------------------------------------------------------------------------


@pytest.mark.row("F48", "BODY-6")
async def test_a_question_that_dies_with_the_agent_is_asked_again_of_its_successor_with_a_note_of_its_own(tmp_path: Path) -> None:
    agent = Agent([None, OK])
    async with beside(tmp_path, agent) as (rig, _):
        assert (await (await sent(rig, USER)).answer())[::2] == (200, b"{}")
        assert len(agent.requests) == 2
        assert all(request.lower().count(b"\r\nbff-handoff: ") == 1 for request in agent.requests)


@pytest.mark.row("F48")
async def test_a_question_that_every_agent_dies_of_is_asked_twice_and_no_more(tmp_path: Path) -> None:
    agent = Agent([None])
    async with beside(tmp_path, agent) as (rig, _):
        assert (await (await sent(rig, USER)).answer())[0] == 502
        assert len(agent.requests) == 2


@pytest.mark.row("F48", "BODY-6")
async def test_what_must_not_be_done_twice_is_not_asked_twice(tmp_path: Path) -> None:
    agent = Agent([None, OK])
    async with beside(tmp_path, agent) as (rig, ear):
        ear.gate.set()
        assert (await (await sent(rig, LOGOUT)).answer())[0] == 502
        assert len(agent.requests) == 1
        assert (await (await sent(rig, LOGOUT)).answer())[0] == 200


# -- whose token is renewed -------------------------------------------------------------------------------------------


@pytest.mark.row("ZTA-4", "TOKEN-10")
@pytest.mark.parametrize("kind", ["user", "client"])
async def test_a_refused_token_of_the_client_is_never_renewed_in_the_name_of_who_happens_to_be_signed_in(kind: str) -> None:
    async with open_rig(stale_then_ok(), token=True, route={"token": kind}) as rig:
        holders: list[Live | None] = []

        async def renew(live: Live | None, *, audience: str, stale: Credential) -> Credential:
            holders.append(live)
            return Credential(b"Bearer token-2", rig.clock.now() + 600)

        rig.desk.renew = renew  # type: ignore[method-assign]
        assert (await rig.ask(GET))[0] == 200
        assert holders == [rig.guard.live if kind == "user" else None]
