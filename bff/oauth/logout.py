"""Ending sessions: logout tokens (OIDC Back-Channel Logout §2.6) and the way to the provider's logout page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bff.base.errors import TokenInvalid
from bff.base.secret import Secret
from bff.oauth.claims import check_audience, check_issuer, check_subject, check_window, find_text
from bff.oauth.jose import CompactJws, check_typ, read_compact
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import IdTokenRules, LogoutNotice, LogoutTyp, Provider
from bff.oauth.urls import add_query

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_TYPES: Final[Mapping[LogoutTyp, frozenset[str]]] = {
    "strict": frozenset({"logout+jwt"}),
    "compatible": frozenset({"logout+jwt", ""}),
    "lenient": frozenset({"logout+jwt", "", "jwt"}),
}
"""What may stand on a logout token. To write the kind is recommended and no more (BCLO §2.4); what is written must be true."""

# A longer hint would make a URL that servers on the way refuse (8 KiB is usual); client_id then stands in for it.
MAX_HINT_CHARS: Final = 6000


def read_logout_token(token: object, rules: IdTokenRules, *, issuer: str) -> CompactJws:
    """An unverified JWS that may be a logout token of ``issuer`` (format, algorithm, kind, issuer). TokenInvalid."""
    jws = read_compact(token, algorithms=rules.algorithms)
    check_typ(jws, allowed=_TYPES[rules.logout_typ])
    check_issuer(jws.claims, issuer)
    return jws


def check_logout_claims(jws: CompactJws, rules: IdTokenRules, *, issuer: str, client_id: str, now: float) -> LogoutNotice:
    """What to end. ``jws`` must have a verified signature. ``expires_at``: until then a replay of ``jti`` must be refused.

    Raises TokenInvalid with the claim's name as rule.
    """
    claims = jws.claims
    check_issuer(claims, issuer)
    check_audience(claims, client_id, rules.trusted_audiences)
    issued_at, expires_at = check_window(claims, now=now, leeway_s=rules.leeway_s, max_age_s=rules.logout_max_age_s)
    _check_events(claims)
    if "nonce" in claims:  # what has a nonce could be passed off as an ID token, and the other way round
        raise TokenInvalid("nonce", "a logout token has no nonce")
    subject = check_subject(claims) if "sub" in claims else ""
    sid, jti = find_text(claims, "sid"), find_text(claims, "jti")
    if not (subject or sid):
        raise TokenInvalid("sub", "neither sub nor sid")
    if not jti:
        raise TokenInvalid("jti", "jti is missing")
    until = min(expires_at, issued_at + rules.logout_max_age_s) + rules.leeway_s
    return LogoutNotice(issuer=issuer, subject=subject, sid=sid, jti=jti, expires_at=until)


def build_end_session_url(provider: Provider, *, client_id: str, id_token_hint: Secret, post_logout_redirect_uri: str, state: str) -> str:
    """Where the browser goes to sign out at the provider (RP-Initiated Logout §2); "" when there is no such place."""
    if not provider.end_session_endpoint:
        return ""
    hint = id_token_hint.reveal()
    parameters = [
        ("id_token_hint", hint if len(hint) <= MAX_HINT_CHARS else ""),
        ("client_id", client_id),
        ("post_logout_redirect_uri", post_logout_redirect_uri),
        ("state", state if post_logout_redirect_uri else ""),
    ]
    return add_query(provider.end_session_endpoint, [(name, value) for name, value in parameters if value])


def _check_events(claims: JsonObject) -> None:
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise TokenInvalid("events", "no back-channel logout event")
