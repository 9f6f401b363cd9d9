"""``python -m bench.restarts``: rolling restarts of two instances under load, or with ``--kill`` workers killed at random.

Clients behave as browsers do: an idempotent request on a connection that was used before, and that ended without a byte of an answer,
is sent once more on a fresh one (RFC 9110 §9.2.2). Everything else that goes wrong counts as failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from bench.fleet import Fleet, fleet
from tests.harness.http import Answer, Wire, address_of, head_bytes
from tests.harness.people import sign_in

BIG = 3 * 1024 * 1024


@dataclass(slots=True)
class Tally:
    """What the clients saw. ``in_hands``: requests unanswered at the moments of the kills, the most that may be lost."""

    seen: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    in_flight: int = 0
    in_hands: int = 0
    restarts: int = 0
    seconds: float = 0.0
    posts: dict[str, str] = field(default_factory=dict)

    def fail(self, what: str) -> None:
        self.seen["failed"] += 1
        self.failures.append(what)

    def lines(self) -> list[str]:
        counted = " · ".join(f"{name} {number}" for name, number in sorted(self.seen.items()))
        return [f"{self.seconds:.0f} s, {self.restarts} restarts or kills: {counted}", *self.failures[:10]]


class Client:
    """One browser tab: a kept-alive connection and a session."""

    def __init__(self, app: str, cookie: str, tally: Tally) -> None:
        self.app, self.cookie, self.tally = app, cookie, tally
        self.wire: Wire | None = None

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer | None:
        """The answer, or None if there was none (an idempotent request was repeated where a browser would)."""
        if self.wire is not None and self.wire.reader.at_eof():
            await self.close()  # the server closed it between two requests: every client looks before it sends
        fresh = self.wire is None
        answer = await self._once(method, path, body)
        if answer is None and not fresh and method == "GET":
            self.tally.seen["repeated"] += 1
            answer = await self._once(method, path, body)
        return answer

    async def _once(self, method: str, path: str, body: bytes) -> Answer | None:
        self.tally.in_flight += 1
        try:
            async with asyncio.timeout(30):
                if self.wire is None:
                    self.wire = await Wire.open(address_of(self.app))
                headers = [("Cookie", self.cookie), ("X-CSRF", "1"), ("Content-Length", str(len(body)))]
                await self.wire.send(head_bytes(method, f"{self.app}{path}", headers if body else headers[:2]) + body)
                answer = await self.wire.read_answer(method)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            await self.close()
            return None
        finally:
            self.tally.in_flight -= 1
        if (answer.header("connection") or "").lower() == "close" or not answer.complete:
            await self.close()
        return answer

    async def close(self) -> None:
        wire, self.wire = self.wire, None
        if wire is not None:
            await wire.close()


async def _getter(client: Client, until: float, path: str, pause_s: float) -> None:
    """Idempotent calls: each must be answered 200, whole."""
    while time.monotonic() < until:
        answer = await client.call("GET", path)
        _judge(client.tally, path.partition("?")[0], answer)
        await asyncio.sleep(pause_s)
    await client.close()


def _judge(tally: Tally, path: str, answer: Answer | None) -> None:
    if answer is None:
        tally.fail(f"{path}: no answer")
    elif answer.status == 401:
        tally.fail(f"{path}: session lost")
    elif answer.status != 200:
        tally.fail(f"{path}: {answer.status} {answer.code}")
    elif not answer.complete or (path.endswith("/big") and len(answer.body) != BIG):
        tally.seen["truncated"] += 1
        tally.fail(f"{path}: a 200 with {len(answer.body)} bytes, {'whole' if answer.complete else 'cut'}")
    else:
        tally.seen["ok"] += 1


async def _poster(client: Client, until: float, numbers: count[int], own: str) -> None:
    """Calls that must not be repeated: done once or not at all, and a 200 means once."""
    while time.monotonic() < until:
        key = f"{own}-{next(numbers)}"
        answer = await client.call("POST", f"/flow/counted?{key}", b"x" * 100)
        client.tally.posts[key] = "none" if answer is None else str(answer.status)
        client.tally.seen["post ok" if answer is not None and answer.status == 200 else "post unanswered"] += 1
        await asyncio.sleep(0.2)
    await client.close()


async def _restarter(ours: Fleet, until: float, every_s: float, tally: Tally) -> None:
    turn = 0
    while time.monotonic() + every_s < until:
        await asyncio.sleep(every_s)
        product = ours.products[turn % 2]
        turn += 1
        await asyncio.to_thread(product.stop)
        await asyncio.to_thread(product.start)
        tally.restarts += 1


async def _killer(ours: Fleet, until: float, every_s: float, tally: Tally, chance: random.Random) -> None:
    while time.monotonic() + every_s < until:
        await asyncio.sleep(every_s)
        victim = chance.choice([pid for product in ours.products for pid in product.workers()])
        tally.in_hands += tally.in_flight
        os.kill(victim, signal.SIGKILL)
        tally.restarts += 1


async def load(ours: Fleet, *, seconds: float, every_s: float, kill: bool = False, users: int = 3, seed: int = 1) -> Tally:
    """Sign ``users`` in, run the clients, restart (or kill) every ``every_s`` seconds."""
    tally = Tally()
    cookies = [await _signed_in(ours, person) for person in ("ada", "ben", "chloe")[:users]]
    begun = time.monotonic()
    until = begun + seconds
    work = []
    for number, cookie in enumerate(cookies):
        plans = [("/flow/json", 0.02), ("/flow/json", 0.05), ("/flow/json", 1.1), ("/flow/slow?2", 0.01), (f"/flow/big?{BIG}", 0.5)]
        work += [_getter(Client(ours.app, cookie, tally), until, path, pause_s) for path, pause_s in plans]
        work.append(_poster(Client(ours.app, cookie, tally), until, count(1), str(number)))
    chance = random.Random(seed)
    work.append(_killer(ours, until, every_s, tally, chance) if kill else _restarter(ours, until, every_s, tally))
    await asyncio.gather(*work)
    tally.seconds = time.monotonic() - begun
    for key, status in tally.posts.items():
        done = ours.flow.keys.get(key, 0)
        if done > 1 or (status == "200" and done != 1):
            tally.fail(f"post {key} answered {status} was done {done} times")
    for cookie in cookies:
        last = Client(ours.app, cookie, tally)
        _judge(tally, "/flow/json", await last.call("GET", "/flow/json"))
        await last.close()
    return tally


async def _signed_in(ours: Fleet, person: str) -> str:
    from tests.harness.browser import Browser

    browser = Browser()
    page = await sign_in(browser, ours.app, person=person)
    if page.status != 200:
        raise RuntimeError(f"{person} could not sign in: {page.status} {page.url}")
    return browser.jar.header(f"{ours.app}/") or ""


def find_problems(tally: Tally, *, kill: bool) -> list[str]:
    """What the run promised and did not keep. Empty: all held."""
    lost = tally.seen["failed"]
    problems = [failure for failure in tally.failures if "session lost" in failure or "was done" in failure]
    if kill:
        unanswered = lost + tally.seen["post unanswered"]
        if unanswered > tally.in_hands:
            problems.append(f"{unanswered} requests lost, {tally.in_hands} were in the hands of killed workers")
    elif lost:
        problems += tally.failures[:5]
    if not tally.restarts or tally.seen["ok"] < 10:
        problems.append("nothing happened")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--every", type=float, help="seconds between restarts (20) or kills (5)")
    parser.add_argument("--kill", action="store_true", help="SIGKILL a random worker instead; two workers for each instance")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    every_s = asked.every or (5.0 if asked.kill else 20.0)
    with fleet(workers=2 if asked.kill else 1) as ours:
        tally = asyncio.run(load(ours, seconds=asked.minutes * 60, every_s=every_s, kill=asked.kill, seed=asked.seed))
    print("\n".join(tally.lines()))
    if asked.kill:
        print(f"in hands at the kills: {tally.in_hands}")
    problems = find_problems(tally, kill=asked.kill)
    print("\n".join(problems) or "all held")
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
