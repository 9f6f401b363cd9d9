from __future__ import annotations

import asyncio
import dataclasses

import pytest

from bff.agent.options import Rate, Rates
from bff.base.errors import (
    BffError,
    GrantRefused,
    GrantRevoked,
    LoginFailed,
    LoginReason,
    ProviderMisbehaved,
    ProviderUnavailable,
    TokenInvalid,
)
from bff.base.events import EventKind
from bff.session.model import EndReason
from tests.agent.world import NOW, World


@pytest.mark.row("CB-8", "K10", "SESS-2")
async def test_a_completed_login_goes_to_its_return_path_with_a_new_session_and_without_the_pending_cookie(world: World) -> None:
    state = await world.start("?return_to=/orders%3Fpage%3D2")
    answer = await world.come_back(state)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/orders?page=2"
    assert await answer.get_data() == b""
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert world.cookies == {"__Host-Http-bff": "ticket-new0"}
    assert world.outcomes(EventKind.LOGIN_SUCCEEDED) == ["ok"]


@pytest.mark.row("CB-1", "AUTHZ-3", "L1", "L2")
@pytest.mark.parametrize("case", ["missing", "unknown", "expired", "other jar"])
async def test_a_state_that_is_not_this_browsers_ends_the_login_before_any_token_request(world: World, case: str) -> None:
    state = await world.start()
    if case == "expired":
        world.pending.expired.add(state)
    elif case == "other jar":
        world.cookies.clear()
    sent = {"missing": "", "unknown": "st99"}.get(case, state)
    answer = await world.come_back(sent)
    assert answer.status_code == 400
    assert world.client.redeemed == []
    assert "__Host-Http-bff" not in world.cookies
    assert len(world.outcomes(EventKind.LOGIN_FAILED)) == 1


@pytest.mark.row("CB-2", "L4")
async def test_the_same_callback_at_once_redeems_once(world: World) -> None:
    state = await world.start()
    kept = dict(world.cookies)

    async def again() -> int:
        world.cookies = dict(kept)
        return (await world.come_back(state)).status_code

    statuses = await asyncio.gather(*(again() for _ in range(20)))
    assert sorted(statuses) == [303] + [400] * 19
    assert len(world.client.redeemed) == 1
    assert len(world.keeper.sessions) == 1


@pytest.mark.row("CB-2", "F19")
async def test_going_back_to_a_used_callback_leads_a_signed_in_person_to_the_app(world: World) -> None:
    state = await world.start()
    await world.come_back(state)
    live = next(iter(world.keeper.sessions.values()))
    answer = await world.come_back(state, live=live)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert len(world.client.redeemed) == 1


@pytest.mark.row("CB-3", "L5")
@pytest.mark.parametrize(
    "more",
    ["&code=a&code=b", "&code=a&state=x", "&iss=a&iss=b&code=c", "&error=a&error=b", "".join(f"&p{n}=1" for n in range(500))],
)
async def test_a_repeated_answer_parameter_makes_the_answer_invalid(world: World, more: str) -> None:
    state = await world.start()
    assert (await world.come_back(state, more)).status_code == 400
    assert world.client.redeemed == []
    assert (await world.come_back(state)).status_code == 303, "the login itself is still good"


@pytest.mark.row("CB-9")
@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token"])
async def test_a_token_in_the_address_is_refused_and_reported(world: World, name: str) -> None:
    state = await world.start()
    answer = await world.come_back(state, f"&code=c&{name}=CANARY")
    assert answer.status_code == 400
    assert world.client.redeemed == []
    assert world.outcomes(EventKind.LOGIN_FAILED) == ["callback_parameters"]
    assert "CANARY" not in await answer.get_data(as_text=True)


@pytest.mark.row("CB-4", "L6")
async def test_what_the_provider_wrote_is_never_shown(world: World) -> None:
    state = await world.start()
    world.client.failure = LoginFailed(LoginReason.DENIED, "<script>alert(1)</script>", oauth_error="access_denied")
    answer = await world.come_back(state, "&error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E")
    text = await answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert "script" not in text and "Sign-in was cancelled" in text and "login_denied" in text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy


