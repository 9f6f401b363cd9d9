"""A hostile or broken provider: each ID token with one thing wrong signs nobody in and harms nobody who was."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.harness.browser import Browser
from tests.harness.people import user
from tests.harness.provider import sub_of
from tests.harness.world import World

NOW = int(time.time())
EVENTS = {"http://schemas.openid.net/event/backchannel-logout": {}}
WRONG: dict[str, dict[str, Any]] = {
    "IDTOKEN-1 other issuer": {"claims": {"iss": "https://evil.example"}},
    "IDTOKEN-1 no issuer": {"remove": ["iss"]},
    "IDTOKEN-2 other audience": {"claims": {"aud": "other"}},
    "IDTOKEN-2 empty audience": {"claims": {"aud": []}},
    "IDTOKEN-2 no audience": {"remove": ["aud"]},
    "IDTOKEN-2 part of our name": {"claims": {"aud": "sp"}},
    "IDTOKEN-3 one audience too many": {"claims": {"aud": ["spa", "other"], "azp": "spa"}},
    "IDTOKEN-4 other azp": {"claims": {"azp": "other"}},
    "IDTOKEN-5 broken signature": {"mode": "bad_signature"},
    "IDTOKEN-5 key of nobody": {"mode": "foreign_key"},
    "IDTOKEN-5 unknown kid": {"mode": "foreign_new_kid"},
    "IDTOKEN-7 none": {"mode": "none"},
    "IDTOKEN-7 nOnE": {"mode": "none", "header": {"alg": "nOnE"}},
    "IDTOKEN-7 no signature": {"mode": "empty_signature"},
    "IDTOKEN-8 mac with the public key": {"mode": "hmac_public_pem"},
    "IDTOKEN-8 mac with the public jwk": {"mode": "hmac_public_jwk"},
    "IDTOKEN-8 mac with the secret": {"mode": "hmac_secret"},
    "IDTOKEN-9 expired": {"claims": {"exp": NOW - 3600}},
    "IDTOKEN-9 no exp": {"remove": ["exp"]},
    "IDTOKEN-9 exp as text": {"claims": {"exp": str(NOW + 300)}},
    "IDTOKEN-9 exp negative": {"claims": {"exp": -1}},
    "IDTOKEN-9 exp true": {"claims": {"exp": True}},
    "IDTOKEN-10 old": {"claims": {"iat": NOW - 86_400}},
    "IDTOKEN-10 from the future": {"claims": {"iat": NOW + 3600}},
    "IDTOKEN-10 not yet": {"claims": {"nbf": NOW + 3600}},
    "IDTOKEN-10 no iat": {"remove": ["iat"]},
    "IDTOKEN-11 other nonce": {"claims": {"nonce": "other"}},
    "IDTOKEN-11 no nonce": {"remove": ["nonce"]},
    "IDTOKEN-11 nonce list": {"claims": {"nonce": ["a"]}},
    "IDTOKEN-14 other at_hash": {"claims": {"at_hash": "A" * 22}},
    "IDTOKEN-17 no sub": {"remove": ["sub"]},
    "IDTOKEN-17 empty sub": {"claims": {"sub": ""}},
    "IDTOKEN-17 numeric sub": {"claims": {"sub": 17}},
    "IDTOKEN-17 long sub": {"claims": {"sub": "x" * 256}},
    "IDTOKEN-18 embedded key": {"mode": "embedded_jwk"},
    "IDTOKEN-18 jku": {"mode": "foreign_key", "header": {"jku": "http://127.0.0.1:9/jwks"}},
    "IDTOKEN-19 crit": {"header": {"crit": ["x"]}},
    "IDTOKEN-20 access token": {"header": {"typ": "at+jwt"}},
    "IDTOKEN-20 logout token": {"header": {"typ": "logout+jwt"}},
    "IDTOKEN-20 events": {"claims": {"events": EVENTS}},
    "IDTOKEN-21 encrypted": {"mode": "encrypted"},
    "IDTOKEN-22 exp 1e300": {"claims": {"exp": 1e300}},
    "IDTOKEN-22 aud object": {"claims": {"aud": {"spa": 1}}},
    "IDTOKEN-22 names twice": {"mode": "duplicate_claim"},
    "IDTOKEN-22 five megabytes": {"claims": {"padding": "x" * 5_000_000}},
    "IDTOKEN-22 garbage": {"mode": "garbage"},
    "IDTOKEN-6 alg not listed": {"header": {"alg": "HS512"}},
}


@pytest.mark.row(*sorted({name.split(" ")[0] for name in WRONG}), "CB-7")
@pytest.mark.parametrize("name", WRONG)
async def test_an_id_token_with_one_thing_wrong_signs_nobody_in(world: World, ada: Browser, name: str) -> None:
    world.provider.mutate(**WRONG[name])
    world.provider.knobs(auto_login="ben")
    browser = Browser()
    page = await world.sign_in(browser, "ben")
    assert 400 <= page.status < 600 and page.url.startswith(f"{world.app}/bff/callback"), (page.status, page.url)
    assert page.status != 500 and "text/html" in (page.answer.header("content-type") or "")
    assert await user(browser, world.app) is None and world.provider.requests("userinfo") == 0
    assert (await user(ada, world.app) or {})["sub"] == sub_of("ada")


RIGHT: dict[str, dict[str, Any]] = {
    "audience as list": {"claims": {"aud": ["spa"]}},
    "azp ours": {"claims": {"azp": "spa"}},
    "no at_hash": {"remove": ["at_hash"]},
    "a little late": {"claims": {"exp": NOW - 5}},
    "a float auth_time": {"claims": {"auth_time": NOW + 0.5}},
    "no typ": {"remove_header": ["typ"]},
    "long sub": {"claims": {"sub": "x" * 255}},
    "unknown claims": {"claims": {"urn:x": {"y": [1, None]}}},
}


@pytest.mark.row("IDTOKEN-2", "IDTOKEN-9", "IDTOKEN-14")
@pytest.mark.parametrize("name", RIGHT)
async def test_an_unusual_but_good_id_token_signs_in(world: World, name: str) -> None:
    change = RIGHT[name]
    if name == "a little late":
        change = {"claims": {"exp": int(time.time()) - 5}}
    world.provider.mutate(**change)
    world.provider.knobs(auto_login="ben")
    browser = Browser()
    page = await world.sign_in(browser, "ben")
    assert page.status == 200 and await user(browser, world.app) is not None


@pytest.mark.row("JWKS-1", "F28")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_every_offered_algorithm_and_a_rotated_key_are_understood(world: World, alg: str) -> None:
    world.provider.knobs(id_token_alg=alg, auto_login="ben")
    assert (await world.sign_in(Browser(), "ben")).status == 200


@pytest.mark.row("TOKEN-11")
@pytest.mark.parametrize(
    "change",
    [{"claims": {"sub": "somebody-else"}}, {"claims": {"iss": "https://evil.example"}}, {"mode": "bad_signature"}],
    ids=["sub", "iss", "signature"],
)
async def test_an_id_token_that_changes_person_at_refresh_never_reaches_the_api(world: World, change: dict[str, Any]) -> None:
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300, mutations=[{**change, "grant": "refresh_token"}])
    import asyncio

    await asyncio.sleep(2.1)
    answer = await browser.fetch("/record/x")
    subs = {seen.claims.get("sub") for seen in world.recorder.seen}
    assert subs <= {sub_of("ada")} and answer.status in (200, 401, 502, 503)
