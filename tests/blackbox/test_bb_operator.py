"""For the people who run it: where to open it, what is wrong when the provider is gone, and an end that cannot wait."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.programs import wait_until


@pytest.mark.row("OPS-1")
async def test_the_line_of_the_start_names_the_address_to_open_beside_the_one_it_listens_at(make_world: MakeWorld) -> None:
    """A sign-in that begins at the second ends without its cookie: that is the first's."""
    product = make_world().product
    wait_until(lambda: bool(product.events("serving")), what="the line")
    [line] = product.events("serving")
    assert (line["listen"], line["open"]) == (f"127.0.0.1:{product.port}", product.origin)


@pytest.mark.row("F24")
async def test_a_provider_that_is_gone_is_logged_as_a_failure_with_the_address_that_was_asked(make_world: MakeWorld) -> None:
    world = make_world()
    product = world.product
    assert not product.events("provider_fetch_failed")
    product.stop()
    world.provider.stop()
    before = len(product.events("key_set_fetched"))
    product.start(wait=False)
    wait_until(lambda: len(product.events("provider_fetch_failed")) >= 2, what="two failures")
    line = product.events("provider_fetch_failed")[0]
    assert (line["level"], line["outcome"], line["what"]) == ("warning", "provider_unavailable", "metadata")
    asked = f"GET {world.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    assert line["why"].startswith(f"{asked}: ConnectError")
    assert len(product.events("key_set_fetched")) == before
    count = 'bff_security_events_total{event="key_set_fetched",outcome="failed"}'
    assert count in product.manage("/metrics")[1]


@pytest.mark.row("OPS-6")
@pytest.mark.parametrize(("drain_delay", "served"), [("20s", True), ("0s", False)])
async def test_a_second_ctrl_c_ends_it_at_once_with_whoever_is_still_served(make_world: MakeWorld, drain_delay: str, served: bool) -> None:
    """In the time for load balancers as well as in that for running requests; what sessions did last is kept all the same."""
    world = make_world(config={"server": {"workers": 2, "drain_delay": drain_delay, "grace": "20s"}})
    browser, program = await world.signed_in(), world.product.program
    assert program is not None
    slow = asyncio.ensure_future(browser.fetch("/api/slow?seconds=15"))
    await asyncio.sleep(0.5)
    program.signal(signal.SIGINT)
    await asyncio.sleep(1.0)
    assert program.running and not slow.done()
    if served:
        assert (await browser.fetch("/record/x")).status == 200
    begun = time.monotonic()
    program.signal(signal.SIGINT)
    assert await asyncio.to_thread(program.wait, 10) == 0
    assert time.monotonic() - begun < 5.0
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await slow
    assert [entry["role"] for entry in world.product.events("drain_cut_short")] == ["supervisor"]
    assert len(world.product.events("drained")) == 2
    world.product.start()
    assert (await browser.fetch("/record/x")).status == 200
