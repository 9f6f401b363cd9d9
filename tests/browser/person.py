"""What a person does at the example app, in words; Playwright underneath."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, expect

from tests.browser.sites import Site

SESSION_COOKIE = "__Host-Http-bff"
SEEN = """() => ({
    cookie: document.cookie, local: localStorage.length, session: sessionStorage.length,
})"""


class Person:
    """One browser profile and its tabs. ``complaints``: what the console said that a visitor should never cause."""

    def __init__(self, context: BrowserContext, site: Site, folder: Path) -> None:
        self.context = context
        self.site = site
        self.complaints: list[str] = []
        self._folder = folder / "screenshots"
        self._folder.mkdir(exist_ok=True)

    async def open(self, path: str = "/") -> Page:
        """A new tab on the app."""
        page = await self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        await page.goto(f"{self.site.app}{path}")
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium itself reports every 4xx answer as an error; those are asked for here.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    async def sign_in(self, page: Page, who: str = "ada") -> None:
        await page.click("#sign-in")
        await self.answer_provider(page, who)
        await expect(page.locator("#sign-out")).to_be_visible()

    async def answer_provider(self, page: Page, who: str = "ada") -> None:
        """Submit the provider's forms, with the mouse, until the app is back."""
        await page.wait_for_url(f"{self.site.provider}/**")
        await page.click(f"button[value={who}]")
        await page.wait_for_load_state()
        if page.url.startswith(self.site.provider):
            await page.click("button[value=allow]")
        await page.wait_for_url(f"{self.site.app}/**")

    async def sign_out(self, page: Page) -> None:
        """Through the provider's end_session, which knows us by the hint and asks nothing."""
        async with page.expect_request(lambda request: request.url.startswith(f"{self.site.provider}/end-session")):
            await page.click("#sign-out")
        await expect(page.locator("#sign-in")).to_be_visible()

    async def press(self, page: Page, action: str, outcome: str) -> None:
        """Press an action of the app and wait for its headline."""
        await page.click(f"#do-{action}")
        await expect(page.locator("#result-title")).to_have_text(outcome)

    async def app_cookies(self) -> dict[str, str]:
        """The cookies that the app's host has set in this profile, HttpOnly ones too."""
        host = urlsplit(self.site.app).hostname
        return {c["name"]: c["value"] for c in await self.context.cookies() if c["domain"].lstrip(".") == host}

    async def holds_nothing(self, page: Page) -> None:
        """Neither a cookie that scripts can read nor anything in storage."""
        assert await page.evaluate(SEEN) == {"cookie": "", "local": 0, "session": 0}

    async def photograph(self, page: Page, name: str) -> Path:
        path = self._folder / f"{self.site.name}-{name}.png"
        await page.screenshot(path=path, full_page=True)
        return path
