"""The agent's process from outside: killed, hung, signalled, knocked at; and the workers who need it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Wire, address_of, head_bytes
from tests.harness.people import user
from tests.harness.programs import children_of, environment, wait_until
from tests.harness.provider import sub_of
from tests.harness.world import World

SESSION = "__Host-Http-bff"
TWO = {"server": {"workers": 2, "grace": "3s"}}


def processes(world: World, name: str) -> list[int]:
    """The processes of one kind: ``bff-worker`` or ``bff-agent``."""
    assert world.product.program is not None
    found = []
    for pid in children_of(world.product.program.pid):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == name:
                found.append(pid)
    return found


def agent_of(world: World) -> int:
    """The agent's process, once there is one."""
    wait_until(lambda: bool(processes(world, "bff-agent")), what="an agent")
    return processes(world, "bff-agent")[0]


def kill_agent(world: World) -> None:
    os.kill(agent_of(world), signal.SIGKILL)


def instance_folder(world: World) -> Path:
    """Where the instance keeps its sockets."""
    inodes = {os.readlink(link) for link in Path(f"/proc/{agent_of(world)}/fd").iterdir() if _is_socket(link)}
    for line in Path("/proc/net/unix").read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[-1].endswith("/agent.sock") and f"socket:[{words[6]}]" in inodes:
            return Path(words[-1]).parent
    raise AssertionError("no socket of the agent's")


def _is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:
        return False


async def every(pause_s: float, work: Callable[[], Awaitable[Any]], until: asyncio.Event) -> list[Any]:
    """What ``work`` gave, again and again until told to stop."""
    got = []
    while not until.is_set():
        got.append(await work())
        await asyncio.sleep(pause_s)
    return got


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.row("F48", "SESS-14")
async def test_an_agent_killed_again_and_again_is_noticed_by_nobody_who_has_a_fresh_token_and_costs_the_others_seconds(
    make_world: MakeWorld,
) -> None:
    world = make_world(config=TWO)
    ada, ben = await world.signed_in("ada"), await world.signed_in("ben")
    stop, waits = asyncio.Event(), []

    async def who() -> int:
        begun = time.monotonic()
        status = (await ben.fetch("/bff/user", page=f"{world.app}/")).status
        waits.append(time.monotonic() - begun)
        return status

    async def call() -> tuple[int, float]:
        begun = time.monotonic()
        return (await ada.fetch("/record/x")).status, time.monotonic() - begun

    async def log_in() -> int:
        """A callback that dies with its agent may cost its code: then a person clicks again, once."""
        browser = Browser()
        if (await world.sign_in(browser, "chloe")).status != 200:
            return (await world.sign_in(browser, "chloe")).status
        return 200

    works: tuple[tuple[float, Callable[[], Awaitable[Any]]], ...] = ((0.01, call), (0.05, who), (0.2, log_in))
    running = [asyncio.ensure_future(every(pause_s, work, stop)) for pause_s, work in works]
    for _ in range(3):
        await asyncio.sleep(1.2)
        kill_agent(world)
    await asyncio.sleep(1.5)
    stop.set()
    calls, asked, logins = await asyncio.gather(*running)
    assert {status for status, _ in calls} == {200} and len(calls) > 50
    assert sorted(took for _, took in calls)[-1] < 1.0, "and none of them waited for the agent"
    assert set(asked) == {200} and max(waits) < 8.0
    assert set(logins) == {200} and len(logins) > 2
    assert await user(ada, world.app) and await user(ben, world.app)
    assert len(world.product.events("worker_ended")) == 3
    assert {(entry["role"], entry["level"]) for entry in world.product.events("worker_ended")} == {("agent", "warning")}


