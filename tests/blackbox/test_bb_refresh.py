"""Renewal: once per session however many wait, over workers too; only invalid_grant ends a session."""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Wire, address_of, head_bytes
from tests.harness.people import user
from tests.harness.provider import sub_of
from tests.harness.world import World


async def with_old_token(world: World, person: str = "ada", life_s: int = 2) -> Browser:
    """Signed in with an access token that has just expired; the next one lives long."""
    world.provider.knobs(access_token_s=life_s)
    browser = await world.signed_in(person)
    world.provider.knobs(access_token_s=300)
    await asyncio.sleep(life_s + 0.1)
    return browser


def refreshes(world: World, **match: Any) -> list[dict[str, Any]]:
    return world.provider.ledger("refresh_token", **match)


@pytest.mark.row("TOKEN-6", "F1")
async def test_fifty_calls_on_an_expired_token_cause_one_refresh_and_all_succeed(world: World) -> None:
    browser = await with_old_token(world)
    answers = await asyncio.gather(*(browser.fetch("/record/x") for _ in range(50)))
    assert [answer.status for answer in answers] == [200] * 50 and len(refreshes(world)) == 1
    assert {answer.json()["sub"] for answer in answers} == {sub_of("ada")}


@pytest.mark.row("TOKEN-6", "F1", "RC1")
async def test_two_workers_refresh_once_and_the_family_lives(two_workers: World) -> None:
    world = two_workers
    world.quiet()
    browsers = [await with_old_token(world, person, 1) for person in ("ada", "ben")]
    calls = [browser.fetch("/record/x") for _ in range(25) for browser in browsers]
    answers = await asyncio.gather(*calls)
    assert [answer.status for answer in answers] == [200] * 50
    used = [entry["refresh_in"] for entry in refreshes(world)]
    assert len(used) == len(set(used)) == 2 and not refreshes(world, outcome="invalid_grant")
    connections = {seen.connection for seen in world.recorder.seen}
    assert len(connections) >= 2


@pytest.mark.row("TOKEN-7", "F3", "RC1")
async def test_rounds_of_refresh_over_two_workers_form_one_chain(two_workers: World) -> None:
    world = two_workers
    world.quiet()
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in("chloe")
    for _ in range(4):
        await asyncio.sleep(1.1)
        answers = await asyncio.gather(*(browser.fetch("/record/x") for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
    chain = refreshes(world, outcome="ok")
    assert all(later["refresh_in"] == earlier["refresh_out"] for earlier, later in pairwise(chain))
    assert not refreshes(world, outcome="invalid_grant") and len(chain) <= 8


@pytest.mark.row("TOKEN-13")
async def test_the_token_is_renewed_before_it_expires(world: World) -> None:
    world.provider.knobs(access_token_s=3)
    browser = await world.signed_in("ben")
    for _ in range(14):
        answer = await browser.fetch("/record/x")
        assert answer.status == 200
        await asyncio.sleep(0.3)
    assert all(seen.claims["exp"] > time.time() - 4.5 for seen in world.recorder.seen)
    assert refreshes(world)


@pytest.mark.row("TOKEN-8", "F4")
async def test_a_caller_that_hangs_up_does_not_lose_the_rotated_token(world: World) -> None:
    browser = await with_old_token(world)
    world.provider.fault("token", delay_s=0.6, after=True, times=1)
    wire = await Wire.open(address_of(world.app))
    url = f"{world.app}/record/x"
    cookie = browser.jar.header(url, initiator=url, navigation=False)
    await wire.send(head_bytes("GET", url, [("X-CSRF", "1"), ("Origin", world.app), ("Cookie", cookie)]))
    await asyncio.sleep(0.2)
    await wire.close()
    await asyncio.sleep(0.8)
    assert (await browser.fetch("/record/x")).status == 200
    assert len(refreshes(world)) == 1


@pytest.mark.row("TOKEN-9", "F25", "F27", "F32")
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "1"}}, {"body": "html"}, {"body": "empty"},
        {"body": "array"}, {"body": "truncated"}, {"body": "redirect"}, {"body": "number"}, {"body": "huge"}, {"error": "server_error"},
        {"error": "invalid_client", "status": 401}, {"error": "temporarily_unavailable", "status": 503},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values() if not isinstance(value, dict)),
)
async def test_a_refresh_that_fails_for_any_reason_but_invalid_grant_keeps_the_session(world: World, fault: dict[str, Any]) -> None:
    browser = await with_old_token(world, life_s=1)
    world.provider.fault("token", **fault)
    answer = await browser.fetch("/record/x")
    assert answer.status in (502, 503) and not answer.all("set-cookie"), (answer.status, answer.text)
    if answer.status == 503:
        assert answer.header("retry-after")
    assert await user(browser, world.app) and not world.recorder.seen
    world.provider.reset()
    for _ in range(60):
        answer = await browser.fetch("/record/x")
        if answer.status == 200:
            break
        await asyncio.sleep(0.2)
    assert answer.status == 200, (answer.status, answer.text)


