"""The development provider does what a good provider does, seen by a client that knows nothing of our code."""

from __future__ import annotations

import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from bff.devkit import DevClient, DevProvider
from tests.devkit.conftest import AUDIENCE, CALLBACK, Script, body_of, head_of, parameters
from tests.harness.http import ask


async def keys(script: Script) -> KeySet:
    return KeySet.import_key_set((await script.get("/jwks")).json())


async def test_a_person_signs_in_by_submitting_forms_and_the_code_becomes_tokens(script: Script) -> None:
    page = await script.authorize()
    back = parameters(page)
    assert back["state"] == "the-state" and back["iss"] == script.provider.issuer
    answer = await script.redeem(back["code"])
    tokens = answer.json()
    assert answer.status == 200 and answer.header("cache-control") == "no-store"
    assert tokens["token_type"] == "Bearer" and tokens["expires_in"] == 300 and tokens["refresh_token"]


async def test_the_id_token_verifies_and_says_who_how_and_when(script: Script) -> None:
    tokens = await script.tokens()
    claims = jwt.decode(tokens["id_token"], await keys(script), ["RS256"]).claims
    assert claims["iss"] == script.provider.issuer and claims["aud"] == "spa" and claims["nonce"] == "the-nonce"
    assert claims["sub"] == "ada-7c1f04" and claims["acr"] == "pwd" and claims["sid"] and abs(claims["auth_time"] - time.time()) < 60
    assert claims["department"] == "sales" and head_of(tokens["id_token"])["kid"].startswith("rsa-") and len(claims["at_hash"]) == 22


async def test_the_access_token_is_an_at_jwt_for_the_default_audience(script: Script) -> None:
    token = (await script.tokens())["access_token"]
    claims = jwt.decode(token, await keys(script), ["RS256"]).claims
    assert head_of(token)["typ"] == "at+jwt" and claims["aud"] == AUDIENCE and claims["client_id"] == "spa"
    assert {"iss", "sub", "exp", "iat", "jti", "scope", "auth_time", "acr"} <= set(claims)


async def test_resource_indicators_name_the_audience_of_the_token(script: Script) -> None:
    code = await script.code(extra="&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example")
    tokens = (await script.redeem(code, resource="https://b.example")).json()
    assert body_of(tokens["access_token"])["aud"] == "https://b.example"
    both = (await script.refresh(tokens["refresh_token"])).json()
    assert body_of(both["access_token"])["aud"] == ["https://a.example", "https://b.example"]


async def test_a_resource_that_is_not_allowed_is_an_invalid_target(provider: DevProvider) -> None:
    narrow = Script(provider, client_id="narrow")
    refused = parameters(await narrow.authorize(scope="openid jobs", extra="&resource=https%3A%2F%2Fz.example"))
    assert refused["error"] == "invalid_target" and refused["iss"] == provider.issuer
    assert "code" in parameters(await narrow.authorize(scope="openid jobs", extra="&resource=https%3A%2F%2Fa.example"))


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
    ],
)
async def test_pkce_with_s256_is_demanded(script: Script, changes: dict[str, Any]) -> None:
    assert parameters(await script.authorize(**changes))["error"] == "invalid_request"


async def test_a_wrong_or_missing_verifier_gets_no_tokens(script: Script) -> None:
    for wrong in ("x" * 43, "", "short"):
        answer = await script.redeem(await script.code(), code_verifier=wrong)
        assert (answer.status, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "changes", [{"client_id": "nobody"}, {"redirect_uri": CALLBACK + "/"}, {"redirect_uri": "http://localhost:2/bff/callback"}]
)
async def test_an_unknown_client_or_redirect_uri_is_shown_and_not_followed(script: Script, changes: dict[str, Any]) -> None:
    page = await script.authorize(**changes)
    assert page.status == 400 and page.url.startswith(script.provider.issuer)


async def test_a_repeated_parameter_is_refused(script: Script) -> None:
    assert (await script.authorize(extra="&state=another")).status == 400
    assert parameters(await script.authorize(extra="&nonce=another"))["error"] == "invalid_request"


async def test_a_replayed_code_ends_what_came_of_its_first_use(script: Script) -> None:
    code = await script.code()
    tokens = (await script.redeem(code)).json()
    assert (await script.redeem(code)).json()["error"] == "invalid_grant"
    assert (await script.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await script.get("/userinfo", tokens["access_token"])).status == 401


