"""The forms of each grant and the token answer (RFC 6749 §4-§6, RFC 8707). Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from bff.base.errors import ProviderMisbehaved
from bff.base.secret import Secret
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import PendingLogin, TokenSet

Form = list[tuple[str, str]]

FALLBACK_LIFE_S: Final = 300.0
"""How long a token is used when its answer does not say (TOKEN-3)."""

_MAX_LIFE_S: Final = 366 * 86_400.0
_TOKEN = re.compile(r"[\x21-\x7e]+")  # it goes into a header field: no space, no line end, whatever the provider says
_SESSION_LIMITS: Final = ("authorization_expires_in", "refresh_token_timeout")


def redemption_form(pending: PendingLogin, code: str, resource: str = "") -> Form:
    """RFC 6749 §4.1.3 with the same redirect_uri and the stored verifier (CB-6)."""
    return [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", pending.redirect_uri),
        ("code_verifier", pending.code_verifier),
        *_optional(resource, ()),
    ]


def refresh_form(refresh_token: Secret, resource: str = "", scopes: Sequence[str] = ()) -> Form:
    return [("grant_type", "refresh_token"), ("refresh_token", refresh_token.reveal()), *_optional(resource, scopes)]


def client_credentials_form(resource: str = "", scopes: Sequence[str] = ()) -> Form:
    return [("grant_type", "client_credentials"), *_optional(resource, scopes)]


def revocation_form(token: Secret, token_type_hint: str) -> Form:
    return [("token", token.reveal()), *([("token_type_hint", token_type_hint)] if token_type_hint else [])]


def read_token_set(document: JsonObject, *, now: float) -> TokenSet:
    """The tokens of a success answer (RFC 6749 §5.1). ProviderMisbehaved when they can not be used; unknown members ignored.

    ``expires_at`` is the sooner of ``expires_in`` and the ``exp`` of a JWT access token (F33).
    """
    access_token = _read_token(document, "access_token")
    if not access_token:
        raise ProviderMisbehaved("token answer: no access_token")
    return TokenSet(
        access_token=Secret(access_token),
        token_type=_check_token_type(document.get("token_type")),
        expires_at=_expires_at(document.get("expires_in"), access_token, now),
        refresh_token=Secret(_read_token(document, "refresh_token")),
        id_token=Secret(_read_token(document, "id_token")),
        scopes=_read_scopes(document.get("scope")),
        session_max_s=min(filter(None, (_find_life(document.get(name)) for name in _SESSION_LIMITS)), default=None),
    )


def _optional(resource: str, scopes: Sequence[str]) -> Form:
    return [*([("scope", " ".join(scopes))] if scopes else []), *([("resource", resource)] if resource else [])]


def _read_token(document: JsonObject, name: str) -> str:
    value = document.get(name)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ProviderMisbehaved(f"token answer: {name} is not a token")
    return value


def _check_token_type(value: object) -> str:
    if not isinstance(value, str) or value.lower() != "bearer":
        raise ProviderMisbehaved("token answer: a token_type we can not use")
    return "Bearer"


def _read_scopes(value: object) -> tuple[str, ...] | None:
    """None: as requested. A list is not what RFC 6749 §3.3 says, but is sent in life and can not be misread."""
    if value is None:
        return None
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return tuple(value)
    raise ProviderMisbehaved("token answer: scope is not a string")


def _find_life(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_LIFE_S:
        return None
    return float(value)


def _expires_at(expires_in: object, access_token: str, now: float) -> float:
    life = _find_life(expires_in)
    inside = _peek_expiry(access_token)
    # An exp that has passed already tells of a wrong clock, ours or theirs. Believing it would renew on every call; the
    # API's 401 settles it better.
    if inside is not None and inside > now:
        return min(inside, now + life) if life is not None else min(inside, now + _MAX_LIFE_S)
    return now + (life if life is not None else FALLBACK_LIFE_S)


def _peek_expiry(access_token: str) -> float | None:
    """``exp`` of a JWT access token, unverified: only ever used to give the token up sooner."""
    if access_token.count(".") != 2:
        return None
    payload = access_token.split(".")[1]
    try:
        exp = _expiry.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).exp
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return None
    return None if exp is None else float(exp)


class _Expiring(msgspec.Struct):
    exp: int | float | None = None


_expiry = msgspec.json.Decoder(_Expiring)
