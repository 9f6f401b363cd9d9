"""The supervisor alone, with workers that do next to nothing: restarts in a row, and signals at bad moments."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.programs import environment, wait_until

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
PROGRAM = """
import os, signal, sys, time
from bff.board import Board
from bff.supervisor import Supervisor

board = Board(2)

def say(event, fields={}):
    if not event.startswith("worker_started"):
        os.write(1, (event + chr(10)).encode())
    else:
        os.write(1, ("worker_started %d" % fields["pid"] + chr(10)).encode())

def crash(slot, lifeline):
    return 1

def start_slowly(slot, lifeline):
    time.sleep(0.4)
    signal.signal(signal.SIGHUP, lambda *_: say("reloaded"))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    while True:
        time.sleep(0.1)

def live(slot, lifeline):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        board.beat(slot, time.monotonic())
        time.sleep(0.05)

def hang_first(slot, lifeline):
    say("begun")
    if not os.path.exists(sys.argv[2]):
        open(sys.argv[2], "w").close()
        signal.signal(signal.SIGUSR2, lambda *_: None)
        board.beat(slot, time.monotonic())
        while True:
            pass
    live(slot, lifeline)

def drain(slot, lifeline):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(time.monotonic()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say("ready")
    while not told or time.monotonic() < told[0] + 3.0:
        board.beat(slot, time.monotonic())
        if board.hurrying:
            say("hurried")
            os._exit(0)
        time.sleep(0.05)
    say("finished")
    os._exit(0)

work = {"crash": crash, "start_slowly": start_slowly, "live": live, "hang_first": hang_first, "drain": drain}[sys.argv[1]]
supervisor = Supervisor(work=work, workers=1, grace_s=1.0, reload=lambda: True, say=say, board=board, stuck_s=1.2)
sys.exit(supervisor.run())
"""


@contextmanager
def supervisor(work: str, log: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as out, subprocess.Popen([sys.executable, "-c", PROGRAM, work, *more], stdout=out, env=environment()) as process:
        try:
            yield process
        finally:
            process.terminate()


def events(log: str) -> list[str]:
    """The names of the events, and after ``worker_started`` its process id."""
    with open(log, encoding="ascii") as file:
        return file.read().split()


def started(log: str) -> list[int]:
    said = events(log)
    return [int(said[index + 1]) for index, word in enumerate(said[:-1]) if word == "worker_started"]


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


@pytest.mark.row("F48")
def test_a_worker_whose_loop_hangs_is_killed_and_replaced_once(tmp_path: object) -> None:
    log = f"{tmp_path}/log"
    with supervisor("hang_first", log, f"{tmp_path}/hung") as process:
        wait_until(lambda: len(started(log)) == 2, what="a new worker")
        assert events(log).index("worker_stuck") < events(log).index("worker_ended")
        time.sleep(3.0)  # in which the new one would be killed too
        assert len(started(log)) == 2 and process.poll() is None


@pytest.mark.row("F48")
def test_a_stopped_worker_is_replaced_as_well(tmp_path: object) -> None:
    log = f"{tmp_path}/log"
    with supervisor("live", log):
        wait_until(lambda: len(started(log)) == 1, what="a worker")
        time.sleep(0.5)
        os.kill(started(log)[0], signal.SIGSTOP)
        wait_until(lambda: len(started(log)) == 2, what="a new worker")


@pytest.mark.row("F48", "F49")
def test_a_pause_of_the_whole_machine_kills_nobody(tmp_path: object) -> None:
    """A virtual machine that was moved, a frozen group of processes: everybody was silent, the supervisor too."""
    log = f"{tmp_path}/log"
    with supervisor("live", log) as process:
        wait_until(lambda: len(started(log)) == 1, what="a worker")
        worker = started(log)[0]
        time.sleep(0.5)
        for pid in (process.pid, worker):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.0)
        for pid in (process.pid, worker):
            os.kill(pid, signal.SIGCONT)
        time.sleep(3.0)  # in which it would be killed
        assert started(log) == [worker] and "worker_stuck" not in events(log)


@pytest.mark.row("F48")
def test_a_worker_that_somebody_looks_at_with_a_debugger_is_left_alone(tmp_path: object) -> None:
    """Stopped at a breakpoint it is silent for as long as that takes; let go, it is as good as before."""
    log = f"{tmp_path}/log"
    with supervisor("live", log) as process:
        wait_until(lambda: len(started(log)) == 1, what="a worker")
        worker = started(log)[0]
        time.sleep(0.5)
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        if ptrace(PTRACE_ATTACH, worker, None, None) != 0:
            pytest.skip(f"nobody may trace here: {os.strerror(ctypes.get_errno())}")
        try:
            time.sleep(3.5)  # in which it would be killed
            assert started(log) == [worker] and "worker_stuck" not in events(log)
        finally:
            ptrace(PTRACE_DETACH, worker, None, None)
        time.sleep(0.5)
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: len(started(log)) == 2 and process.poll() is None, what="the watch to go on")


@pytest.mark.row("OPS-6")
@pytest.mark.parametrize(
    ("first", "second", "ending"),
    [
        (signal.SIGINT, signal.SIGINT, ["drain_cut_short", "hurried"]),
        (signal.SIGTERM, signal.SIGINT, ["drain_cut_short", "hurried"]),
        (signal.SIGTERM, signal.SIGTERM, ["finished"]),
    ],
)
def test_ctrl_c_during_the_drain_cuts_it_short_and_what_runs_us_may_tell_us_twice(
    tmp_path: object, first: signal.Signals, second: signal.Signals, ending: list[str]
) -> None:
    """A ``preStop`` hook that sends SIGTERM, and the kubelet's own behind it: the drain keeps its time."""
    log = f"{tmp_path}/log"
    with supervisor("drain", log) as process:
        wait_until(lambda: "ready" in events(log), what="a worker")
        process.send_signal(first)
        time.sleep(0.6)
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(6) == 0
        assert [word for word in events(log) if word in ("drain_cut_short", "hurried", "finished")] == ending


@pytest.mark.row("OPS-6")
def test_two_signals_at_once_are_one_wish_to_end(tmp_path: object) -> None:
    """A terminal's Ctrl-C reaches everybody in it, and a program around us passes it on besides."""
    log = f"{tmp_path}/log"
    with supervisor("drain", log) as process:
        wait_until(lambda: "ready" in events(log), what="a worker")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(6) == 0
        assert events(log)[-1] == "finished" and "hurried" not in events(log)
