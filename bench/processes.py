"""Start programs in sessions of their own, so that every process they fork can be counted and ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Group:
    """All processes of one variant. Each started program leads a session (setsid); members are found in /proc by it."""

    leaders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, command: Sequence[str | Path], *, log: Path, cpus: str | None, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        words = [str(part) for part in command]
        if cpus is not None and shutil.which("taskset"):
            words = ["taskset", "-c", cpus, *words]
        with log.open("ab") as sink:
            leader = subprocess.Popen(words, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True, env=env, cwd=cwd)
        self.leaders.append(leader)
        return leader

    def pids(self) -> list[int]:
        sessions = {leader.pid for leader in self.leaders}
        return [pid for pid, sid in _sessions() if sid in sessions]

    def cpu_s(self) -> float:
        """User and system time of all living members, seconds (ticks of 10 ms)."""
        return sum(_stat(pid)[0] for pid in self.pids())

    def rss_mib(self) -> float:
        """Resident memory of the largest worker: of ours those that are named so, of others the largest member."""
        pids = self.pids()
        workers = [pid for pid in pids if _name(pid) == "bff-worker"]
        return max((_stat(pid)[1] for pid in workers or pids), default=0.0)

    def agent_mib(self) -> float:
        """Resident memory of our agent's process, 0 for others."""
        return max((_stat(pid)[1] for pid in self.pids() if _name(pid) == "bff-agent"), default=0.0)

    def stop(self) -> None:
        for leader in self.leaders:
            if leader.poll() is None:
                leader.terminate()
        for leader in self.leaders:
            try:
                leader.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(leader.pid, signal.SIGKILL)
                leader.wait(10)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.leaders.clear()


def _sessions() -> list[tuple[int, int]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((int(entry.name), os.getsid(int(entry.name))))
            except (ProcessLookupError, PermissionError):
                continue
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _stat(pid: int) -> tuple[float, float]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE / 2**20


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for_port(port: int, group: Group, log: Path, seconds: float = 20.0) -> None:
    """Until something accepts on ``port``; RuntimeError with the log's end when the program died or never came up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if any(leader.poll() is not None for leader in group.leaders):
                break
            time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise RuntimeError(f"nothing listens on port {port}\n{tail}")
