"""The provider's published keys (RFC 7517): which of them may verify what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import urlsafe_b64decode

from bff.oauth.jose import ALGORITHMS, CompactJws, signature_holds
from bff.oauth.jsontext import JsonObject

MAX_KEYS: Final = 64
_RSA_BITS: Final = range(2048, 8193)
_PUBLIC_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_IMPORTERS: Final[Mapping[str, Any]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_MAX_MEMBER_CHARS: Final = 1400
RSA_EXPONENTS: Final = range(2**16 + 1, 2**32, 2)
"""Of public keys. Below, a sloppy check of the padding lets anybody forge (Bleichenbacher 2006; FIPS 186-5 §5.1 asks for more than 2^16);
above, each verification costs more than it should."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One usable public key. ``algorithms`` is what it may verify: the one it declares, else all of its type and curve."""

    kid: str | None
    algorithms: frozenset[str]
    material: tuple[str, ...]
    key: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PublishedKeys:
    """The usable keys of one JWKS document. Equal when they hold the same keys."""

    keys: tuple[VerificationKey, ...]

    def find_fault(self, jws: CompactJws) -> str:
        """The rule that ``jws`` breaks, ``kid`` or ``signature``; empty when exactly the right key verifies it.

        A kid must be one of ours, exactly; without kid the set must leave no choice (CORE §10.1, JWKS-4). Never is one
        key after another tried: that would let any key of the set stand in for the one the token names (J7).
        """
        candidates = [key for key in self.keys if jws.alg in key.algorithms and (jws.kid is None or key.kid == jws.kid)]
        if len(candidates) != 1:
            return "kid"
        return "" if signature_holds(jws, candidates[0].key) else "signature"


def read_published_keys(document: JsonObject) -> PublishedKeys | None:
    """The usable keys of a JWKS. Members that are malformed, private, for encryption or too weak are skipped, so that one
    bad member does not break the others (J10); None when nothing usable is left (F29: keep what you had).
    """
    members = document.get("keys")
    if not isinstance(members, list):
        return None
    found: list[VerificationKey] = []
    for member in members[:MAX_KEYS]:
        key = _find_key(member)
        if key is not None and key not in found:
            found.append(key)
    return PublishedKeys(tuple(found)) if found else None


def _find_key(member: object) -> VerificationKey | None:
    if not isinstance(member, dict) or not _is_for_signatures(member):
        return None
    kid, kty = member.get("kid"), member.get("kty")
    if not (kid is None or isinstance(kid, str)) or not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        return None
    public = {name: member.get(name) for name in _PUBLIC_MEMBERS[kty]}
    if not all(isinstance(value, str) and 0 < len(value) <= _MAX_MEMBER_CHARS for value in public.values()):
        return None
    algorithms = _find_algorithms(kty, str(public.get("crv", "")), member.get("alg"))
    key = _import(kty, public) if algorithms else None
    if key is None:
        return None
    return VerificationKey(kid=kid, algorithms=algorithms, material=(kty, *map(str, public.values())), key=key)


def _is_for_signatures(member: dict[str, Any]) -> bool:
    if member.get("use") not in (None, "sig") or "d" in member or "k" in member:
        return False  # a published private key can be used by anybody who can read
    operations = member.get("key_ops")
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _find_algorithms(kty: str, crv: str, declared: object) -> frozenset[str]:
    fitting = frozenset(alg for alg, need in ALGORITHMS.items() if need == (kty, crv))
    if declared is None:
        return fitting
    if declared in ("EdDSA", "Ed25519"):
        return fitting & {"EdDSA", "Ed25519"}
    return frozenset({declared}) & fitting if isinstance(declared, str) else frozenset()


def _import(kty: str, public: Mapping[str, Any]) -> Any | None:
    try:
        if kty == "RSA" and not _is_strong_rsa(public):
            return None
        return _IMPORTERS[kty].import_key({"kty": kty, **public})
    except (JoseError, ValueError, TypeError, OverflowError, KeyError):
        return None


def _is_strong_rsa(public: Mapping[str, Any]) -> bool:
    modulus, exponent = (_read_uint(public[name]) for name in ("n", "e"))
    return modulus.bit_length() in _RSA_BITS and modulus % 2 == 1 and exponent in RSA_EXPONENTS


def _read_uint(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text.encode("ascii")), "big")
