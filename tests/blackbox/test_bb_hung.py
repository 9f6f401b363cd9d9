"""Processes that are alive and do nothing, and those that die while everything is being stopped. Through the real product."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Address, Wire
from tests.harness.people import user
from tests.harness.programs import wait_until
from tests.harness.world import World

QUICK = {"workers": 1, "grace": "8s", "stuck_timeout": "3s"}


def told(world: World, event: str, role: str) -> int:
    return sum(1 for entry in world.product.events(event) if entry["role"] == role)


@pytest.mark.row("F48", "F53")
async def test_a_worker_that_hangs_is_replaced_and_nobody_is_signed_out(make_world: MakeWorld) -> None:
    world = make_world(config={"server": QUICK})
    browser = await world.signed_in()
    worker = world.product.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    begun = time.monotonic()
    answer = await browser.fetch("/record/x")  # waits in the queue of a door that nobody opens
    assert answer.status == 200
    assert time.monotonic() - begun < 10
    assert worker not in world.product.workers()
    assert told(world, "worker_stuck", "worker") == 1
    assert told(world, "worker_ended", "agent") == 0, "the agent was fine"


@pytest.mark.row("F48", "F53")
async def test_an_agent_that_hangs_is_replaced_and_whoever_waited_for_it_is_served(make_world: MakeWorld) -> None:
    world = make_world(config={"server": QUICK})
    browser = await world.signed_in()
    agent = world.product.agents()[0]
    os.kill(agent, signal.SIGSTOP)
    begun = time.monotonic()
    assert await user(browser, world.app)
    assert time.monotonic() - begun < 12
    assert agent not in world.product.agents()
    assert (told(world, "worker_stuck", "agent"), told(world, "worker_ended", "worker")) == (1, 0)


@pytest.mark.row("F48", "PRIV-1")
async def test_a_hung_process_says_where_it_hangs_and_nothing_else(make_world: MakeWorld) -> None:
    """The stack by file and line, no values; and no core file, which would hold every token."""
    world = make_world(config={"server": QUICK})
    await world.signed_in()
    agent = world.product.agents()[0]
    os.kill(agent, signal.SIGUSR2)
    wait_until(lambda: re.search(r'supervised\.py", line \d+ in main\n', world.product.logs) is not None, what="a whole stack")
    dump = world.product.logs.partition("(most recent call first):")[2]
    frames = [line for line in dump.splitlines() if line.startswith("  File ")]
    assert len(frames) > 3 and all(re.match(r'  File "[^"]+", line \d+ in [\w<>]+', frame) for frame in frames[:-1])
    assert world.product.agents() == [agent], "who answers is not killed"


@pytest.mark.row("F48", "PRIV-1")
def test_a_process_that_crashes_leaves_no_core_file(make_world: MakeWorld) -> None:
    """It would hold every token that the process does."""
    world = make_world()
    for pid in (*world.product.workers(), *world.product.agents()):
        (limit,) = (line.split()[4:6] for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core"))
        assert limit == ["0", "0"]


@pytest.mark.row("F48", "F47", "OPS-6")
async def test_an_agent_that_dies_in_the_middle_of_a_drain_is_replaced_and_its_callers_are_answered(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 1, "grace": "8s"}})
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300)
    await asyncio.sleep(2.1)
    agent = world.product.agents()[0]
    os.kill(agent, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(browser.fetch(path, page=f"{world.app}/")) for path in ("/bff/user", "/record/x")]
    await asyncio.sleep(0.5)
    assert world.product.program is not None
    world.product.program.signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    os.kill(agent, signal.SIGKILL)
    begun = time.monotonic()
    answers = await asyncio.gather(*waiting)
    assert [answer.status for answer in answers] == [200, 200], [answer.text for answer in answers]
    assert time.monotonic() - begun < 6
    assert await asyncio.to_thread(world.product.program.wait, 10) == 0
    assert time.monotonic() - begun < 8, "and its successor ends with the last worker"


@pytest.mark.row("F47", "OPS-6")
async def test_an_agent_that_is_started_in_a_drain_says_that_it_is_not_ready(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 1, "grace": "8s"}})
    browser = await world.signed_in()
    slow = asyncio.ensure_future(browser.fetch("/api/slow?seconds=5"))
    await asyncio.sleep(0.4)
    agent = world.product.agents()[0]
    assert world.product.program is not None
    world.product.program.signal(signal.SIGTERM)
    wait_until(lambda: world.product.manage("/readyz")[0] == 503, what="the drain")
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: len(world.product.events("agent_serving")) == 2, what="another agent")
    status, text = world.product.manage("/readyz")
    assert status == 503 and "draining" in text
    assert (await slow).status == 200
    assert await asyncio.to_thread(world.product.program.wait, 10) == 0


def test_systemd_hears_regularly_that_the_supervisor_lives(make_world: MakeWorld) -> None:
    world = make_world()
    world.product.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{world.folder}/notify")
        listening.settimeout(10)
        world.product._env = {"NOTIFY_SOCKET": f"{world.folder}/notify", "WATCHDOG_USEC": "1000000"}
        world.product.start()
        heard = [(listening.recv(64), time.monotonic()) for _ in range(6)]
        assert heard[0][0] == b"READY=1"
        assert {said for said, _ in heard[1:]} == {b"WATCHDOG=1"}
        assert max(later - sooner for (_, sooner), (_, later) in itertools.pairwise(heard)) < 1.0
        assert world.product.stop() == 0


def ready(world: World) -> tuple[int, dict[str, Any]]:
    status, text = world.product.manage("/readyz")
    return status, json.loads(text)


@pytest.mark.row("F53", "OPS-6")
def test_an_instance_without_a_worker_that_answers_is_not_ready(make_world: MakeWorld) -> None:
    world = make_world()
    worker = world.product.workers()[0]
    assert ready(world) == (200, {"status": "ready", "obstacles": [], "degraded": []})
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_until(lambda: ready(world)[1]["degraded"] == ["loop_lag"], what="a word of it")
        wait_until(lambda: ready(world)[0] == 503, what="the end of its patience")
        assert ready(world)[1]["obstacles"] == ["no_worker"]
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: ready(world)[0] == 200, what="its return")
    wait_until(lambda: ready(world)[1]["degraded"] == [], timeout_s=60, what="that it is forgotten")


def lags(world: World, process: str) -> dict[float, float]:
    """How many turns of these loops were late by at most so many seconds, and by any."""
    found = re.findall(rf'bff_event_loop_lag_seconds_bucket{{le="([^"]+)",process="{process}"}} (\S+)', world.product.manage("/metrics")[1])
    return {float(bound): float(count) for bound, count in found}


@pytest.mark.row("F53")
def test_a_loop_that_was_held_up_is_seen_in_the_metrics(make_world: MakeWorld) -> None:
    world = make_world()
    worker = world.product.workers()[0]

    def late() -> float:
        seen = lags(world, "worker")
        return seen[float("inf")] - seen[0.5]

    wait_until(lambda: lags(world, "worker").get(float("inf"), 0) >= 8, what="some turns")
    before = late()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: late() > before, what="the late one")


@pytest.mark.row("F53", "F32")
async def test_tokens_of_five_megabytes_hold_nobody_up(make_world: MakeWorld) -> None:
    """No step of any loop takes long while the provider's answers are far too large (they are refused)."""
    world = make_world()
    browser = await world.signed_in()
    world.provider.fault("token", body="huge", size_bytes=5 * 1024 * 1024)
    before = {process: lags(world, process) for process in ("worker", "agent")}
    pages = [await world.sign_in(Browser(), "ben") for _ in range(6)]
    assert {page.status for page in pages} <= {502, 503}
    assert (await browser.fetch("/record/x")).status == 200
    for process, was in before.items():
        wait_until(lambda process=process, was=was: lags(world, process)[float("inf")] >= was[float("inf")] + 4, what="a second's turns")
        seen = lags(world, process)
        assert (seen[float("inf")] - seen[0.25]) == (was[float("inf")] - was[0.25]), process


