"""Signed short-lived values: they may be seen but must be ours (itsdangerous). For secrets there is sealing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from bff.base.clock import Clock, SystemClock
from bff.base.errors import SealBroken
from bff.session.sealing import KeyRing


class Signer:
    """Signs under the ring's newest key, verifies under all. A purpose is a salt: what was signed for one purpose is
    nothing for another (attack S9). Keeps one serializer for each purpose, of which a program has a few."""

    def __init__(self, ring: KeyRing, *, clock: Clock | None = None) -> None:
        self._ring = ring
        self._signer = _signer_of(clock or SystemClock())
        self._ready: dict[str, tuple[list[str], URLSafeTimedSerializer]] = {}

    def sign(self, purpose: str, value: Any) -> str:
        """URL-safe text of a JSON value with the time of signing."""
        return self._serializer(purpose).dumps(value)

    def check(self, purpose: str, text: str, max_age_s: float) -> Any:
        """The value, if we signed it for this purpose at most ``max_age_s`` ago. SealBroken."""
        try:
            return self._serializer(purpose).loads(text, max_age=int(max_age_s))
        except (BadData, UnicodeError) as error:
            raise SealBroken(type(error).__name__) from None

    def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        keys = self._ring.signing_keys(purpose)
        ready = self._ready.get(purpose)
        if ready is None or ready[0] != keys:
            serializer = URLSafeTimedSerializer(
                keys, salt=f"bff {purpose}", signer=self._signer, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
            )
            ready = self._ready[purpose] = keys, serializer
        return ready[1]


def _signer_of(clock: Clock) -> type[TimestampSigner]:
    """itsdangerous reads the time itself; this makes it read ours."""

    class ClockedSigner(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock.now())

        def timestamp_to_datetime(self, ts: int) -> datetime:
            return datetime.fromtimestamp(ts, tz=UTC)

    return ClockedSigner
