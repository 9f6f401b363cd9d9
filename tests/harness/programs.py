"""Programs under test: started, waited for, read, signalled, stopped by the id we were given."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable


class ProgramFailed(AssertionError):
    """The program ended, or did not become ready in time. Carries the end of its log."""


def _ports() -> Iterator[int]:
    """Each port of ours in turn from a random one on, so that none is handed out twice in a row: two of a world's five, drawn at random,
    were the same in every third run of all tests. Test processes side by side have every other one."""
    beside, place = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    ports = range(12_000 + place, 32_000, beside)
    begin = random.randrange(len(ports))
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_PORTS = _ports()


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, from below the range that the kernel hands out for outgoing connections: one from that range can be
    taken by anybody's connection before the program that shall have it has started."""
    for port in _PORTS:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0, what: str = "condition") -> None:
    """Poll from outside: the only way to know another process. AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children, oldest first (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in task.read_text(encoding="ascii").split()]
    return sorted(found)


def name_of(pid: int) -> str:
    """What ``ps -o comm`` shows; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def environment() -> dict[str, str]:
    """Ours, without settings of the product, and with this tree importable from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BFF_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))}


class Program:
    """One process whose output goes to ``log_file``. A context manager that stops it."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        inherited: Sequence[int] = (),
    ) -> None:
        self.log_file = log_file
        self.arguments = list(arguments)
        environ = {**environment(), **(env or {})}
        with log_file.open("ab") as out:
            self.process = subprocess.Popen(self.arguments, stdout=out, stderr=subprocess.STDOUT, env=environ, cwd=cwd, pass_fds=inherited)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Poll ``ready`` (False or OSError: not yet). ProgramFailed with the log's end otherwise."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                raise ProgramFailed(f"{self.arguments} ended with {self.process.returncode}:\n{self.log[-4000:]}")
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.03)
        raise ProgramFailed(f"{self.arguments} not ready within {timeout_s} s:\n{self.log[-4000:]}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self.process.wait(timeout_s)

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, then SIGKILL after ``timeout_s``; the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(5)

    def kill(self) -> None:
        """SIGKILL, children (workers) first, so that none outlives the test."""
        for child in children_of(self.pid) if self.running else []:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.kill()
