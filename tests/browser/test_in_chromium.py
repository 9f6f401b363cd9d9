"""The assembled product as a person meets it: a real browser, two sites, forms that are really submitted."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import urlsafe_b64decode
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Error, Page, Request, Response, expect

from tests.browser.person import SESSION_COOKIE, Person
from tests.browser.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+")


@pytest.mark.row("PRIV-9", "ARCH-5")
async def test_a_stranger_gets_the_app_no_cookie_and_a_plain_401(person: Person) -> None:
    page = await person.open()
    await expect(page.locator("#sign-in")).to_be_visible()
    await person.press(page, "orders", "Sign in first")
    assert page.url == f"{person.site.app}/"
    assert await person.app_cookies() == {}
    await person.holds_nothing(page)
    await person.photograph(page, "signed-out")


@pytest.mark.row("COOKIE-7", "COOKIE-8", "COOKIE-1", "COOKIE-6", "CB-8", "ARCH-3")
async def test_a_person_who_submits_the_providers_form_is_signed_in_and_the_page_holds_no_token(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    await expect(page.locator("#who")).to_have_text("Ada Lindqvist")
    await expect(page.locator("#result-title")).to_have_text("The orders")
    assert page.url == f"{person.site.app}/", "neither code nor state stays in the address"
    await person.holds_nothing(page)
    (cookie,) = [c for c in await person.context.cookies() if c["name"].startswith(SESSION_COOKIE)]
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (SESSION_COOKIE, True, True, "Strict")
    await expect(page.locator("#received")).to_contain_text("none arrived")
    await person.photograph(page, "signed-in")


@pytest.mark.row("ARCH-3", "RPLO-4")
async def test_no_answer_that_the_browser_gets_holds_a_token(person: Person) -> None:
    """Heads and bodies, of the whole visit. The one exception is the ID token in the logout URL, when its session is over."""
    found: list[tuple[str, str]] = []
    read: set[str] = set()
    searches: list[asyncio.Task[None]] = []

    async def search(response: Response) -> None:
        if not response.url.startswith(person.site.app):
            return
        path = urlsplit(response.url).path
        found.extend((path, token) for token in JWT.findall(str(await response.all_headers())))
        with suppress(Error):  # a redirect has no body, and one whose page has gone cannot be read
            found.extend((path, token) for token in JWT.findall((await response.body()).decode("latin-1")))
            read.add(path)

    person.context.on("response", lambda response: searches.append(asyncio.ensure_future(search(response))))
    page = await person.open()
    await person.sign_in(page)
    await person.press(page, "steal", "There is nothing to steal")
    await expect(page.locator("#seen")).to_contain_text("none found")
    await asyncio.gather(*searches)
    assert found == [] and {"/", "/bff/user", "/api/orders", "/bff/client.js"} <= read
    url = await page.evaluate("async () => (await import('/bff/client.js')).createBff().logout({ follow: false })")
    await asyncio.gather(*searches)
    hint = parse_qs(urlsplit(url).query)["id_token_hint"]
    assert set(found) == {("/bff/logout", *hint)} and "/bff/logout" in read
    claims = json.loads(urlsafe_b64decode(hint[0].split(".")[1] + "=="))
    assert "nonce" in claims and "scope" not in claims, "an ID token, and no access token"


@pytest.mark.row("CSRF-1")
async def test_the_same_call_without_the_header_is_refused_before_the_api(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    await person.press(page, "naked", "Refused at the door")
    await expect(page.locator("#raw-response")).to_contain_text("csrf_header_missing")
    await person.press(page, "orders", "The orders")


async def test_an_order_is_placed_by_who_may_and_not_by_who_may_not(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    await page.click("#do-post button")
    await expect(page.locator("#result-title")).to_contain_text("is placed")
    await page.click("[data-person=chloe]")
    await person.answer_provider(page, "chloe")
    await expect(page.locator("#who")).to_have_text("Chloe Tanaka")
    await page.click("#do-post button")
    await expect(page.locator("#result-title")).to_have_text("This person may not order")


@pytest.mark.row("TOKEN-6")
async def test_a_token_that_dies_is_replaced_and_the_page_sees_one_200(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    before = await person.app_cookies()
    await page.click("#do-stale")
    await expect(page.locator("#result-title")).to_have_text("You noticed nothing", timeout=20_000)
    assert await person.app_cookies() == before
    await person.holds_nothing(page)


@pytest.mark.row("WS-1", "SSE-1")
async def test_a_websocket_and_an_event_stream_work_with_the_cookie_alone(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    await page.click("#do-socket")
    await expect(page.locator(".feed li").first).to_contain_text("← Hello from a page without a token")
    await expect(page.locator(".feed")).to_contain_text('"cookie_arrived": false')
    await page.click("#do-socket")
    await expect(page.locator("#result-text")).to_contain_text("closed with code 1000")
    await page.click("#do-events")
    await expect(page.locator(".feed li").nth(2)).to_contain_text('"tick": 1', timeout=10_000)
    await page.click("#do-events")
    await expect(page.locator("#badge")).to_have_text("Closed")


@pytest.mark.row("WS-8", "SSE-4", "BCLO-10", "F56")
async def test_signing_out_everywhere_at_the_provider_ends_session_and_streams(person: Person) -> None:
    page, watcher = await person.open(), await person.open()
    await person.sign_in(page)
    await watcher.reload()
    await watcher.click("#do-socket")
    await expect(watcher.locator("#badge")).to_have_text("101 Open")
    await page.click("#do-everywhere")
    await expect(page.locator("#result-title")).to_have_text("Signed out, everywhere")
    await expect(watcher.locator("#log")).to_contain_text("WebSocket closed", timeout=8000)
    await expect(watcher.locator("#sign-in")).to_be_visible()


@pytest.mark.row("RPLO-1", "RPLO-3", "RPLO-6", "SESS-10", "S3")
async def test_signing_out_leads_through_the_provider_and_leaves_nothing(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    kept = await person.context.cookies()
    await person.sign_out(page)
    assert page.url == f"{person.site.app}/", "the signed state is gone from the address"
    assert await person.app_cookies() == {}
    await person.context.add_cookies([cookie for cookie in kept if cookie["name"] == SESSION_COOKIE])  # type: ignore[misc]
    await person.press(page, "orders", "Sign in first")


@pytest.mark.row("AUTHZ-6", "F15")
async def test_two_tabs_sign_in_at_once_and_each_arrives(person: Person) -> None:
    one, two = await person.open(), await person.open()
    for page in (one, two):
        await page.click("#sign-in")
        await page.wait_for_url(f"{person.site.provider}/**")
    await person.answer_provider(two, "ada")
    await expect(two.locator("#who")).to_have_text("Ada Lindqvist")
    await person.answer_provider(one, "ada")
    await expect(one.locator("#who")).to_have_text("Ada Lindqvist")
    await person.press(two, "orders", "The orders")
    assert list(await person.app_cookies()) == [SESSION_COOKIE]


@pytest.mark.row("SESS-2")
async def test_signing_out_in_one_tab_is_seen_in_the_other(person: Person) -> None:
    one = await person.open()
    await person.sign_in(one)
    two = await person.open()
    await expect(two.locator("#sign-out")).to_be_visible()
    await person.sign_out(one)
    await expect(two.locator("#sign-in")).to_be_visible()


@pytest.mark.row("F19", "CB-2")
async def test_the_back_button_and_a_reloaded_callback_lead_to_the_app_and_redeem_nothing(person: Person) -> None:
    callbacks: list[str] = []

    def remember(request: Request) -> None:
        if "/bff/callback" in request.url:
            callbacks.append(request.url)

    page = await person.open()
    page.on("request", remember)
    await person.sign_in(page)
    await page.goto(callbacks[0])
    await expect(page.locator("#who")).to_have_text("Ada Lindqvist")
    assert page.url == f"{person.site.app}/"
    await page.go_back()
    await page.goto(f"{person.site.app}/")
    await person.press(page, "orders", "The orders")


@pytest.mark.row("CB-1", "CB-4")
async def test_a_refused_consent_is_a_page_that_offers_another_try(person: Person) -> None:
    page = await person.open()
    await page.click("[data-person=ben]")
    await page.wait_for_url(f"{person.site.provider}/**")
    await page.click("button[value=ben]")
    await page.click("button[value=deny]")
    await expect(page.locator("h1")).to_have_text("Sign-in was cancelled")
    await person.photograph(page, "cancelled")
    assert await person.app_cookies() == {}
    await page.click("text=Try again")
    await page.wait_for_url(f"{person.site.provider}/**")


@pytest.mark.row("CB-5")
async def test_a_silent_sign_in_that_finds_nobody_comes_back_without_a_page_and_without_a_loop(person: Person) -> None:
    page = await person.open("/bff/login?prompt=none&return_to=/")
    await expect(page.locator("#sign-in")).to_be_visible()
    assert page.url == f"{person.site.app}/"
    await person.sign_in(page)
    await page.goto(f"{person.site.app}/bff/login?prompt=none&return_to=/")
    await expect(page.locator("#who")).to_have_text("Ada Lindqvist")


@pytest.mark.row("STEPUP-2", "STEPUP-4", "STEPUP-6", "SESS-2")
async def test_payments_ask_for_a_second_factor_and_the_session_gets_a_new_id(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    before = await person.app_cookies()
    await person.press(page, "payments", "This needs a stronger sign-in")
    assert await person.app_cookies() == before, "a refusal costs nobody a session"
    await page.click("text=Confirm that it is you")
    await person.answer_provider(page, "ada")
    await expect(page.locator("#result-title")).to_have_text("Now you may")
    after = await person.app_cookies()
    assert list(after) == [SESSION_COOKIE] and after != before
    await page.click("#do-orders")
    await expect(page.locator("#result-title")).to_have_text("The orders")


@pytest.mark.row("STEPUP-4")
async def test_another_person_cannot_step_up_somebody_elses_session(person: Person) -> None:
    page = await person.open()
    await person.sign_in(page)
    before = await person.app_cookies()
    await person.press(page, "payments", "This needs a stronger sign-in")
    await page.click("text=Confirm that it is you")
    await person.answer_provider(page, "ben")
    await expect(page.locator("h1")).to_have_text("This sign-in does not fit")
    assert await person.app_cookies() == before
    await page.click("text=Back to the app")
    await expect(page.locator("#who")).to_have_text("Ada Lindqvist")


@pytest.mark.row("CSRF-2", "CSRF-3", "S15")
async def test_a_page_of_the_same_site_but_another_origin_gets_nothing_although_the_cookie_is_sent(person: Person, site: Site) -> None:
    page = await person.open()
    await person.sign_in(page)
    evil = await _page_of(person, site.stranger)
    order = '{"item": "Taken by a stranger", "quantity": 1}'
    forged = f"fetch('{site.app}/api/orders', {{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{order}'}})"
    await evil.evaluate(f"() => {forged}.catch(() => null)")
    form = f"Object.assign(document.createElement('form'), {{method: 'post', action: '{site.app}/bff/logout'}})"
    assert await _status_of(person, evil, f"document.body.appendChild({form}).submit()") == 403
    await person.press(page, "orders", "The orders")
    await expect(page.locator("#result-body")).not_to_contain_text("Taken by a stranger")


@pytest.mark.row("CSRF-8", "F20")
async def test_a_link_on_another_site_starts_no_login(person: Person, site: Site) -> None:
    evil = await _page_of(person, "https://elsewhere.other.test")
    assert await _status_of(person, evil, f"location.assign('{site.app}/bff/login')") == 403
    assert await person.app_cookies() == {}


async def _page_of(person: Person, origin: str) -> Page:
    """An empty page of ``origin``, in the same browser profile."""
    page = await person.context.new_page()
    await page.route(f"{origin}/*", lambda route: route.fulfill(content_type="text/html", body="<!doctype html><title>evil</title><body>"))
    await page.goto(f"{origin}/")
    return page


async def _status_of(person: Person, page: Page, script: str) -> int:
    """What the app answers to the navigation that ``script`` starts."""
    async with page.expect_response(lambda response: response.url.startswith(person.site.app)) as answered:
        await page.evaluate(f"() => {{ {script}; }}")
    return (await answered.value).status


async def test_the_app_can_be_used_by_keyboard_and_says_what_its_controls_are(person: Person) -> None:
    page = await person.open()
    await expect(page.locator("#sign-in")).to_be_visible()
    await page.keyboard.press("Tab")
    assert await page.evaluate("() => document.activeElement.className") == "skip"
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, a')]
            .filter((one) => !one.textContent.trim() && !one.labels?.length && !one.getAttribute('aria-label')).length"""
    )
    assert nameless == 0
    await page.focus("#sign-in")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{person.site.provider}/**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_of_the_page_stands_out_from_its_ground(person: Person, scheme: str) -> None:
    page = await person.open()
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await person.sign_in(page)
    await expect(page.locator("#result-title")).to_have_text("The orders")
    weak = await page.evaluate(CONTRAST)
    assert weak == []
    await person.photograph(page, f"signed-in-{scheme}")


CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


async def test_on_a_telephone_nothing_sticks_out(person: Person) -> None:
    page = await person.open()
    await page.set_viewport_size({"width": 360, "height": 740})
    await person.sign_in(page)
    await person.press(page, "payments", "This needs a stronger sign-in")
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
    await person.photograph(page, "telephone")
