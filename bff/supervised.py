"""The supervisor's process: ``python -m bff.supervised PLAN_FD DOOR_FD MANAGE_FD [CONFIG]``. Started by ``bff serve`` alone.

Order matters: the metrics directory is named before prometheus-client is imported, and all that a worker needs is imported before the
first fork, so that workers share those pages and a restart takes milliseconds. The agent's process imports its own part after the fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bff.base.console import problem_lines, two_lines
from bff.base.errors import BffError, ConfigError
from bff.base.systemd import notify_systemd, watchdog_s
from bff.observe.multiprocess import forget_worker, share_metrics
from bff.plan import Plan, PlanBox
from bff.supervisor import STEP_S, Supervisor

if TYPE_CHECKING:
    from bff.observe.logs import Logger

EXIT_UNAVAILABLE, EXIT_CONFIG = 69, 78
REREAD_WITHIN_S = 30.0


def main(arguments: list[str]) -> int:
    """Supervise until SIGTERM; the exit code of ``bff serve``."""
    _raise_file_limit()
    _leave_no_core_file()
    box, door, manage = PlanBox(int(arguments[0])), _adopt(arguments[1]), _adopt(arguments[2])
    config = arguments[3] if len(arguments) > 3 else ""
    try:
        private = tempfile.TemporaryDirectory(prefix="bff-")
    except OSError as error:
        return _without_folder(error)
    with private as name:
        folder = Path(name)
        share_metrics(folder / "metrics")
        _leave_out_pretty_printers()
        return _supervise(box, door, manage, folder, config)


def _without_folder(error: OSError) -> int:
    problem = f"no folder for sockets and metrics in {os.environ.get('TMPDIR', 'the temporary directory')}: {error.strerror or error}"
    sys.stderr.write(two_lines(problem, "set TMPDIR to a folder that can be written to and whose name has fewer than 80 bytes") + "\n")
    return EXIT_UNAVAILABLE


def _raise_file_limit() -> None:
    """Each connection is an open file: take as many as we may have. Soft limits of 1024 are for programs that call select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS names a hard limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leave_no_core_file() -> None:
    """A process that crashes would write every token that it holds to a disk."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _adopt(number: str) -> socket.socket:
    sock = socket.socket(fileno=int(number))
    sock.setblocking(False)
    return sock


def _leave_out_pretty_printers() -> None:
    """httpx and structlog import rich where it happens to be installed, for terminals that no worker has: 3 of its 60 MiB."""
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def _supervise(box: PlanBox, door: socket.socket, manage: socket.socket, folder: Path, config: str) -> int:
    from bff.base.clock import SystemClock
    from bff.observe.logs import configure_logs
    from bff.process import Instance, limit_arenas, name_process, settle_memory, tell_where_it_hangs
    from bff.worker import run_worker

    name_process("bff")
    begun_with = box.read()
    server = begun_with.server
    log = configure_logs(format=server.log_format, level=server.log_level)
    agents = agents_for(server.workers)
    try:
        instance = Instance.create(folder, processes=server.workers + agents)
    except OSError as error:
        return _without_folder(error)
    clock, supervisor_id = SystemClock(), os.getpid()

    def serve_browsers(slot: int, lifeline: int) -> int:
        name_process("bff-worker")
        manage.close()
        return run_child(run_worker(box, instance, slot=slot, door=door, lifeline=lifeline, clock=clock))

    def serve_as_agent(slot: int, lifeline: int) -> int:
        name_process("bff-agent")
        door.close()
        instance.let_go()
        # Imported here and not before the fork: what the agent is made of weighs on no worker.
        from bff.agency import run_agency

        code = run_child(run_agency(box, instance, slot=slot, manage=manage, lifeline=lifeline, clock=clock))
        if os.getppid() != supervisor_id:
            shutil.rmtree(folder, ignore_errors=True)  # it was killed, and we are the last who could
        return code

    def work(slot: int, lifeline: int) -> int:
        tell_where_it_hangs()
        return serve_browsers(slot, lifeline) if slot < server.workers else serve_as_agent(slot, lifeline)

    def say(event: str, fields: Mapping[str, object]) -> None:
        number = fields.get("worker")
        role = "supervisor" if number is None else "worker" if number in range(server.workers) else "agent"
        # An end that was asked for is not said: what ended otherwise was killed or crashed, and somebody should look.
        write = {"worker_stuck": log.error, "worker_failed": log.error, "worker_ended": log.warning}.get(event, log.info)
        write(event, role=role, **fields)
        if event == "worker_ended":
            forget_worker(int(str(fields["pid"])), folder / "metrics")

    def let_go() -> None:
        door.close()
        instance.let_go()

    watched_s = watchdog_s(os.environ)

    def notify(state: str) -> None:
        if watched_s or state != "WATCHDOG=1":
            notify_systemd(state, os.environ)

    supervisor = Supervisor(
        work=work,
        workers=server.workers + agents,
        helpers=agents,
        board=instance.board,
        stuck_s=server.stuck_s,
        step_s=min(STEP_S, watched_s or STEP_S),
        grace_s=server.drain_delay_s + server.grace_s,
        reload=lambda: _reread(box, config, log, begun_with, within_s=min(REREAD_WITHIN_S, watched_s or REREAD_WITHIN_S)),
        say=say,
        let_go=let_go,
        notify=notify,
    )
    limit_arenas()
    settle_memory()
    return supervisor.run()


def agents_for(workers: int) -> int:
    """How many agent processes serve so many workers. They see no calls to APIs, so one for eight: chosen, not measured."""
    return 1 + (workers - 1) // 8


def _reread(box: PlanBox, config: str, log: Logger, begun_with: Plan, *, within_s: float) -> bool:
    """A new plan from the same file and environment; one that cannot be used changes nothing, says why, and is False. What differs from
    ``begun_with`` and is not taken is said by name, until a restart."""
    command = [sys.executable, "-m", "bff.settings.plan", *(["--config", config] if config else [])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        log.error("config_refused", problems=["the configuration could not be read in time; the old one stays in force"])
        return False
    if done.returncode != 0:
        log.error("config_refused", problems=_read_problems(done.stderr))
        return False
    box.write(done.stdout)
    untaken = begun_with.find_fixed_changes(box.read())
    if untaken:
        log.warning("config_needs_restart", settings=untaken)
    return True


def _read_problems(text: bytes) -> list[str]:
    try:
        return [str(line) for line in json.loads(text)]
    except ValueError:
        return ["the configuration could not be read; `bff check` tells why"]


def run_child(work: Coroutine[Any, Any, int]) -> int:
    """Run one worker's coroutine to its exit code. Foreseen failures become two lines and a code, never a traceback."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    except ConfigError as error:
        sys.stderr.write("".join(problem_lines(line) + "\n" for line in error.problems))
        return EXIT_CONFIG
    except BffError as error:
        sys.stderr.write(two_lines(error.detail or error.public, "`bff doctor` looks at each part in turn") + "\n")
        return EXIT_UNAVAILABLE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