@pytest.mark.row("F24", "META-5")
def test_a_provider_whose_keys_cannot_be_had_is_told_of_and_its_return_as_well(make_world: MakeWorld) -> None:
    world = make_world()
    world.product.stop()
    world.provider.fault("jwks", status=500)
    world.product.start()
    wait_until(lambda: ready(world)[1]["degraded"] == ["provider_unavailable"], what="a word of it")
    assert ready(world)[0] == 200
    world.provider.fault("jwks")
    wait_until(lambda: ready(world)[1] == {"status": "ready", "obstacles": [], "degraded": []}, what="its return")


@pytest.mark.row("F24", "F25")
async def test_a_provider_that_answers_no_sign_in_is_told_of_and_its_return_as_well(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.fault("token", status=500)
    for _ in range(4):
        await world.sign_in(Browser(), "ben")
    assert ready(world) == (200, {"status": "degraded", "obstacles": [], "degraded": ["provider_unavailable"]})
    world.provider.fault("token")
    async with asyncio.timeout(20):
        while (await world.sign_in(Browser(), "ben")).status != 200:
            await asyncio.sleep(0.2)  # it is left in peace for a second at a time
    assert ready(world) == (200, {"status": "ready", "obstacles": [], "degraded": []})


@pytest.mark.row("K5")
async def test_the_management_listener_knows_its_own_names_only(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 1, "manage_hosts": ["bff.internal"]}})
    for host, status in (("bff.internal:9464", 200), ("localhost", 200), ("127.0.0.1", 200), ("evil.example", 421)):
        for path in ("/metrics", "/healthz", "/readyz"):
            wire = await Wire.open(Address("127.0.0.1", world.product.manage_port))
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await wire.read_answer("GET")).status == status, (host, path)
            await wire.close()
