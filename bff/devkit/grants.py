"""The token endpoint's three grants: code (RFC 6749 §4.1.3), refresh with rotation (RFC 9700 §4.14.2), client credentials (§4.4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any

from bff.devkit.ledger import fingerprint
from bff.devkit.model import DevClient, Family, IssuedAccess
from bff.devkit.reading import Parameters, read_resources, single
from bff.devkit.refusals import OAuthRefusal
from bff.devkit.state import DevProvider
from bff.devkit.tokens import half_hash, mint

Answer = dict[str, Any]


def answer_grant(provider: DevProvider, client: DevClient, form: Parameters) -> Answer:
    """The token answer. OAuthRefusal otherwise; either way the ledger has an entry."""
    grant_type = single(form, "grant_type")
    grant = GRANTS.get(grant_type)
    if grant is None:
        raise OAuthRefusal("unsupported_grant_type")
    note: dict[str, Any] = {"client_id": client.client_id, "resources": form.get("resource", [])}
    try:
        answer = grant(provider, client, form, note)
    except OAuthRefusal as refusal:
        provider.ledger.note(grant_type, at=provider.now(), outcome=refusal.error, **note)
        raise
    provider.ledger.note(grant_type, at=provider.now(), scope=answer.get("scope"), **note)
    provider.handed_out(*(str(answer.get(name, "")) for name in ("access_token", "refresh_token", "id_token")))
    provider.handed_out(single(form, "code_verifier"), single(form, "client_assertion"))
    answer |= provider.knobs.token_members
    return {name: value for name, value in answer.items() if name not in provider.knobs.token_members_removed}


def _redeem_code(provider: DevProvider, client: DevClient, form: Parameters, note: dict[str, Any]) -> Answer:
    value = single(form, "code")
    note["code"] = fingerprint(value)
    code = provider.codes.get(value)
    if code is None or code.request.client.client_id != client.client_id:
        raise OAuthRefusal("invalid_grant", "unknown code")
    if code.family_id:  # a replayed code ends what came of its first use (RFC 6749 §4.1.2)
        provider.end_family(provider.families[code.family_id], why="code_replayed")
        raise OAuthRefusal("invalid_grant", "the code was used before")
    if code.expires_at <= provider.now() or single(form, "redirect_uri") != code.request.redirect_uri:
        raise OAuthRefusal("invalid_grant", "the code is too old or was made for another redirect URI")
    if not _verifier_matches(single(form, "code_verifier"), code.request.code_challenge):
        raise OAuthRefusal("invalid_grant", "the code_verifier does not match")
    asked = read_resources(client, form)
    if code.request.resources and set(asked) - set(code.request.resources):
        raise OAuthRefusal("invalid_target", "not one of the resources of the authorization request")
    signed = code.sign_in
    family = Family(
        secrets.token_hex(8), client.client_id, signed.person, signed.sid, signed.auth_time, signed.acr, signed.amr,
        code.scopes, code.request.resources, code.request.nonce,
    )
    code.family_id = family.family_id
    provider.families[family.family_id] = family
    note |= {"family": family.family_id, "sub": signed.person.sub, "sid": signed.sid}
    access_token, answer = _access_answer(provider, client, family, family.scopes, asked or family.resources, "authorization_code")
    if provider.knobs.issue_refresh_token:
        answer["refresh_token"] = provider.new_refresh_token(family)
        note["refresh_out"] = fingerprint(answer["refresh_token"])
    if "openid" in code.request.scopes:
        answer["id_token"] = _id_token(provider, client, family, access_token, "authorization_code", nonce=family.nonce)
    return answer


def _verifier_matches(verifier: str, challenge: str) -> bool:
    if not 43 <= len(verifier) <= 128 or not verifier.isascii():
        return False
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)


def _refresh(provider: DevProvider, client: DevClient, form: Parameters, note: dict[str, Any]) -> Answer:
    token = single(form, "refresh_token")
    name = fingerprint(token)
    note["refresh_in"] = name
    family = provider.families.get(provider.refresh_tokens.get(name, ""))
    if family is None or family.client_id != client.client_id or not family.alive:
        raise OAuthRefusal("invalid_grant", "unknown or ended refresh token")
    note |= {"family": family.family_id, "sub": family.person.sub, "sid": family.sid}
    rotated = _check_reuse(provider, family, name)
    scopes = _narrower(family.scopes, single(form, "scope"))
    resources = read_resources(client, form) or family.resources
    access_token, answer = _access_answer(provider, client, family, scopes, resources, "refresh_token")
    if provider.knobs.rotation != "off" and not rotated:
        answer["refresh_token"] = provider.new_refresh_token(family)
        note["refresh_out"] = fingerprint(answer["refresh_token"])
    elif rotated:
        answer["refresh_token"] = _reissue(provider, family)
    if provider.knobs.id_token_on_refresh and "openid" in family.scopes:
        answer["id_token"] = _id_token(provider, client, family, access_token, "refresh_token", nonce="")
    return answer


def _check_reuse(provider: DevProvider, family: Family, name: str) -> bool:
    """False for the current token, True for one rotated away within the grace; reuse ends the family."""
    rotated_at = family.used.get(name)
    if rotated_at is None:
        return False
    knobs = provider.knobs
    if knobs.rotation == "off" or (knobs.rotation == "grace" and provider.now() - rotated_at <= knobs.grace_s):
        return True
    provider.end_family(family, why="refresh_token_reused")
    raise OAuthRefusal("invalid_grant", "the refresh token was used before; the whole grant has ended")


def _reissue(provider: DevProvider, family: Family) -> str:
    """Within the grace a repeated rotation gets a token of its own that works beside the current one."""
    token = secrets.token_urlsafe(32)
    provider.refresh_tokens[fingerprint(token)] = family.family_id
    return token


def _narrower(granted: tuple[str, ...], asked: str) -> tuple[str, ...]:
    if not asked:
        return granted
    wanted = tuple(asked.split())
    if set(wanted) - set(granted):
        raise OAuthRefusal("invalid_scope", "more than was granted")
    return wanted


def _client_credentials(provider: DevProvider, client: DevClient, form: Parameters, note: dict[str, Any]) -> Answer:
    if client.client_auth == "none":
        raise OAuthRefusal("unauthorized_client")
    asked = single(form, "scope").split()
    scopes = tuple(s for s in asked if (not client.scopes or s in client.scopes) and s not in ("openid", "offline_access"))
    if asked and not scopes:
        raise OAuthRefusal("invalid_scope")
    return _access_answer(provider, client, None, scopes, read_resources(client, form), "client_credentials")[1]


def _access_answer(
    provider: DevProvider, client: DevClient, family: Family | None, scopes: tuple[str, ...], resources: tuple[str, ...], grant: str
) -> tuple[str, Answer]:
    now, life = int(provider.now()), provider.knobs.access_token_s
    claims: dict[str, Any] = {
        "iss": provider.issuer, "sub": family.person.sub if family else client.client_id, "client_id": client.client_id,
        "aud": list(resources) if len(resources) > 1 else (resources[0] if resources else provider.audience),
        "iat": now, "exp": now + life, "jti": secrets.token_urlsafe(16), "scope": " ".join(scopes),
    }
    if family:
        claims |= {"auth_time": family.auth_time, "acr": family.acr, "amr": list(family.amr), "sid": family.sid, **family.person.work()}
        claims |= provider.knobs.extra_claims
    mutation = provider.knobs.take_mutation("access_token", grant)
    if provider.knobs.access_token_format == "opaque":
        token = secrets.token_urlsafe(32)
    else:
        alg = provider.knobs.id_token_alg
        token = mint(provider.keys, alg=alg, typ="at+jwt", claims=claims, mutation=mutation, client_secret=client.client_secret)
    issued = IssuedAccess(family.family_id if family else "", client.client_id, claims["sub"], scopes, claims, now + life)
    provider.remember_access(token, issued)
    return token, {"access_token": token, "token_type": "Bearer", "expires_in": life, "scope": " ".join(scopes)}


def _id_token(provider: DevProvider, client: DevClient, family: Family, access_token: str, grant: str, *, nonce: str) -> str:
    now, alg = int(provider.now()), provider.knobs.id_token_alg
    claims: dict[str, Any] = {
        "iss": provider.issuer, "sub": family.person.sub, "aud": client.client_id, "iat": now, "exp": now + 300,
        "auth_time": family.auth_time, "acr": family.acr, "amr": list(family.amr), "sid": family.sid,
        "at_hash": half_hash(alg, access_token), **family.person.claims(frozenset(family.scopes)), **provider.knobs.extra_claims,
    }
    if nonce:
        claims["nonce"] = nonce
    mutation = provider.knobs.take_mutation("id_token", grant)
    return mint(provider.keys, alg=alg, typ="JWT", claims=claims, mutation=mutation, client_secret=client.client_secret)


GRANTS: dict[str, Callable[[DevProvider, DevClient, Parameters, dict[str, Any]], Answer]] = {
    "authorization_code": _redeem_code,
    "refresh_token": _refresh,
    "client_credentials": _client_credentials,
}
