"""``python -m bench.restarts``: restarts under load: of two instances in turn, or with ``--how`` in other ways (see WAYS).

Clients behave as browsers do: an idempotent request on a connection that was used before, and that ended without a byte of an answer,
is sent once more on a fresh one (RFC 9110 §9.2.2). Everything else that goes wrong counts as failed. Event streams and WebSockets are
opened again at once. In a restart they must end visibly (WebSockets with 1001); in a kill what was in the worker's hands may be lost, but
nothing may look whole that is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.fleet import Fleet, fleet, heirs
from bench.restart_clients import BIG, Client, Tally, download, get, judge, listen, post, sip, talk
from bff.session.sealing import MAX_KEYS
from tests.harness.browser import Browser
from tests.harness.people import sign_in

KEY_AFTER = "10s"
"""Until a new key seals. On a busy machine a new plan alone takes seconds: with 2 s here, sessions were unknown until it had come."""

Turn = Callable[[Fleet, Tally, int, random.Random], Coroutine[Any, Any, None]]
"""One disturbance: the fleet, what to note, its number."""


async def restart(ours: Fleet, tally: Tally, number: int, _chance: random.Random) -> None:
    """SIGTERM for one of the instances, and a new one when it has ended."""
    product = ours.products[number % len(ours.products)]
    await asyncio.to_thread(product.stop)
    await asyncio.to_thread(product.start)


async def kill(ours: Fleet, tally: Tally, _number: int, chance: random.Random) -> None:
    """SIGKILL for a worker or an agent."""
    victim = chance.choice([pid for product in ours.products for pid in product.processes()])
    tally.in_hands += tally.in_flight
    os.kill(victim, signal.SIGKILL)


async def reload(ours: Fleet, tally: Tally, number: int, _chance: random.Random) -> None:
    """A new key in front, as long as the ring takes more, and SIGHUP for both instances: nobody may notice."""
    if number < MAX_KEYS - 1:
        rotated = await asyncio.to_thread(ours.products[0].run_command, "keys", "rotate", "--after", KEY_AFTER)
        if rotated.returncode:
            tally.fail(f"keys rotate: {rotated.stderr[-200:]}")
    for product in ours.products:
        product.reload()


async def inherit(ours: Fleet, tally: Tally, number: int, _chance: random.Random) -> None:
    """Another instance on the same socket, and when it serves SIGTERM for the old one."""
    old, new = ours.products[number % 2], ours.products[(number + 1) % 2]
    await asyncio.to_thread(new.start)
    await asyncio.to_thread(old.stop)


async def again(ours: Fleet, tally: Tally, number: int, _chance: random.Random) -> None:
    """SIGTERM, and the same instance anew when it has ended: who comes meanwhile waits in the queue of the socket, which is not its own."""
    await asyncio.to_thread(ours.products[0].stop)
    await asyncio.to_thread(ours.products[0].start)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to disturb: what to do, every how many seconds, on which stage."""

    turn: Turn
    every_s: float
    stage: Callable[[], AbstractContextManager[Fleet]]
    words: str


WAYS = {
    "restart": Way(restart, 20.0, fleet, "one of two instances behind a balancer is restarted"),
    "kill": Way(kill, 5.0, lambda: fleet(workers=2), "SIGKILL for a worker of two instances"),
    "reload": Way(reload, 5.0, lambda: fleet(workers=2), "keys are rotated, SIGHUP for two instances"),
    "inherit": Way(inherit, 20.0, heirs, "one instance of two workers hands its socket to the next"),
    "activate": Way(again, 20.0, heirs, "one instance of two workers on a held socket ends and starts anew"),
}


