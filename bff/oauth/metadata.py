"""Discovery documents (OIDC Discovery §4, RFC 8414 §3): where they are and which of their statements we believe. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from bff.base.errors import ConfigError, ProviderMisbehaved
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import Provider
from bff.oauth.urls import check_endpoint, is_fit_for_tokens, split_url

REQUIRED_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL_ENDPOINTS = (
    "userinfo_endpoint",
    "end_session_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "pushed_authorization_request_endpoint",
)
_LISTS = (
    "code_challenge_methods_supported",
    "id_token_signing_alg_values_supported",
    "scopes_supported",
    "acr_values_supported",
    "prompt_values_supported",
    "token_endpoint_auth_signing_alg_values_supported",
)


def check_configured_issuer(issuer: str, *, plain_http: bool = False) -> str:
    """The configured issuer, if it can be one: https (or loopback http), no query, no fragment. Raises ConfigError."""
    parts = split_url(issuer)
    if parts is None or "?" in issuer:
        raise ConfigError("provider.issuer: not an absolute https URL without query and fragment")
    if not is_fit_for_tokens(parts, plain_http=plain_http):
        raise ConfigError("provider.issuer: plain http is accepted for loopback hosts only")
    return issuer


def well_known_urls(issuer: str) -> tuple[str, ...]:
    """Where the metadata may be, in the order to ask: appended to the path (OIDC), then inserted before it (RFC 8414 §3.1)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    return f"{root}{path}/.well-known/openid-configuration", f"{root}/.well-known/oauth-authorization-server{path}"


def read_provider(document: JsonObject, *, issuer: str, plain_http: bool = False) -> Provider:
    """The provider that ``document`` describes. All or nothing: one bad statement refuses the document (ProviderMisbehaved).

    The issuer must be ours to the letter (DISC §4.3, META-1), and every endpoint one that we may call (META-3).
    """
    if document.get("issuer") != issuer:
        raise ProviderMisbehaved("metadata: the issuer is not the configured one, letter by letter (a trailing slash counts)")
    endpoints: dict[str, Any] = {
        name: check_endpoint(name, document.get(name), issuer=issuer, plain_http=plain_http)
        for name in (*REQUIRED_ENDPOINTS, *(name for name in OPTIONAL_ENDPOINTS if document.get(name) is not None))
    }
    lists: dict[str, Any] = {name: _read_strings(document.get(name)) for name in _LISTS}
    return Provider(
        issuer=issuer,
        **endpoints,
        **lists,
        require_pushed_authorization_requests=document.get("require_pushed_authorization_requests") is True,
        authorization_response_iss_parameter_supported=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _read_strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
