"""Response-side twins: whatever an upstream answers, a browser sees a 502, a visible cut or the truth; the connection is spent; the
next user gets an answer of their own (M11, T4, T5, FRAME-8, FRAME-9)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.harness.background import Background
from tests.harness.http import Answer, ask
from tests.harness.upstream import Line, Seen
from tests.strict.conftest import Stage
from tests.strict.hostile import TWINS, HostileUpstream, Twin, perform


@pytest.fixture
def hostile(stage: Stage) -> Iterator[HostileUpstream]:
    assert isinstance(stage.upstream, HostileUpstream)
    stage.upstream.deeds.clear()
    yield stage.upstream
    stage.upstream.deeds.clear()


async def call(stage: Stage, path: str, *, method: str = "GET", body: bytes | None = None) -> Answer:
    """One call of Ada's. ``complete`` is False when the connection ended before the answer did."""
    headers = [("Cookie", stage.cookie), ("X-CSRF", "1")]
    try:
        return await ask(method, f"{stage.world.app}{path}", headers=headers, body=body, timeout_s=10)
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, (), b"", complete=False)


async def check_next(stage: Stage, hostile: HostileUpstream) -> None:
    """The next user's answer is their own, and comes over a connection the attack did not touch."""
    spoiled = {seen.connection for seen in hostile.seen}
    answer = await stage.ben.fetch(f"{stage.world.app}/up/good")
    assert answer.status == 200, (answer.status, answer.text)
    assert answer.json()["sub"] == "ben-58e2b9"
    assert answer.json()["target"] == "/up/good"
    assert hostile.seen[-1].connection not in spoiled, "a connection was used again after odd framing"


@pytest.mark.row("M11", "FRAME-8", "FRAME-9", "T4", "T5", "F54")
@pytest.mark.parametrize("name", TWINS)
async def test_a_hostile_answer_is_a_502_a_visible_cut_or_the_truth(name: str, stage: Stage, hostile: HostileUpstream) -> None:
    twin = TWINS[name]
    hostile.deeds[f"/up/{name}"] = perform(twin)
    begun = time.monotonic()
    answer = await call(stage, f"/up/{name}")
    assert time.monotonic() - begun < 5, "a hang"
    check_sight(twin, answer)
    await check_next(stage, hostile)


def check_sight(twin: Twin, answer: Answer) -> None:
    if twin.sight == "502":
        assert (answer.status, answer.complete) == (502, True), answer
        assert answer.code
    elif twin.sight == "cut":
        assert not answer.complete, "a spoiled answer looks whole"
    else:
        assert (answer.status, answer.complete) == (twin.status, True)
        assert b"BAD" not in answer.body


@pytest.mark.row("M11", "T4")
@pytest.mark.parametrize("name", ["cl_te", "extra_bytes", "body_on_204", "bad_chunk_size", "bare_lf_inside"])
async def test_a_hostile_answer_in_single_bytes_fares_no_better(name: str, stage: Stage, hostile: HostileUpstream) -> None:
    """Surplus that comes after the next user's request was sent can't be told from its answer, by anybody: we let it come first."""
    twin = TWINS[name]
    over = threading.Event()

    async def drip(_: Seen, line: Line) -> None:
        try:
            for at in range(len(twin.data)):
                line.writer.write(twin.data[at : at + 1])
                await asyncio.sleep(0.001)
        finally:
            over.set()
        await line.reader.read()

    hostile.deeds["/up/drip"] = drip
    check_sight(twin, await call(stage, "/up/drip"))
    await asyncio.to_thread(over.wait, 5)
    await asyncio.sleep(0.02)
    await check_next(stage, hostile)


@pytest.mark.row("BODY-7", "F54", "M11")
@pytest.mark.parametrize("status", [b"413 Content Too Large", b"200 OK"])
async def test_an_early_answer_during_an_upload_never_spoils_a_connection(status: bytes, stage: Stage, hostile: HostileUpstream) -> None:
    async def early(_: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nearly")
        await line.reader.read()

    hostile.deeds["/up/early"] = early
    answer = await call(stage, "/up/early", method="POST", body=b"x" * 40_000_000)  # more than kernels hold
    assert (answer.status, answer.body) in {(int(status[:3]), b"early"), (0, b"")}
    await check_next(stage, hostile)


@pytest.mark.row("F54", "BODY-6")
async def test_a_reset_in_the_middle_of_an_upload_is_a_502_and_is_not_repeated(stage: Stage, hostile: HostileUpstream) -> None:
    async def deed(_: Seen, line: Line) -> None:
        await line.reader.readexactly(100_000)
        await line.reset()

    hostile.deeds["/up/reset"] = deed
    answer = await call(stage, "/up/reset", method="POST", body=b"x" * 4_000_000)
    assert answer.status in (0, 502)
    assert [seen.target for seen in hostile.seen] == ["/up/reset"]
    await check_next(stage, hostile)


@pytest.mark.row("F54")
async def test_an_upstream_that_says_nothing_is_a_504_in_its_time(stage: Stage, hostile: HostileUpstream) -> None:
    async def silent(_: Seen, line: Line) -> None:
        await line.reader.read()

    hostile.deeds["/up/silent"] = silent
    begun = time.monotonic()
    answer = await call(stage, "/up/silent")
    assert answer.status == 504
    assert time.monotonic() - begun < 5
    await check_next(stage, hostile)


@pytest.mark.row("M11")
async def test_unasked_bytes_on_a_resting_connection_reach_nobody(stage: Stage, hostile: HostileUpstream, background: Background) -> None:
    """A desynchronised upstream: its next answer comes before anybody asked."""
    lines: list[Line] = []

    async def later(_: Seen, line: Line) -> None:
        lines.append(line)
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await line.reader.read()

    hostile.deeds["/up/later"] = later
    assert (await call(stage, "/up/later")).body == b"ok"
    background.run(lines[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nBAD"))
    await asyncio.sleep(0.05)
    await check_next(stage, hostile)
