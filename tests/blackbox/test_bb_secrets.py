"""NOSECRET: after a whole life of sessions, no token, code, cookie, key or client secret stands anywhere it should not."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.canary import find_secrets, process_titles, read_places
from tests.harness.world import SECRET


@pytest.mark.row("PRIV-1", "ARCH-2", "K1", "SESS-13")
async def test_no_secret_is_in_logs_store_metrics_pages_or_process_titles(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in()
    cookies = [cookie.value for cookie in browser.jar.cookies if cookie.host == "localhost"]
    await asyncio.sleep(1.1)
    await browser.fetch("/api/orders")
    await browser.fetch("/other/x")
    for fault in ({"body": "html"}, {"error": "server_error"}):
        world.provider.fault("token", **fault)
        await world.sign_in(Browser(), "ben")
    world.provider.fault("token")
    world.provider.mutate(mode="bad_signature")
    failed = Browser()
    await world.sign_in(failed, "ben")
    await browser.fetch("/record/missing", headers={"Authorization": "Bearer " + "canary" * 8})
    metrics = world.product.manage("/metrics")[1].encode()
    database = read_places(*world.folder.glob("sessions.db*"))
    titles = process_titles([world.product.program.pid, *world.product.workers()] if world.product.program else [])
    second = await world.signed_in("chloe")
    cookies += [cookie.value for cookie in second.jar.cookies if cookie.host == "localhost"]
    await second.fetch("/bff/logout", method="POST")
    world.product.stop()
    keys = [key for key in _strings(json.loads((world.folder / "keys.json").read_text(encoding="utf-8"))) if len(key) > 30]
    secrets = [*world.provider.secrets(), *cookies, SECRET, "canary" * 8, *keys]
    assert len(secrets) > 20 and keys
    logs = read_places(*world.folder.glob("bff-*.log"))
    assert any(len(content) > 1000 for content in logs.values())
    assert find_secrets(secrets, {**logs, **database, **titles, "metrics": metrics}) == []
    browser_sees = {"browser": "".join([*browser.seen, *second.seen, *failed.seen]).encode()}
    passing = _addresses(browser, second, failed)
    others = [secret for secret in secrets if secret not in cookies and not any(secret in text for text in passing)]
    assert find_secrets(others, browser_sees) == []


def _addresses(*browsers: Browser) -> list[str]:
    """What the protocol itself sends through the browser: codes in addresses, the id_token_hint at logout."""
    return [text for browser in browsers for text in browser.seen if "location:" in text.lower() or "logout_url" in text]


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in _strings(one)]
    return [value] if isinstance(value, str) else []
