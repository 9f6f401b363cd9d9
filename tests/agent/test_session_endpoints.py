from __future__ import annotations

import dataclasses
import json

import pytest

from bff.base.errors import ProviderUnavailable
from bff.base.events import EventKind
from bff.session.model import EndReason
from tests.agent.world import World


@pytest.mark.row("ARCH-4", "PRIV-3", "S8")
async def test_user_tells_claims_and_how_long_and_never_a_token(world: World) -> None:
    live = world.keeper.add("a")
    world.clock.advance(100)
    answer = await world.ask("GET", "/bff/user", live=live, page=False)
    body = await answer.get_json()
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    assert body == {
        "sub": "alice",
        "name": "Alice",
        "email": "a@x.test",
        "session": {"expires_in": 1700, "expires_because": "idle", "logout_url": "/bff/logout"},
    }
    assert "CANARY" not in await answer.get_data(as_text=True)


async def test_user_names_the_absolute_end_when_that_comes_first(world: World) -> None:
    live = world.keeper.add("a")
    live.seen_at = world.clock.now() + 43_000
    body = await (await world.ask("GET", "/bff/user", live=live, page=False)).get_json()
    assert body["session"]["expires_because"] == "absolute" and body["session"]["expires_in"] == 43_200


@pytest.mark.row("PRIV-3")
async def test_user_shows_only_the_configured_claims_and_a_claim_cannot_pose_as_ours(world: World) -> None:
    world = World(options=dataclasses.replace(world.options, claims=frozenset({"name", "sub", "session"})))
    live = world.keeper.add("a", claims={"name": "A", "email": "x", "sub": "root", "session": "mine"})
    body = await (await world.ask("GET", "/bff/user", live=live, page=False)).get_json()
    assert body["sub"] == "alice" and body["session"]["logout_url"] == "/bff/logout"
    assert body.keys() == {"sub", "name", "session"}


@pytest.mark.row("SESS-6")
async def test_asking_who_is_signed_in_is_not_activity(world: World) -> None:
    live = world.keeper.add("a")
    before = live.seen_at
    world.clock.advance(60)
    await world.ask("GET", "/bff/user", live=live, page=False)
    assert live.seen_at == before
    assert all(not route.activity for route in world.routes.values())


@pytest.mark.row("ARCH-5", "RESP-8")
async def test_a_session_that_ended_a_moment_ago_is_a_401_problem(world: World) -> None:
    live = world.keeper.add("a")
    live.session = None
    answer = await world.ask("GET", "/bff/user", live=live, page=False)
    assert answer.status_code == 401 and answer.content_type == "application/problem+json; charset=utf-8"
    assert (await answer.get_json(force=True))["code"] == "unauthenticated"


@pytest.mark.row("SESS-17")
async def test_a_person_sees_their_own_sessions_and_ends_another_one(world: World) -> None:
    mine, other, bobs = world.keeper.add("mine"), world.keeper.add("phone"), world.keeper.add("bobs", subject="bob")
    body = await (await world.ask("GET", "/bff/sessions", live=mine, page=False)).get_json()
    assert sorted(row["current"] for row in body["sessions"]) == [False, True]
    target = next(row["id"] for row in body["sessions"] if not row["current"])
    answer = await _end(world, mine, {"id": target})
    assert (await answer.get_json()) == {"ended": 1}
    assert other.session is None and mine.session is not None and bobs.session is not None


@pytest.mark.row("SESS-17")
async def test_nobody_ends_a_session_of_somebody_else(world: World) -> None:
    mine, bobs = world.keeper.add("mine"), world.keeper.add("bobs", subject="bob")
    answer = await _end(world, mine, {"id": bobs.session.key.hex()})
    assert (await answer.get_json()) == {"ended": 0} and bobs.session is not None


async def test_all_other_sessions_end_at_once_and_this_one_stays(world: World) -> None:
    mine = world.keeper.add("mine")
    for n in range(120):
        world.keeper.add(f"other{n}")
    assert (await (await _end(world, mine, {"others": True})).get_json()) == {"ended": 120}
    assert mine.session is not None


@pytest.mark.parametrize("wish", [{}, {"id": "x", "others": True}, {"id": 5}, {"all": True}, [], "x"])
async def test_a_wish_that_is_not_clear_ends_nothing(world: World, wish: object) -> None:
    mine = world.keeper.add("mine")
    answer = await _end(world, mine, wish)
    assert answer.status_code == 400 and world.keeper.ended == []


async def test_a_form_cannot_end_sessions(world: World) -> None:
    mine = world.keeper.add("mine")
    answer = await world.ask("POST", "/bff/sessions/end", live=mine, page=False, body=b'{"others": true}', content_type="text/plain")
    assert answer.status_code == 400 and world.keeper.ended == []


async def _end(world: World, live: object, wish: object):  # type: ignore[no-untyped-def]
    body = json.dumps(wish).encode()
    return await world.ask("POST", "/bff/sessions/end", live=live, page=False, body=body, content_type="application/json")  # type: ignore[arg-type]


