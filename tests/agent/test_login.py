from __future__ import annotations

import dataclasses

import pytest

from bff.agent.options import Rate, Rates
from bff.base.errors import ProviderMisbehaved, ProviderUnavailable
from bff.base.events import EventKind
from tests.agent.world import World


def _with(world: World, **changes: object) -> World:
    return World(options=dataclasses.replace(world.options, **changes))


@pytest.mark.row("AUTHZ-13", "CACHE-3")
async def test_a_login_is_a_302_that_no_cache_keeps_and_no_referrer_tells(world: World) -> None:
    answer = await world.ask("GET", "/bff/login?return_to=/orders")
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("https://id.test/authorize?")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers.getlist("Set-Cookie")[0].startswith("__Host-Http-bff-login-")
    assert world.outcomes(EventKind.LOGIN_STARTED) == ["ok"]


@pytest.mark.row("AUTHZ-7")
async def test_the_redirect_uri_is_the_configured_one_whatever_the_headers_say(world: World) -> None:
    await world.ask("GET", "/bff/login", headers=((b"X-Forwarded-Host", b"evil.test"),))
    assert world.client.begun[0]["redirect_uri"] == "https://app.example.test/bff/callback"


@pytest.mark.row("AUTHZ-8", "L9", "R6")
@pytest.mark.parametrize(
    "query",
    [
        "scope=admin",
        "client_id=x",
        "resource=x",
        "request=x",
        "redirect_uri=https://evil.test",
        "state=x",
        "nonce=x",
        "return_to=/a&return_to=/b",
        "utm=1&utm=2",
        "prompt=sudo",
        "prompt=none%20login",
        "login_hint=a%0d%0ab",
        "ui_locales=%26scope%3dadmin",
        "return_to=%ff",
        "&".join(f"a{n}=1" for n in range(500)),
    ],
)
async def test_a_parameter_that_is_not_on_the_list_starts_nothing(world: World, query: str) -> None:
    answer = await world.ask("GET", f"/bff/login?{query}")
    assert answer.status_code == 400
    assert world.client.begun == []
    assert not answer.headers.getlist("Set-Cookie")
    assert world.outcomes(EventKind.REQUEST_REFUSED) == ["login_parameters"]


@pytest.mark.row("AUTHZ-8")
async def test_a_prompt_that_the_provider_says_it_lacks_starts_nothing(world: World) -> None:
    await world.start("?prompt=create")
    world.client.prompts = ("none", "login", "consent")
    await world.start("?prompt=login%20consent")
    for prompt in ("create", "login%20create"):
        answer = await world.ask("GET", f"/bff/login?prompt={prompt}")
        assert answer.status_code == 400 and "Set-Cookie" not in answer.headers
        assert "does not know this prompt" in await answer.get_data(as_text=True)
    assert len(world.client.begun) == 2
    world.client.failure = ProviderUnavailable()
    assert (await world.ask("GET", "/bff/login?prompt=login")).status_code == 503


async def test_every_allowed_parameter_reaches_the_provider_unchanged(world: World) -> None:
    world = _with(world, acr_values=("gold", "silver"), optional_scopes=frozenset({"payments"}))
    await world.start("?acr_values=silver%20gold&max_age=60&prompt=login%20consent&login_hint=bob&ui_locales=de%20en-GB&scope=payments")
    begun = world.client.begun[0]
    assert begun["acr_values"] == ("silver", "gold")
    assert (begun["max_age"], begun["prompt"], begun["login_hint"], begun["ui_locales"]) == (60, "login consent", "bob", "de en-GB")
    assert begun["scopes"] == ("openid", "profile", "offline_access", "payments")


@pytest.mark.row("AUTHZ-11")
async def test_a_max_age_of_zero_is_a_demand_and_not_the_lack_of_one(world: World) -> None:
    await world.start("?max_age=0")
    assert world.client.begun[0]["max_age"] == 0


