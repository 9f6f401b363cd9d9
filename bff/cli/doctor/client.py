"""How the provider sees us: is the redirect URI registered, are the credentials right? Asked with requests that cannot succeed."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bff.base.clock import SystemClock
from bff.base.errors import ConfigError
from bff.cli.doctor.lines import Line, Lines, fail, ok, warn
from bff.cli.doctor.provider import Asker
from bff.cli.raw import Reply, Unreachable
from bff.oauth.client_auth import ClientAuthenticator, ClientProof
from bff.oauth.types import ClientIdentity, Provider
from bff.oauth.urls import add_query
from bff.settings import Settings
from bff.settings.identity import build_identity

_REGISTER = "register exactly that at the provider, for this client id"


def check_client(settings: Settings, provider: Provider, http: Asker) -> Lines:
    """The lines about redirect URI and credentials."""
    try:
        identity = build_identity(settings)
        authenticator = ClientAuthenticator(identity=identity, clock=SystemClock())
    except (ConfigError, OSError):
        yield fail("credentials", "cannot be used", "run bff check")
        return
    if provider.require_pushed_authorization_requests and provider.pushed_authorization_request_endpoint:
        yield _probe_pushed(settings, provider, http, authenticator.prove(provider))
    else:
        yield _probe_redirect_uri(settings, provider, http)
    yield _probe_credentials(settings, provider, http, authenticator.prove(provider), identity)


def _request(settings: Settings) -> list[tuple[str, str]]:
    challenge = hashlib.sha256(secrets.token_bytes(32)).digest()
    return [
        ("response_type", "code"),
        ("client_id", settings.provider.client_id),
        ("redirect_uri", settings.redirect_uri),
        ("scope", " ".join(settings.provider.scopes)),
        ("state", secrets.token_urlsafe(24)),
        ("nonce", secrets.token_urlsafe(24)),
        ("code_challenge", base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()),
        ("code_challenge_method", "S256"),
        ("prompt", "none"),
    ]


def _probe_redirect_uri(settings: Settings, provider: Provider, http: Asker) -> Line:
    """With prompt=none a provider that knows us sends the browser back to us with an error (CORE §3.1.2.6); one that does
    not know the redirect URI must not (RFC 6749 §4.1.2.1)."""
    what = f"redirect URI {settings.redirect_uri}"
    try:
        reply = http.get(add_query(provider.authorization_endpoint, _request(settings)))
    except Unreachable as error:
        return fail(what, f"the authorization endpoint cannot be reached: {error}", "check the network")
    return judge_redirect(what, settings.redirect_uri, reply)


def judge_redirect(what: str, redirect_uri: str, reply: Reply) -> Line:
    """What an answer of the authorization endpoint says about our redirect URI."""
    location = reply.headers.get("location", "")
    if 300 <= reply.status < 400 and location.partition("?")[0].partition("#")[0] == redirect_uri:
        error = (parse_qs(urlsplit(location).query).get("error") or ["none"])[0]
        if error in ("invalid_scope", "unauthorized_client", "unsupported_response_type", "invalid_request", "access_denied"):
            return fail(
                what,
                f"is registered, but the provider refuses the request: {error}",
                "correct scopes, grants or client settings at the provider",
            )
        return ok(what, "is registered")
    if reply.status >= 500:
        return warn(what, f"the provider fails (status {reply.status})", "look at its log, then try again")
    if reply.status >= 400:
        return fail(what, f"the provider refuses it (status {reply.status})", _REGISTER)
    if "error" in location:
        return fail(what, "the provider sends the browser to an error page of its own", _REGISTER)
    return warn(what, "the provider shows a page, so this cannot be told from here", f"make sure that it is registered: {_REGISTER}")


def _probe_pushed(settings: Settings, provider: Provider, http: Asker, proof: ClientProof) -> Line:
    what = f"redirect URI {settings.redirect_uri}"
    form = [pair for pair in _request(settings) if pair[0] != "prompt"]
    present = {name for name, _ in form}
    try:
        reply = http.post(
            provider.pushed_authorization_request_endpoint, [*form, *(pair for pair in proof.form if pair[0] not in present)], proof.headers
        )
    except Unreachable as error:
        return fail(what, f"the PAR endpoint cannot be reached: {error}", "check the network")
    if reply.status in (200, 201):
        return ok(what, "a pushed request with it is accepted")
    return fail(what, f"a pushed request with it is refused: {read_error(reply)}", _REGISTER)


def _probe_credentials(settings: Settings, provider: Provider, http: Asker, proof: ClientProof, identity: ClientIdentity) -> Line:
    """A code that cannot be right: who passes client authentication hears invalid_grant (RFC 6749 §5.2)."""
    form = [
        ("grant_type", "authorization_code"),
        ("code", secrets.token_urlsafe(24)),
        ("redirect_uri", settings.redirect_uri),
        ("code_verifier", secrets.token_urlsafe(48)),
    ]
    try:
        reply = http.post(provider.token_endpoint, [*form, *proof.form], proof.headers)
    except Unreachable as error:
        return fail("credentials", f"the token endpoint cannot be reached: {error}", "check the network")
    return judge_credentials(reply, identity.client_auth)


def judge_credentials(reply: Reply, client_auth: str) -> Line:
    """What an answer of the token endpoint says about our credentials."""
    error = read_error(reply)
    if error == "invalid_grant":
        return ok("credentials", f"accepted ({client_auth})")
    if error == "invalid_client" or reply.status == 401:
        return fail(
            "credentials",
            f"the provider refuses them ({client_auth})",
            "check client_id, the secret or key, and the method allowed for this client",
        )
    if error == "unauthorized_client":
        return fail("credentials", "this client may not use the authorization code grant", "allow it at the provider")
    return warn("credentials", f"cannot be told: status {reply.status}, {error}", "try a login")


def read_error(reply: Reply) -> str:
    """The OAuth error code of an answer, if it is one: never its text."""
    try:
        found: Any = json.loads(reply.body)
        error = found.get("error") if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        error = None
    return error if isinstance(error, str) and error.replace("_", "").isalnum() and len(error) <= 60 else f"status {reply.status}"
