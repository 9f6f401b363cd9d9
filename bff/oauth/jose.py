"""Compact JWS: our refusal matrix in front of joserfc.

What joserfc gets to see has already one allow-listed algorithm, one key of the right type, curve, use and origin, canonical
base64url and bounded size. So a defect of the library in any of these (J1-J19 lists those of its whole family) does not reach us.
Encrypted and JSON-serialized tokens are never read: there is no decompression and no key derivation to attack (J11-J13, JWKS-8).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from bff.base.errors import TokenInvalid
from bff.oauth.jsontext import JsonObject, JsonRefused, read_json_object

MAX_TOKEN_CHARS: Final = 64 * 1024
MAX_HEADER_CHARS: Final = 4 * 1024
MAX_SIGNATURE_CHARS: Final = 1400  # RSA-8192

ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""), "RS384": ("RSA", ""), "RS512": ("RSA", ""),
    "PS256": ("RSA", ""), "PS384": ("RSA", ""), "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"), "EdDSA": ("OKP", "Ed25519"),
}  # fmt: skip
"""Every algorithm we can be told to accept, with its key type and curve. No MAC: a public key is never a secret (J2)."""

# Keys offered by the token itself (J3, IDTOKEN-18), extensions we do not implement (RFC 7515 §4.1.11, RFC 7797) and JWE's own.
_FORBIDDEN_HEADERS: Final = ("crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip", "epk", "p2c", "p2s")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class CompactJws:
    """A JWS that was read and has passed every check that needs no key. Its claims are NOT verified yet."""

    alg: str
    kid: str | None
    typ: str
    claims: JsonObject = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_compact(token: object, *, algorithms: Collection[str]) -> CompactJws:
    """``token`` as a compact JWS with a JSON object inside. TokenInvalid names the rule; nothing of the input is quoted (D10)."""
    if not isinstance(token, str) or not token:
        raise TokenInvalid("format", "not text")
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenInvalid("size", f"{len(token)} characters")
    header_text, claims_text, signature_text = _split(token)
    header = _read_segment(header_text, MAX_HEADER_CHARS, "header")
    alg, kid, typ = _check_header(header, algorithms)
    if len(signature_text) > MAX_SIGNATURE_CHARS:
        raise TokenInvalid("size", "signature too long")
    return CompactJws(
        alg=alg,
        kid=kid,
        typ=typ,
        claims=_read_segment(claims_text, MAX_TOKEN_CHARS, "claims"),
        signing_input=f"{header_text}.{claims_text}".encode("ascii"),
        signature=decode_base64url(signature_text),
    )


def check_typ(jws: CompactJws, *, allowed: Collection[str]) -> None:
    """The token is of the kind expected (RFC 8725bis §3.12). ``allowed`` in lower case; "" stands for an absent ``typ``."""
    typ = jws.typ.lower().removeprefix("application/")
    if typ not in allowed:
        raise TokenInvalid("typ", "a JWT of another kind")


def decode_base64url(text: str) -> bytes:
    """Unpadded, canonical base64url (RFC 7515 §2): one spelling per value, or two texts would be one token (J17)."""
    if _BASE64URL.fullmatch(text) is None:
        raise TokenInvalid("encoding", "not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise TokenInvalid("encoding", "not base64url") from None
    if encode_base64url(data) != text:
        raise TokenInvalid("encoding", "not canonical base64url")
    return data


def encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def signature_holds(jws: CompactJws, key: Any) -> bool:
    """Whether ``key`` (a joserfc key of the algorithm's type and curve) signed it. False for every kind of failure."""
    model = JWSRegistry.algorithms[_model_name(jws.alg)]
    try:
        model.check_key(key)
        return bool(model.verify(jws.signing_input, jws.signature, key))
    except (JoseError, ValueError, TypeError, OverflowError):
        return False


def sign_compact(header: Mapping[str, str], claims: Mapping[str, Any], key: Any) -> str:
    """A compact JWS over ``claims`` with the private joserfc ``key``; ``header`` must name one of ALGORITHMS."""
    segments = [encode_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    signing_input = ".".join(segments)
    model = JWSRegistry.algorithms[_model_name(header["alg"])]
    model.check_key(key)
    return f"{signing_input}.{encode_base64url(model.sign(signing_input.encode('ascii'), key))}"


def _model_name(alg: str) -> str:
    # RFC 9864: "EdDSA" is the old name; our table ties it to the one curve, so both names are one algorithm.
    return "Ed25519" if alg == "EdDSA" else alg


def _split(token: str) -> tuple[str, str, str]:
    dots = token.count(".")
    if dots == 4:
        raise TokenInvalid("encrypted", "an encrypted token was not agreed")
    if dots != 2:
        raise TokenInvalid("format", "not a compact JWS")
    header, claims, signature = token.split(".")
    if not signature:
        raise TokenInvalid("signature", "no signature")
    return header, claims, signature


def _read_segment(text: str, limit: int, what: str) -> JsonObject:
    if len(text) > limit:
        raise TokenInvalid("size", f"{what} too long")
    try:
        return read_json_object(decode_base64url(text))
    except JsonRefused as refused:
        raise TokenInvalid("json", f"{what}: {refused}") from None


def _check_header(header: JsonObject, algorithms: Collection[str]) -> tuple[str, str | None, str]:
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in ALGORITHMS or alg not in algorithms:
        raise TokenInvalid("alg", "algorithm not allowed")
    for name in _FORBIDDEN_HEADERS:
        if name in header:
            raise TokenInvalid("header", f"header {name} refused")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= 512):
        raise TokenInvalid("kid", "kid is not a short string")
    typ = header.get("typ", "")
    if not isinstance(typ, str):
        raise TokenInvalid("typ", "typ is not a string")
    return alg, kid, typ