@pytest.mark.row("STEPUP-3")
@pytest.mark.parametrize("query", ["max_age=abc", "max_age=-1", "max_age=1.5", "max_age=", "max_age=99999999999", "acr_values=platinum"])
async def test_a_strength_that_cannot_be_asked_for_is_refused(world: World, query: str) -> None:
    world = _with(world, acr_values=("gold",))
    assert (await world.ask("GET", f"/bff/login?{query}")).status_code == 400
    assert world.client.begun == []


@pytest.mark.row("REDIR-1", "REDIR-2", "REDIR-5", "R1")
@pytest.mark.parametrize(
    "value",
    ["//evil.test", "/%5cevil.test", "https://evil.test", "javascript:alert(1)", "/bff/login", "/bff/logout", "%20/x", "/%09/evil.test"],
)
async def test_a_return_path_that_leads_away_becomes_the_default(world: World, value: str) -> None:
    await world.start(f"?return_to={value}")
    assert world.client.begun[0]["return_to"] == "/"


@pytest.mark.row("REDIR-1")
async def test_a_path_of_our_own_is_kept(world: World) -> None:
    await world.start("?return_to=/orders/7%3Ftab%3Dopen")
    assert world.client.begun[0]["return_to"] == "/orders/7?tab=open"


@pytest.mark.row("R4")
@pytest.mark.parametrize("length", [2048, 8192])
async def test_an_overlong_return_path_is_refused_and_not_cut(world: World, length: int) -> None:
    assert (await world.ask("GET", "/bff/login?return_to=/" + "a" * length)).status_code == 400
    assert world.pending.kept == {}


@pytest.mark.row("STEPUP-4", "SESS-2")
async def test_a_step_up_remembers_who_must_come_back_and_which_session_it_replaces(world: World) -> None:
    live = world.keeper.add("old")
    await world.start("?max_age=0", live=live)
    assert world.client.begun[0]["subject"] == "alice"
    assert world.client.begun[0]["previous"] == live.session.key.hex()


async def test_a_plain_login_over_a_session_may_end_as_somebody_else(world: World) -> None:
    live = world.keeper.add("old")
    await world.start(live=live)
    assert world.client.begun[0]["subject"] == ""
    assert world.client.begun[0]["previous"] == live.session.key.hex()


@pytest.mark.row("F24")
async def test_an_unreachable_provider_is_a_503_page_that_says_when_to_come_back(world: World) -> None:
    world.client.failure = ProviderUnavailable(retry_after_s=7.2)
    answer = await world.ask("GET", "/bff/login")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "8")
    assert not answer.headers.getlist("Set-Cookie")
    text = await answer.get_data(as_text=True)
    assert "provider_unavailable" in text and "req-1" in text and "Try again" in text


async def test_a_provider_that_answers_nonsense_is_a_502(world: World) -> None:
    world.client.failure = ProviderMisbehaved("<b>secret detail</b>")
    answer = await world.ask("GET", "/bff/login")
    assert answer.status_code == 502
    assert "secret detail" not in await answer.get_data(as_text=True)


@pytest.mark.row("OPS-5", "D15")
async def test_a_burst_from_one_client_is_held_back_and_another_client_is_not(world: World) -> None:
    world = _with(world, rates=Rates(login=Rate(per_client=3, together=100)))
    statuses = [(await world.ask("GET", "/bff/login", client_ip="2001:db8::1")).status_code for _ in range(4)]
    assert statuses == [302, 302, 302, 429]
    neighbour = await world.ask("GET", "/bff/login", client_ip="2001:db8::ffff", page=False)
    assert neighbour.status_code == 429 and 1 <= int(neighbour.headers["Retry-After"]) <= 60
    assert (await neighbour.get_json(force=True))["code"] == "too_many_requests"
    assert (await world.ask("GET", "/bff/login", client_ip="2001:db8:0:1::1")).status_code == 302


@pytest.mark.row("OPS-5")
async def test_all_clients_together_are_bounded_too(world: World) -> None:
    world = _with(world, rates=Rates(login=Rate(per_client=3, together=2)))
    statuses = [(await world.ask("GET", "/bff/login", client_ip=f"192.0.2.{n}")).status_code for n in range(3)]
    assert statuses == [302, 302, 429]
