"""How an API should read a JWT access token: by itself, every time, believing nobody in front of it (RFC 9068 §4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
TYPES = ("at+jwt", "application/at+jwt")
REQUIRED = ("sub", "client_id", "iat", "exp", "jti")
LEEWAY_S = 5
MAX_TOKEN_CHARS = 16_384

FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called, as their own token says. The user key is (issuer, subject) and nothing else (RS-3)."""

    issuer: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]


class CallRefused(Exception):
    """Why a call is refused, as its status and challenge (RFC 6750 §3). ``error`` "" means that no token came at all."""

    def __init__(self, status: int, error: str = "", description: str = "", **parameters: str) -> None:
        super().__init__(error or "no token")
        self.status = status
        self.error = error
        self.description = description
        self.parameters = parameters

    @property
    def challenge(self) -> str:
        said = {"error": self.error, "error_description": self.description, **self.parameters}
        return ", ".join(['Bearer realm="example-api"', *(f'{name}="{value}"' for name, value in said.items() if value)])


def read_bearer(authorization: Sequence[str], query_names: Sequence[str]) -> str:
    """The one token of a request. A token in the query, or more than one, is refused (RS-4: RFC 6750 §2, §3.1)."""
    if "access_token" in query_names or len(authorization) > 1:
        raise CallRefused(400, "invalid_request", "send the token once, in the Authorization header")
    if not authorization:
        raise CallRefused(401)
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer":
        raise CallRefused(401)
    if not token or len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise CallRefused(401, "invalid_token", "unreadable")
    return token


class TokenChecker:
    """Checks access tokens against the provider's published keys.

    Keys are kept ``keys_max_age_s`` at most: that is also how long a withdrawn key is still believed. An unknown kid
    asks the provider again, at most once a second; a failed fetch keeps what was there.
    """

    def __init__(self, *, issuer: str, audience: str, fetch_keys: FetchKeys, keys_max_age_s: float = 5.0) -> None:
        self._issuer = issuer
        self._audience = audience
        self._fetch_keys = fetch_keys
        self._keys_max_age_s = keys_max_age_s
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def check(self, token: str) -> Caller:
        """The caller, or CallRefused: 401 invalid_token for a bad token, 503 while no keys are to be had."""
        kid = _read_header(token)
        claims = self._verify(token, await self._find_keys(kid))
        self._check_claims(claims)
        scopes = claims.get("scope", "")
        return Caller(
            issuer=claims["iss"],
            subject=claims["sub"],
            client_id=claims["client_id"],
            scopes=frozenset(scopes.split()) if isinstance(scopes, str) else frozenset(),
            claims=claims,
        )

    @staticmethod
    def _verify(token: str, keys: KeySet) -> dict[str, Any]:
        try:
            return jwt.decode(token, keys, list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise CallRefused(401, "invalid_token", "the signature does not verify") from error

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        audience = claims.get("aud")
        if claims.get("iss") != self._issuer:
            raise CallRefused(401, "invalid_token", "another issuer")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise CallRefused(401, "invalid_token", "meant for another API")
        if any(claims.get(name) in (None, "") for name in REQUIRED) or not isinstance(claims["sub"], str):
            raise CallRefused(401, "invalid_token", "a required claim is missing")
        if not _is_time(claims["exp"]) or claims["exp"] + LEEWAY_S <= time.time():
            raise CallRefused(401, "invalid_token", "expired")
        if not _is_time(claims["iat"]) or claims["iat"] - LEEWAY_S > time.time() or claims.get("nbf", 0) - LEEWAY_S > time.time():
            raise CallRefused(401, "invalid_token", "not valid yet")
        if "cnf" in claims:  # bound to a key this API cannot check: a stolen copy must not work as a plain bearer (RS-5)
            raise CallRefused(401, "invalid_token", "the token is bound to a key")

    async def _find_keys(self, kid: str) -> KeySet:
        async with self._fetching:
            age = time.monotonic() - self._fetched_at
            known = self._keys is not None and any(key.kid == kid for key in self._keys.keys)
            if age > self._keys_max_age_s or (not known and age > 1.0):
                await self._refetch()
        if self._keys is None:
            raise CallRefused(503, description="the provider's keys are not available")
        return self._keys

    async def _refetch(self) -> None:
        self._fetched_at = time.monotonic()
        try:
            published = await self._fetch_keys()
            self._keys = KeySet.import_key_set({"keys": list(published["keys"])})
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError):
            return


def _read_header(token: str) -> str:
    """The kid of a token whose header is acceptable: typ at+jwt, a listed asymmetric algorithm, no crit (RS-1, RS-2)."""
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError) as error:
        raise CallRefused(401, "invalid_token", "not a signed JWT") from error
    typ, alg, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(typ, str) or typ.lower() not in TYPES:
        raise CallRefused(401, "invalid_token", "not an access token")
    if alg not in ALGORITHMS or "crit" in header or not isinstance(kid, str):
        raise CallRefused(401, "invalid_token", "an unacceptable header")
    return kid


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11


def fetch_keys_of(issuer: str) -> FetchKeys:
    """Fetches the key set that the issuer's discovery document names; no redirects, no proxies from the environment."""

    async def fetch() -> Mapping[str, Any]:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            discovery = (await client.get(f"{issuer}/.well-known/openid-configuration")).raise_for_status().json()
            keys: Mapping[str, Any] = (await client.get(discovery["jwks_uri"])).raise_for_status().json()
            return keys

    return fetch
