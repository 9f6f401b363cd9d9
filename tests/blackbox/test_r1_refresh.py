"""A provider that has rotated the refresh token and takes its time to say so."""

from __future__ import annotations

import asyncio

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.provider import sub_of


@pytest.mark.row("F2", "F6", "TOKEN-7")
async def test_a_rotation_answered_after_every_caller_has_given_up_still_reaches_the_session(make_world: MakeWorld) -> None:
    """The provider is strict and revokes the family at reuse: whoever hangs up on it and asks again has signed the user out."""
    world = make_world(config={"server": {"workers": 2, "grace": "3s"}})
    world.product.wait_workers(2)
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    await asyncio.sleep(2.1)
    world.provider.knobs(access_token_s=60, faults={"token": {"delay_s": 11.5, "after": True, "times": 1}})
    answers = await asyncio.gather(*(browser.stolen_copy().fetch("/record/x") for _ in range(8)))
    assert {answer.status for answer in answers} == {503}
    assert all(answer.header("retry-after") and not answer.all("set-cookie") for answer in answers)
    await asyncio.sleep(2.5)
    after = await browser.fetch("/record/x")
    assert (after.status, after.json()["sub"]) == (200, sub_of("ada"))
    assert [entry["outcome"] for entry in world.provider.ledger("refresh_token")] == ["ok"]
