"""What somebody who has no session and no key can do to those who have: nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import time
from urllib.parse import urlsplit

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Answer, ask
from tests.harness.people import user
from tests.harness.provider import sub_of
from tests.harness.world import World

EVENTS = {"http://schemas.openid.net/event/backchannel-logout": {}}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(issuer: str, kid: str) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "aud": "spa", "iat": now, "exp": now + 120, "jti": kid, "sub": sub_of("ada"), "events": EVENTS}
    signature = base64.urlsafe_b64encode(os.urandom(256)).rstrip(b"=").decode()
    return f"{part({'alg': 'RS256', 'kid': kid, 'typ': 'logout+jwt'})}.{part(claims)}.{signature}"


async def send(world: World, token: str) -> Answer:
    headers = [("Host", urlsplit(world.app).netloc), ("Content-Type", "application/x-www-form-urlencoded")]
    url = f"http://127.0.0.1:{world.product.port}/bff/backchannel-logout"
    return await ask("POST", url, headers=headers, body=f"logout_token={token}".encode())


@pytest.mark.row("J9", "JWKS-2", "OPS-5", "L10")
async def test_a_flood_of_forged_logout_tokens_keeps_no_good_one_out_and_no_new_key_from_logins(make_world: MakeWorld) -> None:
    """Here the provider and the flood share an address, as behind a front proxy that is not trusted."""
    world = make_world()
    browser = await world.signed_in()
    fetches = world.provider.requests("jwks")
    for start in range(0, 300, 50):
        answers = await asyncio.gather(*(send(world, forged(world.provider.issuer, f"k{n}")) for n in range(start, start + 50)))
        assert {answer.status for answer in answers} <= {400, 429}
    assert world.provider.requests("jwks") - fetches <= 2
    assert await user(browser, world.app)
    world.provider.rotate_keys(withdraw=True)
    assert (await world.sign_in(Browser(), "ben")).status == 200
    assert (await send(world, world.provider.logout_token(client_id="spa", sub=sub_of("ada")))).status == 200
    await asyncio.sleep(1.1)
    assert await user(browser, world.app) is None


@pytest.mark.row("F40", "F41")
async def test_calls_go_on_with_living_tokens_while_the_session_file_takes_no_writes(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.knobs(access_token_s=12)
    browser = await world.signed_in()
    await asyncio.sleep(6.1)
    lock = sqlite3.connect(world.folder / "sessions.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        answers = await asyncio.gather(*(browser.stolen_copy().fetch("/record/x") for _ in range(4)))
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert [answer.status for answer in answers] == [200] * 4
    assert not world.provider.ledger("refresh_token")
