"""Reading what a client or browser sent: forms without duplicates, authorization requests, client authentication."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from bff.devkit.model import AuthorizationRequest, DevClient
from bff.devkit.refusals import OAuthRefusal, PageRefusal, RedirectRefusal
from bff.devkit.state import DevProvider

Parameters = Mapping[str, list[str]]

REPEATABLE = frozenset({"resource", "acr_values"})
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
PROMPTS = frozenset({"none", "login", "consent", "select_account"})


def single(parameters: Parameters, name: str) -> str:
    """The one value of ``name``, "" when absent. A repeated parameter makes the request invalid (RFC 6749 §3.1)."""
    values = parameters.get(name, [])
    if len(values) > 1 and name not in REPEATABLE:
        raise OAuthRefusal("invalid_request", f"{name} is repeated")
    return values[0] if values else ""


def read_authorization_request(provider: DevProvider, parameters: Parameters) -> AuthorizationRequest:
    """A checked request. PageRefusal until client and redirect URI are known good, RedirectRefusal after."""
    try:
        client = provider.clients.get(single(parameters, "client_id"))
        redirect_uri, state = single(parameters, "redirect_uri"), single(parameters, "state")
    except OAuthRefusal as refusal:
        raise PageRefusal(refusal.description) from refusal
    if client is None:
        raise PageRefusal("This client is not registered here.")
    if redirect_uri not in client.redirect_uris:
        raise PageRefusal("The redirect URI is not one that this client registered.")
    try:
        return _read_rest(client, redirect_uri, state, parameters)
    except OAuthRefusal as refusal:
        raise RedirectRefusal(redirect_uri, state, refusal.error, refusal.description) from refusal


def _read_rest(client: DevClient, redirect_uri: str, state: str, parameters: Parameters) -> AuthorizationRequest:
    if single(parameters, "response_type") != "code":
        raise OAuthRefusal("unsupported_response_type", "only response_type=code")
    if single(parameters, "response_mode") not in ("", "query"):
        raise OAuthRefusal("invalid_request", "only response_mode=query")
    for unsupported in ("request", "registration"):
        if unsupported in parameters:
            raise OAuthRefusal(f"{unsupported}_not_supported")
    scopes = tuple(single(parameters, "scope").split())
    if "openid" not in scopes:
        raise OAuthRefusal("invalid_scope", "openid is missing")
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        state=state,
        nonce=single(parameters, "nonce"),
        code_challenge=_read_challenge(parameters),
        scopes=scopes,
        resources=read_resources(client, parameters),
        acr_values=tuple(single(parameters, "acr_values").split()),
        max_age=_read_max_age(parameters),
        prompt=_read_prompt(parameters),
        login_hint=single(parameters, "login_hint")[:200],
    )


def _read_challenge(parameters: Parameters) -> str:
    challenge = single(parameters, "code_challenge")
    if single(parameters, "code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise OAuthRefusal("invalid_request", "PKCE with S256 is demanded")
    return challenge


def _read_max_age(parameters: Parameters) -> int | None:
    text = single(parameters, "max_age")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise OAuthRefusal("invalid_request", "max_age is not a number of seconds")
    return int(text)


def _read_prompt(parameters: Parameters) -> frozenset[str]:
    prompt = frozenset(single(parameters, "prompt").split())
    if prompt - PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise OAuthRefusal("invalid_request", "unknown prompt")
    return prompt


def read_resources(client: DevClient, parameters: Parameters) -> tuple[str, ...]:
    """RFC 8707 §2: absolute URIs without fragment, repeated for several."""
    resources = tuple(dict.fromkeys(parameters.get("resource", [])))
    for resource in resources:
        parts = urlsplit(resource)
        if not parts.scheme or parts.fragment or (client.resources and resource not in client.resources):
            raise OAuthRefusal("invalid_target", "that resource is not one of ours")
    return resources


def authenticate_client(provider: DevProvider, authorization: str | None, form: Parameters, *, endpoint_url: str) -> DevClient:
    """The client that made this call, by the one method it registered (RFC 6749 §2.3). OAuthRefusal invalid_client."""
    basic = _read_basic(authorization)
    assertion = single(form, "client_assertion")
    secret = single(form, "client_secret")
    if sum((basic is not None, bool(assertion), bool(secret))) > 1:
        raise OAuthRefusal("invalid_request", "more than one way of client authentication")
    if basic is not None:
        return _check_secret(provider, *basic, method="client_secret_basic")
    if assertion:
        return _check_assertion(provider, form, assertion, endpoint_url)
    if secret:
        return _check_secret(provider, single(form, "client_id"), secret, method="client_secret_post")
    client = provider.clients.get(single(form, "client_id"))
    if client is None or client.client_auth != "none":
        raise OAuthRefusal("invalid_client", status=401)
    return client


def _read_basic(authorization: str | None) -> tuple[str, str] | None:
    if authorization is None:
        return None
    scheme, _, encoded = authorization.partition(" ")
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise OAuthRefusal("invalid_client", status=401) from error
    if scheme.lower() != "basic" or not colon:
        raise OAuthRefusal("invalid_client", status=401)
    return unquote_plus(name), unquote_plus(secret)


def _check_secret(provider: DevProvider, client_id: str, secret: str, *, method: str) -> DevClient:
    client = provider.clients.get(client_id)
    if client is None or client.client_auth != method or not client.client_secret:
        raise OAuthRefusal("invalid_client", status=401)
    if not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
        raise OAuthRefusal("invalid_client", status=401)
    return client


def _check_assertion(provider: DevProvider, form: Parameters, assertion: str, endpoint_url: str) -> DevClient:
    """private_key_jwt (RFC 7523 §3, OpenID Connect Core §9): one use, short-lived, for us."""
    client = provider.clients.get(single(form, "client_id") or _unverified_subject(assertion))
    if client is None or client.client_auth != "private_key_jwt" or single(form, "client_assertion_type") != ASSERTION_TYPE:
        raise OAuthRefusal("invalid_client", status=401)
    try:
        keys = KeySet.import_key_set({"keys": list(client.jwks.get("keys", []))})
        claims = jwt.decode(assertion, keys, ASSERTION_ALGORITHMS).claims
    except (JoseError, ValueError) as error:
        raise OAuthRefusal("invalid_client", "the assertion's signature", status=401) from error
    problem = _assertion_problem(provider, claims, client.client_id, endpoint_url)
    if problem:
        raise OAuthRefusal("invalid_client", problem, status=401)
    provider.seen_assertions[str(claims["jti"])] = float(claims["exp"])
    return client


def _assertion_problem(provider: DevProvider, claims: Mapping[str, Any], client_id: str, endpoint_url: str) -> str:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    now, exp, jti = provider.now(), claims.get("exp"), claims.get("jti")
    for known in [jti for jti, until in provider.seen_assertions.items() if until < now]:
        del provider.seen_assertions[known]
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        return "iss and sub must be the client_id"
    if not {provider.issuer, endpoint_url, provider.url("/token")} & set(map(str, audiences)):
        return "aud is not this provider"
    if not isinstance(exp, int | float) or exp <= now or exp > now + 600:
        return "exp is missing, past or too far away"
    if not isinstance(jti, str) or jti in provider.seen_assertions:
        return "jti is missing or was used before"
    return ""


def _unverified_subject(assertion: str) -> str:
    """The client_id may be left out of the form (RFC 7521 §4.2): then the assertion's subject says whose keys to try."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return ""
    return str(claims.get("sub", "")) if isinstance(claims, dict) else ""
