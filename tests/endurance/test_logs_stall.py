"""A log collector that stops reading: requests go on, access lines beyond the bound are dropped and counted."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest

from bench.flow import Run, running
from tests.harness.http import Wire
from tests.harness.programs import PYTHON, environment, wait_until

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def stalled() -> Iterator[tuple[Run, subprocess.Popen[bytes]]]:
    """The product once more, on a pipe that nobody reads."""
    with running(config={"log": {"level": "warning", "access": True}, "server": {"drain_delay": "0s", "grace": "1s"}}) as run:
        product = run.world.product
        product.stop()
        arguments = [PYTHON, "-m", "bff", "serve", "--config", str(product.config_file)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment(), cwd=product.folder) as process:
            wait_until(lambda: is_ready(run), timeout_s=20, what="ready")
            yield run, process
            process.terminate()


def is_ready(run: Run) -> bool:
    try:
        return run.world.product.is_ready()
    except OSError:
        return False


@pytest.mark.row("F55", "PRIV-7")
async def test_requests_go_on_when_nobody_reads_the_access_log(stalled: tuple[Run, subprocess.Popen[bytes]]) -> None:
    run, process = stalled
    wire = await Wire.open(run.address)
    async with asyncio.timeout(30):
        for number in range(7000):
            await wire.send(run.head(f"/flow/json?{number}"))
            assert (await wire.read_answer("GET")).status == 200
    await asyncio.sleep(0.5)
    _, metrics = await asyncio.to_thread(run.world.product.manage, "/metrics")
    (lost,) = (float(line.split()[1]) for line in metrics.splitlines() if line.startswith("bff_access_lines_lost_total"))
    assert lost > 0
    process.terminate()
    assert process.stdout is not None
    told = await asyncio.to_thread(process.stdout.read)
    lines = [json.loads(line) for line in told.splitlines()]
    written = sum(line["event"] == "request" for line in lines)
    assert 7000 - lost <= written + 5 and written + lost <= 7010