async def test_refresh_rotates_and_reuse_ends_the_whole_family(script: Script) -> None:
    first = await script.tokens()
    second = (await script.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"] and "nonce" not in body_of(second["id_token"])
    assert body_of(second["id_token"])["auth_time"] == body_of(first["id_token"])["auth_time"]
    assert (await script.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await script.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"


async def test_rotation_with_grace_forgives_a_repeat_and_without_rotation_the_token_stays(script: Script) -> None:
    script.provider.knobs.rotation = "grace"
    first = (await script.tokens())["refresh_token"]
    one, two = (await script.refresh(first)).json(), (await script.refresh(first)).json()
    assert (await script.refresh(one["refresh_token"])).status == 200 and (await script.refresh(two["refresh_token"])).status == 200
    script.provider.knobs.rotation = "off"
    kept = (await script.tokens())["refresh_token"]
    for _ in range(3):
        answer = await script.refresh(kept)
        assert answer.status == 200 and "refresh_token" not in answer.json()


async def test_the_ledger_counts_every_grant_and_names_tokens_by_hash_only(script: Script) -> None:
    tokens = await script.tokens()
    await script.refresh(tokens["refresh_token"])
    state = (await script.get("/admin/state")).json()
    redeemed, refreshed = state["entries"]
    assert redeemed["kind"] == "authorization_code" and refreshed["kind"] == "refresh_token"
    assert redeemed["refresh_out"] == refreshed["refresh_in"] and redeemed["family"] == refreshed["family"]
    assert tokens["refresh_token"] not in str(state) and state["requests"]["token"] == 2


async def test_clients_prove_themselves_by_their_registered_method_only(script: Script, provider: DevProvider) -> None:
    form = {"grant_type": "client_credentials", "scope": "jobs"}
    assert (await script.post("/token", form)).status == 200
    wrong = Script(provider, client_secret="wrong")
    assert (await wrong.post("/token", form)).json()["error"] == "invalid_client"
    assert (await Script(provider, client_id="post").post("/token", form)).status == 401
    posted = {**form, "client_id": "post", "client_secret": "s3cret"}
    assert (await script.post("/token", posted, basic=False)).status == 200
    assert (await script.post("/token", {**form, "client_secret": "s3cret"})).json()["error"] == "invalid_request"


async def test_private_key_jwt_is_accepted_once_and_only_for_us(provider: DevProvider) -> None:
    key = ECKey.generate_key("P-256", {"kid": "k1"})
    provider.clients["pkj"] = DevClient("pkj", client_auth="private_key_jwt", jwks={"keys": [key.as_dict(private=False)]})
    script = Script(provider, client_id="pkj")

    def assertion(**changes: Any) -> dict[str, str]:
        now = int(time.time())
        jti = str(time.monotonic_ns())
        claims = {"iss": "pkj", "sub": "pkj", "aud": provider.issuer, "exp": now + 60, "iat": now, "jti": jti, **changes}
        made = jwt.encode({"alg": "ES256", "kid": "k1"}, claims, key, ["ES256"])
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return {"grant_type": "client_credentials", "client_assertion": made, "client_assertion_type": kind}

    good = assertion()
    assert (await script.post("/token", good, basic=False)).status == 200
    assert (await script.post("/token", good, basic=False)).json()["error"] == "invalid_client"
    for wrong in ({"aud": "https://elsewhere.example"}, {"exp": int(time.time()) - 1}, {"iss": "spa"}):
        assert (await script.post("/token", assertion(**wrong), basic=False)).status == 401


async def test_client_credentials_name_the_client_and_bring_no_refresh_token(script: Script) -> None:
    answer = (await script.post("/token", {"grant_type": "client_credentials", "scope": "jobs openid"})).json()
    claims = body_of(answer["access_token"])
    assert claims["sub"] == claims["client_id"] == "spa" and claims["scope"] == "jobs" and "refresh_token" not in answer


async def test_a_pushed_request_works_once_and_only_for_its_client(script: Script, provider: DevProvider) -> None:
    pushed = await script.post("/par", script.request())
    assert pushed.status == 201 and pushed.json()["expires_in"] == 60
    provider.knobs.require_par = True
    assert (await script.authorize()).status == 400
    query = f"{provider.issuer}/authorize?client_id=spa&request_uri={pushed.json()['request_uri']}"
    page = await script.browser.navigate(query)
    assert page.url.startswith(f"{provider.issuer}/login")
    assert (await script.browser.navigate(query)).status == 400


async def test_pushing_a_wrong_request_is_refused_at_once(script: Script) -> None:
    refused = await script.post("/par", script.request(redirect_uri="http://localhost:9/"))
    assert refused.status == 400 and refused.json()["error"] == "invalid_request"


async def test_a_second_login_in_the_same_browser_asks_nothing(script: Script) -> None:
    first = await script.tokens()
    page = await script.browser.navigate(f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, "prompt", "none"))
    assert "code" in parameters(page)
    again = (await script.redeem(parameters(page)["code"])).json()
    assert body_of(again["id_token"])["sid"] == body_of(first["id_token"])["sid"]


def _query(script: Script, name: str, value: str) -> str:
    from urllib.parse import urlencode

    request = script.request()
    del request["client_id"]
    return urlencode({**request, name: value})


async def test_prompt_none_without_a_sign_in_is_login_required(script: Script) -> None:
    assert parameters(await script.authorize(prompt="none"))["error"] == "login_required"


async def test_prompt_login_and_an_old_sign_in_ask_again(script: Script) -> None:
    await script.tokens()
    for changes in ({"prompt": "login"}, {"max_age": "0"}):
        url = f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, *next(iter(changes.items())))
        page = await script.browser.navigate(url)
        assert "/login" in page.url


