"""Signed short-lived values: they may be seen but must be ours (itsdangerous). For secrets there is sealing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from bff.base.clock import Clock, SystemClock
from bff.base.errors import SealBroken
from bff.session.sealing import KeyRing


class Signer:
    """Signs under the ring's newest key, verifies under all. A purpose is a salt: what was signed for one purpose is
    nothing for another (attack S9). Keeps two tools for each purpose, of which a program has a few."""

    def __init__(self, ring: KeyRing, *, clock: Clock | None = None) -> None:
        self._ring = ring
        self._signer = _signer_of(clock or SystemClock())
        self._ready: dict[str, _Tools] = {}

    def sign(self, purpose: str, value: Any) -> str:
        """URL-safe text of a JSON value with the time of signing."""
        return self._tools(purpose).values.dumps(value)

    def check(self, purpose: str, text: str, max_age_s: float) -> Any:
        """The value, if we signed it for this purpose at most ``max_age_s`` ago. SealBroken."""
        try:
            return self._tools(purpose).values.loads(text, max_age=int(max_age_s))
        except (BadData, UnicodeError) as error:
            raise SealBroken(type(error).__name__) from None

    def sign_bytes(self, purpose: str, data: bytes) -> bytes:
        """URL-safe text of ``data`` with the time of signing. Two fifths of what ``sign`` costs, which tries to compress (measured)."""
        return self._tools(purpose).bytes.sign(base64_encode(data))

    def check_bytes(self, purpose: str, signed: bytes, max_age_s: float) -> bytes:
        """The bytes, if ``sign_bytes`` made this for this purpose at most ``max_age_s`` ago. SealBroken."""
        try:
            return base64_decode(self._tools(purpose).bytes.unsign(signed, max_age=int(max_age_s)))
        except (BadData, UnicodeError) as error:
            raise SealBroken(type(error).__name__) from None

    def _tools(self, purpose: str) -> _Tools:
        keys = self._ring.signing_keys(purpose)
        ready = self._ready.get(purpose)
        if ready is None or ready.keys != keys:
            ready = self._ready[purpose] = _build_tools(purpose, keys, self._signer)
        return ready


@dataclass(frozen=True, slots=True)
class _Tools:
    """What signs for one purpose under ``keys``: JSON values, and bytes. Another salt for each: neither reads the other's."""

    keys: list[str] = field(repr=False)
    values: URLSafeTimedSerializer
    bytes: TimestampSigner


def _build_tools(purpose: str, keys: list[str], signer: type[TimestampSigner]) -> _Tools:
    how: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return _Tools(
        keys=keys,
        values=URLSafeTimedSerializer(keys, salt=f"bff {purpose}", signer=signer, signer_kwargs=how),
        bytes=signer(keys, salt=f"bff bytes {purpose}", **how),
    )


def _signer_of(clock: Clock) -> type[TimestampSigner]:
    """itsdangerous reads the time itself, and derives its key at each use; this makes it read ours, and derive each key once."""

    class ClockedSigner(TimestampSigner):
        _derived: dict[bytes, bytes] | None = None

        def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
            key = self.secret_keys[-1] if secret_key is None else want_bytes(secret_key)
            known = self._derived = self._derived or {}
            return known.get(key) or known.setdefault(key, super().derive_key(key))

        def get_timestamp(self) -> int:
            return int(clock.now())

        def timestamp_to_datetime(self, ts: int) -> datetime:
            return datetime.fromtimestamp(ts, tz=UTC)

    return ClockedSigner
