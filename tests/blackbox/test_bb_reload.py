"""SIGHUP from outside: routes come anew, and with them what a login has to ask for and a session has to keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.programs import wait_until
from tests.harness.world import SECRET, World

MakeWorld = Callable[..., World]


@pytest.mark.row("OPS-2", "STEPUP-3")
async def test_new_routes_decide_by_new_claims_acr_and_audiences_without_a_restart(make_world: MakeWorld) -> None:
    world = make_world()
    before = await world.signed_in()
    assert (await before.fetch("/bosses/x")).status == 404
    up = world.recorder.url
    world.product.config["routes"] += [
        {"path": "/bosses/", "upstream": f"{up}/up/", "claims": {"roles": ["manager"]}},
        {"path": "/strong/", "upstream": f"{up}/up/", "acr": ["phr"]},
        {"path": "/third/", "upstream": f"{up}/up/", "audience": "https://third.example.com"},
    ]
    world.product.write_config()
    world.product.reload()
    wait_until(lambda: bool(world.product.events("config_reloaded")), what="reload")
    assert (await before.fetch("/bosses/x")).code == "claim_required"
    browser = await world.signed_in()
    assert (await browser.fetch("/bosses/x")).status == 200
    assert (await browser.fetch("/third/x")).status == 200
    assert world.recorder.seen[-1].claims["aud"] == "https://third.example.com"
    begun = await browser.navigate(f"{world.app}/bff/login?acr_values=phr")
    assert begun.hops[0].status == 302, begun.text[-400:]


@pytest.mark.row("OPS-2")
async def test_what_a_reload_does_not_take_is_named_once_and_not_again_when_it_is_taken_back(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 2}})
    product = world.product
    product.config["session"]["idle"] = "7m"
    product.config["provider"]["client_secret"] = "never-shown-8c1f"
    product.config["routes"].append({"path": "/more/", "upstream": f"{world.recorder.url}/up/"})
    product.write_config()
    product.reload()
    wait_until(lambda: len(product.events("config_reloaded")) == 2, what="reload")
    [line] = product.events("config_needs_restart")
    assert (line["level"], line["settings"]) == ("warning", ["session.idle", "provider.client_secret"])
    assert "never-shown" not in product.logs
    assert {entry["routes"] for entry in product.events("config_reloaded")} == {len(product.config["routes"])}
    product.config["session"]["idle"] = "30m"
    product.config["provider"]["client_secret"] = SECRET
    product.write_config()
    product.reload()
    wait_until(lambda: len(product.events("config_reloaded")) == 4, what="reload")
    assert len(product.events("config_needs_restart")) == 1