@pytest.mark.row("F48", "TOKEN-6", "TOKEN-9")
async def test_a_call_that_needs_a_renewal_when_the_agent_dies_succeeds_when_it_is_back(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300)
    await asyncio.sleep(2.1)
    kill_agent(world)
    answers = await asyncio.gather(*(browser.fetch("/record/x") for _ in range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    assert len(world.provider.ledger("refresh_token")) == 1


@pytest.mark.row("F48", "F7", "SESS-14")
async def test_a_renewal_that_is_at_the_provider_when_the_agent_dies_loses_no_session_where_the_token_was_not_spent(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300, faults={"token": {"delay_s": 30.0}})
    await asyncio.sleep(2.1)
    calling = asyncio.ensure_future(browser.fetch("/record/x"))
    await asyncio.sleep(0.5)
    world.provider.reset()
    world.provider.knobs(access_token_s=300)
    kill_agent(world)
    answer = await calling
    assert answer.status in (200, 503), answer.text
    wait_until(lambda: bool(processes(world, "bff-agent")), what="an agent")
    for _ in range(50):
        if answer.status == 200:
            break
        await asyncio.sleep(0.2)
        answer = await browser.fetch("/record/x")
    assert answer.status == 200 and await user(browser, world.app)


@pytest.mark.row("F48", "RPLO-1")
async def test_a_logout_while_the_agent_is_being_started_anew_waits_for_it_and_holds(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    copy = browser.stolen_copy()
    kill_agent(world)
    wait_until(lambda: world.product.events("worker_ended") != [], what="its end")
    assert (await browser.fetch("/bff/logout", method="POST")).status == 200
    assert (await copy.fetch("/record/x")).status == 401


# -- hung -------------------------------------------------------------------------------------------------------------


@pytest.mark.row("F48")
async def test_an_agent_that_hangs_holds_up_nobody_with_a_fresh_token_and_refuses_none_of_many_who_wait(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    assert (await browser.fetch("/record/x")).status == 200
    agent = agent_of(world)
    os.kill(agent, signal.SIGSTOP)
    try:
        waiting = [asyncio.ensure_future(browser.fetch("/", csrf=False)) for _ in range(250)]
        await asyncio.sleep(0.5)
        slowest = 0.0
        for _ in range(100):
            begun = time.monotonic()
            assert (await browser.fetch("/record/x")).status == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 0.5
        assert not any(one.done() for one in waiting)
    finally:
        os.kill(agent, signal.SIGCONT)
    answers = await asyncio.gather(*waiting)
    assert {answer.status for answer in answers} == {200}, "more than the usual hundred wait in its socket"


# -- changes reach the workers ----------------------------------------------------------------------------------------


async def spread(world: World, browser: Browser, count: int = 12) -> list[Browser]:
    """Copies of a browser, whose calls have reached both workers."""
    copies = [browser.stolen_copy() for _ in range(count)]
    assert {answer.status for answer in await asyncio.gather(*(copy.fetch("/record/x") for copy in copies))} == {200}
    return copies


async def all_out(copies: list[Browser], within_s: float) -> None:
    """Every call is refused from ``within_s`` seconds after now on."""
    await asyncio.sleep(within_s)
    for _ in range(3):
        answers = await asyncio.gather(*(copy.fetch("/record/x") for copy in copies))
        assert [answer.status for answer in answers] == [401] * len(copies)


@pytest.mark.row("SESS-9", "S6", "RPLO-1")
async def test_after_a_logout_the_very_next_request_is_refused_by_the_same_worker(make_world: MakeWorld) -> None:
    world = make_world()
    for _ in range(5):
        browser = await world.signed_in()
        copies = await spread(world, browser, 4)
        assert (await browser.fetch("/bff/logout", method="POST")).status == 200
        await all_out(copies, 0.0)


@pytest.mark.row("SESS-9", "SESS-10", "S6")
async def test_after_a_logout_every_worker_refuses_within_half_a_second(make_world: MakeWorld) -> None:
    world = make_world(config=TWO)
    for _ in range(3):
        browser = await world.signed_in()
        copies = await spread(world, browser)
        await browser.fetch("/bff/logout", method="POST")
        await all_out(copies, 0.5)


@pytest.mark.row("BCLO-10", "SESS-16", "SESS-12")
@pytest.mark.parametrize("way", ["provider", "command"])
async def test_an_end_by_the_provider_or_an_administrator_is_effective_everywhere_within_half_a_second(
    make_world: MakeWorld, way: str
) -> None:
    world = make_world(config=TWO)
    browser = await world.signed_in()
    copies = await spread(world, browser)
    if way == "provider":
        assert await asyncio.to_thread(world.provider.sign_out, sub_of("ada")) == 1
    else:
        ended = await asyncio.to_thread(world.product.run_command, "sessions", "end", "--subject", sub_of("ada"))
        assert ended.returncode == 0, ended.stderr
    await all_out(copies, 0.5)


@pytest.mark.row("SESS-2", "SESS-10")
async def test_who_has_just_signed_in_is_known_to_every_worker_at_once(make_world: MakeWorld) -> None:
    world = make_world(config=TWO)
    for _ in range(4):
        browser = await world.signed_in()
        answers = await asyncio.gather(*(browser.fetch(path) for path in ("/record/x", "/bff/user") * 6))
        assert {answer.status for answer in answers} == {200}


# -- memory: ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("SESS-10", "F48")
async def test_sessions_in_memory_are_shared_by_the_workers_and_outlive_a_killed_worker_and_a_killed_agent(make_world: MakeWorld) -> None:
    world = make_world(config={**TWO, "session": {"store": "memory:", "keys_file": "keys.json"}})
    browser = await world.signed_in()
    await spread(world, browser)
    os.kill(processes(world, "bff-worker")[0], signal.SIGKILL)
    kill_agent(world)
    wait_until(lambda: len(processes(world, "bff-worker")) == 2 and len(processes(world, "bff-agent")) == 1, what="all of them again")
    for _ in range(20):
        with suppress(OSError, asyncio.IncompleteReadError):
            assert (await browser.fetch("/record/x")).status == 200
    assert await user(browser, world.app)
    assert not list(world.folder.glob("*.db")), "nothing of it beside the configuration"
    folder = instance_folder(world)
    assert world.product.stop() == 0 and not folder.exists()
    world.product.start()
    assert await user(browser, world.app) is None


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("OPS-6", "OPS-3")
async def test_while_it_drains_it_is_unready_at_once_and_sign_ins_and_renewals_still_work(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 2, "grace": "3s", "drain_delay": "2500ms"}})
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300)
    await asyncio.sleep(2.1)
    folder = instance_folder(world)
    assert folder.exists() and world.product.program is not None
    world.product.program.signal(signal.SIGTERM)
    begun = time.monotonic()
    wait_until(lambda: world.product.manage("/readyz")[0] == 503, timeout_s=1.0, what="unready")
    assert (await browser.fetch("/record/x")).status == 200 and len(world.provider.ledger("refresh_token")) == 1
    assert (await world.sign_in(Browser(), "ben")).status == 200
    assert time.monotonic() - begun < 2.4, "all of that within the delay"
    assert await asyncio.to_thread(world.product.program.wait, 15) == 0
    assert not folder.exists()


@pytest.mark.row("OPS-6", "F47")
async def test_a_call_in_the_grace_that_needs_a_renewal_gets_it(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 1, "grace": "5s"}})
    world.provider.knobs(access_token_s=2)
    browser = await world.signed_in()
    world.provider.knobs(access_token_s=300)
    wires = [await Wire.open(address_of(world.app)) for _ in range(2)]
    slow, late = (head_bytes("GET", f"{world.app}{path}", _script(browser, world, path)) for path in ("/api/slow?seconds=1", "/record/x"))
    await wires[0].send(slow)
    await wires[1].send(late[:-2])
    await asyncio.sleep(2.1)
    await wires[0].read_answer("GET")
    await wires[0].send(slow)
    assert world.product.program is not None
    world.product.program.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    await wires[1].send(late[-2:])
    async with asyncio.timeout(10):
        assert (await wires[0].read_answer("GET")).status == 200
    assert await asyncio.to_thread(world.product.program.wait, 15) == 0
    for wire in wires:
        await wire.close()