@pytest.mark.row("RPLO-1", "RPLO-2", "RPLO-4", "RPLO-8", "REV-1")
async def test_logout_ends_the_session_revokes_and_tells_a_script_where_to_go(world: World) -> None:
    live = world.keeper.add("a")
    session = live.session
    answer = await world.ask("POST", "/bff/logout", live=live, page=False)
    assert answer.status_code == 200
    assert (await answer.get_json())["logout_url"].startswith("https://id.test/end?state=")
    assert world.keeper.ended == [(session.key, EndReason.LOGOUT)]
    assert world.desk.revoked == [session]
    call = world.client.logout_calls[0]
    assert call["post_logout_redirect_uri"] == "https://app.example.test/"
    assert call["id_token_hint"].reveal() == "CANARY-ID"
    assert world.outcomes(EventKind.LOGOUT) == ["ok"]


@pytest.mark.row("RPLO-8")
async def test_logout_by_form_is_a_303(world: World) -> None:
    answer = await world.ask("POST", "/bff/logout", live=world.keeper.add("a"))
    assert answer.status_code == 303 and answer.headers["Location"].startswith("https://id.test/end")


@pytest.mark.row("RPLO-6")
async def test_logout_clears_every_cookie_of_ours(world: World) -> None:
    await world.start()
    await world.start()
    world.cookies["__Host-Http-bff"] = "ticket"
    await world.ask("POST", "/bff/logout", live=world.keeper.add("a"), page=False)
    assert world.cookies == {}


@pytest.mark.row("RPLO-5")
async def test_logout_without_a_session_is_the_same_success(world: World) -> None:
    answer = await world.ask("POST", "/bff/logout", page=False)
    assert answer.status_code == 200 and (await answer.get_json()) == {"logout_url": "/"}
    assert world.client.logout_calls == [] and world.desk.revoked == []


@pytest.mark.row("RPLO-1")
@pytest.mark.parametrize("failure", [ProviderUnavailable(), TimeoutError()])
async def test_an_unreachable_provider_does_not_undo_a_logout(world: World, failure: Exception) -> None:
    live = world.keeper.add("a")
    world.client.failure = failure
    answer = await world.ask("POST", "/bff/logout", live=live, page=False)
    assert (await answer.get_json()) == {"logout_url": "/"} and live.session is None


async def test_a_provider_without_end_session_leads_to_our_own_page(world: World) -> None:
    world.client.end_session = ""
    answer = await world.ask("POST", "/bff/logout", live=world.keeper.add("a"), page=False)
    assert (await answer.get_json()) == {"logout_url": "/"}


@pytest.mark.row("RPLO-2", "RPLO-3", "REDIR-2")
@pytest.mark.parametrize(
    ("query", "lands_on"),
    [
        ("return_to=/bye%3Fx%3D1", "/bye?x=1"),
        ("", "/"),
        ("return_to=", "/"),
        ("return_to=https://evil.test/", "/"),
        ("return_to=//evil.test", "/"),
        ("return_to=/bff/login", "/"),
        ("return_to=/a&return_to=/b", "/"),
        ("return_to=%ff", "/"),
        (f"return_to=/{'a' * 1100}", "/"),
    ],
)
async def test_logout_leads_back_to_a_page_of_ours_and_no_wish_stands_in_its_way(world: World, query: str, lands_on: str) -> None:
    answer = await world.ask("POST", f"/bff/logout?{query}", live=world.keeper.add("a"), page=False)
    assert (await answer.get_json())["logout_url"] == f"https://id.test/end?state=logout-state.{lands_on}.signed"
    assert world.client.logout_calls[0]["post_logout_redirect_uri"] == "https://app.example.test/"
    again = await world.ask("POST", f"/bff/logout?{query}", page=False)
    assert await again.get_json() == {"logout_url": lands_on}


@pytest.mark.row("SESS-14")
async def test_a_logout_that_could_not_end_the_session_says_so_and_keeps_the_cookie(world: World) -> None:
    live = world.keeper.add("a")
    world.keeper.down = True
    answer = await world.ask("POST", "/bff/logout", live=live, page=False)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert not answer.headers.getlist("Set-Cookie")
    assert (await answer.get_json(force=True))["code"] == "store_unavailable"


@pytest.mark.row("RPLO-7")
async def test_clear_site_data_is_sent_when_configured(world: World) -> None:
    assert "Clear-Site-Data" not in (await world.ask("POST", "/bff/logout", page=False)).headers
    world = World(options=dataclasses.replace(world.options, clear_site_data=("cache", "storage")))
    answer = await world.ask("POST", "/bff/logout", page=False)
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'


@pytest.mark.row("CSRF-9")
async def test_logout_is_a_post_and_nothing_else(world: World) -> None:
    assert world.routes["/bff/logout"].methods == {"POST"}
    live = world.keeper.add("a")
    assert (await world.ask("GET", "/bff/logout", live=live)).status_code == 404
    assert live.session is not None
