"""Where the agent takes the door's word, and looks the session up itself: with a real keeper behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from quart import Response

from bff.agent.app import build_agent
from bff.agent.options import AgentOptions
from bff.agent.reception import Reception
from bff.agent.routes import agent_routes
from bff.policy.facts import Facts
from bff.policy.handoff import Handoff
from bff.policy.routes import Route
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Live
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from tests.agent.world import ORIGIN, FakeClient, FakeDesk, FakePending, FakeSigner
from tests.session.world import BOB, IDLE_S, World


class Instance:
    """One worker's keeper (``world.keeper``) and the agent with a keeper of its own, over one store."""

    def __init__(self) -> None:
        self.world = world = World()
        self.notes = Signer(KeyRing.generate(), clock=world.clock)
        self.routes = {route.name: route for route in agent_routes()}
        self.keeper = world.new_keeper()
        self.reception = Reception(signer=self.notes, sessions=self.keeper, cookie=world.cookie, routes=self.routes)
        self.door = Handoff(signer=self.notes)
        parts: dict[str, Any] = {
            "options": AgentOptions(public_origin=ORIGIN, cookie=world.cookie),
            "client": FakeClient(world.clock),
            "keeper": self.keeper,
            "desk": FakeDesk(),
            "pending": FakePending(),
            "signer": FakeSigner(),
            "verdicts": self.reception,
            "store": world.store,
            "clock": world.clock,
        }
        self.app = build_agent(**parts)

    def admitted(self, live: Live | None, cookies: Mapping[str, str], *, name: str = "bff.user", page: bool = False) -> Admitted:
        route: Route = self.routes[name]
        facts = Facts(
            method=sorted(route.methods)[0],
            path=route.path,
            query=None,
            host="app.example.test",
            headers=(),
            cookies=tuple(cookies.items()),
            fetch_mode="navigate" if page else "cors",
            accept="text/html" if page else "application/json",
            request_id="req-1",
        )
        return Admitted(facts, route, None, live=live, judged=None if live is None else live.session)

    async def seat(self, live: Live | None, cookies: Mapping[str, str]) -> Admitted:
        handed = self.reception.read(self.door.write(self.admitted(live, cookies)))
        assert handed is not None
        return await self.reception.seat(handed)

    async def ask(self, live: Live | None, cookies: Mapping[str, str], **more: Any) -> Response:
        admitted = self.admitted(live, cookies, **more)
        client = self.app.test_client()
        sent = {"bff-handoff": self.door.write(admitted).decode()}
        answer = await client.open(admitted.facts.path, method=admitted.facts.method, headers=sent)  # type: ignore[call-arg]
        assert isinstance(answer, Response)
        return answer

    def cookie(self, value: str) -> dict[str, str]:
        return {self.world.cookie.session_name: value}


@pytest.fixture
def instance() -> Instance:
    return Instance()


