"""Signing out: by the person, by the provider, everywhere; with everything that was open at the time."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Answer, ask
from tests.harness.people import user
from tests.harness.provider import sub_of
from tests.harness.world import World

SESSION = "__Host-Http-bff"
FORM = ("Content-Type", "application/x-www-form-urlencoded")


async def tell(world: World, token: str, *, extra: str = "", method: str = "POST", kind: str = FORM[1]) -> Answer:
    """Deliver a logout token as the provider would."""
    body = f"logout_token={token}{extra}".encode()
    return await ask(method, f"{world.app}/bff/backchannel-logout", headers=[("Content-Type", kind)], body=body)


def sid_of(world: World, person: str) -> str:
    """The newest provider session of this person."""
    return str([one["sid"] for one in world.provider.state()["sign_ins"] if one["sub"] == sub_of(person)][-1])


async def until_out(world: World, browser: Browser, timeout_s: float = 2.0) -> bool:
    """Whether this browser is signed out within the promised second (asked for a little longer)."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if await user(browser, world.app) is None:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.row("RPLO-1", "RPLO-3", "RPLO-4", "RPLO-5", "RPLO-6", "RPLO-8", "REV-1")
async def test_signing_out_ends_the_session_here_and_there_and_revokes_the_grant(world: World) -> None:
    browser = await world.signed_in("ben")
    copy = browser.stolen_copy()
    answer = await browser.fetch("/bff/logout", method="POST")
    url = answer.json()["logout_url"]
    assert answer.status == 200 and url.startswith(f"{world.provider.issuer}/end-session?") and "id_token_hint=" in url
    assert SESSION not in browser.jar.names() and (await copy.fetch("/api/orders")).status == 401
    page = await browser.link(url)
    assert page.url.startswith(f"{world.app}/") and page.status == 200
    assert world.provider.wait_ledger("revocation") and [one["sub"] for one in world.provider.ledger("end_session")] == [sub_of("ben")]
    again = await browser.fetch("/bff/logout", method="POST")
    assert again.status == 200 and SESSION not in browser.jar.names()


@pytest.mark.row("RPLO-2", "RPLO-3", "RPLO-7")
async def test_where_a_sign_out_ends_and_what_browsers_forget_is_configured(make_world: MakeWorld) -> None:
    config = {"spa": {"directory": "web", "post_logout_path": "/signed-out"}, "session": {"clear_site_data": ["cache", "storage"]}}
    world = make_world(config=config, client={"post_logout_path": "/signed-out"})
    browser = await world.signed_in()
    answer = await browser.fetch("/bff/logout?return_to=/bye", method="POST")
    assert answer.header("clear-site-data") == '"cache", "storage"'
    asked = dict(parse_qsl(urlsplit(answer.json()["logout_url"]).query))
    assert asked["post_logout_redirect_uri"] == f"{world.app}/signed-out"
    page = await browser.link(answer.json()["logout_url"])
    assert page.status == 200 and page.url == f"{world.app}/bye", "by way of the one registered page"
    told = await browser.fetch("/bff/user", page=f"{world.app}/")
    assert told.header("clear-site-data") is None


@pytest.mark.row("RPLO-8", "CSRF-9")
async def test_a_logout_form_of_our_own_page_is_answered_with_a_redirect(world: World) -> None:
    from tests.harness.forms import Form

    browser = await world.signed_in("ben")
    page = await browser.submit(Form(action="/bff/logout", method="post"))
    assert page.hops[0].status == 303 and page.status == 200 and await user(browser, world.app) is None


@pytest.mark.row("RPLO-1", "REV-2")
@pytest.mark.parametrize("fault", [{"status": 500}, {"delay_s": 30.0}, {"body": "html"}])
async def test_a_provider_that_cannot_revoke_does_not_hold_up_the_logout(world: World, fault: dict[str, Any]) -> None:
    browser = await world.signed_in("ben")
    world.provider.fault("revoke", **fault)
    start = time.monotonic()
    answer = await browser.fetch("/bff/logout", method="POST")
    assert answer.status == 200 and time.monotonic() - start < 6 and await user(browser, world.app) is None


@pytest.mark.row("BCLO-1", "BCLO-10", "BCLO-11", "SESS-12")
async def test_a_logout_token_with_a_sid_ends_that_provider_session_only(world: World) -> None:
    phone, laptop = await world.signed_in("ben"), await world.signed_in("ben")
    other = await world.signed_in("ada")
    answer = await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("ben"), sid=sid_of(world, "ben")), extra="&more=1")
    assert answer.status == 200 and answer.header("cache-control") == "no-store"
    assert await until_out(world, laptop)
    assert await user(phone, world.app) and await user(other, world.app)


@pytest.mark.row("BCLO-10", "SESS-12", "L10")
async def test_a_logout_token_with_a_subject_only_ends_all_of_this_persons_sessions(world: World) -> None:
    browsers = [await world.signed_in("ben") for _ in range(3)]
    ada = await world.signed_in("ada")
    answer = await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("ben")))
    assert answer.status == 200 and all([await until_out(world, one) for one in browsers])
    assert await user(ada, world.app)


@pytest.mark.row("BCLO-11")
async def test_a_logout_token_that_matches_nobody_is_fine(world: World) -> None:
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub="nobody-we-know"))).status == 200


