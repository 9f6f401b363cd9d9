"""Token answers, refresh, client credentials, revocation, client authentication, and what each failure means."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from bff.base.clock import FakeClock
from bff.base.errors import GrantRefused, GrantRevoked, ProviderMisbehaved, ProviderUnavailable, TokenInvalid
from bff.base.events import EventKind
from bff.base.secret import Secret
from bff.oauth.answers import ClientRefused, read_retry_after
from bff.oauth.breaker import Breaker
from bff.oauth.grants import read_token_set
from tests.oauth.scripted_provider import ISSUER, REMOVE, RSA_2, World, raw_jws

NOW = 1_800_000_000.0
ANSWER: dict[str, Any] = {"access_token": "at", "token_type": "Bearer", "expires_in": 600}


async def refresh(world: World, **changes: Any) -> Any:
    values: dict[str, Any] = {"issuer": ISSUER, "subject": "alice", "auth_time": int(NOW), "refresh_token": Secret("rt-0"), **changes}
    return await world.client.refresh(**values)


@pytest.mark.row("TOKEN-1")
def test_the_token_type_is_bearer_in_any_case_and_nothing_else() -> None:
    for good in ("Bearer", "bearer", "BEARER"):
        assert read_token_set({**ANSWER, "token_type": good}, now=NOW).token_type == "Bearer"
    for bad in ("mac", "DPoP", "N_A", "", None, 1, ["Bearer"], "Bearer "):
        with pytest.raises(ProviderMisbehaved):
            read_token_set({**ANSWER, "token_type": bad}, now=NOW)


@pytest.mark.row("TOKEN-2", "M8", "M9")
@pytest.mark.parametrize("token", [None, "", 1, True, ["at"], {"x": 1}, "a b", "a\r\nX: y", "ä", "a\x00"])
def test_a_token_that_is_not_fit_for_a_header_is_refused(token: Any) -> None:
    with pytest.raises(ProviderMisbehaved):
        read_token_set({**ANSWER, "access_token": token}, now=NOW)


@pytest.mark.row("TOKEN-2")
def test_large_tokens_and_unknown_members_are_fine() -> None:
    tokens = read_token_set({**ANSWER, "access_token": "x" * 8192, "extra": [1], "refresh_token": None, "id_token": ""}, now=NOW)
    assert len(tokens.access_token.reveal()) == 8192
    assert not tokens.refresh_token


@pytest.mark.row("TOKEN-3")
@pytest.mark.parametrize("expires_in", [REMOVE, None, "3600", "x", -1, 0, True, [], 10**19, 1e300])
def test_an_unusable_lifetime_becomes_a_short_one(expires_in: Any) -> None:
    document = {name: value for name, value in {**ANSWER, "expires_in": expires_in}.items() if value is not REMOVE}
    assert read_token_set(document, now=NOW).expires_at == NOW + 300


@pytest.mark.row("TOKEN-3", "F33")
@pytest.mark.parametrize(
    ("expires_in", "exp", "expected"),
    [
        (600, NOW + 60, NOW + 60),
        (60, NOW + 600, NOW + 60),
        (None, NOW + 60, NOW + 60),
        (600, NOW - 60, NOW + 600),
        (600, "x", NOW + 600),
        (600, 1e300, NOW + 600),
    ],
)
def test_the_sooner_of_lifetime_and_jwt_expiry_counts(expires_in: Any, exp: Any, expected: float) -> None:
    document = {**ANSWER, "expires_in": expires_in, "access_token": raw_jws({"alg": "x"}, {"exp": exp})}
    assert read_token_set(document, now=NOW).expires_at == expected


def test_an_access_token_that_only_looks_like_a_jwt_is_left_alone() -> None:
    for token in ("a.b.c", "..", "a.bm90anNvbg.c", "a.W10.c", "a.%.c", "a.b"):
        assert read_token_set({**ANSWER, "access_token": token}, now=NOW).expires_at == NOW + 600


@pytest.mark.row("TOKEN-4")
def test_a_granted_scope_replaces_the_requested_one_and_a_missing_one_does_not() -> None:
    assert read_token_set(ANSWER, now=NOW).scopes is None
    assert read_token_set({**ANSWER, "scope": "a  b"}, now=NOW).scopes == ("a", "b")
    assert read_token_set({**ANSWER, "scope": ""}, now=NOW).scopes == ()
    assert read_token_set({**ANSWER, "scope": ["a"]}, now=NOW).scopes == ("a",)
    for bad in (1, {}, [1], True):
        with pytest.raises(ProviderMisbehaved):
            read_token_set({**ANSWER, "scope": bad}, now=NOW)


@pytest.mark.row("SESS-9")
def test_a_lifetime_hint_caps_the_session() -> None:
    assert read_token_set(ANSWER, now=NOW).session_max_s is None
    hints = {"authorization_expires_in": 600, "refresh_token_timeout": 300}
    assert read_token_set({**ANSWER, **hints}, now=NOW).session_max_s == 300
    assert read_token_set({**ANSWER, "authorization_expires_in": "x"}, now=NOW).session_max_s is None


@pytest.mark.row("K1")
def test_no_token_shows_in_a_repr() -> None:
    assert "canary" not in repr(read_token_set({**ANSWER, "access_token": "canary", "refresh_token": "canary"}, now=NOW))


@pytest.mark.row("TOKEN-7", "RES-1")
async def test_a_refresh_sends_what_was_asked_and_returns_the_new_tokens(world: World) -> None:
    world.provider.answer("/token", {**ANSWER, "refresh_token": "rt-1", "scope": "orders"})
    tokens, identity = await refresh(world, audience="https://api.test/", scopes=("orders",))
    assert identity is None
    assert tokens.refresh_token.reveal() == "rt-1"
    assert world.provider.forms("/token") == [
        {"grant_type": "refresh_token", "refresh_token": "rt-0", "scope": "orders", "resource": "https://api.test/"}
    ]


@pytest.mark.row("RES-1", "TOKEN-12")
async def test_the_logins_own_token_is_for_its_own_resource_and_never_for_a_routes(build_world: Any) -> None:
    world = build_world(resources=("https://b.test/", "https://a.test/"), own_resource="https://a.test/")
    world.provider.answer("/token", ANSWER)
    await refresh(world)
    assert world.provider.forms("/token")[0]["resource"] == "https://a.test/"
    without = build_world(resources=("https://b.test/",))
    without.provider.answer("/token", ANSWER)
    await refresh(without)
    assert "resource" not in without.provider.forms("/token")[0]


@pytest.mark.row("TOKEN-11", "L15")
async def test_a_refreshed_id_token_brings_new_claims(world: World) -> None:
    world.provider.token_answer(claims={"auth_time": int(NOW), "groups": ["x"]})
    _, identity = await refresh(world)
    assert identity is not None
    assert identity.claims["groups"] == ["x"]
    world.provider.token_answer(claims={"nonce": "n", "auth_time": REMOVE})
    assert (await refresh(world, nonce="n"))[1] is not None
    assert (await refresh(world))[1] is not None


@pytest.mark.row("TOKEN-11", "L15", "S7")
@pytest.mark.parametrize("claims", [{"sub": "bob"}, {"sub": REMOVE}, {"iss": "https://evil.test"}, {"sub": "bob", "key": RSA_2}])
async def test_a_refresh_for_another_person_or_issuer_is_a_failure(world: World, claims: dict[str, Any]) -> None:
    world.provider.token_answer(claims=claims)
    with pytest.raises(TokenInvalid) as caught:
        await refresh(world)
    assert caught.value.rule in ("sub", "iss")


@pytest.mark.row("TOKEN-11", "L15", "TOKEN-7")
@pytest.mark.parametrize(
    "claims",
    [{"key": RSA_2}, {"aud": "other"}, {"auth_time": int(NOW) - 500}, {"nonce": "other"}, {"exp": 1}, {"header": {"typ": "at+jwt"}}],
)
async def test_other_faults_of_a_refreshed_id_token_drop_its_claims_but_keep_the_rotated_tokens(world: World, claims: Any) -> None:
    world.provider.token_answer(claims=claims)
    tokens, identity = await refresh(world, nonce="n")
    assert identity is None
    assert tokens.refresh_token.reveal() == "rt-1"
    assert len(world.outcomes(EventKind.ID_TOKEN_REFUSED)) == 1


@pytest.mark.row("TOKEN-7", "F25")
async def test_rotated_tokens_are_kept_when_no_key_can_be_had_to_check_the_id_token(world: World) -> None:
    world.provider.token_answer()
    world.provider.answer("/jwks", b"", 503)
    tokens, identity = await refresh(world)
    assert (tokens.refresh_token.reveal(), identity) == ("rt-1", None)


async def test_a_session_of_another_provider_is_not_refreshed_here(world: World) -> None:
    with pytest.raises(TokenInvalid):
        await refresh(world, issuer="https://other.test")
    assert world.provider.calls == []


@pytest.mark.row("TOKEN-9", "SESS-8")
@pytest.mark.parametrize("status", [400, 401, 403, 200])
async def test_invalid_grant_is_the_end_of_a_grant(world: World, status: int) -> None:
    world.provider.answer("/token", {"error": "invalid_grant", "error_description": "canary"}, status)
    with pytest.raises(GrantRevoked) as caught:
        await refresh(world)
    assert "canary" not in str(caught.value)


@pytest.mark.row("CAUTH-6")
async def test_invalid_client_is_the_operators_fault_and_reported(world: World) -> None:
    world.provider.answer("/token", {"error": "invalid_client"}, 401)
    with pytest.raises(ClientRefused) as caught:
        await refresh(world)
    assert isinstance(caught.value, ProviderUnavailable)
    assert caught.value.status_hint == 503
    assert world.outcomes(EventKind.CLIENT_CREDENTIAL_REFUSED) == ["client_credential_refused"]


@pytest.mark.row("TOKEN-9", "RES-2", "F27")
@pytest.mark.parametrize("error", ["invalid_request", "invalid_target", "invalid_scope", "unauthorized_client", "invalid_code", "x_custom"])
async def test_every_other_error_code_leaves_the_grant_alive(world: World, error: str) -> None:
    world.provider.answer("/token", {"error": error}, 400)
    with pytest.raises(GrantRefused) as caught:
        await refresh(world)
    assert (type(caught.value), caught.value.error) == (GrantRefused, error)


OUTAGES: list[tuple[int, Any, dict[str, str]]] = [
    (500, b"", {}),
    (502, b"<html>", {"content_type": "text/html"}),
    (503, {"error": "invalid_grant"}, {}),
    (504, b"", {}),
    (429, b"", {}),
    (408, b"", {}),
    (400, {"error": "temporarily_unavailable"}, {}),
    (400, {"error": "server_error"}, {}),
]


@pytest.mark.row("TOKEN-9", "F25", "F27", "F32")
@pytest.mark.parametrize(("status", "body", "headers"), OUTAGES)
async def test_an_outage_is_an_outage_whatever_its_body_says(world: World, status: int, body: Any, headers: dict[str, str]) -> None:
    world.provider.answer("/token", body, status, **headers)
    with pytest.raises(ProviderUnavailable):
        await refresh(world)


ODD: list[tuple[int, Any, dict[str, str]]] = [
    (200, b"<html>ok", {"content_type": "text/html; charset=utf-8"}),
    (200, b"[]", {}),
    (200, b'"x"', {}),
    (200, b"", {}),
    (200, b'{"access_token"', {}),
    (302, b"", {"location": "https://evil.test/"}),
    (307, b"", {"location": "https://evil.test/"}),
    (404, b"<html>", {"content_type": "text/html"}),
    (400, b"no", {}),
    (400, {"message": "x"}, {}),
    (400, {"error": 7}, {}),
    (400, {"error": "a b"}, {}),
    (400, {"error": "x" * 100}, {}),
    (401, b"", {}),
    (200, b'{"access_token":"a","access_token":"b","token_type":"Bearer"}', {}),
    (200, b"[" * 100_000, {}),
    (200, b"\xff\xfe", {}),
    (200, b'{"access_token":"' + b"x" * (2 << 20) + b'"}', {}),
    (204, b"", {}),
    (200, {"token_type": "Bearer"}, {}),
]


@pytest.mark.row("TOKEN-2", "TOKEN-9", "F27", "K3", "D8", "D10")
@pytest.mark.parametrize(("status", "body", "headers"), ODD, ids=range(len(ODD)))
async def test_an_answer_outside_the_protocol_is_misbehaviour_and_is_not_quoted(world: World, status: int, body: Any, headers: Any) -> None:
    world.provider.answer("/token", body, status, **headers)
    with pytest.raises(ProviderMisbehaved) as caught:
        await refresh(world)
    assert len(str(caught.value)) < 200
    assert all(request.url.host == "id.example.test" for request in world.provider.calls)


@pytest.mark.row("F32", "TOKEN-9")
async def test_a_wish_to_wait_is_passed_on_and_obeyed_for_everybody(world: World) -> None:
    world.provider.answer("/token", b"", 429, retry_after="20")
    with pytest.raises(ProviderUnavailable) as caught:
        await refresh(world)
    assert caught.value.retry_after_s == 20
    world.clock.advance(19)
    with pytest.raises(ProviderUnavailable):
        await refresh(world)
    assert world.provider.count("/token") == 1
    world.provider.answer("/token", ANSWER)
    world.clock.advance(1.1)
    await refresh(world)


@pytest.mark.row("F32")
def test_both_forms_of_retry_after_are_read() -> None:
    assert read_retry_after("120", NOW) == 120
    assert read_retry_after("Fri, 15 Jan 2027 08:02:00 GMT", NOW) == 120
    assert read_retry_after("Fri, 15 Jan 2021 08:02:00 GMT", NOW) == 0
    assert read_retry_after("999999999", NOW) == 3600
    for odd in ("", "-1", "1.5", "soon", "²", "9" * 50):
        assert read_retry_after(odd, NOW) is None


@pytest.mark.row("F25", "F26")
async def test_a_dead_endpoint_is_probed_once_a_second_and_recovers_at_once(world: World) -> None:
    world.provider.fail("/token", httpx.ConnectError("refused"))
    for _ in range(300):
        with pytest.raises(ProviderUnavailable):
            await refresh(world)
        world.clock.advance(0.1)
    assert 25 <= world.provider.count("/token") <= 35
    world.provider.answer("/token", ANSWER)
    world.clock.advance(1.1)
    await refresh(world)
    await refresh(world)


@pytest.mark.row("F25", "F26")
def test_while_one_probe_is_under_way_nobody_else_goes_through() -> None:
    clock = FakeClock()
    breaker = Breaker(clock=clock)
    for _ in range(3):
        breaker.enter()
        breaker.failed(None)
    clock.advance(1.1)
    breaker.enter()
    with pytest.raises(ProviderUnavailable):
        breaker.enter()
    breaker.answered()
    breaker.enter()


@pytest.mark.row("F24")
async def test_an_endpoint_that_fails_again_and_again_is_told_of_for_a_minute_or_until_it_answers(world: World) -> None:
    world.provider.fail("/token", httpx.ConnectError("refused"))
    for tolerated in range(3):
        assert not world.client.failing, tolerated
        with pytest.raises(ProviderUnavailable):
            await refresh(world)
    assert world.client.failing
    world.clock.advance(60)
    assert not world.client.failing, "nobody has asked since"
    with pytest.raises(ProviderUnavailable):
        await refresh(world)
    assert world.client.failing
    world.clock.advance(1.1)
    world.provider.answer("/token", ANSWER)
    await refresh(world)
    assert not world.client.failing


@pytest.mark.row("F25")
async def test_one_failure_keeps_nobody_out(world: World) -> None:
    world.provider.fail("/token", httpx.ConnectError("refused"))
    with pytest.raises(ProviderUnavailable):
        await refresh(world)
    world.provider.answer("/token", ANSWER)
    await refresh(world)


async def test_a_token_for_ourselves_comes_from_client_credentials(world: World) -> None:
    world.provider.answer("/token", ANSWER)
    tokens = await world.client.client_token(audience="https://api.test/", scopes=("a", "b"))
    assert tokens.access_token.reveal() == "at"
    assert world.provider.forms("/token") == [{"grant_type": "client_credentials", "scope": "a b", "resource": "https://api.test/"}]


@pytest.mark.row("REV-1")
async def test_revocation_posts_the_token_with_its_hint_and_takes_any_200(world: World) -> None:
    for body in (b"", b"<html>", {"x": 1}):
        world.provider.answer("/revoke", body)
        await world.client.revoke(Secret("rt-0"), "refresh_token")
    assert world.provider.forms("/revoke")[0] == {"token": "rt-0", "token_type_hint": "refresh_token"}


@pytest.mark.row("REV-2", "F31")
async def test_a_revocation_that_fails_says_how(world: World) -> None:
    world.provider.answer("/revoke", b"", 503, retry_after="7")
    with pytest.raises(ProviderUnavailable) as caught:
        await world.client.revoke(Secret("rt-0"), "refresh_token")
    assert caught.value.retry_after_s == 7
    world.clock.advance(8)
    world.provider.answer("/revoke", {"error": "unsupported_token_type"}, 400)
    with pytest.raises(GrantRefused):
        await world.client.revoke(Secret("rt-0"), "refresh_token")


async def test_without_a_revocation_endpoint_or_token_there_is_nothing_to_do(build_world: Any) -> None:
    without, empty = build_world(), build_world()
    without.provider.announce(revocation_endpoint=REMOVE)
    await without.client.revoke(Secret("rt"), "refresh_token")
    await empty.client.revoke(Secret(""), "refresh_token")
    assert without.provider.count("/revoke") == empty.provider.count("/revoke") == 0


@pytest.mark.row("T1", "T3")
async def test_a_cookie_of_the_provider_is_not_carried_to_the_next_call(world: World) -> None:
    world.provider.answer("/token", ANSWER, set_cookie="user=alice; Path=/")
    await refresh(world)
    await refresh(world)
    assert "cookie" not in world.provider.calls[-1].headers


@pytest.mark.row("K1", "K4")
async def test_no_secret_reaches_a_log_or_an_error(world: World, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    caplog.set_level(logging.DEBUG)
    world.provider.answer("/token", {"error": "invalid_request", "error_description": "canary-1"}, 400)
    with pytest.raises(GrantRefused) as caught:
        await refresh(world, refresh_token=Secret("canary-2"))
    text = caplog.text + repr(caught.value) + repr(world.events)
    assert "canary" not in text
    assert "s3cret" not in text
