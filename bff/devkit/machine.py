"""The machines' half: metadata, keys, PAR, tokens, UserInfo, revocation, introspection."""

from __future__ import annotations

import secrets
from typing import Any

from quart import Blueprint, Response, request

from bff.devkit.grants import answer_grant
from bff.devkit.ledger import fingerprint
from bff.devkit.model import ACR_VALUES, DevClient, IssuedAccess
from bff.devkit.reading import ASSERTION_ALGORITHMS, Parameters, authenticate_client, read_authorization_request, single
from bff.devkit.refusals import OAuthRefusal, PageRefusal, RedirectRefusal
from bff.devkit.state import PAR_LIFE_S, DevProvider
from bff.devkit.web import form_parameters, json_answer


def metadata(provider: DevProvider) -> dict[str, Any]:
    """OpenID Connect Discovery §3, with the knobs' changes."""
    knobs = provider.knobs
    auth_methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
    document: dict[str, Any] = {
        "issuer": provider.issuer,
        "authorization_endpoint": provider.url("/authorize"),
        "token_endpoint": provider.url("/token"),
        "userinfo_endpoint": provider.url("/userinfo"),
        "jwks_uri": provider.url("/jwks"),
        "end_session_endpoint": provider.url("/end-session"),
        "revocation_endpoint": provider.url("/revoke"),
        "introspection_endpoint": provider.url("/introspect"),
        "pushed_authorization_request_endpoint": provider.url("/par"),
        "require_pushed_authorization_requests": knobs.require_par,
        "authorization_response_iss_parameter_supported": knobs.iss_parameter != "off",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported": auth_methods,
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access", "orders:read", "orders:write", "payments"],
        "claims_supported": ["sub", "name", "email", "department", "region", "roles", "acr", "amr", "auth_time", "sid"],
        "acr_values_supported": list(ACR_VALUES),
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }
    return {name: value for name, value in {**document, **knobs.metadata}.items() if name not in knobs.metadata_removed}


def build_machine(provider: DevProvider) -> Blueprint:
    machine = Blueprint("machine", __name__)

    async def authenticated() -> tuple[DevClient, Parameters]:
        form = await form_parameters()
        here = provider.url(request.path)
        return authenticate_client(provider, request.headers.get("Authorization"), form, endpoint_url=here), form

    @machine.get("/.well-known/openid-configuration")
    @machine.get("/.well-known/oauth-authorization-server")
    async def discovery() -> Response:
        return json_answer(metadata(provider))

    @machine.get("/jwks")
    async def jwks() -> Response:
        return json_answer({"keys": provider.keys.published() if provider.knobs.publish_keys == "all" else []})

    @machine.post("/par")
    async def push() -> Response:
        client, form = await authenticated()
        return _push(provider, client, form)

    @machine.post("/token")
    async def token() -> Response:
        client, form = await authenticated()
        return json_answer(answer_grant(provider, client, form), headers={"Pragma": "no-cache"})

    @machine.route("/userinfo", methods=["GET", "POST"])
    async def userinfo() -> Response:
        return _userinfo(provider, request.headers.get("Authorization", ""))

    @machine.post("/revoke")
    async def revoke() -> Response:
        client, form = await authenticated()
        _revoke(provider, client, single(form, "token"))
        return Response(status=200, headers={"Cache-Control": "no-store"})

    @machine.post("/introspect")
    async def introspect() -> Response:
        _, form = await authenticated()
        return json_answer(_introspection(provider, single(form, "token")))

    return machine


def _push(provider: DevProvider, client: DevClient, form: Parameters) -> Response:
    """RFC 9126 §2: the whole request is checked now, not when the browser comes."""
    parameters = {name: values for name, values in form.items() if not name.startswith("client_") or name == "client_id"}
    parameters["client_id"] = [client.client_id]
    try:
        read_authorization_request(provider, parameters)
    except PageRefusal as refusal:
        raise OAuthRefusal("invalid_request", str(refusal)) from refusal
    except RedirectRefusal as refusal:
        raise OAuthRefusal(refusal.error, refusal.description) from refusal
    request_uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe(24)}"
    provider.pushed[request_uri] = (parameters, client.client_id, provider.now() + PAR_LIFE_S)
    provider.ledger.note("par", at=provider.now(), client_id=client.client_id)
    return json_answer({"request_uri": request_uri, "expires_in": PAR_LIFE_S}, 201)


def _userinfo(provider: DevProvider, authorization: str) -> Response:
    scheme, _, token = authorization.partition(" ")
    issued = provider.find_access(token) if scheme.lower() == "bearer" else None
    if issued is None or "openid" not in issued.scopes:
        return json_answer({"error": "invalid_token"}, 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    person = next(one for one in provider.people.values() if one.sub == issued.sub)
    claims = {"sub": person.sub, **person.claims(frozenset(issued.scopes)), **provider.knobs.userinfo_claims}
    if provider.knobs.userinfo_sub:
        claims["sub"] = provider.knobs.userinfo_sub
    return json_answer(claims)


def _revoke(provider: DevProvider, client: DevClient, token: str) -> None:
    """RFC 7009 §2.1: a refresh token takes its whole grant along; an unknown token is fine."""
    name, kind = fingerprint(token), "unknown"
    family = provider.families.get(provider.refresh_tokens.get(name, ""))
    issued = provider.access_tokens.get(name)
    if family is not None and family.client_id == client.client_id:
        kind = "refresh_token"
        provider.end_family(family, why="revoked")
    elif issued is not None and issued.client_id == client.client_id:
        kind, issued.revoked = "access_token", True
    provider.ledger.note("revocation", at=provider.now(), client_id=client.client_id, token=name, token_kind=kind)


def _introspection(provider: DevProvider, token: str) -> dict[str, Any]:
    issued: IssuedAccess | None = provider.find_access(token)
    if issued is None:
        return {"active": False}
    return {"active": True, "token_type": "Bearer", **issued.claims}
