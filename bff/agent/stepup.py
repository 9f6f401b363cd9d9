"""Did the person come back as strongly as was asked? Pure (STEPUP-4, OIDC Core §3.1.3.7 rules 12 and 13)."""

from __future__ import annotations

from bff.base.errors import LoginFailed, LoginReason
from bff.oauth.types import Identity, PendingLogin

_LEEWAY_S = 60


def check_strength(pending: PendingLogin, identity: Identity, now: float) -> None:
    """LoginFailed(MISMATCH) for another person, an acr that was not asked for, or a sign-in older than max_age.

    acr_values is a wish to the provider and may be ignored by it (OIDC Core §3.1.2.1): here it is the demand it was.
    """
    if pending.subject and (identity.subject != pending.subject or identity.issuer != pending.issuer):
        raise LoginFailed(LoginReason.MISMATCH, "another person came back from a step-up")
    if pending.acr_values and identity.acr not in pending.acr_values:
        raise LoginFailed(LoginReason.MISMATCH, "acr is none of those asked for", oauth_error="unmet_authentication_requirements")
    if pending.max_age is not None:
        _check_age(pending, identity, now)


def _check_age(pending: PendingLogin, identity: Identity, now: float) -> None:
    # Counted from the start of the login: max_age=0 asks for a sign-in after it, however long the form took.
    oldest = pending.created_at - (pending.max_age or 0) - _LEEWAY_S
    if identity.auth_time is None or identity.auth_time < oldest or identity.auth_time > now + _LEEWAY_S:
        raise LoginFailed(LoginReason.MISMATCH, "auth_time is older than max_age", oauth_error="unmet_authentication_requirements")
