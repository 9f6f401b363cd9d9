"""Signing in at npm's oidc-provider, a certified provider that shares no code with us."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.harness.browser import Browser
from tests.harness.people import go_through, sign_in, user
from tests.interop.conftest import MakeSite, Site

pytestmark = [pytest.mark.interop, pytest.mark.node]


async def signed_in(site: Site, browser: Browser, person: str = "ada") -> None:
    page = await sign_in(browser, site.app, person=person, return_to="/")
    assert page.status == 200 and page.url == f"{site.app}/", (page.url, page.status, page.text[:500], site.provider.log[-1500:])


@pytest.mark.parametrize("auth", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
async def test_a_person_signs_in_and_calls_an_api_that_checks_the_token_itself(node_site: MakeSite, browser: Browser, auth: str) -> None:
    site = node_site(auth=auth)
    await signed_in(site, browser)
    assert (await user(browser, site.app) or {})["sub"] == "ada"
    answer = await browser.fetch("/api/orders")
    assert answer.status == 200 and answer.json()["caller"]["sub"] == "ada", answer.text


async def test_pushed_authorization_requests_are_used_where_they_are_demanded(node_site: MakeSite, browser: Browser) -> None:
    site = node_site(requirePar=True)
    await browser.navigate(f"{site.app}/")
    page = await browser.link("/bff/login")
    assert any("request_uri=" in hop.url and "code_challenge" not in hop.url for hop in page.hops)
    page = await go_through(browser, page, person="ben", app=site.app)
    assert (await user(browser, site.app) or {})["sub"] == "ben", page.text[:300]


async def test_tokens_are_renewed_with_rotation_and_the_grant_lives_on(node_site: MakeSite, browser: Browser) -> None:
    site = node_site(ttl_s=2)
    await signed_in(site, browser)
    tokens = set()
    for _ in range(3):
        answers = await asyncio.gather(*(browser.fetch("/record/x") for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        tokens.add(site.recorder.seen[-1].token)
        await asyncio.sleep(2.1)
    assert len(tokens) == 3 and all(seen.claims["exp"] > time.time() - 30 for seen in site.recorder.seen)
    assert "grant.error" not in site.provider.log


async def test_signing_out_here_signs_out_there_and_comes_back(node_site: MakeSite, browser: Browser) -> None:
    site = node_site()
    await signed_in(site, browser)
    url = (await browser.fetch("/bff/logout", method="POST")).json()["logout_url"]
    page = await browser.link(url)
    page = await browser.submit(page.forms[0], button=page.forms[0].buttons[0])
    assert page.url.startswith(f"{site.app}/") and page.status == 200, (page.url, page.text[:300])
    page = await browser.link("/bff/login")
    assert page.forms and page.forms[0].buttons[0][0] == "person", "the provider must ask again"


async def test_signing_out_at_the_provider_ends_the_session_here_by_back_channel(node_site: MakeSite, browser: Browser) -> None:
    site = node_site()
    await signed_in(site, browser)
    page = await browser.navigate(f"{site.issuer}/session/end")
    await browser.submit(page.forms[0], button=page.forms[0].buttons[0])
    deadline = time.monotonic() + 5
    while "backchannel.success" not in site.provider.log and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert "backchannel.success" in site.provider.log, site.provider.log[-800:]
    assert await user(browser, site.app) is None


async def test_a_second_sign_in_needs_no_form_when_the_provider_knows_the_browser(node_site: MakeSite, browser: Browser) -> None:
    site = node_site()
    await signed_in(site, browser)
    await browser.fetch("/bff/logout", method="POST", page=f"{site.app}/")
    page = await browser.link(f"{site.app}/bff/login")
    page = await go_through(browser, page, person="ada", app=site.app)
    assert page.url == f"{site.app}/" and await user(browser, site.app)


async def test_a_login_that_the_person_abandons_can_be_begun_again(node_site: MakeSite, browser: Browser) -> None:
    site = node_site()
    await browser.navigate(f"{site.app}/")
    await browser.link("/bff/login")
    again = Browser(browser.jar)
    await signed_in(site, again)
