"""The values the development provider keeps: clients, sign-ins, codes, grants. All in memory, all of one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from bff.devkit.people import Person

DevClientAuth = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]

PWD = "pwd"
MFA = "mfa"
ACR_VALUES = (PWD, MFA)


@dataclass(frozen=True, slots=True)
class DevClient:
    """A registered client. ``jwks`` holds its public keys (private_key_jwt). Empty ``scopes`` or ``resources``: no limit.

    Redirect URIs are compared as exact strings (RFC 9700 §4.1.3).
    """

    client_id: str
    client_secret: str = field(default="", repr=False)
    client_auth: DevClientAuth = "client_secret_basic"
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    jwks: Mapping[str, Any] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    require_par: bool = False
    name: str = ""

    @property
    def title(self) -> str:
        return self.name or self.client_id

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins that a submitted form may end up at: the CSP form-action of our pages names them."""
        uris = (*self.redirect_uris, *self.post_logout_redirect_uris)
        return tuple(dict.fromkeys(f"{p.scheme}://{p.netloc}" for p in map(urlsplit, uris)))


def read_client(raw: Mapping[str, Any]) -> DevClient:
    """A client from JSON. ValueError names the first unknown or wrongly typed member."""
    known = {name for name in DevClient.__slots__ if not name.startswith("_")}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown client member: {sorted(unknown)[0]}")
    if not isinstance(raw.get("client_id"), str) or not raw["client_id"]:
        raise ValueError("client_id must be a non-empty string")
    values = dict(raw)
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        values[name] = tuple(values.get(name, ()))
    for name in ("scopes", "resources"):
        values[name] = frozenset(values.get(name, ()))
    return DevClient(**values)


@dataclass(slots=True)
class SignIn:
    """One browser signed in here. ``handle`` is its cookie, ``sid`` the public name that tokens carry."""

    handle: str
    sid: str
    person: Person
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    clients: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A checked authorization request (OpenID Connect Core §3.1.2.1). ``max_age`` in seconds."""

    client: DevClient
    redirect_uri: str
    state: str
    nonce: str
    code_challenge: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    prompt: frozenset[str] = frozenset()
    login_hint: str = ""


@dataclass(slots=True)
class Family:
    """One grant and every refresh token that came of it (RFC 9700 §4.14.2). ``used`` maps a token's hash to when it was rotated away."""

    family_id: str
    client_id: str
    person: Person
    sid: str
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    nonce: str
    current: str = ""
    used: dict[str, float] = field(default_factory=dict)
    alive: bool = True


@dataclass(slots=True)
class Code:
    """An authorization code. ``family_id`` is set once it was redeemed, so that a replay can end what came of it."""

    request: AuthorizationRequest
    sign_in: SignIn
    scopes: tuple[str, ...]
    expires_at: float
    family_id: str = ""


@dataclass(slots=True)
class IssuedAccess:
    """An access token as the provider remembers it, for introspection, UserInfo and revocation."""

    family_id: str
    client_id: str
    sub: str
    scopes: tuple[str, ...]
    claims: Mapping[str, Any]
    expires_at: float
    revoked: bool = False


@dataclass(slots=True)
class Interaction:
    """A browser on our login or consent page. ``handle`` binds it to that browser's cookie."""

    request: AuthorizationRequest
    handle: str
    expires_at: float
    sign_in: SignIn | None = None
    acr: str = PWD
    fresh: bool = False
