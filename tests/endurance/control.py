"""The control user as a process of its own, so that a busy attacker in the test's loop cannot slow the clock it is measured with.

Standard input: one JSON line ``{"port", "heads", "tls"}`` with the request head of each path, then open until the attack is over.
Each path is called every 50 ms, in a thread of its own, each time on a new connection. Standard output: ``{"took", "failed"}``, the
seconds of each call by path and what went wrong, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time

FROM = "127.0.0.1"


def call(port: int, head: bytes, tls: ssl.SSLContext | None) -> float:
    """Seconds for one call on a new connection. ValueError for anything but a whole 200."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 20, source_address=(FROM, 0)) as plain:
        sock = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        sock.sendall(head)
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
        if tls is not None:
            sock.close()
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"}"):
        raise ValueError(answer[:300])
    return time.monotonic() - begun


def trust_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    told = json.loads(sys.stdin.readline())
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    took: dict[str, list[float]] = {name: [] for name in told["heads"]}
    failed: list[str] = []
    over = threading.Event()

    def keep_calling(name: str, head: bytes) -> None:
        tls = trust_all() if told["tls"] else None
        while not over.is_set():
            try:
                took[name].append(call(told["port"], head, tls))
            except (OSError, ValueError) as error:
                failed.append(f"{name}: {error!r}")
            over.wait(0.05)

    threads = [threading.Thread(target=keep_calling, args=(name, head.encode("latin-1"))) for name, head in told["heads"].items()]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"took": took, "failed": failed}))


if __name__ == "__main__":
    main()
