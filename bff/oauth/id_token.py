"""The ID token rules (OpenID Connect Core §3.1.3.7, §12.2). Pure; signatures are the directory's business."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

from bff.base.errors import TokenInvalid
from bff.oauth.claims import MAX_TIME, check_audience, check_issuer, check_subject, check_window, find_text, find_time
from bff.oauth.jose import CompactJws, check_typ, encode_base64url, read_compact
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import Identity, IdTokenRules, PendingLogin

ID_TOKEN_TYPES: Final = frozenset({"", "jwt"})
PROTOCOL_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"}
    | {"sid", "acr", "amr", "auth_time", "events", "cnf", "session_expiry"}
)
"""Claims that steer the protocol: UserInfo can not change them."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Whom and what the token must be about. ``nonce`` None: may be absent, as after a refresh (CORE §12.2)."""

    issuer: str
    client_id: str
    now: float
    nonce: str | None = None
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    asked_at: float = 0.0


def build_expectation(pending: PendingLogin, *, client_id: str, now: float) -> Expectation:
    return Expectation(
        issuer=pending.issuer,
        client_id=client_id,
        now=now,
        nonce=pending.nonce,
        acr_values=pending.acr_values,
        max_age=pending.max_age,
        asked_at=pending.created_at,
    )


def read_id_token(token: object, rules: IdTokenRules, *, issuer: str) -> CompactJws:
    """An unverified JWS that may be an ID token of ``issuer``: format, algorithm, kind and issuer (before any key is fetched)."""
    jws = read_compact(token, algorithms=rules.algorithms)
    check_typ(jws, allowed=ID_TOKEN_TYPES)
    if "events" in jws.claims:  # a logout token or another security event (BCLO §4.1)
        raise TokenInvalid("events", "an event token is not an ID token")
    check_issuer(jws.claims, issuer)
    return jws


def check_id_token(jws: CompactJws, rules: IdTokenRules, expected: Expectation, *, access_token: str, code: str = "") -> Identity:
    """Who logged in. ``jws`` must have a verified signature. Raises TokenInvalid with the claim's name as rule."""
    claims = jws.claims
    check_issuer(claims, expected.issuer)
    subject = check_subject(claims)
    _check_parties(claims, expected.client_id, rules.trusted_audiences)
    check_window(claims, now=expected.now, leeway_s=rules.leeway_s, max_age_s=rules.max_age_s)
    _check_nonce(claims, expected.nonce)
    _check_hash(claims, "at_hash", access_token, jws.alg)
    _check_hash(claims, "c_hash", code, jws.alg)
    auth_time = find_time(claims, "auth_time")
    identity = Identity(
        issuer=expected.issuer,
        subject=subject,
        sid=find_text(claims, "sid"),
        acr=_find_acr(claims),
        amr=_find_amr(claims),
        auth_time=None if auth_time is None else int(auth_time),
        claims=dict(claims),
        session_expires_at=_find_session_end(claims, expected.now),
    )
    check_strength(identity, expected, leeway_s=rules.leeway_s)
    return identity


def check_strength(identity: Identity, expected: Expectation, *, leeway_s: float) -> None:
    """The login is as strong and as recent as it was asked to be (IDTOKEN-12, -13). Rules ``acr`` and ``max_age``.

    Recent is measured from the moment of asking: a user who reads a consent page for minutes did log in freshly.
    """
    if expected.acr_values and identity.acr not in expected.acr_values:
        raise TokenInvalid("acr", "not the assurance that was asked for")
    if expected.max_age is None:
        return
    if identity.auth_time is None or identity.auth_time < expected.asked_at - expected.max_age - leeway_s:
        raise TokenInvalid("max_age", "the login is older than asked for")


def check_same_person(jws: CompactJws, *, subject: str, auth_time: int | None) -> None:
    """A refreshed ID token is still about the same login (CORE §12.2, TOKEN-11). Rules ``sub`` and ``auth_time``."""
    if jws.claims.get("sub") != subject:
        raise TokenInvalid("sub", "a refresh answered for another person")
    refreshed = find_time(jws.claims, "auth_time")
    if refreshed is not None and auth_time is not None and int(refreshed) != auth_time:
        raise TokenInvalid("auth_time", "a refresh changed the time of login")


def half_hash(text: str, alg: str) -> str:
    """at_hash/c_hash of ``text``: the left half of the algorithm's own hash (CORE §3.1.3.6; SHA-512 for Ed25519)."""
    name = "sha512" if alg in ("EdDSA", "Ed25519") else f"sha{alg[-3:]}"
    digest = hashlib.new(name, text.encode("utf-8")).digest()
    return encode_base64url(digest[: len(digest) // 2])


def _check_parties(claims: JsonObject, client_id: str, trusted: tuple[str, ...]) -> None:
    audiences = check_audience(claims, client_id, trusted)
    if "azp" not in claims:
        if len(set(audiences)) > 1:
            raise TokenInvalid("azp", "several audiences and no azp")
    elif claims["azp"] != client_id:
        raise TokenInvalid("azp", "issued to another client")


def _check_nonce(claims: JsonObject, nonce: str | None) -> None:
    if nonce is None:
        return
    value = claims.get("nonce")
    if not isinstance(value, str) or not hmac.compare_digest(value.encode(), nonce.encode()):
        raise TokenInvalid("nonce", "not the nonce of this login")


def _check_hash(claims: JsonObject, name: str, text: str, alg: str) -> None:
    if name not in claims or not text:
        return
    value = claims[name]
    if not isinstance(value, str) or not hmac.compare_digest(value.encode(), half_hash(text, alg).encode()):
        raise TokenInvalid(name, f"{name} does not match")


def _find_session_end(claims: JsonObject, now: float) -> float | None:
    """``session_expiry`` (IPSIE SL1 draft); a value that is no time is none, as in a draft. One that has passed must not become a
    session (SESS-9)."""
    value = claims.get("session_expiry")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_TIME:
        return None
    if value <= now:
        raise TokenInvalid("session_expiry", "the provider's session is over")
    return float(value)


def _find_acr(claims: JsonObject) -> str:
    acr = claims.get("acr")
    if isinstance(acr, int) and not isinstance(acr, bool):  # Keycloak's default levels were numbers for long
        return str(acr)
    return find_text(claims, "acr")


def _find_amr(claims: JsonObject) -> tuple[str, ...]:
    value: Any = claims.get("amr")
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(method, str) for method in value):
        raise TokenInvalid("amr", "amr is not a list of strings")
    return tuple(value)
