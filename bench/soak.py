"""``python -m bench.soak``: people come, sign in, call, let tokens expire, talk over WebSockets, listen, leave half-way, fail and sign out.

Printed: resident memory of worker and agent, the worker's open files and the store's rows over time, and the slopes of memory after a third
of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.flow import MIB, Run, open_files, rss_mib, running
from tests.harness.browser import Browser
from tests.harness.http import Wire, head_bytes

TOKEN_S = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """``files`` are the worker's; ``rows`` counts sessions in the store."""

    at_s: float
    worker_mib: float
    agent_mib: float
    files: int
    rows: int


@dataclass(slots=True)
class Report:
    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rows_left: int = -1

    @property
    def settled(self) -> list[Sample]:
        return self.samples[len(self.samples) // 3 :]

    def slope_mib_per_hour(self, ys: Sequence[float]) -> float:
        """Least squares over the settled samples."""
        xs = [sample.at_s for sample in self.settled]
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        spread = sum((x - mean_x) ** 2 for x in xs) or 1.0
        return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread

    def lines(self) -> list[str]:
        step = max(1, len(self.samples) // 12)
        rows = [
            f"| {s.at_s:.0f} | {s.worker_mib:.1f} | {s.agent_mib:.1f} | {s.files} | {s.rows} |"
            for s in [*self.samples[::step], self.samples[-1]]
        ]
        counted = " · ".join(f"{name} {number}" for name, number in sorted(self.done.items()))
        told = [
            f"{name}: slope {self.slope_mib_per_hour(ys):+.1f} MiB/h, {ys[-1] - ys[0]:+.1f} MiB over the last two thirds"
            for name, ys in (("worker", [s.worker_mib for s in self.settled]), ("agent", [s.agent_mib for s in self.settled]))
        ]
        head = ["| s | worker MiB | agent MiB | files | sessions |", "|---|---|---|---|---|"]
        return [*head, *rows, counted, *told, f"rows left {self.rows_left}", *self.wrong[:5]]


class Visitor:
    """One person after another on one chair."""

    def __init__(self, run: Run, report: Report, chance: random.Random) -> None:
        self.run, self.report, self.chance = run, report, chance
        self.app = run.world.app

    async def visit_until(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(60):
                    await self._visit()
            except Exception as error:
                self.report.wrong.append(f"{type(error).__name__}: {error}"[:300])

    async def _visit(self) -> None:
        browser = await self.run.world.signed_in(self.chance.choice(["ada", "ben", "chloe"]))
        self.report.done["login"] += 1
        await self._calls(browser)
        for part in self.chance.sample([self._talk, self._listen, self._leave_early, self._upload_half, self._fail, self._wait], 4):
            await part(browser)
            self.report.done[part.__name__.strip("_")] += 1
        await self._calls(browser)
        answer = await browser.fetch(f"{self.app}/bff/logout", method="POST")
        self._expect("logout", answer.status, 200)

    def _expect(self, what: str, status: int, wanted: int) -> None:
        self.report.done[what] += 1
        if status != wanted:
            self.report.wrong.append(f"{what}: {status}, expected {wanted}")

    async def _calls(self, browser: Browser) -> None:
        for _ in range(5):
            self._expect("call", (await browser.fetch(f"{self.app}/flow/json")).status, 200)

    async def _wait(self, browser: Browser) -> None:
        """Past the token's life: the next call refreshes."""
        await asyncio.sleep(TOKEN_S + 0.1)
        await self._calls(browser)

    async def _talk(self, browser: Browser) -> None:
        async with browser.websocket(f"{self.app}/flow/ws") as socket:
            for _ in range(5):
                await socket.send("hello" * 20)
                await socket.receive()
            if self.chance.random() < 0.5:
                await socket.send_frame(0x8, b"\x03\xe8")
                await socket.wait_close(5)

    async def _listen(self, browser: Browser) -> None:
        async with browser.events(f"{self.app}/flow/events") as stream:
            await stream.read(10)

    async def _leave_early(self, browser: Browser) -> None:
        wire = await Wire.open(self.run.address)
        await wire.send(head_bytes("GET", f"{self.app}/flow/big?{4 * MIB}", self._headers(browser)))
        await wire.reader.readexactly(100_000)
        wire.writer.transport.abort()

    async def _upload_half(self, browser: Browser) -> None:
        wire = await Wire.open(self.run.address)
        headers = [*self._headers(browser), ("Content-Length", "1000000")]
        await wire.send(head_bytes("POST", f"{self.app}/flow/sink", headers) + b"x" * 300_000)
        await wire.close()

    async def _fail(self, browser: Browser) -> None:
        self._expect("upstream error", (await browser.fetch(f"{self.app}/flow/fail")).status, 500)
        self._expect("no header", (await browser.fetch(f"{self.app}/flow/json", csrf=False)).status, 403)
        self._expect("nobody", (await Browser().fetch(f"{self.app}/flow/json", page=f"{self.app}/")).status, 401)
        wire = await Wire.open(self.run.address)
        await wire.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        self._expect("malformed", (await wire.read_answer("GET")).status, 400)
        await wire.close()

    def _headers(self, browser: Browser) -> list[tuple[str, str]]:
        return [("Cookie", browser.jar.header(f"{self.app}/") or ""), ("X-CSRF", "1")]


def count_rows(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM sessions").fetchone()[0])


async def soak(run: Run, *, seconds: float, chairs: int = 4, seed: int = 1) -> Report:
    """``chairs`` people at a time for ``seconds``; the session of ``run`` itself stays in the store throughout."""
    report = Report()
    run.world.provider.knobs(access_token_s=TOKEN_S)
    begun = time.monotonic()
    until = begun + seconds
    database = run.world.folder / "sessions.db"
    pid, agent = run.worker, run.world.product.agents()[0]

    def look() -> None:
        report.samples.append(Sample(time.monotonic() - begun, rss_mib(pid), rss_mib(agent), open_files(pid), count_rows(database)))

    async def watch() -> None:
        while time.monotonic() < until:
            look()
            await asyncio.sleep(max(0.25, seconds / 240))

    visitors = [Visitor(run, report, random.Random(seed * 1000 + chair)) for chair in range(chairs)]
    await asyncio.gather(watch(), *(visitor.visit_until(until) for visitor in visitors))
    await asyncio.sleep(1.0)
    look()
    report.rows_left = count_rows(database) - 1
    if run.world.product.processes() != [pid, agent]:
        report.wrong.append("a process died")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (20)")
    parser.add_argument("--chairs", type=int, default=4, help="people at a time (4)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with running() as run:
        report = asyncio.run(soak(run, seconds=asked.minutes * 60, chairs=asked.chairs, seed=asked.seed))
    print("\n".join(report.lines()))
    raise SystemExit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
