"""nginx repeats our answers for a few seconds: never to another request, and a sign-out is at most that much later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.forward_auth.conftest import browser_through
from tests.forward_auth.fronts import FrontProxy
from tests.forward_auth.judging import at_the_door, through
from tests.forward_auth.test_fronts_verdicts import OWN, SAMPLES, filled
from tests.harness.jar import Jar
from tests.harness.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CACHE_S = 3


@pytest.fixture
def front(world: World, start: Callable[..., FrontProxy]) -> FrontProxy:
    return start("nginx", "--cache", f"{CACHE_S}s")


def questions(world: World) -> int:
    """How many requests the door has answered: the access log is written a few times a second."""
    time.sleep(0.6)
    return len(world.product.events("request"))


async def test_the_same_request_asks_once_and_another_asks_again(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    headers = filled({**OWN, "X-CSRF": "1"}, world, adas_jar.header(f"{world.app}/"))
    before = questions(world)
    for _ in range(6):
        assert (await through(front, world, "GET", "/record/once", headers)).answer.status == 200
    assert questions(world) - before in (1, 2)  # two if the time was over in between
    before = questions(world)
    for target in ("/record/once?a", "/record/other"):
        assert (await through(front, world, "GET", target, headers)).answer.status == 200
    assert (await through(front, world, "POST", "/record/once", headers, b"{}")).answer.status == 200
    assert questions(world) - before == 3


@pytest.mark.row("CSRF-1", "CSRF-2", "CSRF-3", "CSRF-4", "CSRF-5")
async def test_a_repeated_yes_never_serves_a_request_that_the_door_refuses(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    """Every sample of the truth table right after a yes for the same target and cookie."""
    cookie = adas_jar.header(f"{world.app}/")
    good = filled({**OWN, "X-CSRF": "1"}, world, cookie)
    different = []
    for sample in SAMPLES:
        for sent in (cookie, "", cookie[:-4] + "AAAA", "__Host-Http-bff=x; " + cookie):
            assert (await through(front, world, "POST", "/record/x", good, b"{}")).answer.status == 200
            headers = filled(sample, world, sent)
            door = await at_the_door(world, "POST", "/record/x", headers, b"{}")
            here = await through(front, world, "POST", "/record/x", headers, b"{}")
            if door.meaning != here.meaning:
                different.append((sample, sent[:20], door.meaning, here.meaning))
    assert different == []


@pytest.mark.row("SESS-10", "ZTA-2")
async def test_a_sign_out_holds_within_the_stated_time(front: FrontProxy, world: World) -> None:
    browser = browser_through(front, world)
    await world.sign_in(browser)
    thief = browser.stolen_copy()
    page = f"{world.app}/"
    assert (await thief.fetch("/record/x", page=page)).status == 200
    assert (await browser.fetch("/bff/logout", method="POST")).status in (200, 303)
    began = time.monotonic()
    while (await thief.fetch("/record/x", page=page)).status == 200:
        assert time.monotonic() - began < CACHE_S + 1.5
        await asyncio.sleep(0.1)
    assert (await thief.fetch("/record/never-asked", page=page)).status == 401
    # The browser that signed out has no cookie any more: for it the sign-out holds at once.
    assert (await browser.fetch("/record/x", page=page)).status == 401


async def test_a_refusal_is_never_repeated(front: FrontProxy, world: World) -> None:
    headers = filled({**OWN, "X-CSRF": "1"}, world, "")
    before = questions(world)
    for _ in range(3):
        assert (await through(front, world, "GET", "/record/x", headers)).answer.status == 401
    assert questions(world) - before == 3


@pytest.mark.row("ZTA-2")
async def test_no_answer_outlives_its_token(front: FrontProxy, world: World) -> None:
    """A token that ends within the cache's time: the API never sees it afterwards."""
    world.provider.knobs(access_token_s=2)
    browser = browser_through(front, world)
    await world.sign_in(browser)
    for _ in range(40):
        began = time.time()
        assert (await browser.fetch("/record/x")).status == 200
        assert world.recorder.seen[-1].claims["exp"] >= began - 0.5
        await asyncio.sleep(0.1)


@pytest.mark.row("H1", "H4", "REQH-6")
async def test_a_repeated_yes_carries_no_header_that_we_have_not_seen(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    """The question is not asked again, so nothing but known headers may ride along."""
    good = filled({**OWN, "X-CSRF": "1"}, world, adas_jar.header(f"{world.app}/"))
    for name in ("X-User", "X-User-Invented", "X-Auth-Something-New", "X-Forwarded-Whatever", "Authorization", "X-Role"):
        assert (await through(front, world, "GET", "/record/x", good)).answer.status == 200
        here = await through(front, world, "GET", "/record/x", [*good, (name, "admin")])
        for seen in here.seen:
            assert "admin" not in [value for _, value in seen.headers], name
    here = await through(front, world, "POST", "/record/x", [*good, ("Content-Type", "text/plain"), ("If-None-Match", '"1"')], b"body")
    (seen,) = here.seen
    assert (seen.header("content-type"), seen.header("if-none-match"), seen.body) == ("text/plain", '"1"', b"body")
