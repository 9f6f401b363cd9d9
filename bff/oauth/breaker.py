"""Leaves a provider in peace that is down or asked us to wait (F25, F32): fail at once instead of queueing on it."""

from __future__ import annotations

from typing import Final

from bff.base.clock import Clock
from bff.base.errors import ProviderUnavailable

TOLERATED_FAILURES: Final = 3
PROBE_EVERY_S: Final = 1.0
MAX_WAIT_S: Final = 30.0
REMEMBERED_S: Final = 60.0


class Breaker:
    """One endpoint's state. Open after three failures in a row, or for as long as Retry-After asks (at most 30 s: the
    answer to one user's request must not keep all others out for long). While open, one probe a second goes through.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._failed_at = float("-inf")

    @property
    def failing(self) -> bool:
        """The last calls failed, and that is not a minute ago: afterwards nobody knows."""
        return self._failures >= TOLERATED_FAILURES and self._clock.monotonic() - self._failed_at < REMEMBERED_S

    def enter(self) -> None:
        """Returns if a request may be made now; ProviderUnavailable with the time to wait otherwise."""
        now = self._clock.monotonic()
        if now < self._open_until:
            raise ProviderUnavailable("waiting before the next attempt", retry_after_s=self._open_until - now)
        if self._failures >= TOLERATED_FAILURES:
            self._open_until = now + PROBE_EVERY_S

    def failed(self, retry_after_s: float | None) -> None:
        self._failures += 1
        self._failed_at = self._clock.monotonic()
        wait = min(retry_after_s or 0.0, MAX_WAIT_S)
        if self._failures >= TOLERATED_FAILURES:
            wait = max(wait, PROBE_EVERY_S)
        self._open_until = max(self._open_until, self._clock.monotonic() + wait)

    def answered(self) -> None:
        """The provider gave an answer, good or bad: it is there."""
        self._failures = 0
        self._open_until = 0.0
