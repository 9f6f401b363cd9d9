"""What the people who run it read: where to open it, and what is wrong when the provider is gone."""

from __future__ import annotations

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
    assert line["why"] == f"GET {world.provider.issuer.rstrip('/')}/.well-known/openid-configuration: ConnectError"
    assert len(product.events("key_set_fetched")) == before
    count = 'bff_security_events_total{event="key_set_fetched",outcome="failed"}'
    assert count in product.manage("/metrics")[1]
