"""Making tokens: ID token (OpenID Connect Core §2), ``at+jwt`` (RFC 9068), logout token (Back-Channel Logout §2.4), and spoiling them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bff.devkit.keys import Key, SigningKeys, b64, foreign_key, sign_compact
from bff.devkit.knobs import Mutation


def half_hash(alg: str, value: str) -> str:
    """at_hash and c_hash: the left half of the hash that belongs to ``alg`` (OpenID Connect Core §3.1.3.6)."""
    name = "sha512" if alg in ("EdDSA", "Ed25519") else f"sha{alg[-3:]}"
    digest = hashlib.new(name, value.encode()).digest()
    return b64(digest[: len(digest) // 2])


def mint(keys: SigningKeys, *, alg: str, typ: str, claims: Mapping[str, Any], mutation: Mutation | None, client_secret: str = "") -> str:
    """A signed token; with a mutation, what a broken or hostile provider would send instead."""
    key = keys.signing(alg)
    header: dict[str, Any] = {"alg": alg, "kid": key.kid, "typ": typ}
    if mutation is None:
        return sign_compact(header, _json(claims), alg=alg, key=key)
    changed = {name: value for name, value in {**claims, **mutation.claims}.items() if name not in mutation.remove}
    return _spoil(mutation, header, changed, alg=alg, key=key, client_secret=client_secret)


def _spoil(mutation: Mutation, header: dict[str, Any], claims: dict[str, Any], *, alg: str, key: Key, client_secret: str) -> str:
    payload = _json(claims)
    signer: Any = key
    match mutation.mode:
        case "garbage":
            return "not.a-jwt"
        case "encrypted":
            return ".".join([b64(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), *(b64(b"x" * 24) for _ in range(4))])
        case "foreign_key":
            signer = foreign_key(alg, kid=str(key.kid))
        case "foreign_new_kid":
            signer = foreign_key(alg, kid="nobody-publishes-this")
            header["kid"] = signer.kid
        case "embedded_jwk":
            signer = foreign_key(alg, kid=str(key.kid))
            header["jwk"] = signer.as_dict(private=False)
        case "hmac_public_pem" | "hmac_public_jwk" | "hmac_secret":
            signer, alg = _hmac_secret(mutation.mode, key, client_secret), "HS256"
            header["alg"] = alg
        case "no_kid":
            del header["kid"]
        case "duplicate_claim":
            payload = b'{"sub":"somebody-else",' + payload[1:]
    header = {name: value for name, value in {**header, **mutation.header}.items() if name not in mutation.remove_header}
    if mutation.mode == "none":
        header = {"alg": "none", **{name: value for name, value in header.items() if name != "alg"}, **mutation.header}
        return f"{b64(json.dumps(header).encode())}.{b64(payload)}."
    return _break_signature(mutation.mode, sign_compact(header, payload, alg=alg, key=signer))


def _break_signature(mode: str, token: str) -> str:
    signed, _, signature = token.rpartition(".")
    if mode == "empty_signature":
        return f"{signed}."
    if mode == "bad_signature":
        return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    return token


def _hmac_secret(mode: str, key: Key, client_secret: str) -> bytes:
    """What a verifier confused about key types would use as the MAC key (IDTOKEN-8)."""
    if mode == "hmac_secret":
        return client_secret.encode() or b"an-empty-secret-is-no-mac-key-at-all"
    if mode == "hmac_public_jwk":
        return json.dumps(key.as_dict(private=False)).encode()
    public: Any = key.public_key
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def _json(claims: Mapping[str, Any]) -> bytes:
    return json.dumps(claims).encode()