@pytest.mark.row("CB-5")
@pytest.mark.parametrize("error", ["login_required", "interaction_required", "consent_required", "account_selection_required"])
async def test_a_silent_login_that_finds_nobody_returns_to_the_app(world: World, error: str) -> None:
    state = await world.start("?prompt=none&return_to=/start")
    world.client.failure = LoginFailed(LoginReason.DENIED, oauth_error=error)
    answer = await world.come_back(state, f"&error={error}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/start")
    assert world.cookies == {}


@pytest.mark.row("CB-5")
async def test_the_same_error_without_prompt_none_is_a_page(world: World) -> None:
    state = await world.start()
    world.client.failure = LoginFailed(LoginReason.DENIED, oauth_error="login_required")
    assert (await world.come_back(state, "&error=login_required")).status_code == 400


@pytest.mark.row("CB-10", "F27", "F21")
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (GrantRevoked("invalid_grant"), 400, "login_code_refused"),
        (GrantRefused("invalid_client"), 502, "grant_refused"),
        (ProviderUnavailable(), 503, "provider_unavailable"),
        (ProviderMisbehaved(), 502, "provider_misbehaved"),
        (TokenInvalid("nonce"), 502, "token_invalid"),
        (LoginFailed(LoginReason.MISMATCH), 400, "login_mismatch"),
        (LoginFailed(LoginReason.INCOMPLETE), 400, "login_incomplete"),
        (LoginFailed(LoginReason.DENIED, oauth_error="server_error"), 400, "login_denied"),
    ],
)
async def test_each_failure_is_a_page_with_a_code_and_the_old_session_lives(
    world: World, failure: BffError, status: int, code: str
) -> None:
    old = world.keeper.add("old")
    state = await world.start("?return_to=/orders", live=old)
    world.client.failure = failure
    answer = await world.come_back(state)
    text = await answer.get_data(as_text=True)
    assert answer.status_code == status
    assert code in text and "req-1" in text and "/bff/login?return_to=/orders" in text
    assert world.keeper.ended == [] and old.session is not None
    assert "__Host-Http-bff" not in world.cookies
    assert not [name for name in world.cookies if "login" in name], "the pending cookie is gone"
    assert world.outcomes(EventKind.LOGIN_FAILED) == [failure.code]


async def test_the_log_says_why_a_sign_in_failed_and_the_page_does_not(world: World) -> None:
    state = await world.start()
    world.client.failure = ProviderUnavailable("POST id.test/token: ConnectError")
    page = await (await world.come_back(state)).get_data(as_text=True)
    (event,) = [event for event in world.events if event.kind is EventKind.LOGIN_FAILED]
    assert event.fields == {"why": "POST id.test/token: ConnectError"} and "ConnectError" not in page


@pytest.mark.row("SESS-14", "CB-2")
async def test_a_store_that_is_down_is_a_503_and_the_login_can_still_be_completed(world: World) -> None:
    state = await world.start()
    world.store.down = True
    answer = await world.come_back(state)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert world.client.redeemed == []
    world.store.down = False
    assert (await world.come_back(state)).status_code == 303


@pytest.mark.row("SESS-2", "S1", "S2")
async def test_a_new_login_of_the_same_person_ends_the_old_session_without_revoking_a_shared_grant(world: World) -> None:
    old = world.keeper.add("old")
    key = old.session.key
    state = await world.start(live=old)
    await world.come_back(state)
    assert world.keeper.ended == [(key, EndReason.REPLACED)]
    assert world.desk.revoked == []


@pytest.mark.row("SESS-3")
async def test_a_login_as_another_person_revokes_the_tokens_of_the_one_before(world: World) -> None:
    old = world.keeper.add("old", subject="bob")
    session = old.session
    state = await world.start(live=old)
    await world.come_back(state)
    assert world.keeper.ended == [(session.key, EndReason.REPLACED)]
    assert world.desk.revoked == [session]


async def test_the_session_that_the_callback_itself_brings_is_replaced_too(world: World) -> None:
    state = await world.start()
    between = world.keeper.add("between", sid="s9")
    session = between.session
    await world.come_back(state, live=between)
    assert world.keeper.ended == [(session.key, EndReason.REPLACED)]
    assert world.desk.revoked == [session], "another provider session: its grant is its own"


