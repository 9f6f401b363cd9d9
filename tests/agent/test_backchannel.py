from __future__ import annotations

import dataclasses

import pytest
from quart import Response

from bff.agent.options import Rate, Rates
from bff.base.errors import ProviderUnavailable, TokenInvalid
from bff.base.events import EventKind
from bff.base.secret import Secret
from bff.oauth.types import LogoutNotice
from bff.session.model import Grant
from tests.agent.world import NOW, World

FORM = "application/x-www-form-urlencoded"
SUB_ONLY = LogoutNotice(issuer="https://id.test", subject="alice", sid="", jti="j1", expires_at=NOW + 120)
SID_ONLY = dataclasses.replace(SUB_ONLY, subject="", sid="s1")


async def post(world: World, body: bytes = b"logout_token=a.b.c", content_type: str | None = FORM) -> Response:
    return await world.ask("POST", "/bff/backchannel-logout", page=False, body=body, content_type=content_type)


@pytest.mark.row("BCLO-10", "BCLO-11", "SESS-12", "S12")
async def test_a_token_with_sub_alone_ends_every_session_of_that_person(world: World) -> None:
    mine = [world.keeper.add(name, sid=name) for name in ("a", "b", "c")]
    bobs = world.keeper.add("bob", subject="bob")
    world.client.notice = SUB_ONLY
    answer = await post(world)
    assert (answer.status_code, answer.headers["Cache-Control"], await answer.get_data()) == (200, "no-store", b"")
    assert [live.session for live in mine] == [None] * 3 and bobs.session is not None
    assert world.outcomes(EventKind.BACKCHANNEL_LOGOUT) == ["ok"]


@pytest.mark.row("BCLO-10")
@pytest.mark.parametrize("notice", [SID_ONLY, dataclasses.replace(SUB_ONLY, sid="s1")])
async def test_a_token_with_sid_ends_that_providers_session_alone(world: World, notice: LogoutNotice) -> None:
    ends, stays = world.keeper.add("a", sid="s1"), world.keeper.add("b", sid="s2")
    elsewhere = world.keeper.add("c", sid="s1", issuer="https://other.test")
    world.client.notice = notice
    assert (await post(world)).status_code == 200
    assert ends.session is None and stays.session is not None and elsewhere.session is not None


@pytest.mark.row("BCLO-10")
async def test_a_sid_of_somebody_else_ends_nothing_and_a_session_that_never_had_one_ends(world: World) -> None:
    hers, without = world.keeper.add("a", sid="s1", subject="bob"), world.keeper.add("b", sid="")
    world.client.notice = dataclasses.replace(SUB_ONLY, sid="s1")
    assert (await post(world)).status_code == 200
    assert hers.session is not None and without.session is None


@pytest.mark.row("BCLO-11")
async def test_a_token_that_matches_nobody_is_a_success_too(world: World) -> None:
    world.client.notice = SUB_ONLY
    assert (await post(world)).status_code == 200


@pytest.mark.row("BCLO-1", "L5")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"logout_token": "a.b.c"}', "application/json"),
        (b"logout_token=a.b.c", None),
        (b"logout_token=a.b.c", "text/plain"),
        (b"logout_token=a&logout_token=b", FORM),
        (b"logout_token=", FORM),
        (b"other=1", FORM),
        (b"", FORM),
        (b"logout_token=\xff", FORM),
        (b"&".join(b"a%d=1" % n for n in range(500)), FORM),
    ],
)
async def test_a_body_of_another_kind_is_refused(world: World, body: bytes, content_type: str | None) -> None:
    live = world.keeper.add("a")
    world.client.notice = SUB_ONLY
    answer = await post(world, body, content_type)
    assert answer.status_code == 400
    assert await answer.get_json() == {"error": "invalid_request"}
    assert live.session is not None


@pytest.mark.row("BCLO-1")
async def test_unknown_fields_beside_the_token_are_ignored(world: World) -> None:
    world.client.notice = SUB_ONLY
    assert (await post(world, b"a=1&logout_token=a.b.c&b=2")).status_code == 200


@pytest.mark.row("BCLO-11", "L10")
async def test_a_token_we_do_not_believe_is_a_400_that_reveals_nothing(world: World) -> None:
    world.client.notice = TokenInvalid("alg", "secret detail")
    answer = await post(world)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (400, "no-store")
    assert await answer.get_json() == {"error": "invalid_request"}
    assert world.outcomes(EventKind.BACKCHANNEL_LOGOUT_REFUSED) == ["invalid_request"]
    assert world.events[-1].fields["rule"] == "alg"


@pytest.mark.row("BCLO-8")
async def test_the_same_token_twice_has_no_second_effect(world: World) -> None:
    world.client.notice = SUB_ONLY
    assert (await post(world)).status_code == 200
    later = world.keeper.add("later")
    assert (await post(world)).status_code == 400
    assert later.session is not None
    world.client.notice = dataclasses.replace(SUB_ONLY, jti="j2")
    assert (await post(world)).status_code == 200
    assert later.session is None


@pytest.mark.row("BCLO-8")
@pytest.mark.parametrize("part", ["store", "keeper"])
async def test_a_store_failure_is_a_503_and_the_same_token_works_when_it_is_sent_again(world: World, part: str) -> None:
    live = world.keeper.add("a")
    world.client.notice = SUB_ONLY
    getattr(world, part).down = True
    answer = await post(world)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    getattr(world, part).down = False
    assert (await post(world)).status_code == 200
    assert live.session is None


async def test_keys_that_cannot_be_fetched_are_a_503_so_that_the_provider_asks_again(world: World) -> None:
    world.client.notice = ProviderUnavailable()
    assert (await post(world)).status_code == 503


@pytest.mark.row("BCLO-12")
async def test_refresh_tokens_are_revoked_unless_they_are_for_offline_access(world: World) -> None:
    world.keeper.add("offline")
    online = world.keeper.add("online", grants={"": Grant(Secret("x"), NOW + 60, frozenset({"openid"}))}).session
    world.client.notice = SUB_ONLY
    await post(world)
    assert world.desk.revoked == [online]


@pytest.mark.row("OPS-5")
async def test_junk_tokens_are_held_back_and_good_ones_never_are(world: World) -> None:
    world = World(options=dataclasses.replace(world.options, rates=Rates(backchannel=Rate(per_client=2, together=100))))
    for n in range(5):
        world.client.notice = dataclasses.replace(SUB_ONLY, jti=f"good{n}")
        assert (await post(world)).status_code == 200
    world.client.notice = TokenInvalid("signature")
    assert [(await post(world)).status_code for _ in range(3)] == [400, 400, 429]
    world.client.notice = dataclasses.replace(SUB_ONLY, jti="good after junk")
    assert (await post(world)).status_code == 200
    assert (await world.ask("GET", "/bff/login")).status_code == 302


@pytest.mark.row("D8")
async def test_a_body_beyond_the_bound_is_refused(world: World) -> None:
    world.client.notice = SUB_ONLY
    answer = await post(world, b"logout_token=" + b"a" * 70_000)
    assert answer.status_code == 413
