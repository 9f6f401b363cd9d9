"""The control user as a process of its own, so that a busy attacker in the test's loop cannot slow the clock it is measured with.

Standard input: one JSON line ``{"port", "head"}``, then open until the attack is over. Standard output: seconds of each call, as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time


def call(port: int, head: bytes) -> float:
    """Seconds for one call on a new connection. ValueError for anything but a whole 200."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(head)
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"}"):
        raise ValueError(answer[:300])
    return time.monotonic() - begun


def main() -> None:
    told = json.loads(sys.stdin.readline())
    took = []
    while True:
        took.append(call(told["port"], told["head"].encode("latin-1")))
        if select.select([sys.stdin], [], [], 0.05)[0]:
            break
    print(json.dumps(took))


if __name__ == "__main__":
    main()
