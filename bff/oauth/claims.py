"""Typed access to claims that someone else wrote (IDTOKEN-22, J16). A wrong type is a clean TokenInvalid, never a crash."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from bff.base.errors import TokenInvalid
from bff.oauth.jsontext import JsonObject

MAX_TIME: Final = 253_402_300_799.0  # 9999-12-31: what datetime and every store can hold
MAX_AUDIENCES: Final = 32


def find_time(claims: JsonObject, name: str) -> float | None:
    """A NumericDate in epoch seconds, fractions allowed (RFC 7519 §2); None when absent or null. ``true`` is no number."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise TokenInvalid(name, f"{name} is not a usable time")
    return float(value)


def check_time(claims: JsonObject, name: str) -> float:
    value = find_time(claims, name)
    if value is None:
        raise TokenInvalid(name, f"{name} is missing")
    return value


def find_text(claims: JsonObject, name: str, *, max_chars: int = 255) -> str:
    """A string claim, "" when absent or null; empty, long or of another type it is refused."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= max_chars:
        raise TokenInvalid(name, f"{name} is not a usable string")
    return value


def check_subject(claims: JsonObject) -> str:
    """``sub``: at most 255 ASCII characters, printable so that it fits in headers and logs (CORE §2, IDTOKEN-17)."""
    subject = find_text(claims, "sub")
    if not subject or not (subject.isascii() and subject.isprintable()):
        raise TokenInvalid("sub", "sub is not a usable subject")
    return subject


def check_issuer(claims: JsonObject, issuer: str) -> str:
    """``iss`` is exactly ours: no normalising, no containment (CORE §3.1.3.7 (2), J15)."""
    if claims.get("iss") != issuer:
        raise TokenInvalid("iss", "another issuer")
    return issuer


def check_audience(claims: JsonObject, client_id: str, trusted: Collection[str]) -> tuple[str, ...]:
    """``aud`` holds our client_id and nobody we do not trust (CORE §3.1.3.7 (3))."""
    value = claims.get("aud")
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not 0 < len(audiences) <= MAX_AUDIENCES:
        raise TokenInvalid("aud", "aud is not an audience")
    if not all(isinstance(audience, str) for audience in audiences) or client_id not in audiences:
        raise TokenInvalid("aud", "not meant for us")
    if any(audience != client_id and audience not in trusted for audience in audiences):
        raise TokenInvalid("aud", "also meant for somebody we do not trust")
    return tuple(audiences)


def check_window(claims: JsonObject, *, now: float, leeway_s: float, max_age_s: float) -> tuple[float, float]:
    """(iat, exp): both there, issued neither in the future nor too long ago, not over; ``nbf`` honoured (IDTOKEN-9, -10).

    The detail names the distance in seconds: a wrong clock is the commonest cause and this is how it is found (F33).
    """
    expires_at, issued_at = check_time(claims, "exp"), check_time(claims, "iat")
    if expires_at <= now - leeway_s:
        raise TokenInvalid("exp", f"expired {now - expires_at:.0f} s ago by our clock")
    if issued_at > now + leeway_s:
        raise TokenInvalid("iat", f"issued {issued_at - now:.0f} s in the future by our clock")
    if issued_at < now - max_age_s - leeway_s:
        raise TokenInvalid("iat", f"issued {now - issued_at:.0f} s ago by our clock")
    not_before = find_time(claims, "nbf")
    if not_before is not None and not_before > now + leeway_s:
        raise TokenInvalid("nbf", f"valid in {not_before - now:.0f} s by our clock")
    return issued_at, expires_at