async def test_step_up_needs_the_second_factor_and_keeps_the_sid(script: Script) -> None:
    first = body_of((await script.tokens())["id_token"])
    second = body_of((await script.tokens(acr_values="mfa"))["id_token"])
    assert (second["acr"], second["sid"]) == ("mfa", first["sid"]) and "otp" in second["amr"]


async def test_somebody_without_a_second_factor_is_told_so(script: Script) -> None:
    page = await script.browser.navigate(f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, "acr_values", "mfa"))
    page = await script.browser.submit(page.forms[0], button=("person", "chloe"))
    assert "no second factor" in page.text
    assert parameters(await script.authorize(acr_values="urn:nobody:knows"))["error"] == "unmet_authentication_requirements"


async def test_denying_consent_and_a_denied_scope_are_honoured(script: Script) -> None:
    page = await script.browser.navigate(f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, "prompt", "consent"))
    page = await script.browser.submit(page.forms[0], button=("person", "chloe"))
    assert parameters(await script.browser.submit(page.forms[0], button=("decision", "deny")))["error"] == "access_denied"
    assert "orders:write" not in (await script.tokens(person="chloe"))["scope"]


async def test_userinfo_introspection_and_revocation_agree(script: Script) -> None:
    tokens = await script.tokens()
    assert (await script.get("/userinfo", tokens["access_token"])).json()["name"] == "Ada Lindqvist"
    assert (await script.post("/introspect", {"token": tokens["access_token"]})).json()["active"] is True
    assert (await script.post("/revoke", {"token": tokens["refresh_token"]})).status == 200
    assert (await script.post("/introspect", {"token": tokens["access_token"]})).json() == {"active": False}
    assert (await script.get("/userinfo", tokens["access_token"])).status == 401
    assert (await script.post("/revoke", {"token": "never issued"})).status == 200


async def test_end_session_returns_to_registered_addresses_only(script: Script) -> None:
    tokens = await script.tokens()
    issuer = script.provider.issuer
    bad = await script.get(f"/end-session?id_token_hint={tokens['id_token']}&post_logout_redirect_uri=http://localhost:1/elsewhere")
    assert bad.status == 400 and len(script.provider.sign_ins) == 1
    good = await script.get(f"/end-session?id_token_hint={tokens['id_token']}&post_logout_redirect_uri=http://localhost:1/&state=s")
    assert (good.status, good.header("location")) == (303, "http://localhost:1/?state=s") and not script.provider.sign_ins
    assert (await ask("GET", f"{issuer}/end-session?id_token_hint=forged.token.here")).status == 400


async def test_without_a_hint_the_person_is_asked_before_signing_out(script: Script) -> None:
    await script.tokens()
    page = await script.browser.navigate(f"{script.provider.issuer}/end-session")
    assert page.status == 200 and len(script.provider.sign_ins) == 1
    page = await script.browser.submit(page.forms[0], button=page.forms[0].buttons[0])
    assert "Signed out" in page.text and not script.provider.sign_ins


async def test_metadata_names_what_is_served(script: Script) -> None:
    document = (await script.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == script.provider.issuer and document["code_challenge_methods_supported"] == ["S256"]
    assert document["authorization_response_iss_parameter_supported"] is True and document["backchannel_logout_session_supported"] is True


async def test_pages_hold_no_script_and_forms_may_only_end_at_us_or_the_client(script: Script) -> None:
    page = await script.browser.navigate(f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, "login_hint", '"><script>'))
    policy = page.answer.header("content-security-policy") or ""
    assert "default-src 'none'" in policy and "form-action 'self' http://localhost:1;" in policy and "<script" not in page.text


async def test_another_sites_page_cannot_press_the_buttons(script: Script) -> None:
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")]
    for path in ("/admin/rotate-keys", "/admin/sign-out", "/login"):
        assert (await ask("POST", f"{script.provider.issuer}{path}", headers=headers, body=b"sub=ada-7c1f04")).status == 403
    rebound = await ask("GET", f"{script.provider.issuer}/admin/state", headers=[("Host", "evil.example")])
    assert rebound.status == 403


async def test_a_stolen_link_to_the_login_page_is_useless_in_another_browser(script: Script) -> None:
    page = await script.browser.navigate(f"{script.provider.issuer}/authorize?client_id=spa&" + _query(script, "prompt", "login"))
    assert page.status == 200
    other = Script(script.provider)
    assert (await other.browser.navigate(page.url)).status == 400


