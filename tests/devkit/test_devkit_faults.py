"""The fault knobs do what they say: a test that turns one can rely on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from bff.base.errors import ConfigError
from bff.devkit import DevProvider, Fault, Mutation, listen_loopback
from bff.devkit.loopback import check_issuer, is_loopback_host
from bff.devkit.model import read_client
from tests.devkit.conftest import APP, Script, body_of, head_of, parameters
from tests.harness.background import Background
from tests.harness.upstream import RecordingUpstream

MODES = [
    "bad_signature", "empty_signature", "none", "hmac_public_pem", "hmac_public_jwk", "hmac_secret",
    "foreign_key", "foreign_new_kid", "embedded_jwk", "garbage", "encrypted",
]


@pytest.mark.parametrize("mode", MODES)
async def test_a_spoiled_id_token_does_not_verify_and_the_next_one_does(script: Script, mode: Any) -> None:
    keys = KeySet.import_key_set((await script.get("/jwks")).json())
    script.provider.knobs.mutations.append(Mutation(mode=mode))
    spoiled = (await script.tokens())["id_token"]
    with pytest.raises((JoseError, ValueError)):
        jwt.decode(spoiled, keys, ["RS256"])
    good = (await script.tokens())["id_token"]
    assert jwt.decode(good, keys, ["RS256"]).claims["sub"] == "ada-7c1f04"


async def test_claims_and_header_can_be_changed_and_removed_under_a_good_signature(script: Script) -> None:
    claims, header = {"iss": "https://evil.example", "exp": 1e300}, {"typ": "at+jwt", "crit": ["x"]}
    change = Mutation(claims=claims, remove=("nonce",), header=header, remove_header=("kid",))
    script.provider.knobs.mutations.append(change)
    token = (await script.tokens())["id_token"]
    assert body_of(token)["iss"] == "https://evil.example" and "nonce" not in body_of(token)
    assert head_of(token) == {"alg": "RS256", "typ": "at+jwt", "crit": ["x"]}


async def test_a_mutation_waits_for_its_grant_and_its_kind_of_token(script: Script) -> None:
    script.provider.knobs.mutations.append(Mutation(grant="refresh_token", claims={"sub": "somebody-else"}))
    tokens = await script.tokens()
    assert body_of(tokens["id_token"])["sub"] == "ada-7c1f04"
    refreshed = (await script.refresh(tokens["refresh_token"])).json()
    assert body_of(refreshed["id_token"])["sub"] == "somebody-else" and body_of(refreshed["access_token"])["sub"] == "ada-7c1f04"


@pytest.mark.parametrize(
    ("body", "start"), [("html", "<!doctype"), ("empty", ""), ("array", "["), ("text", "upstream"), ("huge", '{"padding"')]
)
async def test_an_endpoint_answers_the_wrong_body(script: Script, body: Any, start: str) -> None:
    script.provider.knobs.faults["token"] = Fault(body=body, size_bytes=131_072, times=1)
    answer = await script.post("/token", {"grant_type": "client_credentials", "scope": "jobs"})
    assert answer.status == 200 and answer.text.startswith(start)
    assert (await script.post("/token", {"grant_type": "client_credentials", "scope": "jobs"})).json()["access_token"]


async def test_a_truncated_answer_ends_early_and_a_redirect_leads_away(script: Script) -> None:
    script.provider.knobs.faults["userinfo"] = Fault(body="truncated")
    answer = await script.get("/userinfo")
    assert not answer.complete and answer.header("content-length") == "4096"
    script.provider.knobs.faults["userinfo"] = Fault(body="redirect")
    assert (await script.get("/userinfo")).status == 302


async def test_status_and_oauth_error_replace_the_answer(script: Script) -> None:
    script.provider.knobs.faults["token"] = Fault(status=429, headers={"Retry-After": "7"}, times=1)
    limited = await script.redeem("x")
    assert (limited.status, limited.header("retry-after")) == (429, "7")
    script.provider.knobs.faults["token"] = Fault(error="temporarily_unavailable", status=503, times=1)
    assert (await script.redeem("x")).json()["error"] == "temporarily_unavailable"


async def test_a_fault_after_the_work_leaves_the_provider_ahead_of_its_client(script: Script) -> None:
    first = (await script.tokens())["refresh_token"]
    script.provider.knobs.faults["token"] = Fault(status=500, after=True, times=1)
    assert (await script.refresh(first)).status == 500
    assert (await script.refresh(first)).json()["error"] == "invalid_grant"


async def test_a_delay_holds_the_answer_back(script: Script) -> None:
    script.provider.knobs.faults["jwks"] = Fault(delay_s=0.2)
    start = time.monotonic()
    await script.get("/jwks")
    assert time.monotonic() - start >= 0.2


async def test_the_other_knobs_show(script: Script) -> None:
    knobs = script.provider.knobs
    knobs.iss_parameter = "wrong"
    assert parameters(await script.authorize())["iss"] != script.provider.issuer
    knobs.iss_parameter = "off"
    assert "iss" not in parameters(await script.authorize())
    knobs.turn({"narrow_scopes": ["openid", "orders:read"], "access_token_s": 2, "userinfo_sub": "mallory"})
    knobs.turn({"token_members": {"expires_in": "soon"}})
    tokens = await script.tokens()
    assert tokens["scope"] == "openid orders:read" and tokens["expires_in"] == "soon"
    claims = body_of(tokens["access_token"])
    assert claims["exp"] - claims["iat"] == 2
    assert (await script.get("/userinfo", tokens["access_token"])).json()["sub"] == "mallory"
    knobs.turn({"authorize_error": "server_error"})
    assert parameters(await script.authorize())["error"] == "server_error"


async def test_an_unknown_knob_is_refused_and_changes_nothing(script: Script) -> None:
    from tests.harness.http import ask

    answer = await ask("POST", f"{script.provider.issuer}/admin/knobs", body=b'{"access_token_s": 1, "no_such_knob": 1}')
    assert answer.status == 400 and script.provider.knobs.access_token_s == 300
    with pytest.raises(ValueError, match="faults"):
        script.provider.knobs.turn({"faults": {"token": {"no_such_member": 1}}})


async def test_rotated_keys_stay_published_and_withdrawn_ones_do_not(script: Script) -> None:
    old = head_of((await script.tokens())["id_token"])["kid"]
    script.provider.rotate_keys()
    assert old in [key["kid"] for key in (await script.get("/jwks")).json()["keys"]]
    assert head_of((await script.tokens())["id_token"])["kid"] != old
    script.provider.rotate_keys(withdraw=True)
    assert old not in [key["kid"] for key in (await script.get("/jwks")).json()["keys"]]


async def test_expired_access_tokens_are_refused_while_the_grant_lives_on(script: Script) -> None:
    tokens = await script.tokens()
    assert script.provider.expire_access_tokens() == 1
    assert (await script.get("/userinfo", tokens["access_token"])).status == 401
    assert (await script.refresh(tokens["refresh_token"])).status == 200


async def test_sign_out_everywhere_and_end_session_tell_the_client(script: Script, provider: DevProvider) -> None:
    background = Background()
    receiver = RecordingUpstream(background).start()
    listens = f"{receiver.url}/bff/backchannel-logout"
    provider.clients["spa"] = replace(provider.clients["spa"], backchannel_logout_uri=listens)
    try:
        tokens = await script.tokens()
        sid = body_of(tokens["id_token"])["sid"]
        assert await provider.sign_out_everywhere("ada-7c1f04") == 1
        assert (await script.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        tokens = await script.tokens()
        await script.get(f"/end-session?id_token_hint={tokens['id_token']}")
        first, second = (seen.body.decode().removeprefix("logout_token=") for seen in receiver.seen)
        assert head_of(first)["typ"] == "logout+jwt" and body_of(first)["sub"] == "ada-7c1f04" and "sid" not in body_of(first)
        assert body_of(second)["sid"] and body_of(second)["sid"] != sid and "nonce" not in body_of(second)
        assert {"iss", "aud", "iat", "exp", "jti", "events"} <= set(body_of(first))
    finally:
        receiver.stop()
        background.close()


async def test_a_receiver_that_is_not_local_or_not_there_is_no_problem(script: Script, provider: DevProvider) -> None:
    for uri in ("https://app.example.com/bff/backchannel-logout", f"{APP}/bff/backchannel-logout"):
        provider.clients["spa"] = replace(provider.clients["spa"], backchannel_logout_uri=uri)
        await script.tokens()
        assert await provider.sign_out_everywhere("ada-7c1f04") == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
def test_it_binds_to_loopback_only(host: str) -> None:
    with pytest.raises(ConfigError):
        listen_loopback(host)
    assert not is_loopback_host(host)
    listen_loopback("127.0.0.1").close()


@pytest.mark.parametrize(
    "issuer",
    ["https://id.example.com", "http://127.0.0.1:9400/", "http://192.0.2.7", "ftp://localhost", "http://u@localhost", "http://localhost?x"],
)
def test_its_issuer_is_local_only(issuer: str) -> None:
    with pytest.raises(ConfigError):
        check_issuer(issuer)
    for good in ("http://127.0.0.1:9400", "http://[::1]:9400", "http://localhost:1", "https://login.other.test", "http://idp.localhost/tenant"):
        assert check_issuer(good) == good


def test_a_client_is_read_from_json_strictly() -> None:
    assert read_client({"client_id": "a", "redirect_uris": ["http://localhost/cb"]}).redirect_uris == ("http://localhost/cb",)
    for wrong in ({"client_id": ""}, {"client_id": "a", "no_such": 1}, {}):
        with pytest.raises(ValueError):
            read_client(wrong)


async def test_the_program_refuses_other_addresses_and_prints_its_issuer() -> None:
    refused = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "bff.devkit", "--host", "0.0.0.0"], capture_output=True, text=True, timeout=30
    )
    assert refused.returncode == 78 and "loopback" in refused.stderr
