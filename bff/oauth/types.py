"""The values of the OAuth and OpenID Connect client. Frozen; parameters keep their RFC spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bff.base.secret import Secret

ClientAuth = Literal[
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
]


@dataclass(frozen=True, slots=True)
class Provider:
    """What we believe of a provider after its metadata passed every check (OIDC Discovery §4.3, RFC 8414 §3.3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    revocation_endpoint: str = ""
    introspection_endpoint: str = ""
    pushed_authorization_request_endpoint: str = ""
    require_pushed_authorization_requests: bool = False
    authorization_response_iss_parameter_supported: bool = False
    code_challenge_methods_supported: tuple[str, ...] = ()
    id_token_signing_alg_values_supported: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    acr_values_supported: tuple[str, ...] = ()
    prompt_values_supported: tuple[str, ...] = ()
    token_endpoint_auth_signing_alg_values_supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """Who we are to the provider. ``private_key_pem`` signs client assertions (private_key_jwt) with ``signing_alg``."""

    client_id: str
    client_auth: ClientAuth
    client_secret: Secret = field(default_factory=lambda: Secret(""))
    private_key_pem: Secret = field(default_factory=lambda: Secret(""))
    signing_alg: str = ""
    key_id: str = ""


LogoutTyp = Literal["strict", "compatible", "lenient"]


@dataclass(frozen=True, slots=True)
class IdTokenRules:
    """What an ID token or logout token must satisfy beyond the fixed rules.

    ``algorithms`` is the allow-list (IDTOKEN-6); ``leeway_s`` covers clock skew both ways; ``max_age_s`` is how old
    an ``iat`` may be; ``trusted_audiences`` may stand beside our client_id (IDTOKEN-3). ``logout_typ``: their ``typ`` must be
    written ("strict"), may be missing, or may be missing or ``JWT`` ("lenient") (BCLO-9).
    """

    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "Ed25519", "EdDSA", "RS384", "RS512", "ES384", "ES512", "PS384", "PS512")
    leeway_s: float = 60.0
    max_age_s: float = 600.0
    trusted_audiences: tuple[str, ...] = ()
    logout_typ: LogoutTyp = "compatible"
    logout_max_age_s: float = 120.0


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """What must be remembered between redirect and callback (RFC 9700 §4.7.1). Travels sealed in its own cookie.

    ``previous`` is the store key (hex) of the session that this login replaces: a Strict cookie is absent at the
    callback when the user typed a password at the provider, so the callback cannot read it there.
    ``subject`` is set for a step-up: the same person must come back (STEPUP-4).
    """

    issuer: str
    redirect_uri: str
    state: str
    nonce: str
    code_verifier: str
    scopes: tuple[str, ...]
    return_to: str
    created_at: float
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    prompt: str = ""
    subject: str = ""
    previous: str = ""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """One token answer (RFC 6749 §5.1). ``expires_at`` in epoch seconds; ``scopes`` is None where the answer named none."""

    access_token: Secret
    token_type: str
    expires_at: float
    refresh_token: Secret = field(default_factory=lambda: Secret(""))
    id_token: Secret = field(default_factory=lambda: Secret(""))
    scopes: tuple[str, ...] | None = None
    session_max_s: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who logged in, from a verified ID token. The user key is (issuer, subject) and nothing else (IDTOKEN-17).

    ``session_expires_at``: when the provider ends its own session, where it says so (SESS-9).
    """

    issuer: str
    subject: str
    sid: str = ""
    acr: str = ""
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    session_expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class LogoutNotice:
    """A verified back-channel logout token (OIDC Back-Channel Logout §2.6). At least one of subject and sid is set."""

    issuer: str
    subject: str
    sid: str
    jti: str
    expires_at: float
