"""Signing in at nanoidp: Python, Flask, another reading of the same specifications."""

from __future__ import annotations

import pytest

from tests.harness.browser import Browser, Page
from tests.harness.people import user
from tests.interop.conftest import Site

pytestmark = pytest.mark.interop


async def sign_in(site: Site, browser: Browser) -> Page:
    """Fill whatever form asks for a name and a password."""
    await browser.navigate(f"{site.app}/")
    page = await browser.link(f"{site.app}/bff/login?return_to=/")
    for _ in range(5):
        if page.url.startswith(site.app) or not page.forms:
            return page
        form = next(form for form in page.forms if "username" in form.fields or form.buttons)
        known = {name: value for name, value in {"username": "ada", "password": "lovelace"}.items() if name in form.fields}
        page = await browser.submit(form, button=form.buttons[0] if form.buttons else None, **known)
    return page


async def test_a_person_signs_in_with_a_password_and_calls_the_api(nano_site: Site, browser: Browser) -> None:
    page = await sign_in(nano_site, browser)
    assert page.status == 200 and page.url == f"{nano_site.app}/", (page.url, page.status, page.text[:600], nano_site.provider.log[-1500:])
    assert (await user(browser, nano_site.app) or {})["sub"] == "ada"
    answer = await browser.fetch("/record/x")
    assert answer.status == 200 and nano_site.recorder.seen[-1].claims["sub"] == "ada"
    audience = nano_site.recorder.seen[-1].claims["aud"]
    assert "https://api.example.com" in (audience if isinstance(audience, list) else [audience])


async def test_signing_out_leads_through_the_provider_and_back(nano_site: Site, browser: Browser) -> None:
    await sign_in(nano_site, browser)
    url = (await browser.fetch("/bff/logout", method="POST")).json()["logout_url"]
    page = await browser.link(url)
    for _ in range(3):
        if page.url.startswith(nano_site.app) or not page.forms:
            break
        page = await browser.submit(page.forms[0], button=page.forms[0].buttons[0] if page.forms[0].buttons else None)
    assert page.status == 200 and await user(browser, nano_site.app) is None


async def test_the_password_must_be_right(nano_site: Site, browser: Browser) -> None:
    await browser.navigate(f"{nano_site.app}/")
    page = await browser.link(f"{nano_site.app}/bff/login")
    form = next(form for form in page.forms if "username" in form.fields)
    page = await browser.submit(form, button=form.buttons[0] if form.buttons else None, username="ada", password="wrong")
    assert not page.url.startswith(nano_site.app) and await user(browser, nano_site.app) is None
