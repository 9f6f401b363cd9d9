"""When to try again: per key with growing, jittered waits (F14), and for the provider as a whole (F25)."""

from __future__ import annotations

import secrets
from collections.abc import Hashable

from bff.base.clock import Clock
from bff.base.errors import GrantRefused, ProviderError, ProviderUnavailable

BOUND = 10_000
LONGEST_WISH_S = 300.0
_NEVER = (0, 0.0, "")


class Backoff:
    """Failures by key: after the n-th the next try has to wait ``first_s`` · 2^(n-1), at most ``most_s``, of which the
    last half is random. Bound: 10,000 keys, the oldest go first.
    """

    def __init__(self, *, clock: Clock, first_s: float = 1.0, most_s: float = 60.0) -> None:
        self._clock = clock
        self._first_s = first_s
        self._most_s = most_s
        self._failures: dict[Hashable, tuple[int, float, str]] = {}

    def wait_s(self, key: Hashable) -> float:
        """Seconds until the next try may be made; 0 when it may be now."""
        _, until, _ = self._failures.get(key, _NEVER)
        return max(0.0, until - self._clock.monotonic())

    def because(self, key: Hashable) -> str:
        """The reason noted with the last failure, "" without one."""
        return self._failures.get(key, _NEVER)[2]

    def failed(self, key: Hashable, retry_after_s: float | None = None, *, because: str = "") -> float:
        """Note a failure; the provider's wish counts where it is longer (up to 5 minutes). Returns the wait in seconds."""
        count = self._failures.pop(key, _NEVER)[0] + 1
        wait_s = min(self._most_s, self._first_s * 2.0 ** min(count - 1, 30))
        wait_s = max(wait_s * (0.5 + secrets.randbelow(1001) / 2000), min(retry_after_s or 0.0, LONGEST_WISH_S))
        if len(self._failures) >= BOUND:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = (count, self._clock.monotonic() + wait_s, because)
        return wait_s

    def succeeded(self, key: Hashable) -> None:
        self._failures.pop(key, None)


def still_failing(refused: str, wait_s: float) -> ProviderError:
    """What failed a moment ago and is not tried again yet: the same answer, so that nobody sees it change for no reason."""
    return GrantRefused(refused) if refused else ProviderUnavailable("backing off", retry_after_s=wait_s)


class Breaker:
    """Stops asking a provider that is down: after ``limit`` failures in a row one try every ``probe_s``, until one succeeds."""

    def __init__(self, *, clock: Clock, limit: int = 5, probe_s: float = 1.0) -> None:
        self._clock = clock
        self._limit = limit
        self._probe_s = probe_s
        self._failures = 0
        self._next_at = 0.0

    def admit(self) -> bool:
        """Whether this try may be made now."""
        if self._failures < self._limit:
            return True
        now = self._clock.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self._probe_s
        return True

    def failed(self) -> None:
        self._failures += 1
        if self._failures == self._limit:
            self._next_at = self._clock.monotonic() + self._probe_s

    def succeeded(self) -> None:
        self._failures = 0
