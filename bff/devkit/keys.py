"""The provider's signing keys: one RSA, one EC and one Ed25519 key a generation, newest generation first."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

Key = RSAKey | ECKey | OKPKey

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")


def key_type_of(alg: str) -> str:
    return {"RS": "RSA", "PS": "RSA", "ES": "EC"}.get(alg[:2], "OKP")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_compact(header: Mapping[str, Any], payload: bytes, *, alg: str, key: Any) -> str:
    """A compact JWS over exactly these bytes. ``alg`` is what really signs: a mutated header may claim another.

    HS256 takes ``key`` as bytes and is done by hand: joserfc rightly refuses a public key as MAC secret, which is the very attack to play.
    """
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    if alg == "HS256":
        signature = hmac.digest(key, signing_input.encode(), "sha256")
    else:
        signature = JWSRegistry.algorithms[alg].sign(signing_input.encode(), key)
    return f"{signing_input}.{b64(signature)}"


class SigningKeys:
    """The published generations. ``everything`` also remembers withdrawn keys: an id_token_hint may be that old."""

    def __init__(self) -> None:
        self._generations: list[dict[str, Key]] = [_generation()]
        self._withdrawn: list[dict[str, Key]] = []

    def rotate(self, *, withdraw: bool = False) -> None:
        """A new generation signs from now on. The old ones stay published unless ``withdraw``. At most four are published."""
        kept = 0 if withdraw else 3
        self._withdrawn.extend(self._generations[kept:])
        self._generations = [_generation(), *self._generations[:kept]]

    def signing(self, alg: str) -> Key:
        return self._generations[0][key_type_of(alg)]

    def published(self) -> list[dict[str, Any]]:
        return [_public(key) for generation in self._generations for key in generation.values()]

    def find(self, kid: object) -> Key | None:
        """A key that ever signed, withdrawn ones included."""
        for generation in (*self._generations, *self._withdrawn):
            for key in generation.values():
                if key.kid == kid:
                    return key
        return None


def foreign_key(alg: str, *, kid: str) -> Key:
    """A key nobody publishes."""
    return _make(key_type_of(alg), kid)


def _generation() -> dict[str, Key]:
    stamp = secrets.token_hex(4)
    return {kind: _make(kind, f"{kind.lower()}-{stamp}") for kind in ("RSA", "EC", "OKP")}


def _make(kind: str, kid: str) -> Key:
    parameters: Any = {"kid": kid, "use": "sig"}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters)
    if kind == "EC":
        return ECKey.generate_key("P-256", parameters)
    return OKPKey.generate_key("Ed25519", parameters)


def _public(key: Key) -> dict[str, Any]:
    alg = {"RSA": {}, "EC": {"alg": "ES256"}, "OKP": {"alg": "EdDSA"}}[key.key_type]
    return {**key.as_dict(private=False), **alg}
