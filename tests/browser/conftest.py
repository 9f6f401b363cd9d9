"""A real Chromium from the distribution, one for all tests here; one context (a browser profile) for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.person import Person
from tests.browser.sites import Site, http_site, https_site
from tests.harness.background import Background

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP *.other.test 127.0.0.1",
]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "Chromium is not installed (apt-get install chromium)"
        if "browser" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(chromium_path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, headless=True, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session", params=["http", "https"])
def site(request: pytest.FixtureRequest, chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.param == "http":
        with http_site() as started:
            yield started
        return
    background = Background()
    with https_site(tmp_path_factory.mktemp("https"), background) as started:
        yield started
    background.close()


@pytest_asyncio.fixture(loop_scope="session")
async def person(chromium: Browser, site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    """Somebody at a browser who has never been here. Errors on the page fail the test at its end."""
    context = await chromium.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(10_000)
    someone = Person(context, site, tmp_path_factory.getbasetemp())
    yield someone
    await context.close()
    assert someone.complaints == []
