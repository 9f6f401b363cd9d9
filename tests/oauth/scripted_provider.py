"""A provider whose every answer the test controls, behind httpx.MockTransport, and a client wired to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from joserfc.jwk import ECKey, OKPKey, RSAKey

from bff.base.clock import FakeClock
from bff.base.events import Event
from bff.base.secret import Secret
from bff.oauth.client import Wire
from bff.oauth.directory import Directory
from bff.oauth.flows import OAuthClient
from bff.oauth.id_token import half_hash
from bff.oauth.jose import encode_base64url, sign_compact
from bff.oauth.logout import LOGOUT_EVENT
from bff.oauth.types import ClientIdentity, IdTokenRules, PendingLogin

ISSUER = "https://id.example.test"
REDIRECT_URI = "https://app.example.test/bff/callback"
CLIENT_ID = "spa"
RSA = RSAKey.generate_key(2048)
RSA_2 = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")
REMOVE: Any = object()
Handler = Callable[[httpx.Request], httpx.Response]


def public(key: Any, **members: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **members}


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` applied; REMOVE takes a member away."""
    return {name: value for name, value in {**base, **changes}.items() if value is not REMOVE}


def raw_jws(header: Any, claims: Any, signature: bytes = b"x") -> str:
    """A compact JWS with exactly these bytes or values, signed by nobody."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*map(encode_base64url, parts), encode_base64url(signature)])


class ScriptedProvider:
    def __init__(self, clock: FakeClock, issuer: str = ISSUER) -> None:
        self.clock = clock
        self.issuer = issuer
        self.calls: list[httpx.Request] = []
        self.handlers: dict[str, Handler] = {}
        self.keys: list[dict[str, Any]] = [public(RSA, kid="r1", use="sig", alg="RS256"), public(EC, kid="e1"), public(ED, kid="o1")]
        self.metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "end_session_endpoint": f"{issuer}/end",
            "revocation_endpoint": f"{issuer}/revoke",
            "code_challenge_methods_supported": ["S256"],
        }

    def announce(self, **changes: Any) -> None:
        self.metadata = changed(self.metadata, changes)

    def answer(self, path: str, body: Any = None, status: int = 200, **headers: str) -> None:
        """From now on ``path`` answers this; a dict or list becomes JSON."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict | list):
            self.handlers[path] = lambda _: httpx.Response(status, json=body, headers=headers)
        else:
            self.handlers[path] = lambda _: httpx.Response(status, content=body or b"", headers=headers)

    def fail(self, path: str, error: Exception) -> None:
        def raiser(_: httpx.Request) -> httpx.Response:
            raise error

        self.handlers[path] = raiser

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        path = request.url.path
        if path in self.handlers:
            return self.handlers[path](request)
        if path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(200, json=self.metadata)
        if path.endswith("/jwks"):
            return httpx.Response(200, json={"keys": self.keys})
        return httpx.Response(404)

    def count(self, path: str) -> int:
        return sum(1 for request in self.calls if request.url.path.endswith(path))

    def forms(self, path: str) -> list[dict[str, str]]:
        return [dict(parse_qsl(request.content.decode())) for request in self.calls if request.url.path.endswith(path)]

    def id_token(self, *, alg: str = "RS256", kid: Any = "r1", key: Any = RSA, header: dict[str, Any] | None = None, **changes: Any) -> str:
        now = int(self.clock.now())
        claims = {"iss": self.issuer, "sub": "alice", "aud": CLIENT_ID, "exp": now + 300, "iat": now, "auth_time": now}
        head = changed({"alg": alg, "kid": kid, "typ": "JWT"}, header or {})
        return sign_compact(head, changed(claims, changes), key)

    def logout_token(self, *, alg: str = "RS256", header: dict[str, Any] | None = None, key: Any = RSA, **changes: Any) -> str:
        now = int(self.clock.now())
        claims = {"iss": self.issuer, "sub": "alice", "sid": "s1", "aud": CLIENT_ID, "exp": now + 120, "iat": now, "jti": "j1"}
        head = changed({"alg": alg, "kid": "r1", "typ": "logout+jwt"}, header or {})
        return sign_compact(head, changed({**claims, "events": {LOGOUT_EVENT: {}}}, changes), key)

    def token_answer(self, pending: PendingLogin | None = None, claims: dict[str, Any] | None = None, **changes: Any) -> None:
        """The token endpoint answers success; ``claims`` change the ID token, ``changes`` the answer."""
        access_token = "at-1"
        inside = {"nonce": pending.nonce} if pending else {}
        id_token = self.id_token(**{**inside, "at_hash": half_hash(access_token, "RS256"), **(claims or {})})
        body = {"access_token": access_token, "token_type": "Bearer", "expires_in": 600, "refresh_token": "rt-1", "id_token": id_token}
        self.answer("/token", changed(body, changes))


class World:
    """Clock, provider, directory and client, with everything the client reported."""

    def __init__(self, *, identity: ClientIdentity | None = None, rules: IdTokenRules | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.provider = ScriptedProvider(self.clock, options.pop("issuer", ISSUER))
        self.events: list[Event] = []
        self.wire = Wire(transport=httpx.MockTransport(self.provider.handle), clock=self.clock)
        directory_options = {name: options.pop(name) for name in ("danger_plain_http", "cooldown_s", "pause") if name in options}
        self.directory = Directory(
            issuer=self.provider.issuer, wire=self.wire, clock=self.clock, probe=self.events.append, **directory_options
        )
        self.client = OAuthClient(
            issuer=self.provider.issuer,
            identity=identity or ClientIdentity(client_id=CLIENT_ID, client_auth="client_secret_basic", client_secret=Secret("s3cret")),
            rules=rules or IdTokenRules(),
            directory=self.directory,
            wire=self.wire,
            clock=self.clock,
            probe=self.events.append,
            **options,
        )

    async def begin(self, **changes: Any) -> tuple[PendingLogin, str]:
        values: dict[str, Any] = {"redirect_uri": REDIRECT_URI, "scopes": ("openid",), "return_to": "/", **changes}
        return await self.client.begin_login(**values)

    def outcomes(self, kind: Any) -> list[str]:
        return [event.outcome for event in self.events if event.kind is kind]


def query_of(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)