async def test_the_session_that_the_door_found_is_found_again(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    seated = await instance.seat(live, instance.cookie(value))
    assert seated.live is not None and seated.live is not live
    assert seated.judged == live.session and seated.live.session is seated.judged
    answer = await instance.ask(live, instance.cookie(value))
    assert answer.status_code == 200 and (await answer.get_json())["sub"] == "alice"


async def test_a_login_that_just_ended_at_the_agent_is_known_to_a_worker_and_comes_back_by_its_note(instance: Instance) -> None:
    _, value = await instance.world.sign_in(keeper=instance.keeper)
    at_the_door = await instance.world.keeper.find(value)
    assert at_the_door is not None
    assert (await instance.ask(at_the_door, instance.cookie(value))).status_code == 200


@pytest.mark.row("SESS-9", "S6")
async def test_a_session_that_ended_on_the_way_is_no_session(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    admitted = instance.admitted(live, instance.cookie(value))
    note = instance.door.write(admitted)
    await instance.world.keeper.end(live.key, EndReason.LOGOUT)
    handed = instance.reception.read(note)
    assert handed is not None
    assert (await instance.reception.seat(handed)).live is None
    answer = await instance.app.test_client().get("/bff/user", headers={"bff-handoff": note.decode()})
    assert answer.status_code == 401


@pytest.mark.row("COOKIE-21")
async def test_a_cookie_that_opens_another_session_than_the_door_judged_opens_none(instance: Instance) -> None:
    alice, _ = await instance.world.sign_in()
    _, bobs = await instance.world.sign_in(BOB)
    assert (await instance.seat(alice, instance.cookie(bobs))).live is None
    assert (await instance.ask(alice, instance.cookie(bobs))).status_code == 401


async def test_a_session_that_the_door_did_not_find_is_not_found_here_either(instance: Instance) -> None:
    _, value = await instance.world.sign_in()
    assert (await instance.seat(None, instance.cookie(value))).live is None
    assert (await instance.ask(None, instance.cookie(value))).status_code == 401


async def test_a_key_without_a_cookie_opens_nothing(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    for cookies in ({}, instance.cookie("forged"), {"other": value}):
        assert (await instance.seat(live, cookies)).live is None


@pytest.mark.row("SESS-6")
async def test_activity_that_the_store_does_not_know_yet_does_not_sign_anybody_out(instance: Instance) -> None:
    """Active in the last moment of the idle time, and the touch still on its way to the store."""
    live, value = await instance.world.sign_in()
    instance.world.clock.advance(IDLE_S - 1)
    instance.world.keeper.touch(live)
    instance.world.clock.advance(2)
    answer = await instance.ask(live, instance.cookie(value))
    assert answer.status_code == 200
    assert (await answer.get_json())["session"]["expires_in"] == int(IDLE_S) - 2
    instance.world.clock.advance(IDLE_S)
    assert (await instance.ask(live, instance.cookie(value))).status_code == 401


@pytest.mark.row("F36", "SESS-14")
async def test_a_store_that_is_down_is_a_503_as_a_page_for_a_person_and_as_json_for_a_script(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    instance.world.store.down.add("*")
    script = await instance.ask(live, instance.cookie(value))
    assert script.status_code == 503 and script.content_type.startswith("application/problem+json")
    assert (await script.get_json())["code"] == "store_unavailable"
    page = await instance.ask(live, instance.cookie(value), name="bff.login", page=True)
    assert page.status_code == 503 and page.content_type.startswith("text/html")
    for answer in (script, page):
        assert "Set-Cookie" not in answer.headers and answer.headers["Cache-Control"] == "no-store"
    instance.world.store.down.clear()
    assert (await instance.ask(live, instance.cookie(value))).status_code == 200


@pytest.mark.parametrize("note", ["", "forged", "a.b.c", "\xff"])
async def test_who_comes_without_the_doors_note_gets_nowhere(instance: Instance, note: str) -> None:
    live, value = await instance.world.sign_in()
    client = instance.app.test_client()
    for path in ("/bff/user", "/bff/login", "/", "/bff/nothing"):
        answer = await client.get(path, headers={"bff-handoff": note, "Cookie": f"{instance.world.cookie.session_name}={value}"})
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
    assert (await instance.ask(live, instance.cookie(value))).status_code == 200


async def test_two_notes_are_none(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    note = instance.door.write(instance.admitted(live, instance.cookie(value))).decode()
    answer = await instance.app.test_client().get("/bff/user", headers=[("bff-handoff", note), ("bff-handoff", note)])
    assert answer.status_code in (200, 403)
    assert (await instance.app.test_client().get("/bff/user", headers={"bff-handoff": f"{note}, {note}"})).status_code == 403


async def test_method_path_and_route_are_the_notes_and_not_the_requests(instance: Instance) -> None:
    live, value = await instance.world.sign_in()
    note = instance.door.write(instance.admitted(live, instance.cookie(value)))
    answer = await instance.app.test_client().post("/bff/logout", headers={"bff-handoff": note.decode()})
    assert answer.status_code == 200 and (await answer.get_json())["sub"] == "alice", "answered as the /bff/user that was judged"
    assert live.session is not None
