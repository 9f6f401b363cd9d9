"""``bff serve``: bind the sockets, pack the plan, become the supervisor.

It becomes the supervisor by exec, under the same process id: what the command line and the settings needed (click, pydantic) is left
behind and weighs on no worker. Sockets and plan are inherited.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import bff
from bff.base.console import two_lines
from bff.base.errors import BffError
from bff.base.listening import BACKLOG
from bff.plan import PlanBox
from bff.settings import Listen, Settings
from bff.settings.plan import build_plan

EXIT_UNAVAILABLE = 69


class CannotListen(BffError):
    """An address that cannot be bound: taken, forbidden or not ours."""

    code = "cannot_listen"


def run(settings: Settings, config_path: Path | None) -> int:
    """Serve until SIGTERM. Returns only if it could not begin: the exit code, two lines on stderr."""
    box = PlanBox.create(build_plan(settings))
    try:
        listeners = [bind(settings.server.listen), bind(settings.server.manage_listen)]
    except CannotListen as error:
        sys.stderr.write(two_lines(error.detail, "free the address, or change server.listen / server.manage_listen") + "\n")
        return EXIT_UNAVAILABLE
    descriptors = [box.fd, *(sock.detach() for sock in listeners)]
    arguments = [str(number) for number in descriptors] + ([str(config_path.resolve())] if config_path else [])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(bff.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bff.supervised", *arguments])  # noqa: S606 - ourselves, no shell


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
        raise CannotListen(f"cannot listen on {listen}: {os.strerror(error.errno) if error.errno else error}") from error
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
