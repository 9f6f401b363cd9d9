"""The ledger: every grant, revocation and logout message, in order, for tests to count. No token in clear: hashes only."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from typing import Any


def fingerprint(token: str) -> str:
    """How the ledger names a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:24]


class Ledger:
    """Bound: the last 50,000 entries."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=50_000)
        self._requests: Counter[str] = Counter()

    def note(self, kind: str, *, at: float, outcome: str = "ok", **details: Any) -> None:
        self._entries.append({"kind": kind, "at": at, "outcome": outcome, **details})

    def count_request(self, endpoint: str) -> None:
        self._requests[endpoint] += 1

    def clear(self) -> None:
        self._entries.clear()
        self._requests.clear()

    def to_json(self) -> dict[str, Any]:
        return {"entries": list(self._entries), "requests": dict(self._requests)}
