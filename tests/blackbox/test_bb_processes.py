"""Processes: restarts, killed workers, a store or provider that is away. Each test has a world of its own to break."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.people import user
from tests.harness.programs import wait_until
from tests.harness.provider import sub_of


@pytest.mark.row("SESS-14", "OPS-1", "F47")
async def test_a_restart_keeps_every_session(make_world: MakeWorld) -> None:
    world = make_world()
    browsers = {person: await world.signed_in(person) for person in ("ada", "ben", "chloe")}
    assert world.product.stop() == 0
    world.product.start()
    for person, browser in browsers.items():
        assert (await user(browser, world.app) or {})["sub"] == sub_of(person)
        assert (await browser.fetch("/record/x")).json()["sub"] == sub_of(person)


@pytest.mark.row("F48")
async def test_a_crash_loses_no_session_that_was_acknowledged(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    gone = await world.signed_in("ben")
    await gone.fetch("/bff/logout", method="POST")
    world.product.crash()
    world.product.start()
    assert await user(browser, world.app)
    assert await user(gone, world.app) is None


@pytest.mark.row("F48")
async def test_a_killed_worker_is_replaced_and_costs_no_session(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 2, "grace": "3s"}})
    world.product.wait_workers(2)
    browser = await world.signed_in()
    before = world.product.workers()
    os.kill(before[0], signal.SIGKILL)
    failed = 0
    for _ in range(30):
        try:
            failed += (await browser.fetch("/record/x")).status != 200
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
    assert failed <= 1
    wait_until(lambda: len(set(world.product.workers()) - {before[0]}) >= 2, what="a new worker")
    assert await user(browser, world.app)


@pytest.mark.row("SESS-14", "F36", "F40")
async def test_a_store_that_cannot_be_asked_is_503_and_never_a_logout(make_world: MakeWorld) -> None:
    world = make_world(config={"session": {"store": "sqlite:sessions.db", "keys_file": "keys.json"}})
    browser = await world.signed_in()
    lock = sqlite3.connect(world.folder / "sessions.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        page = await world.sign_in(Browser(timeout_s=30), "ben")
        assert page.status == 503, (page.status, page.text[:300])
        answer = await browser.fetch("/bff/user")
        assert answer.status in (200, 503) and not answer.all("set-cookie")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert (await world.sign_in(Browser(), "ben")).status == 200
    assert await user(browser, world.app)


@pytest.mark.row("F24", "OPS-2")
async def test_it_starts_without_its_provider_and_serves_who_is_signed_in(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    world.product.stop()
    world.provider.program.stop()
    start = time.monotonic()
    world.product.start(wait=False)
    wait_until(lambda: _alive(world), timeout_s=15, what="healthz")
    assert time.monotonic() - start < 10
    assert await user(browser, world.app) and (await browser.fetch("/record/x")).status == 200
    page = await world.sign_in(Browser(), "ben")
    assert page.status == 503 and page.answer.header("retry-after")
    world.provider.program = world.provider._start()
    for _ in range(100):
        page = await world.sign_in(Browser(), "ben")
        if page.status == 200:
            break
        await asyncio.sleep(0.2)
    assert page.status == 200


def _alive(world: object) -> bool:
    try:
        return world.product.manage("/healthz")[0] == 200  # type: ignore[attr-defined,no-any-return]
    except OSError:
        return False


@pytest.mark.row("F29", "F28", "JWKS-1")
async def test_keys_that_cannot_be_fetched_later_do_not_harm_logins_with_known_ones(make_world: MakeWorld) -> None:
    world = make_world()
    await world.signed_in()
    for fault in ({"status": 500}, {"body": "html"}, {"body": "empty"}, {"body": "array"}):
        world.provider.fault("jwks", **fault)
        assert (await world.sign_in(Browser(), "ben")).status == 200
    world.provider.reset()
    world.provider.rotate_keys()
    assert (await world.sign_in(Browser(), "ben")).status == 200


@pytest.mark.row("TOKEN-10", "F28")
async def test_access_tokens_that_the_api_no_longer_believes_are_renewed_once(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    assert (await browser.fetch("/api/orders")).status == 200
    world.provider.expire_tokens()
    await asyncio.sleep(1.2)
    assert (await browser.fetch("/api/orders")).status == 200
    assert len(world.provider.ledger("refresh_token", outcome="ok")) == 1


@pytest.mark.row("F47", "OPS-6")
async def test_sigterm_lets_running_calls_finish_and_ends_with_zero(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 1, "grace": "5s"}})
    browser = await world.signed_in()
    running = asyncio.create_task(browser.fetch("/api/slow?seconds=1.5"))
    await asyncio.sleep(0.4)
    assert world.product.program is not None
    world.product.program.signal(signal.SIGTERM)
    answer = await running
    assert answer.status == 200 and answer.json()["sub"] == sub_of("ada")
    assert await asyncio.to_thread(world.product.program.wait, 15) == 0


@pytest.mark.row("F46", "SESS-8")
async def test_rotated_keys_sign_nobody_out(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    old_cookie = browser.jar.get("__Host-Http-bff")
    rotated = world.product.run_command("keys", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    world.product.reload()
    wait_until(lambda: bool(world.product.events("keys_reloaded")) or "reload" in world.product.logs, what="reload")
    assert await user(browser, world.app)
    world.product.restart()
    assert await user(browser, world.app) and old_cookie
    assert (await world.sign_in(Browser(), "ben")).status == 200


@pytest.mark.row("OPS-2", "OPS-3")
async def test_the_management_listener_tells_health_and_is_not_public(make_world: MakeWorld) -> None:
    world = make_world()
    assert world.product.manage("/healthz")[0] == 200 and world.product.manage("/readyz")[0] == 200
    status, metrics = world.product.manage("/metrics")
    assert status == 200 and "# TYPE" in metrics
    browser = Browser()
    for path in ("/metrics", "/healthz", "/readyz", "/sessions"):
        page = await browser.navigate(f"{world.app}{path}")
        assert "# TYPE" not in page.text and "ready" not in page.text


@pytest.mark.row("SESS-16")
async def test_an_administrator_ends_the_sessions_of_a_subject(make_world: MakeWorld) -> None:
    world = make_world()
    ada, ben = await world.signed_in("ada"), await world.signed_in("ben")
    listed = world.product.run_command("sessions", "list")
    assert listed.returncode == 0, listed.stderr
    ended = world.product.run_command("sessions", "end", "--subject", sub_of("ada"))
    assert ended.returncode == 0, ended.stderr
    await asyncio.sleep(1.3)
    assert await user(ada, world.app) is None and await user(ben, world.app)


@pytest.mark.row("F42", "SESS-14")
async def test_a_command_beside_the_running_product_does_not_pull_the_store_away(make_world: MakeWorld) -> None:
    """POSIX drops all of a process's locks on a file when any descriptor of it is closed: another process that closes
    the database would then take itself for the last one and delete the write-ahead log under the running workers."""
    world = make_world()
    browser = await world.signed_in()
    before = {path.name: path.stat().st_ino for path in world.folder.glob("sessions.db*")}
    assert world.product.run_command("sessions", "list").returncode == 0
    after = {path.name: path.stat().st_ino for path in world.folder.glob("sessions.db*")}
    assert {name: after.get(name) for name in before} == before
    world.product.crash()
    world.product.start()
    assert await user(browser, world.app)


@pytest.mark.row("SESS-9", "S6", "F40")
async def test_a_logout_at_one_worker_holds_at_the_others_within_a_second(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 2, "grace": "3s"}})
    world.product.wait_workers(2)
    browser = await world.signed_in()
    copies = [browser.stolen_copy() for _ in range(8)]
    await asyncio.gather(*(copy.fetch("/record/x") for copy in copies))
    await browser.fetch("/bff/logout", method="POST")
    await asyncio.sleep(1.2)
    answers = await asyncio.gather(*(copy.fetch("/record/x") for copy in copies))
    assert [answer.status for answer in answers] == [401] * 8


@pytest.mark.row("PAR-1")
@pytest.mark.parametrize("method", ["client_secret_post"])
async def test_other_client_authentication_and_demanded_par_work(make_world: MakeWorld, method: str) -> None:
    world = make_world(client={"client_auth": method, "require_par": True}, config={"provider": {"client_auth": method}})
    browser = await world.signed_in()
    assert (await browser.fetch("/api/orders")).status == 200 and world.provider.ledger("par")
