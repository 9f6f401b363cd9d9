"""``python -m bench.slow``: the CPU that the slow ways cost, all processes of the product together and the provider's left out.

The two requests of a sign-in (``/bff/login``, with a push to the provider and the callback with a redemption and the ID token's check), the
first use of a session in a worker that never saw it, a renewal, asking who is signed in, the app's page, signing out.

As in ``python -m bench`` the product has one core and everybody else another: processes that the system moves between cores find their
memory in the other's cache, and the same request costs up to twice as much (``--unpinned`` shows it). Logs are on, as in a deployment.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench.flow import Run, running, tree_of
from tests.harness.http import Answer, Wire, head_bytes

TOKEN_S = 60
BLOCKS = 8
AT_MOST_MS = 2.0
BOUND = ("login", "callback", "first use", "renewal")


@dataclass(frozen=True, slots=True)
class Cost:
    """``cpu_ms``: for one, of each block; idle ticking while they ran taken off."""

    name: str
    times: int
    cpu_ms: Sequence[float]


class Meter:
    """CPU of the product's processes, and what they use when nobody asks them anything."""

    def __init__(self, run: Run, *, pinned: bool) -> None:
        self._run = run
        self._idle = 0.0
        self._cores = sorted(os.sched_getaffinity(0)) if pinned else []

    def _pin(self) -> None:
        """The product to our first core; its callers, the provider and the API, which are this process, to the last."""
        program = self._run.world.product.program
        if program is None or not self._cores:
            return
        for pid, core in [(os.getpid(), self._cores[-1]), *((pid, self._cores[0]) for pid in tree_of(program.pid))]:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})

    def used(self) -> float:
        """CPU seconds of all threads: to the nanosecond, where /proc/PID/stat counts hundredths of a second."""
        program = self._run.world.product.program
        tasks = [task for pid in tree_of(program.pid) for task in Path(f"/proc/{pid}/task").iterdir()] if program is not None else []
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    async def learn_idle(self, seconds: float = 5.0) -> None:
        """Of a product that has just been started."""
        self._pin()
        before = self.used()
        await asyncio.sleep(seconds)
        self._idle = (self.used() - before) / seconds

    async def cost(self, name: str, times: int, work: Callable[[range], Awaitable[None]]) -> Cost:
        """``work`` on all of ``times``, block by block."""
        count = min(BLOCKS, times)
        blocks = [range(at * times // count, (at + 1) * times // count) for at in range(count)]
        return Cost(name, times, [await self._block(block, work) for block in blocks])

    async def _block(self, block: range, work: Callable[[range], Awaitable[None]]) -> float:
        before, begun = self.used(), time.monotonic()
        await work(block)
        used = self.used() - before - self._idle * (time.monotonic() - begun)
        return 1000 * used / len(block)


class People:
    """Browsers of one person that has a session at the provider: they are sent back without a form."""

    def __init__(self, run: Run, provider_cookie: str, *, at_once: int = 1) -> None:
        self._run = run
        self._provider_cookie = provider_cookie
        self._at_once = at_once
        self._begun: list[tuple[str, str]] = []
        self.cookies: list[str] = []

    async def begin(self, block: range) -> None:
        """As many logins, up to the address at the provider."""
        for answer in await self._ask_all("GET", "/bff/login", [""] * len(block), 302):
            self._begun.append((_field(answer, "location"), _cookie(answer)))

    def pass_the_provider(self) -> None:
        """To each login its callback. The provider's work, and nobody else's."""
        self._begun = [(_follow(url, self._provider_cookie), cookie) for url, cookie in self._begun]

    async def come_back(self, block: range) -> None:
        begun = self._begun[block.start : block.stop]
        heads = [head_bytes("GET", url, [*_navigation("cross-site"), ("Cookie", cookie)]) for url, cookie in begun]
        for answer in await self._send_all("GET", heads, 303):
            self.cookies.append(next(value for value in _cookies(answer) if "login" not in value.partition("=")[0]))

    async def call(self, path: str, block: range, *, method: str = "GET") -> None:
        await self._ask_all(method, path, self.cookies[block.start : block.stop], 200)

    async def _ask_all(self, method: str, path: str, cookies: Sequence[str], status: int) -> list[Answer]:
        fields = _navigation("same-origin") if path in ("/", "/bff/login") else [("X-CSRF", "1"), ("Sec-Fetch-Site", "same-origin")]
        if method == "POST":
            fields += [("Content-Length", "0"), ("Origin", self._run.world.app)]
        url = f"{self._run.world.app}{path}"
        heads = [head_bytes(method, url, [*fields, *([("Cookie", cookie)] if cookie else [])]) for cookie in cookies]
        return await self._send_all(method, heads, status)

    async def _send_all(self, method: str, heads: Sequence[bytes], status: int) -> list[Answer]:
        """Over as many connections as people come at once, one request after the other on each."""
        lanes = await asyncio.gather(*(self._send_some(method, heads[lane :: self._at_once], status) for lane in range(self._at_once)))
        return [answer for lane in lanes for answer in lane]

    async def _send_some(self, method: str, heads: Sequence[bytes], status: int) -> list[Answer]:
        wire, answers = await Wire.open(self._run.address), []
        for head in heads:
            await wire.send(head)
            answers.append(await wire.read_answer(method))
            if answers[-1].status != status:
                raise RuntimeError(f"{head.splitlines()[0].decode()[:60]}: {answers[-1].status}")
        await wire.close()
        return answers


def _navigation(site: str) -> list[tuple[str, str]]:
    return [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Site", site), ("Accept", "text/html")]


def _field(answer: Answer, wanted: str) -> str:
    return next(value for name, value in answer.headers if name.lower() == wanted)


def _cookies(answer: Answer) -> list[str]:
    return [value.partition(";")[0] for name, value in answer.headers if name.lower() == "set-cookie" and "Max-Age=0" not in value]


def _cookie(answer: Answer) -> str:
    return _cookies(answer)[0]


def _follow(url: str, cookie: str) -> str:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    try:
        connection.request("GET", f"{place.path}?{place.query}", headers={"Cookie": cookie, "Accept": "text/html"})
        location = connection.getresponse().getheader("Location")
    finally:
        connection.close()
    if location is None:
        raise RuntimeError("the provider wants to see a person")
    return location


async def measure(run: Run, count: int, at_once: int, *, pinned: bool) -> list[Cost]:
    provider = run.world.provider
    provider.knobs(skip_consent=True, access_token_s=TOKEN_S)
    first = await run.world.signed_in()
    people = People(run, first.jar.header(f"{provider.issuer}/authorize") or "", at_once=at_once)
    meter = Meter(run, pinned=pinned)
    await meter.learn_idle()
    costs = [await meter.cost("login", count, people.begin)]
    people.pass_the_provider()
    costs.append(await meter.cost("callback", count, people.come_back))
    stale_at = time.monotonic() + TOKEN_S
    costs.append(await meter.cost("call, warm", count, partial(people.call, "/flow/json")))
    run.world.product.restart()
    await meter.learn_idle()
    for name, path in (("first use", "/flow/json"), ("who is signed in", "/bff/user"), ("the app's page", "/")):
        costs.append(await meter.cost(name, count, partial(people.call, path)))
    await asyncio.sleep(max(0.0, stale_at - time.monotonic()))
    costs.append(await meter.cost("renewal", count, partial(people.call, "/flow/json")))
    costs.append(await meter.cost("sign-out", count, partial(people.call, "/bff/logout", method="POST")))
    return costs


def lines(costs: list[Cost]) -> list[str]:
    rows = ["| what | times | CPU-ms each, median of blocks | best | worst |", "| --- | ---: | ---: | ---: | ---: |"]
    return rows + [
        f"| {cost.name} | {cost.times} | {median(cost.cpu_ms):.2f} | {min(cost.cpu_ms):.2f} | {max(cost.cpu_ms):.2f} |" for cost in costs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200, help="sign-ins, and so sessions (200)")
    parser.add_argument("--at-once", type=int, default=1, help="of them side by side (1: each meets an idle machine with cold caches)")
    parser.add_argument("--unpinned", action="store_true", help="leave it to the system who runs on which core")
    parser.add_argument("--check", action="store_true", help=f"exit 1 if {', '.join(BOUND)} cost more than {AT_MOST_MS:g} ms each")
    asked = parser.parse_args()
    with running(sign_in=False, config={"log": {"level": "info", "access": True}}) as run:
        costs = asyncio.run(measure(run, asked.people, asked.at_once, pinned=not asked.unpinned))
    print("\n".join(lines(costs)))
    missed = [cost.name for cost in costs if cost.name in BOUND and median(cost.cpu_ms) > AT_MOST_MS]
    if asked.check and missed:
        raise SystemExit(f"more than {AT_MOST_MS:g} ms of CPU: {', '.join(missed)}")


if __name__ == "__main__":
    main()
