"""sd_notify(3) in a few lines: every library for it is either unmaintained or compiled."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

TIMEOUT_S = 1.0


def notify_systemd(state: str, environ: Mapping[str, str]) -> None:
    """Tell systemd ``READY=1``, ``WATCHDOG=1``, …; silent where nobody asked (no NOTIFY_SOCKET), and where it cannot hear us: that is
    its trouble and must not be ours."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(address)
        sock.sendall(state.encode())


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """How often at least to say ``WATCHDOG=1``: half of what systemd waits for it (sd_watchdog_enabled(3)); None where it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdecimal() and int(text) else None


def environ_fds(environ: Mapping[str, str]) -> int:
    """How many sockets systemd passed (they start at fd 3)."""
    mine = environ.get("LISTEN_PID") == str(os.getpid())
    return int(environ.get("LISTEN_FDS", "0")) if mine else 0