EVENT = "http://schemas.openid.net/event/backchannel-logout"
WRONG: dict[str, dict[str, Any]] = {
    "BCLO-2 none": {"mode": "none"},
    "BCLO-2 public key as secret": {"mode": "hmac_public_pem"},
    "BCLO-2 bad signature": {"mode": "bad_signature"},
    "BCLO-2 nobody's key": {"mode": "foreign_key"},
    "BCLO-3 issuer": {"claims": {"iss": "https://evil.example"}},
    "BCLO-3 audience": {"claims": {"aud": "other"}},
    "BCLO-4 no iat": {"remove": ["iat"]},
    "BCLO-4 no exp": {"remove": ["exp"]},
    "BCLO-4 expired": {"claims": {"exp": int(time.time()) - 3600}},
    "BCLO-4 stale": {"claims": {"iat": int(time.time()) - 86_400}},
    "BCLO-5 nobody": {"remove": ["sub", "sid"]},
    "BCLO-6 no events": {"remove": ["events"]},
    "BCLO-6 other event": {"claims": {"events": {"urn:x": {}}}},
    "BCLO-6 list": {"claims": {"events": [EVENT]}},
    "BCLO-6 text": {"claims": {"events": {EVENT: "x"}}},
    "BCLO-7 nonce": {"claims": {"nonce": "n"}},
    "BCLO-8 no jti": {"remove": ["jti"]},
    "BCLO-9 access token": {"header": {"typ": "at+jwt"}},
    "BCLO-9 id token": {"header": {"typ": "id_token+jwt"}},
    "BCLO-1 garbage": {"mode": "garbage"},
}


@pytest.mark.row(*sorted({name.split(" ")[0] for name in WRONG}))
@pytest.mark.parametrize("name", WRONG)
async def test_a_logout_token_with_one_thing_wrong_ends_nothing(world: World, ada: Browser, name: str) -> None:
    world.provider.mutate(token="logout_token", **WRONG[name])
    answer = await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("ada")))
    assert answer.status == 400 and answer.header("cache-control") == "no-store" and await user(ada, world.app)


@pytest.mark.row("BCLO-8")
async def test_a_replayed_logout_token_is_refused_and_has_no_effect(world: World) -> None:
    token = world.provider.logout_token(client_id="spa", sub=sub_of("chloe"))
    assert (await tell(world, token)).status == 200
    browser = await world.signed_in("chloe")
    assert (await tell(world, token)).status == 400 and await user(browser, world.app)


@pytest.mark.row("BCLO-1", "BCLO-9")
async def test_only_a_posted_form_with_a_logout_token_is_read(world: World, ada: Browser) -> None:
    token = world.provider.logout_token(client_id="spa", sub=sub_of("ada"))
    assert (await tell(world, token, kind="application/json")).status in (400, 415)
    assert (await ask("GET", f"{world.app}/bff/backchannel-logout?logout_token={token}")).status == 405
    assert (await tell(world, token, extra=f"&logout_token={token}")).status == 400
    id_token = next(secret for secret in world.provider.secrets() if secret.count(".") == 2)
    assert (await tell(world, id_token)).status == 400
    assert await user(ada, world.app)


@pytest.mark.row("BCLO-10", "WS-8", "SSE-4", "F56")
async def test_signed_out_everywhere_by_the_provider_the_streams_close_too(world: World) -> None:
    browser = await world.signed_in("chloe")
    async with (
        browser.websocket(f"{world.app.replace('http', 'ws')}/api/echo") as socket,
        browser.events(f"{world.app}/api/ticks") as stream,
    ):
        await socket.receive()
        await stream.read(2)
        assert await asyncio.to_thread(world.provider.sign_out, sub_of("chloe")) == 1
        start = time.monotonic()
        code, _ = await asyncio.gather(socket.wait_close(8), stream.wait_end(8))
        assert time.monotonic() - start < 6 and code in (1008, 4401, 1001, 1006)
    assert await user(browser, world.app) is None


@pytest.mark.row("WS-8", "SSE-4", "F56")
async def test_the_persons_own_logout_closes_the_streams_of_another_tab(world: World) -> None:
    browser = await world.signed_in("chloe")
    tab = browser.another_tab()
    tab.page = browser.page
    async with (
        tab.websocket(f"{world.app.replace('http', 'ws')}/api/echo") as socket,
        tab.events(f"{world.app}/api/ticks") as stream,
    ):
        await socket.receive()
        await browser.fetch("/bff/logout", method="POST")
        await asyncio.gather(socket.wait_close(6), stream.wait_end(6))


@pytest.mark.row("L9", "RPLO-5")
async def test_after_the_logout_the_back_button_shows_nothing(world: World) -> None:
    browser = await world.signed_in("chloe")
    cookie = browser.jar.get(SESSION)
    await browser.fetch("/bff/logout", method="POST")
    browser.jar.store(f"{world.app}/", f"{SESSION}={cookie}; Secure; HttpOnly; Path=/; SameSite=Strict")
    answer = await browser.fetch("/record/x")
    assert answer.status == 401 and not world.recorder.seen
    assert SESSION not in browser.jar.names(), "a cookie that opens nothing is cleared"
