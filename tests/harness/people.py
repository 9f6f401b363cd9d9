"""Signing in as a person would: open the app, go to login, fill the provider's forms."""

from __future__ import annotations

from urllib.parse import quote

from tests.harness.browser import Browser, Page
from tests.harness.forms import Form
from tests.harness.jar import origin_of


def answer_form(form: Form, person: str) -> dict[str, object] | None:
    """How this person answers a form of the development provider; None when it is not one of its forms."""
    buttons = dict((value, (name, value)) for name, value in form.buttons)
    if person in buttons:
        return {"button": buttons[person]}
    if "allow" in buttons:
        return {"button": buttons["allow"]}
    return None


async def go_through(browser: Browser, page: Page, *, person: str, app: str) -> Page:
    """Fill forms until the browser is back at the app, or the provider shows something that is no question."""
    for _ in range(8):
        if origin_of(page.url) == origin_of(app) or not page.forms:
            return page
        form = page.forms[0]
        answer = answer_form(form, person)
        if answer is None:
            return page
        page = await browser.submit(form, **answer)  # type: ignore[arg-type]
    raise AssertionError(f"the provider asks for ever: {page.url}")


async def sign_in(browser: Browser, app: str, *, person: str = "ada", return_to: str = "/", query: str = "") -> Page:
    """The whole sign-in from the app's own page; the page where the browser ends up."""
    if browser.page is None:
        await browser.navigate(f"{app}/")
    page = await browser.link(f"{app}/bff/login?return_to={quote(return_to, safe='/')}{query}")
    return await go_through(browser, page, person=person, app=app)


async def user(browser: Browser, app: str) -> dict[str, object] | None:
    """What /bff/user says, None when signed out."""
    answer = await browser.fetch(f"{app}/bff/user", page=f"{app}/")
    assert answer.status in (200, 401), (answer.status, answer.text)
    return answer.json() if answer.status == 200 else None  # type: ignore[no-any-return]
