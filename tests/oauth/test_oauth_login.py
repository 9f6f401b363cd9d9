"""From begin_login to an Identity, and everything that must stop it on the way."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from bff.base.errors import GrantRefused, LoginFailed, LoginReason, ProviderError, ProviderMisbehaved, ProviderUnavailable, TokenInvalid
from bff.base.events import EventKind
from bff.oauth.authorize import code_challenge
from bff.oauth.id_token import half_hash
from bff.oauth.types import IdTokenRules
from tests.oauth.scripted_provider import CLIENT_ID, EC, ED, ISSUER, REDIRECT_URI, REMOVE, RSA, RSA_2, World, query_of


async def finish(world: World, claims: dict[str, Any] | None = None, begin: dict[str, Any] | None = None, **answer: Any) -> Any:
    pending, _ = await world.begin(**(begin or {}))
    world.provider.token_answer(pending, claims, **answer)
    return await world.client.finish_login(pending, [("state", pending.state), ("code", "c-1")])


@pytest.mark.row("CB-6", "CB-7", "AUTHZ-1", "CAUTH-2")
async def test_a_login_ends_with_the_tokens_and_the_person(world: World) -> None:
    pending, url = await world.begin()
    world.provider.token_answer(pending, {"sid": "s1", "acr": "2", "amr": ["pwd", "otp"]})
    tokens, identity = await world.client.finish_login(pending, [("state", pending.state), ("code", "c-1")])

    sent = dict(query_of(url))
    assert sent["code_challenge"] == code_challenge(pending.code_verifier)
    assert (identity.issuer, identity.subject, identity.sid, identity.acr, identity.amr) == (ISSUER, "alice", "s1", "2", ("pwd", "otp"))
    assert identity.auth_time == int(world.clock.now())
    assert tokens.access_token.reveal() == "at-1"
    assert tokens.expires_at == world.clock.now() + 600
    assert tokens.scopes is None
    assert world.provider.forms("/token") == [
        {"grant_type": "authorization_code", "code": "c-1", "redirect_uri": REDIRECT_URI, "code_verifier": pending.code_verifier}
    ]


@pytest.mark.row("AUTHZ-1", "AUTHZ-2", "AUTHZ-4", "L2")
async def test_every_login_has_its_own_state_nonce_and_verifier(world: World) -> None:
    logins = [(await world.begin())[0] for _ in range(50)]
    for values in ({p.state for p in logins}, {p.nonce for p in logins}, {p.code_verifier for p in logins}):
        assert len(values) == 50
        assert all(43 <= len(value) <= 64 for value in values)


@pytest.mark.row("AUTHZ-9", "AUTHZ-10", "AUTHZ-11", "RES-1")
async def test_what_policy_asks_reaches_the_provider_unchanged(build_world: Any) -> None:
    world = build_world(resources=("https://a.test/", "https://b.test/"))
    world.provider.announce(authorization_endpoint=ISSUER + "/authorize?tenant=x")
    _, url = await world.begin(
        scopes=("openid", "offline_access"), max_age=0, acr_values=("hi", "lo"), prompt="login", login_hint="a b", ui_locales="de"
    )
    pairs = query_of(url)
    sent = dict(pairs)
    assert url.startswith(ISSUER + "/authorize?tenant=x&")
    assert (sent["max_age"], sent["acr_values"], sent["prompt"], sent["login_hint"]) == ("0", "hi lo", "login", "a b")
    assert [value for name, value in pairs if name == "resource"] == ["https://a.test/", "https://b.test/"]
    names = [name for name, _ in pairs if name != "resource"]
    assert len(names) == len(set(names))


@pytest.mark.row("AUTHZ-8", "PAR-1")
@pytest.mark.parametrize("par", ["always", "never"])
async def test_a_providers_own_parameters_go_with_each_request(build_world: Any, par: str) -> None:
    """Google's access_type, Auth0's audience. Pushed where requests are pushed: then the browser carries none of it."""
    world = build_world(more={"access_type": "offline", "audience": "https://api.test/?a=b&c", "left_out": ""}, use_par=par)
    if par == "always":
        world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
        world.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, status=201)
    _, url = await world.begin()
    sent = dict(parse_qsl(world.provider.calls[-1].content.decode())) if par == "always" else dict(query_of(url))
    assert (sent["access_type"], sent["audience"]) == ("offline", "https://api.test/?a=b&c") and "left_out" not in sent
    assert ("access_type" in dict(query_of(url))) == (par == "never")


@pytest.mark.row("AUTHZ-9", "AUTHZ-11")
@pytest.mark.parametrize(("usual", "asked", "sent"), [("", "", None), ("select_account", "", "select_account"), ("", "login", "login")])
async def test_the_configured_prompt_holds_where_the_app_chooses_none(build_world: Any, usual: str, asked: str, sent: str | None) -> None:
    world = build_world(more={"prompt": usual})
    _, url = await world.begin(scopes=("openid", "offline_access"), prompt=asked)
    assert dict(query_of(url)).get("prompt") == sent


@pytest.mark.row("AUTHZ-9")
async def test_offline_access_asks_for_consent_and_a_plain_login_for_nothing(world: World) -> None:
    _, offline = await world.begin(scopes=("openid", "offline_access"))
    _, plain = await world.begin()
    assert dict(query_of(offline))["prompt"] == "consent"
    assert set(dict(query_of(plain))) == {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    }


@pytest.mark.row("R6", "AUTHZ-10")
async def test_an_endpoint_that_brings_our_parameters_itself_is_refused(world: World) -> None:
    world.provider.announce(authorization_endpoint=ISSUER + "/authorize?client_id=evil")
    with pytest.raises(ProviderMisbehaved):
        await world.begin()


@pytest.mark.row("PAR-1", "PAR-2", "PAR-3", "R7")
async def test_where_the_provider_takes_pushed_requests_the_browser_sees_two_parameters(world: World) -> None:
    world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
    world.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, 201)
    pending, url = await world.begin()
    await world.begin()
    assert query_of(url) == [("client_id", CLIENT_ID), ("request_uri", "urn:r:1")]
    pushed = world.provider.forms("/par")
    assert len(pushed) == 2
    assert pushed[0]["state"] == pending.state
    assert "request_uri" not in pushed[0]
    assert world.provider.calls[-1].headers["Authorization"].startswith("Basic ")


@pytest.mark.row("PAR-4")
@pytest.mark.parametrize(
    ("status", "body"),
    [(400, {"error": "invalid_request"}), (500, b""), (201, {"expires_in": 60}), (201, {"request_uri": 7}), (200, b"<html>"), (302, b"")],
)
async def test_a_failed_push_never_becomes_a_plain_request(world: World, status: int, body: Any) -> None:
    world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par", require_pushed_authorization_requests=True)
    world.provider.answer("/par", body, status)
    with pytest.raises(ProviderError):
        await world.begin()


@pytest.mark.row("PAR-4")
async def test_a_push_that_times_out_is_an_outage(world: World) -> None:
    world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
    world.provider.fail("/par", httpx.ReadTimeout("slow"))
    with pytest.raises(ProviderUnavailable):
        await world.begin()


@pytest.mark.row("PAR-4")
async def test_pushing_follows_the_setting_but_never_against_the_providers_demand(build_world: Any) -> None:
    never = build_world(use_par="never")
    never.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
    never.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, 201)
    await never.begin()
    assert never.provider.count("/par") == 0

    demanded = build_world(use_par="never")
    demanded.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par", require_pushed_authorization_requests=True)
    demanded.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, 201)
    await demanded.begin()
    assert demanded.provider.count("/par") == 1

    with pytest.raises(ProviderMisbehaved):
        await build_world(use_par="always").begin()


BAD_CLAIMS: dict[str, tuple[str, dict[str, Any]]] = {
    "iss with a slash": ("iss", {"iss": ISSUER + "/"}),
    "iss in another case": ("iss", {"iss": ISSUER.upper()}),
    "iss as a list": ("iss", {"iss": [ISSUER]}),
    "iss absent": ("iss", {"iss": REMOVE}),
    "iss as a prefix": ("iss", {"iss": ISSUER[:-1]}),
    "aud of another client": ("aud", {"aud": "other"}),
    "aud empty": ("aud", {"aud": []}),
    "aud absent": ("aud", {"aud": REMOVE}),
    "aud as an object": ("aud", {"aud": {"spa": 1}}),
    "aud with a number": ("aud", {"aud": ["spa", 1], "azp": "spa"}),
    "aud as a longer name": ("aud", {"aud": "spa2"}),
    "aud nested": ("aud", {"aud": [["spa"]]}),
    "aud of a stranger too": ("aud", {"aud": ["spa", "other"], "azp": "spa"}),
    "aud huge": ("aud", {"aud": ["spa"] * 1000}),
    "azp wrong": ("azp", {"azp": "other"}),
    "azp as a list": ("azp", {"azp": ["spa"]}),
    "exp absent": ("exp", {"exp": REMOVE}),
    "exp past": ("exp", {"exp": 1_799_999_000}),
    "exp as text": ("exp", {"exp": "1900000000"}),
    "exp negative": ("exp", {"exp": -1}),
    "exp enormous": ("exp", {"exp": 1e300}),
    "exp tiny": ("exp", {"exp": 1e-300}),
    "exp true": ("exp", {"exp": True}),
    "exp list": ("exp", {"exp": [1_900_000_000]}),
    "exp 2^63": ("exp", {"exp": 2**63}),
    "iat absent": ("iat", {"iat": REMOVE}),
    "iat a day old": ("iat", {"iat": 1_799_913_600}),
    "iat in ten minutes": ("iat", {"iat": 1_800_000_600}),
    "nbf in ten minutes": ("nbf", {"nbf": 1_800_000_600}),
    "nbf as text": ("nbf", {"nbf": "0"}),
    "nonce absent": ("nonce", {"nonce": REMOVE}),
    "nonce of another login": ("nonce", {"nonce": "n"}),
    "nonce list": ("nonce", {"nonce": ["n"]}),
    "sub absent": ("sub", {"sub": REMOVE}),
    "sub empty": ("sub", {"sub": ""}),
    "sub number": ("sub", {"sub": 1}),
    "sub too long": ("sub", {"sub": "a" * 256}),
    "sub not ASCII": ("sub", {"sub": "ä"}),
    "sub with a line end": ("sub", {"sub": "a\r\nb"}),
    "at_hash wrong": ("at_hash", {"at_hash": "x"}),
    "at_hash empty": ("at_hash", {"at_hash": ""}),
    "at_hash null": ("at_hash", {"at_hash": None}),
    "c_hash wrong": ("c_hash", {"c_hash": "x"}),
    "events": ("events", {"events": {}}),
    "auth_time as text": ("auth_time", {"auth_time": "1"}),
    "auth_time true": ("auth_time", {"auth_time": True}),
    "nbf true": ("nbf", {"nbf": True}),
    "amr with numbers": ("amr", {"amr": [1]}),
    "sid object": ("sid", {"sid": {}}),
}


@pytest.mark.row(
    "IDTOKEN-1",
    "IDTOKEN-2",
    "IDTOKEN-3",
    "IDTOKEN-4",
    "IDTOKEN-9",
    "IDTOKEN-10",
    "IDTOKEN-11",
    "IDTOKEN-14",
    "IDTOKEN-16",
    "IDTOKEN-17",
    "IDTOKEN-20",
    "IDTOKEN-22",
    "J15",
    "J16",
)
@pytest.mark.parametrize("case", BAD_CLAIMS)
async def test_a_claim_that_is_wrong_stops_the_login_and_names_its_rule(world: World, case: str) -> None:
    rule, claims = BAD_CLAIMS[case]
    with pytest.raises(TokenInvalid) as caught:
        await finish(world, claims)
    assert caught.value.rule == rule
    assert world.outcomes(EventKind.ID_TOKEN_REFUSED) == [rule]
    assert world.provider.count("/userinfo") == 0


GOOD_CLAIMS: dict[str, dict[str, Any]] = {
    "aud as a list": {"aud": ["spa"]},
    "azp ours": {"azp": "spa"},
    "exp fractional": {"exp": 1_800_000_300.5},
    "exp past within the leeway": {"exp": 1_799_999_950},
    "iat ahead within the leeway": {"iat": 1_800_000_050},
    "exp beyond 2^31": {"exp": 2**31 + 1},
    "auth_time as a float": {"auth_time": 1_800_000_000.0},
    "auth_time zero": {"auth_time": 0},
    "auth_time absent": {"auth_time": REMOVE},
    "at_hash absent": {"at_hash": REMOVE},
    "sub of 255 characters": {"sub": "a" * 255},
    "acr as a number": {"acr": 1},
    "amr as one string": {"amr": "pwd"},
    "amr that is nothing": {"amr": None},
    "unknown claims": {"x": [{"y": None}]},
}


@pytest.mark.row("IDTOKEN-2", "IDTOKEN-9", "IDTOKEN-10", "IDTOKEN-14", "F33")
@pytest.mark.parametrize("case", GOOD_CLAIMS)
async def test_a_claim_that_is_merely_unusual_is_accepted(world: World, case: str) -> None:
    _, identity = await finish(world, GOOD_CLAIMS[case])
    assert identity.subject in ("alice", "a" * 255)


@pytest.mark.row("IDTOKEN-3", "IDTOKEN-4")
async def test_a_trusted_second_audience_passes_only_with_azp(build_world: Any) -> None:
    rules = IdTokenRules(trusted_audiences=("other",))
    await finish(build_world(rules=rules), {"aud": ["spa", "other"], "azp": "spa"})
    with pytest.raises(TokenInvalid) as caught:
        await finish(build_world(rules=rules), {"aud": ["spa", "other"]})
    assert caught.value.rule == "azp"


@pytest.mark.row("IDTOKEN-5", "IDTOKEN-6", "J7", "JWKS-6")
@pytest.mark.parametrize(
    ("rule", "header"),
    [
        ("signature", {"key": RSA_2}),
        ("kid", {"kid": "unknown"}),
        ("kid", {"kid": "e1"}),
        ("kid", {"alg": "PS256"}),
        ("kid", {"alg": "RS512"}),
    ],
)
async def test_a_signature_by_the_wrong_key_or_algorithm_stops_the_login(build_world: Any, rule: str, header: dict[str, Any]) -> None:
    world = build_world(rules=IdTokenRules(algorithms=("RS256", "PS256", "RS512", "ES256")))
    with pytest.raises(TokenInvalid) as caught:
        await finish(world, header)
    assert caught.value.rule == rule


@pytest.mark.row("IDTOKEN-6", "J7")
@pytest.mark.parametrize(("alg", "kid", "key"), [("RS256", "r1", RSA), ("Ed25519", "o1", ED)])
async def test_a_good_signature_with_an_algorithm_that_is_not_listed_stops_the_login(
    build_world: Any, alg: str, kid: str, key: Any
) -> None:
    claims = {"alg": alg, "kid": kid, "key": key, "at_hash": half_hash("at-1", alg)}
    await finish(build_world(rules=IdTokenRules(algorithms=("ES256", alg))), claims)
    with pytest.raises(TokenInvalid) as caught:
        await finish(build_world(rules=IdTokenRules(algorithms=("ES256",))), claims)
    assert caught.value.rule == "alg"


@pytest.mark.row("JARM-2", "JWKS-2", "IDTOKEN-1")
async def test_an_id_token_of_another_issuer_costs_no_key_fetch(world: World) -> None:
    with pytest.raises(TokenInvalid):
        await finish(world, {"iss": "https://evil.test"})
    assert world.provider.count("/jwks") == 0


@pytest.mark.row("IDTOKEN-15", "JWKS-4")
@pytest.mark.parametrize(("alg", "kid", "key"), [("ES256", "e1", EC), ("Ed25519", "o1", ED), ("EdDSA", "o1", ED), ("ES256", REMOVE, EC)])
async def test_each_allowed_algorithm_signs_people_in(world: World, alg: str, kid: Any, key: Any) -> None:
    _, identity = await finish(world, {"alg": alg, "kid": kid, "key": key, "at_hash": half_hash("at-1", alg)})
    assert identity.subject == "alice"


@pytest.mark.row("IDTOKEN-12", "L17", "STEPUP-4")
async def test_a_weaker_login_than_asked_is_not_accepted(world: World) -> None:
    asked = {"acr_values": ("gold", "silver")}
    _, identity = await finish(world, {"acr": "silver"}, asked)
    assert identity.acr == "silver"
    for claims in ({"acr": "bronze"}, {}):
        with pytest.raises(TokenInvalid) as caught:
            await finish(world, claims, asked)
        assert caught.value.rule == "acr"


@pytest.mark.row("IDTOKEN-13", "L17", "AUTHZ-11")
async def test_an_older_login_than_asked_is_not_accepted(world: World) -> None:
    await finish(world, begin={"max_age": 0})
    for auth_time in (REMOVE, 0, world.clock.now() - 61):
        with pytest.raises(TokenInvalid) as caught:
            await finish(world, {"auth_time": auth_time}, {"max_age": 0})
        assert caught.value.rule == "max_age"


@pytest.mark.row("SESS-9")
async def test_the_providers_own_session_end_is_read_and_one_that_has_passed_signs_nobody_in(world: World) -> None:
    now = int(world.clock.now())
    _, identity = await finish(world, {"session_expiry": now + 600})
    assert identity.session_expires_at == now + 600
    for unusable in (REMOVE, None, "600", True, 0, -5, 1.5, now * 1000, {}):
        _, identity = await finish(world, {"session_expiry": unusable})
        assert identity.session_expires_at is None, unusable
    with pytest.raises(TokenInvalid) as caught:
        await finish(world, {"session_expiry": now})
    assert caught.value.rule == "session_expiry"


@pytest.mark.row("IDTOKEN-13")
async def test_a_fresh_login_followed_by_a_slow_consent_page_is_still_fresh(world: World) -> None:
    pending, _ = await world.begin(max_age=0)
    logged_in_at = world.clock.now() + 5
    world.clock.advance(500)
    world.provider.token_answer(pending, {"auth_time": logged_in_at})
    _, identity = await world.client.finish_login(pending, [("state", pending.state), ("code", "c")])
    assert identity.auth_time == logged_in_at


@pytest.mark.row("STEPUP-4", "F20")
async def test_after_a_step_up_the_same_person_must_come_back(world: World) -> None:
    await finish(world, begin={"subject": "alice"})
    with pytest.raises(LoginFailed) as caught:
        await finish(world, begin={"subject": "bob"})
    assert caught.value.reason is LoginReason.MISMATCH


@pytest.mark.row("CB-10", "L2")
@pytest.mark.parametrize("error", ["invalid_grant", "invalid_code"])
async def test_a_refused_code_is_a_login_that_failed(world: World, error: str) -> None:
    pending, _ = await world.begin()
    world.provider.answer("/token", {"error": error}, 400)
    with pytest.raises(LoginFailed) as caught:
        await world.client.finish_login(pending, [("state", pending.state), ("code", "c")])
    assert caught.value.reason is LoginReason.INCOMPLETE
    assert world.provider.count("/token") == 1


@pytest.mark.row("CB-6", "F26")
@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone"), httpx.ConnectError("refused")])
async def test_a_code_is_never_posted_twice_after_an_unclear_failure(world: World, error: Exception) -> None:
    pending, _ = await world.begin()
    world.provider.fail("/token", error)
    with pytest.raises(ProviderUnavailable):
        await world.client.finish_login(pending, [("state", pending.state), ("code", "c")])
    assert world.provider.count("/token") == 1


@pytest.mark.row("CB-1", "CB-3", "ISS-1", "L3")
async def test_a_callback_that_is_refused_costs_no_token_request(world: World) -> None:
    pending, _ = await world.begin()
    for parameters in ([("state", "x"), ("code", "c")], [("state", pending.state), ("iss", ISSUER + "/"), ("code", "c")]):
        with pytest.raises(LoginFailed):
            await world.client.finish_login(pending, parameters)
    assert world.provider.count("/token") == 0


@pytest.mark.row("CB-7")
async def test_a_token_answer_without_id_token_is_no_login(world: World) -> None:
    with pytest.raises(TokenInvalid):
        await finish(world, id_token=REMOVE)


@pytest.mark.row("UINFO-1", "UINFO-2", "UINFO-3", "L16")
@pytest.mark.parametrize(
    "answer",
    [
        {"sub": "bob", "name": "Bob"},
        {"name": "x"},
        {"sub": "Alice"},
        ["alice"],
        b"<html>",
        b"eyJ.e30.x",
        b'{"sub":"alice","sub":"alice"}',
        b'{"sub":"alice","name":"' + b"x" * (2 << 20) + b'"}',
    ],
)
async def test_user_info_that_cannot_be_believed_is_dropped_and_the_login_goes_on(build_world: Any, answer: Any) -> None:
    world = build_world(userinfo=True)
    world.provider.answer("/userinfo", answer)
    _, identity = await finish(world)
    assert identity.subject == "alice"
    assert "name" not in identity.claims
    assert world.outcomes(EventKind.ID_TOKEN_REFUSED)


@pytest.mark.row("UINFO-1", "UINFO-3")
async def test_user_info_adds_claims_but_none_that_steer_the_protocol(build_world: Any) -> None:
    world = build_world(userinfo=True)
    world.provider.answer("/userinfo", {"sub": "alice", "name": "Alice", "acr": "gold", "iss": "x"})
    _, identity = await finish(world)
    assert (identity.claims["name"], identity.acr, identity.claims["iss"]) == ("Alice", "", ISSUER)
    assert world.provider.calls[-1].headers["Authorization"] == "Bearer at-1"


@pytest.mark.row("UINFO-3", "F31")
async def test_user_info_that_is_down_changes_nothing(build_world: Any) -> None:
    world = build_world(userinfo=True)
    world.provider.answer("/userinfo", b"", 500)
    _, identity = await finish(world)
    assert identity.subject == "alice"


@pytest.mark.row("RES-2")
async def test_a_refusal_that_is_not_about_the_grant_says_so(world: World) -> None:
    await world.begin()
    world.provider.answer("/token", {"error": "invalid_target"}, 400)
    with pytest.raises(GrantRefused) as caught:
        await world.client.client_token(audience="https://x.test/", scopes=())
    assert (type(caught.value), caught.value.error) == (GrantRefused, "invalid_target")