def _script(browser: Browser, world: World, path: str) -> list[tuple[str, str]]:
    fields = [("X-CSRF", "1"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")]
    return browser._with_cookies(fields, f"{world.app}{path}", initiator=f"{world.app}/", navigation=False)


@pytest.mark.row("OPS-6", "F48")
async def test_without_its_supervisor_everything_ends_and_takes_its_folder_along(make_world: MakeWorld) -> None:
    world = make_world(config={**TWO, "session": {"store": "memory:", "keys_file": "keys.json"}})
    await world.signed_in()
    assert world.product.program is not None
    family = [*processes(world, "bff-worker"), *processes(world, "bff-agent")]
    folder = instance_folder(world)
    assert len(family) == 3 and (folder / "sessions.db").exists()
    world.product.program.signal(signal.SIGKILL)
    world.product.program.wait(5)
    wait_until(lambda: not any(_runs(pid) for pid in family), timeout_s=15, what="the end of workers and agent")
    assert not folder.exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- SIGHUP and metrics -----------------------------------------------------------------------------------------------


@pytest.mark.row("F46", "OPS-2")
async def test_a_reload_reaches_agent_and_workers_and_a_new_key_signs_nobody_out(make_world: MakeWorld) -> None:
    world = make_world(config=TWO)
    before = await world.signed_in()
    assert world.product.run_command("keys", "rotate", "--after", "3s").returncode == 0
    world.product.reload()
    wait_until(
        lambda: len(world.product.events("config_reloaded")) == 2 and len(world.product.events("agent_reloaded")) == 1, what="the reload"
    )
    assert {entry["keys"] for name in ("config_reloaded", "agent_reloaded") for entry in world.product.events(name)} == {2}
    stop = asyncio.Event()

    async def log_in_and_look() -> int:
        browser = await world.signed_in("ben")
        return (await browser.fetch("/record/x")).status

    running = asyncio.ensure_future(every(0.1, log_in_and_look, stop))
    await asyncio.sleep(4.0)
    stop.set()
    assert set(await running) == {200}
    assert (await before.fetch("/record/x")).status == 200 and await user(before, world.app)


def reading(world: World, name: str) -> float:
    """The sum of one metric over its labels."""
    text = world.product.manage("/metrics")[1]
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


@pytest.mark.row("OPS-3")
async def test_metrics_of_agent_and_workers_are_summed_and_gauges_of_a_dead_process_go(make_world: MakeWorld) -> None:
    world = make_world(config=TWO)
    browser = await world.signed_in()
    await spread(world, browser)
    wire = await Wire.open(address_of(world.app))
    wait_until(lambda: reading(world, "bff_http_connections") >= 1, what="the gauge")
    assert reading(world, "bff_logins_total") == 1, "the agent's"
    wait_until(lambda: reading(world, "bff_http_requests_total") >= 12, what="the workers'")
    before = reading(world, "bff_http_requests_total")
    kill_agent(world)
    wait_until(lambda: bool(world.product.events("worker_ended")), what="its end")
    wait_until(world.product.is_ready, what="another agent")
    assert reading(world, "bff_logins_total") == 1 and reading(world, "bff_http_requests_total") >= before
    for pid in processes(world, "bff-worker"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(world.product.events("worker_ended")) == 3, what="their end")
    wait_until(lambda: reading(world, "bff_http_connections") == 0, what="the gauge of the dead")
    assert reading(world, "bff_http_requests_total") >= before
    await browser.fetch("/bff/logout", method="POST")
    wait_until(lambda: reading(world, "bff_sessions_ended_total") >= 1, what="one end")
    assert reading(world, "bff_sessions_ended_total") == 1, "counted once, however many processes learn of it"
    await wire.close()


# -- who merely connects ----------------------------------------------------------------------------------------------


async def said_to(path: Path, data: bytes) -> bytes:
    """What a socket says to these bytes, up to the end of a head or of the connection."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    finally:
        writer.close()


@pytest.mark.row("PRIV-1")
async def test_the_agents_sockets_are_ours_alone_and_whoever_reaches_them_all_the_same_gets_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    browser = await world.signed_in()
    folder = instance_folder(world)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.sock")} == {"agent.sock": 0o600, "desk.sock": 0o600}
    cookie = f"Cookie: {SESSION}={browser.jar.get(SESSION)}\r\n".encode()
    for path in (b"/bff/user", b"/bff/login", b"/", b"/bff/callback?code=x&state=y"):
        for note in (b"", b"bff-handoff: x.y.z\r\n"):
            head = b"GET %b HTTP/1.1\r\nHost: x\r\n" % path + cookie + note
            answer = await said_to(folder / "agent.sock", head + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 403 ") and b"set-cookie" not in answer.lower()
    for data in (b"\x00\x00\x00\x01x", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x0b\x81\xa6secret\xc4\x01x"):
        assert await said_to(folder / "desk.sock", data) == b""
    assert await user(browser, world.app)


# -- requests that are unlike others ----------------------------------------------------------------------------------


@pytest.mark.row("COOKIE-21", "CB-6")
async def test_what_a_browser_may_send_to_the_door_may_reach_the_agent_in_full(world: World) -> None:
    """The note holds every cookie once more, in base64: the largest head that the door takes must fit through the hop."""
    browser = await world.signed_in("ben")
    session = f"{SESSION}={browser.jar.get(SESSION)}"
    noise = "".join(chr(33 + (number * 7919 + number // 3) % 93) for number in range(40_000)).translate({ord(one): "!" for one in ';",\\'})
    for size, expected in ((7_000, {200}), (15_000, {200, 431}), (30_000, {200, 431})):
        fields = [*_script(Browser(), world, "/bff/user"), ("Cookie", f"{session}; noise={noise[:size]}")]
        wire = await Wire.open(address_of(world.app))
        await wire.send(head_bytes("GET", f"{world.app}/bff/user", fields))
        assert (await wire.read_answer("GET")).status in expected, size
        await wire.close()


@pytest.mark.row("BODY-7", "FRAME-1")
async def test_bodies_in_every_framing_reach_the_agent_as_one(world: World) -> None:
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    for framing in ("length", "chunked", "expect"):
        form = b"logout_token=" + world.provider.logout_token(client_id="spa", sub=sub_of("chloe"), sid="nobodys").encode()
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (form[:5], form[5:300], form[300:])) + b"0\r\n\r\n"
        fields = [kind, ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(len(form)))]
        if framing == "expect":
            fields.append(("Expect", "100-continue"))
        wire = await Wire.open(address_of(world.app))
        await wire.send(head_bytes("POST", f"{world.app}/bff/backchannel-logout", fields))
        if framing == "expect":
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await wire.send(chunks if framing == "chunked" else form)
        answer = await wire.read_answer("POST")
        assert answer.status in (200, 204), (framing, answer.status, answer.text)
        await wire.close()


@pytest.mark.row("BODY-4", "PRIV-8")
async def test_a_browser_that_hangs_up_on_the_agent_leaves_no_error_in_the_log_and_the_sign_out_it_asked_for_is_done(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    browser = await world.signed_in()
    copy = browser.stolen_copy()
    agent = agent_of(world)
    os.kill(agent, signal.SIGSTOP)
    try:
        wires = [await Wire.open(address_of(world.app)) for _ in range(4)]
        fields = [*_script(browser, world, "/bff/logout"), ("Origin", world.app), ("Content-Length", "0")]
        for wire in wires[1:]:
            await wire.send(head_bytes("GET", f"{world.app}/bff/user", _script(browser, world, "/bff/user")))
        await wires[0].send(head_bytes("POST", f"{world.app}/bff/logout", fields))
        await asyncio.sleep(0.2)
        for wire in wires:
            wire.writer.transport.abort()
        await asyncio.sleep(1.0)
    finally:
        os.kill(agent, signal.SIGCONT)
    await asyncio.sleep(1.0)
    assert (await copy.fetch("/record/x")).status == 401
    assert "unexpected" not in world.product.logs and '"level":"error"' not in world.product.logs


@pytest.mark.row("RESP-1")
async def test_head_is_answered_by_the_agent_without_a_body_and_the_connection_goes_on(world: World) -> None:
    wire = await Wire.open(address_of(world.app))
    fields = [("Accept", "*/*"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")]
    for path in ("/", "/bff/openapi.json", "/bff/client.js"):
        lengths = []
        for method in ("HEAD", "GET"):
            await wire.send(head_bytes(method, f"{world.app}{path}", fields))
            answer = await wire.read_answer(method)
            assert answer.status == 200, (method, path, answer.text)
            lengths.append(answer.header("content-length"))
        assert lengths[0] in (None, lengths[1])
    await wire.close()


# -- more than one ----------------------------------------------------------------------------------------------------


@pytest.mark.row("F48", "SESS-10", "TOKEN-6")
async def test_two_agents_of_nine_workers_are_as_one_and_one_of_them_is_enough(make_world: MakeWorld) -> None:
    world = make_world(config={"server": {"workers": 9, "grace": "3s"}})
    wait_until(lambda: len(processes(world, "bff-agent")) == 2, what="two agents")
    world.provider.knobs(access_token_s=2)
    browsers = [await world.signed_in(person) for person in ("ada", "ben", "chloe") * 2]
    world.provider.knobs(access_token_s=300)
    await asyncio.sleep(2.1)
    answers = await asyncio.gather(*(browser.fetch("/record/x") for browser in browsers for _ in range(10)))
    assert [answer.status for answer in answers] == [200] * 60
    assert len(world.provider.ledger("refresh_token", outcome="ok")) == 6 and not world.provider.ledger(
        "refresh_token", outcome="invalid_grant"
    )
    kill_agent(world)
    begun = time.monotonic()
    assert (await world.sign_in(Browser(), "ada")).status == 200 and await user(browsers[0], world.app)
    assert time.monotonic() - begun < 5.0
    assert await asyncio.to_thread(world.provider.sign_out, sub_of("ben")) >= 1
    await all_out([browsers[1], browsers[4]], 0.5)
    assert (await browsers[0].fetch("/record/x")).status == 200
    wait_until(lambda: len(processes(world, "bff-agent")) == 2, what="two agents again")
    assert world.product.stop() == 0


# -- where it lives ---------------------------------------------------------------------------------------------------


@pytest.mark.row("OPS-1")
def test_a_folder_that_takes_no_sockets_is_said_in_two_lines(make_world: MakeWorld, tmp_path: Path) -> None:
    """A socket's name has a bound that a folder's has not."""
    world = make_world()
    assert world.product.stop() == 0
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    command = [sys.executable, "-m", "bff", "serve", "--config", str(world.product.config_file)]
    there = {**environment(), "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=world.folder, env=there, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 69, done.stderr
    assert "TMPDIR" in done.stderr and "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 2
    assert list(folder.iterdir()) == []
