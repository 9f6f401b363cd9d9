"""The authorization request and its answer (RFC 6749 §4.1, RFC 7636, RFC 9207). Pure but for the randomness of a new login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Final

from bff.base.errors import LoginFailed, LoginReason
from bff.oauth.types import PendingLogin, Provider
from bff.oauth.urls import add_query

Parameters = Sequence[tuple[str, str]]

MAX_PARAMETERS: Final = 64

KNOWN_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "unauthorized_client",
        "access_denied",
        "unsupported_response_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "interaction_required",
        "login_required",
        "account_selection_required",
        "consent_required",
        "invalid_request_uri",
        "invalid_request_object",
        "request_not_supported",
        "request_uri_not_supported",
        "registration_not_supported",
        "invalid_target",
        "unmet_authentication_requirements",
    }
)
"""Error codes an authorization endpoint may send (RFC 6749 §4.1.2.1, CORE §3.1.2.6, RFC 8707 §2). Others are not repeated."""

OWN_PARAMETERS: Final = frozenset(
    {
        "response_type",
        "response_mode",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "max_age",
        "acr_values",
        "login_hint",
        "ui_locales",
        "id_token_hint",
        "resource",
        "request",
        "request_uri",
        "dpop_jkt",
    }
)
"""What this client says itself, or must not say at all."""

_FRONT_CHANNEL_TOKENS: Final = ("access_token", "id_token", "refresh_token", "token_type", "response")
_CODE: Final = re.compile(r"[\x20-\x7e]{1,4096}")


def build_pending_login(
    *,
    issuer: str,
    redirect_uri: str,
    scopes: tuple[str, ...],
    return_to: str,
    created_at: float,
    acr_values: tuple[str, ...] = (),
    max_age: int | None = None,
    prompt: str = "",
    usual_prompt: str | None = None,
    subject: str = "",
    previous: str = "",
) -> PendingLogin:
    """A new login with its own state, nonce (256 bits each) and code verifier (RFC 7636 §4.1: 64 characters).

    ``offline_access`` without a chosen prompt asks for consent, as CORE §11 demands for a refresh token (AUTHZ-9), unless the provider's
    ``usual_prompt`` is another, or none ("").
    """
    if usual_prompt is None:
        usual_prompt = "consent" if "offline_access" in scopes else ""
    return PendingLogin(
        issuer=issuer,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        code_verifier=secrets.token_urlsafe(48),
        scopes=scopes,
        return_to=return_to,
        created_at=created_at,
        acr_values=acr_values,
        max_age=max_age,
        prompt=prompt or usual_prompt,
        subject=subject,
        previous=previous,
    )


def code_challenge(verifier: str) -> str:
    """S256, the only method we have (RFC 7636 §4.2; ``plain`` can not be configured, AUTHZ-1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def authorization_parameters(
    pending: PendingLogin,
    *,
    client_id: str,
    resources: Sequence[str] = (),
    login_hint: str = "",
    ui_locales: str = "",
    more: Parameters = (),
) -> list[tuple[str, str]]:
    """The request of ``pending``, each parameter once but ``resource`` (RFC 8707 §2). ``max_age`` 0 is a value (AUTHZ-11). ``more`` is the
    configuration's, which has none of OWN_PARAMETERS."""
    optional = [
        ("prompt", pending.prompt),
        ("max_age", "" if pending.max_age is None else str(pending.max_age)),
        ("acr_values", " ".join(pending.acr_values)),
        ("login_hint", login_hint),
        ("ui_locales", ui_locales),
    ]
    return [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", pending.redirect_uri),
        ("scope", " ".join(pending.scopes)),
        ("state", pending.state),
        ("nonce", pending.nonce),
        ("code_challenge", code_challenge(pending.code_verifier)),
        ("code_challenge_method", "S256"),
        *((name, value) for name, value in optional if value),
        *(("resource", resource) for resource in resources),
        *more,
    ]


def authorization_url(provider: Provider, parameters: Parameters) -> str:
    """The URL for the browser; a query that the endpoint already has stays (AUTHZ-10). ProviderMisbehaved if it clashes."""
    return add_query(provider.authorization_endpoint, parameters)


def check_callback(pending: PendingLogin, provider: Provider, parameters: Parameters) -> str:
    """The authorization code, if this answer belongs to ``pending`` and came from its provider. LoginFailed otherwise.

    In this order: nothing twice (CB-3), state (CB-1), issuer (RFC 9207 §2.4), no token on the front channel (CB-9), error
    (CB-4), code. So an answer that is not ours can not even make us believe that its login was denied.
    """
    values = _once_each(parameters)
    _check_state(pending, values.get("state", ""))
    _check_issuer(pending, provider, values.get("iss", ""))
    for name in _FRONT_CHANNEL_TOKENS:
        if name in values:
            raise LoginFailed(LoginReason.MISMATCH, f"{name} on the front channel")
    error, code = values.get("error", ""), values.get("code", "")
    if error and code:
        raise LoginFailed(LoginReason.MISMATCH, "code and error together")
    if error:
        known = error if error in KNOWN_ERRORS else None
        raise LoginFailed(LoginReason.DENIED, known or "an unknown error code", oauth_error=known)
    if _CODE.fullmatch(code) is None:
        raise LoginFailed(LoginReason.INCOMPLETE, "no usable code")
    return code


def _once_each(parameters: Parameters) -> dict[str, str]:
    if len(parameters) > MAX_PARAMETERS:
        raise LoginFailed(LoginReason.INCOMPLETE, "too many parameters")
    values = dict(parameters)
    if len(values) != len(parameters):
        raise LoginFailed(LoginReason.MISMATCH, "a parameter was sent twice")
    return {name: value for name, value in values.items() if value}  # RFC 6749 §3.1: without a value is as if omitted


def _check_state(pending: PendingLogin, state: str) -> None:
    if not hmac.compare_digest(state.encode("utf-8", "surrogatepass"), pending.state.encode("utf-8")):
        raise LoginFailed(LoginReason.MISMATCH, "another state")


def _check_issuer(pending: PendingLogin, provider: Provider, iss: str) -> None:
    if provider.issuer != pending.issuer:
        raise LoginFailed(LoginReason.MISMATCH, "the login was started at another provider")
    if iss and iss != pending.issuer:
        raise LoginFailed(LoginReason.MISMATCH, "the answer names another issuer")
    if not iss and provider.authorization_response_iss_parameter_supported:
        raise LoginFailed(LoginReason.MISMATCH, "the answer does not name its issuer")