@pytest.mark.row("TOKEN-9")
async def test_invalid_grant_ends_the_session(world: World) -> None:
    browser = await with_old_token(world)
    world.provider.fault("token", error="invalid_grant")
    answer = await browser.fetch("/record/x")
    assert answer.status == 401 and not world.recorder.seen
    world.provider.reset()
    assert await user(browser, world.app) is None


@pytest.mark.row("TOKEN-7")
async def test_an_answer_without_a_refresh_token_keeps_the_old_one(world: World) -> None:
    world.provider.knobs(rotation="off", access_token_s=1)
    browser = await world.signed_in("ben")
    for _ in range(2):
        await asyncio.sleep(1.1)
        assert (await browser.fetch("/record/x")).status == 200
    assert len({entry["refresh_in"] for entry in refreshes(world)}) == 1


@pytest.mark.row("TOKEN-4")
async def test_scopes_that_the_provider_took_away_are_gone_here_too(world: World) -> None:
    world.provider.knobs(narrow_scopes=["openid", "profile", "offline_access", "orders:read"])
    browser = await world.signed_in("ben")
    refused = await browser.fetch("/writers/x")
    assert (refused.status, refused.code) == (403, "insufficient_scope") and not world.recorder.seen


@pytest.mark.row("TOKEN-1", "TOKEN-2", "TOKEN-3")
@pytest.mark.parametrize(
    ("members", "works"),
    [
        ({"token_type": "bearer"}, True), ({"token_type": "BEARER"}, True), ({"token_type": "mac"}, False), ({"access_token": 17}, False),
        ({"expires_in": "soon"}, True), ({"expires_in": -5}, True), ({"expires_in": 10**12}, True), ({"unknown": {"x": [1]}}, True),
        ({"access_token": ""}, False), ({"id_token": None}, False),
    ],
    ids=str,
)
async def test_unusual_token_answers_work_and_wrong_ones_sign_nobody_in(world: World, members: dict[str, Any], works: bool) -> None:
    world.provider.knobs(token_members=members, auto_login="ben")
    browser = Browser()
    page = await world.sign_in(browser, "ben")
    assert (page.status == 200) is works, (page.status, page.url)
    assert (await user(browser, world.app) is not None) is works
    if works:
        assert (await browser.fetch("/record/x")).status == 200


@pytest.mark.row("CB-6", "F20")
async def test_a_token_endpoint_that_never_answers_is_asked_once_and_the_person_gets_a_page(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.knobs(faults={"token": {"delay_s": 60.0}}, auto_login="ada")
    browser = Browser(timeout_s=30)
    page = await world.sign_in(browser)
    assert page.status in (502, 503, 504) and "text/html" in (page.answer.header("content-type") or "")
    assert world.provider.requests("token") == 1
    with contextlib.suppress(OSError):
        world.provider.reset()
    assert (await world.sign_in(Browser())).status == 200