async def load(ours: Fleet, *, seconds: float, every_s: float, how: str = "restart", users: int = 3, seed: int = 1) -> Tally:
    """Sign ``users`` in, run the clients, take a turn every ``every_s`` seconds."""
    tally, chance = Tally(), random.Random(seed)
    ours.flow.event_s = 0.1
    cookies = [await _signed_in(ours, person) for person in ("ada", "ben", "chloe")[:users]]
    begun = time.monotonic()
    until = begun + seconds
    clients = [work for number, cookie in enumerate(cookies) for work in _clients(ours.app, cookie, tally, until, number)]
    await asyncio.gather(*clients, _disturb(ours, until, every_s, tally, WAYS[how].turn, chance))
    tally.seconds = time.monotonic() - begun
    for key, status in tally.posts.items():
        done = ours.flow.keys.get(key, 0)
        if done > 1 or (status == "200" and done != 1):
            tally.fail(f"post {key} answered {status} was done {done} times")
    for cookie in cookies:
        last = Client(ours.app, cookie, tally)
        judge(tally, "/flow/json", await last.call("GET", "/flow/json"))
        await last.close()
    return tally


def _clients(app: str, cookie: str, tally: Tally, until: float, number: int) -> list[Coroutine[Any, Any, None]]:
    """What one user has open: tabs that call, that download, that listen, that talk."""

    def tab() -> Client:
        return Client(app, cookie, tally)

    calls = [("/flow/json", 0.02), ("/flow/json", 0.05), ("/flow/json", 1.1), ("/flow/slow?2", 0.01)]
    return [
        *(get(tab(), until, path, pause_s) for path, pause_s in calls),
        get(tab(), until, f"/flow/big?{BIG}", 0.5, BIG),
        *(download(tab(), until, kind, random.Random(number)) for kind in ("drip", "pieces")),
        post(tab(), until, count(1), str(number)),
        sip(app, cookie, tally, until),
        *(listen(app, cookie, tally, until) for _ in range(2)),
        *(talk(app, cookie, tally, until) for _ in range(2)),
    ]


async def _disturb(ours: Fleet, until: float, every_s: float, tally: Tally, turn: Turn, chance: random.Random) -> None:
    while time.monotonic() + every_s < until:
        await asyncio.sleep(every_s)
        await turn(ours, tally, tally.turns, chance)
        tally.turns += 1


async def _signed_in(ours: Fleet, person: str) -> str:
    browser = Browser()
    page = await sign_in(browser, ours.app, person=person)
    if page.status != 200:
        raise RuntimeError(f"{person} could not sign in: {page.status} {page.url}")
    return browser.jar.header(f"{ours.app}/") or ""


def find_problems(tally: Tally, *, how: str = "restart") -> list[str]:
    """What the run promised and did not keep. Empty: all held."""
    lost = tally.seen["failed"]
    never = ("session lost", "was done", "looks whole", "was completed", "fell silent")
    problems = [failure for failure in tally.failures if any(words in failure for words in never)]
    if how == "kill":
        unanswered = lost + tally.seen["post unanswered"]
        if unanswered > tally.in_hands:
            problems.append(f"{unanswered} requests and streams lost, {tally.in_hands} were in the hands of killed workers")
    elif lost:
        problems += tally.failures[:5]
    if not tally.turns or tally.seen["ok"] < 10 or not tally.seen["WebSockets"] or not tally.seen["event streams"]:
        problems.append("nothing happened")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--every", type=float, help="seconds between turns (restarts 20, others 5)")
    parser.add_argument("--kill", dest="how", action="store_const", const="kill", default="restart", help="the same as --how kill")
    parser.add_argument("--how", choices=WAYS, help="; ".join(f"{name}: {way.words}" for name, way in WAYS.items()))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    way = WAYS[asked.how]
    with way.stage() as ours:
        run = load(ours, seconds=asked.minutes * 60, every_s=asked.every or way.every_s, how=asked.how, seed=asked.seed)
        tally = asyncio.run(run)
    print(f"{way.words}: " + "\n".join(tally.lines()))
    if asked.how == "kill":
        print(f"in hands at the kills: {tally.in_hands}")
    problems = find_problems(tally, how=asked.how)
    print("\n".join(problems[:20]) or "all held")
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
