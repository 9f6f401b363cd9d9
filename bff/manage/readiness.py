"""What this instance can say of itself: alive is always true, ready is a judgement (META-5, OPS-6, attack F24)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


def _nothing() -> Sequence[str]:
    return ()


@dataclass(slots=True)
class Readiness:
    """Owner: the assembly, which moves the switches. One per agent's process.

    ``workers_serve``: some worker's loop turns, so that somebody answers at the door. ``provider_known`` answers whether the
    provider's metadata was ever fetched: before that nobody could sign in, so the instance isn't ready although sessions are
    served. ``degraded`` names what is impaired without making us unready, such as a provider that is down *now* (existing
    sessions and the last good metadata carry on).
    """

    keys_loaded: bool = False
    draining: bool = False
    workers_serve: Callable[[], bool] = field(default=lambda: True)
    provider_known: Callable[[], bool] = field(default=lambda: True)
    degraded: Callable[[], Sequence[str]] = field(default=_nothing)

    def obstacles(self, *, store_answers: bool) -> list[str]:
        """Stable words for why this instance isn't ready; empty when it is."""
        checks = {
            "draining": self.draining,
            "keys_not_loaded": not self.keys_loaded,
            "no_worker": not self.workers_serve(),
            "store_unavailable": not store_answers,
            "provider_never_reached": not self.provider_known(),
        }
        return [word for word, holds in checks.items() if holds]
