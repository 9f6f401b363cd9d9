"""How the door hands a judged request to the agent: by reference, inside one process.

The agent is an ordinary HTTP server on a private socket, so what the door decided must not travel as headers that
somebody could forge. The door deposits the ``Admitted`` and sends a one-use token; the agent takes it back. Whoever
reaches the agent's socket without the door has no token and gets nowhere.
"""

from __future__ import annotations

import secrets

from bff.base.clock import Clock
from bff.policy.verdict import Admitted

HANDOFF_HEADER = b"bff-handoff"


class Handoff:
    """Deposits by random token. Bounds: ``bound`` entries (oldest go first) and ``ttl_s`` seconds each; one use."""

    def __init__(self, *, clock: Clock, bound: int = 4096, ttl_s: float = 60.0) -> None:
        self._clock = clock
        self._bound = bound
        self._ttl_s = ttl_s
        self._kept: dict[str, tuple[float, Admitted]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def deposit(self, admitted: Admitted) -> str:
        """Keep a verdict until it is taken; returns the token that takes it."""
        now = self._clock.monotonic()
        self._drop_old(now)
        token = secrets.token_urlsafe(32)
        self._kept[token] = (now + self._ttl_s, admitted)
        return token

    def take(self, token: str) -> Admitted | None:
        """The verdict kept under ``token``, once; None for anything unknown, used or too old."""
        entry = self._kept.pop(token, None)
        if entry is None or entry[0] <= self._clock.monotonic():
            return None
        return entry[1]

    def _drop_old(self, now: float) -> None:
        while self._kept:
            token, (until, _) = next(iter(self._kept.items()))
            if until > now and len(self._kept) < self._bound:
                return
            del self._kept[token]
