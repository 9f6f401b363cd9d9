"""The supervisor alone, with workers that do next to nothing: restarts in a row, and signals at bad moments."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.programs import environment, wait_until

PROGRAM = """
import os, signal, sys, time
from bff.supervisor import Supervisor

def say(event, fields=None):
    os.write(1, (event + chr(10)).encode())

def crash(slot, lifeline):
    return 1

def start_slowly(slot, lifeline):
    time.sleep(0.4)
    signal.signal(signal.SIGHUP, lambda *_: say("reloaded"))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    while True:
        time.sleep(0.1)

work = {"crash": crash, "start_slowly": start_slowly}[sys.argv[1]]
sys.exit(Supervisor(work=work, workers=1, grace_s=1.0, reload=lambda: True, say=say).run())
"""


@contextmanager
def supervisor(work: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as out, subprocess.Popen([sys.executable, "-c", PROGRAM, work], stdout=out, env=environment()) as process:
        try:
            yield process
        finally:
            process.terminate()


def events(log: str) -> list[str]:
    with open(log, encoding="ascii") as file:
        return file.read().split()


@pytest.mark.row("F48")
def test_a_worker_that_crashes_again_and_again_is_restarted_ever_more_slowly(tmp_path: object) -> None:
    log = f"{tmp_path}/log"
    with supervisor("crash", log) as process:
        wait_until(lambda: "worker_ended" in events(log), what="the first crash")
        begun = time.monotonic()
        wait_until(lambda: events(log).count("worker_started") >= 6, what="five restarts")
        assert time.monotonic() - begun > 1.0, "0.05, 0.1, 0.2, 0.4 and 0.8 s apart"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.row("F48", "OPS-2")
def test_a_reload_that_meets_a_worker_on_its_way_up_neither_ends_it_nor_is_lost(tmp_path: object) -> None:
    log = f"{tmp_path}/log"
    with supervisor("start_slowly", log) as process:
        wait_until(lambda: "worker_started" in events(log), what="a worker")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in events(log), what="the reload")
        assert "worker_ended" not in events(log)
