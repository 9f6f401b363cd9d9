"""sd_notify(3) in a few lines: every library for it is either unmaintained or compiled."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify_systemd(state: str, environ: Mapping[str, str]) -> None:
    """Tell systemd ``READY=1``, ``STOPPING=1``, …; silent where nobody asked (no NOTIFY_SOCKET)."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(state.encode())


def environ_fds(environ: Mapping[str, str]) -> int:
    """How many sockets systemd passed (they start at fd 3)."""
    mine = environ.get("LISTEN_PID") == str(os.getpid())
    return int(environ.get("LISTEN_FDS", "0")) if mine else 0
