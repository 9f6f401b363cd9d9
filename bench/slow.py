"""``python -m bench.slow``: the CPU that the slow ways cost, all processes of the product together and the provider's left out.

Signing in (login and callback), the first use of a session in a worker that never saw it, a renewal, asking who is signed in, signing out.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.flow import Run, cpu_s, running, tree_of
from tests.harness.browser import Browser
from tests.harness.http import Wire, head_bytes

TOKEN_S = 60
AT_MOST_MS = 2.0
BOUND = ("sign-in", "first use", "renewal")


@dataclass(frozen=True, slots=True)
class Cost:
    """``cpu_ms``: for one, idle ticking while they ran taken off."""

    name: str
    times: int
    cpu_ms: float


class Meter:
    """CPU of the product's processes, and what they use when nobody asks them anything."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._idle = 0.0

    def used(self) -> float:
        program = self._run.world.product.program
        return sum(cpu_s(pid) for pid in tree_of(program.pid)) if program is not None else 0.0

    async def learn_idle(self, seconds: float = 5.0) -> None:
        before = self.used()
        await asyncio.sleep(seconds)
        self._idle = (self.used() - before) / seconds

    async def cost(self, name: str, times: int, work: Callable[[], Awaitable[None]]) -> Cost:
        before, begun = self.used(), time.monotonic()
        await work()
        used = self.used() - before - self._idle * (time.monotonic() - begun)
        return Cost(name, times, 1000 * used / times)


async def measure(run: Run, people: int) -> list[Cost]:
    meter = Meter(run)
    await meter.learn_idle()
    browsers: list[Browser] = []

    async def sign_in() -> None:
        for _ in range(people):
            browser = Browser()
            page = await run.world.sign_in(browser, "ada")
            if page.status != 200:
                raise RuntimeError(f"sign-in ended with {page.status}")
            browsers.append(browser)

    async def call(path: str, method: str = "GET") -> None:
        wire = await Wire.open(run.address)
        for browser in browsers:
            cookie = browser.jar.header(f"{run.world.app}/") or ""
            fields = [("Cookie", cookie), ("X-CSRF", "1"), *([("Content-Length", "0"), ("Origin", run.world.app)] if method == "POST" else [])]
            await wire.send(head_bytes(method, f"{run.world.app}{path}", fields))
            answer = await wire.read_answer(method)
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")
        await wire.close()

    run.world.provider.knobs(access_token_s=TOKEN_S)
    costs = [await meter.cost("sign-in", people, sign_in)]
    stale_at = time.monotonic() + TOKEN_S
    costs.append(await meter.cost("call, warm", people, lambda: call("/flow/json")))
    run.world.product.restart()
    await meter.learn_idle()
    costs.append(await meter.cost("first use", people, lambda: call("/flow/json")))
    costs.append(await meter.cost("who is signed in", people, lambda: call("/bff/user")))
    await asyncio.sleep(max(0.0, stale_at - time.monotonic()))
    costs.append(await meter.cost("renewal", people, lambda: call("/flow/json")))
    costs.append(await meter.cost("sign-out", people, lambda: call("/bff/logout", "POST")))
    return costs


def lines(costs: list[Cost]) -> list[str]:
    rows = ["| what | times | CPU-ms each |", "| --- | ---: | ---: |"]
    return rows + [f"| {cost.name} | {cost.times} | {cost.cpu_ms:.2f} |" for cost in costs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200, help="sign-ins, and so sessions (200)")
    parser.add_argument("--check", action="store_true", help=f"exit 1 if {', '.join(BOUND)} cost more than {AT_MOST_MS:g} ms each")
    asked = parser.parse_args()
    with running(sign_in=False) as run:
        costs = asyncio.run(measure(run, asked.people))
    print("\n".join(lines(costs)))
    missed = [cost.name for cost in costs if cost.name in BOUND and cost.cpu_ms > AT_MOST_MS]
    if asked.check and missed:
        raise SystemExit(f"more than {AT_MOST_MS:g} ms of CPU: {', '.join(missed)}")


if __name__ == "__main__":
    main()