@pytest.mark.row("SESS-14")
async def test_a_login_that_cannot_end_the_old_session_does_not_stand_beside_it(world: World) -> None:
    old = world.keeper.add("old")
    state = await world.start(live=old)
    begin = world.keeper.begin

    async def begin_then_fail(*args: object, **named: object) -> object:
        begun = await begin(*args, **named)  # type: ignore[arg-type]
        world.keeper.down = True
        return begun

    world.keeper.begin = begin_then_fail  # type: ignore[assignment,method-assign]
    answer = await world.come_back(state)
    assert answer.status_code == 503
    assert "__Host-Http-bff" not in world.cookies


@pytest.mark.row("STEPUP-4", "STEPUP-5", "L17")
@pytest.mark.parametrize("case", ["other user", "low acr", "old sign-in", "no auth_time", "auth_time from the future"])
async def test_a_step_up_that_falls_short_leaves_the_session_as_it_was(world: World, case: str) -> None:
    world = World(options=dataclasses.replace(world.options, acr_values=("gold",)))
    old = world.keeper.add("old")
    state = await world.start("?acr_values=gold&max_age=60&return_to=/pay", live=old)
    good = dataclasses.replace(world.client.identity, acr="gold", auth_time=int(NOW))
    world.client.identity = {
        "other user": dataclasses.replace(good, subject="mallory"),
        "low acr": dataclasses.replace(good, acr="bronze"),
        "old sign-in": dataclasses.replace(good, auth_time=int(NOW) - 600),
        "no auth_time": dataclasses.replace(good, auth_time=None),
        "auth_time from the future": dataclasses.replace(good, auth_time=int(NOW) + 600),
    }[case]
    answer = await world.come_back(state)
    text = await answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert 'href="/pay"' in text and "/bff/login" not in text, "no way into a loop"
    assert world.keeper.ended == [] and len(world.keeper.sessions) == 1


@pytest.mark.row("STEPUP-4")
async def test_a_step_up_that_holds_replaces_the_session(world: World) -> None:
    world = World(options=dataclasses.replace(world.options, acr_values=("gold",)))
    old = world.keeper.add("old")
    state = await world.start("?acr_values=gold&max_age=0", live=old)
    world.client.identity = dataclasses.replace(world.client.identity, acr="gold", auth_time=int(NOW) + 5)
    world.clock.advance(30)
    assert (await world.come_back(state)).status_code == 303
    assert len(world.keeper.ended) == 1


@pytest.mark.row("AUTHZ-6", "F15")
async def test_logins_in_three_tabs_end_in_any_order_each_at_its_own_page(world: World) -> None:
    states = [await world.start(f"?return_to=/tab{n}") for n in range(3)]
    for n in (2, 0, 1):
        answer = await world.come_back(states[n])
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/tab{n}")


@pytest.mark.row("REDIR-4")
async def test_a_return_path_is_judged_again_when_it_is_used(world: World) -> None:
    state = await world.start()
    world.pending.kept[state] = dataclasses.replace(world.pending.kept[state], return_to="//evil.test")
    answer = await world.come_back(state)
    assert answer.headers["Location"] == "/"


@pytest.mark.row("OPS-5")
async def test_a_burst_of_callbacks_is_held_back(world: World) -> None:
    world = World(options=dataclasses.replace(world.options, rates=Rates(callback=Rate(per_client=2, together=100))))
    statuses = [(await world.come_back("x")).status_code for _ in range(3)]
    assert statuses == [400, 400, 429]


@pytest.mark.row("COOKIE-16")
async def test_no_answer_sets_the_same_cookie_twice(world: World) -> None:
    old = world.keeper.add("old")
    state = await world.start(live=old)
    answer = await world.come_back(state, live=old)
    names = [value.partition("=")[0] for value in answer.headers.getlist("Set-Cookie")]
    assert len(names) == len(set(names))
    assert world.cookies["__Host-Http-bff"] == "ticket-new1"


@pytest.mark.row("SESS-3", "SESS-9")
async def test_the_door_is_told_of_the_end_of_a_session_that_the_callback_did_not_come_with(world: World) -> None:
    live = world.keeper.add("old")
    replaced = await world.come_back(await world.start(live=live))
    first = await world.come_back(await world.start())
    assert (replaced.headers.get("BFF-Ended"), first.headers.get("BFF-Ended")) == ("1", None)
