"""``bff serve``: bind the sockets, become the supervisor, run one assembled worker per child.

Order matters here: the metrics directory is named before prometheus-client is imported, the sockets are bound before the first fork, and
everything heavy is imported before it too, so that workers share those pages and restart in milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bff.base.errors import BffError, ConfigError
from bff.base.systemd import notify_systemd
from bff.settings import Listen, Settings, load_settings
from bff.supervisor import Supervisor

BACKLOG = 4096
EXIT_OK, EXIT_UNAVAILABLE, EXIT_TEMPORARY, EXIT_CONFIG = 0, 69, 75, 78


class CannotListen(BffError):
    """An address that cannot be bound: taken, forbidden or not ours."""

    code = "cannot_listen"


def bind(listen: Listen) -> socket.socket:
    """A listening, inheritable, non-blocking socket for ``listen``. CannotListen with what to do."""
    try:
        if listen.kind == "fd":
            sock = socket.socket(fileno=listen.fd)
        elif listen.kind == "unix":
            sock = _bind_unix(Path(listen.path))
        else:
            family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
            sock = socket.create_server((listen.host, listen.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(f"cannot listen on {listen}: {error.strerror or error}") from error
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock


def _bind_unix(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(BACKLOG)
    return sock


@dataclass(slots=True)
class Configuration:
    """The settings in force and where they came from. ``reload`` keeps the old ones when the new ones are wrong."""

    settings: Settings
    path: Path | None
    environ: Mapping[str, str]
    problems: tuple[str, ...] = field(default=())

    def reload(self) -> bool:
        """Read the file and environment again; False, with ``problems``, if they cannot be used."""
        try:
            self.settings = load_settings(self.path, self.environ)
        except ConfigError as error:
            self.problems = error.problems
            return False
        self.problems = ()
        return True


def run(settings: Settings, config_path: Path | None) -> int:
    """Serve until SIGTERM; the exit code. Prints nothing but log lines and, on failure, two lines to stderr."""
    with tempfile.TemporaryDirectory(prefix="bff-") as folder:
        Path(folder).chmod(0o700)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            listeners = [bind(settings.server.listen), bind(settings.server.manage_listen)]
        except CannotListen as error:
            sys.stderr.write(f"{error.detail}\nfix: free the address, or change server.listen / server.manage_listen\n")
            return EXIT_UNAVAILABLE
        return _supervise(Configuration(settings, config_path, dict(os.environ)), listeners, Path(folder))


def _supervise(configuration: Configuration, listeners: list[socket.socket], folder: Path) -> int:
    from bff.observe.logs import configure_logs
    from bff.worker import run_worker

    settings = configuration.settings
    log = configure_logs(format=settings.log.format, level=settings.log.level)

    def say(event: str, fields: Mapping[str, object]) -> None:
        log.info(event, **fields)

    def reload() -> None:
        if not configuration.reload():
            log.error("config_refused", problems=list(configuration.problems))

    def work(slot: int, lifeline: int) -> int:
        return _run_child(run_worker(configuration, listeners[0], listeners[1], folder=folder / f"worker-{slot}", lifeline=lifeline))

    supervisor = Supervisor(
        work=work,
        workers=settings.server.workers,
        grace_s=settings.server.drain_delay + settings.server.grace,
        reload=reload,
        say=say,
        notify=lambda state: notify_systemd(state, configuration.environ),
    )
    gc.collect()
    gc.freeze()
    return supervisor.run()


def _run_child(work: Coroutine[Any, Any, int]) -> int:
    """Run one worker's coroutine to its exit code. Foreseen failures become two lines and a code, never a traceback."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    except ConfigError as error:
        sys.stderr.write("\n".join(error.problems) + "\n")
        return EXIT_CONFIG
    except BffError as error:
        sys.stderr.write(f"{error.detail or error.public}\nfix: `bff doctor` looks at each part in turn\n")
        return EXIT_UNAVAILABLE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
