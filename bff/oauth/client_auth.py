"""How we prove to the provider who we are: exactly one method per request (RFC 6749 §2.3, CORE §9, CAUTH-1..8)."""

from __future__ import annotations

import base64
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.oauth.jose import ALGORITHMS, sign_compact
from bff.oauth.keys import RSA_EXPONENTS
from bff.oauth.types import ClientIdentity, Provider

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE_S: Final = 60
_MIN_RSA_BITS: Final = 2048
# What we sign with when neither the operator nor the provider chooses: first the one most providers know.
_BY_KEY: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("Ed25519", "EdDSA"),
}


@dataclass(frozen=True, slots=True)
class ClientProof:
    """What to add to one request. For one request only: an assertion is not used twice (CAUTH-4)."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class ClientAuthenticator:
    """Makes a ClientProof per request. ConfigError at construction for an identity that can prove nothing (ARCH-1, J5)."""

    def __init__(self, *, identity: ClientIdentity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._key = load_private_key(identity) if identity.client_auth == "private_key_jwt" else None
        if identity.client_auth in ("client_secret_basic", "client_secret_post") and not identity.client_secret:
            raise ConfigError(f"provider.client_secret: empty, but client_auth is {identity.client_auth}")
        if not identity.client_id:
            raise ConfigError("provider.client_id: empty")

    def prove(self, provider: Provider) -> ClientProof:
        """A fresh proof for ``provider``; the assertion's audience is its issuer, whatever the endpoint (CAUTH-3)."""
        identity = self._identity
        match identity.client_auth:
            case "client_secret_basic":
                return ClientProof(headers={"Authorization": basic_authorization(identity.client_id, identity.client_secret.reveal())})
            case "client_secret_post":
                return ClientProof(form=(("client_id", identity.client_id), ("client_secret", identity.client_secret.reveal())))
            case "private_key_jwt":
                return ClientProof(form=(("client_assertion_type", ASSERTION_TYPE), ("client_assertion", self._assertion(provider))))
            case _:  # the TLS connection proves it; the body only says who (RFC 8705 §2)
                return ClientProof(form=(("client_id", identity.client_id),))

    def _assertion(self, provider: Provider) -> str:
        now = int(self._clock.now())
        client_id = self._identity.client_id
        header = {"alg": choose_algorithm(self._identity, self._key, provider)}
        if self._identity.key_id:
            header["kid"] = self._identity.key_id
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": provider.issuer,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + ASSERTION_LIFE_S,
        }
        return sign_compact(header, claims, self._key)


def basic_authorization(client_id: str, client_secret: str) -> str:
    """HTTP Basic with both halves form-encoded first (RFC 6749 §2.3.1): a ``:`` or a space in them survives."""
    pair = f"{quote_plus(client_id, safe='')}:{quote_plus(client_secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")


def load_private_key(identity: ClientIdentity) -> Any:
    """The joserfc key in ``private_key_pem`` (PKCS8, PKCS1 or SEC1), fit for ``signing_alg``. ConfigError otherwise."""
    pem = identity.private_key_pem.reveal().encode()
    for kind in (RSAKey, ECKey, OKPKey):
        key = _import_pem(kind, pem)
        if key is not None:
            return _check_fit(key, identity.signing_alg)
    raise ConfigError("provider.private_key: not an RSA, EC or Ed25519 private key in PEM form")


def choose_algorithm(identity: ClientIdentity, key: Any, provider: Provider) -> str:
    """The operator's choice, else the first that fits the key and that the provider announces, else the first that fits."""
    if identity.signing_alg:
        return identity.signing_alg
    fitting = _BY_KEY[_shape(key)]
    announced = provider.token_endpoint_auth_signing_alg_values_supported
    return next((alg for alg in fitting if alg in announced), fitting[0])


def public_keys(identity: ClientIdentity) -> dict[str, list[dict[str, Any]]]:
    """Our public JWKS for the provider to fetch (CAUTH-5): never a private or symmetric member; empty without a key."""
    if identity.client_auth != "private_key_jwt":
        return {"keys": []}
    key = load_private_key(identity)
    public: dict[str, Any] = dict(key.as_dict(private=False))
    return {"keys": [{**public, "kid": identity.key_id or key.thumbprint(), "use": "sig"}]}


def _import_pem(kind: Any, pem: bytes) -> Any | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about small keys, which _check_fit refuses
            key = kind.import_key(pem)
    except (JoseError, ValueError, TypeError):
        return None
    return key if key.is_private else None


def _shape(key: Any) -> tuple[str, str]:
    return key.key_type, ("" if key.key_type == "RSA" else str(key.curve_name))


def _check_fit(key: Any, signing_alg: str) -> Any:
    if _shape(key) not in _BY_KEY:
        raise ConfigError("provider.private_key: this curve is not supported")
    if key.key_type == "RSA" and key.raw_value.key_size < _MIN_RSA_BITS:
        raise ConfigError("provider.private_key: an RSA key needs 2048 bits or more")
    if key.key_type == "RSA" and key.raw_value.public_key().public_numbers().e not in RSA_EXPONENTS:
        raise ConfigError("provider.private_key: an RSA key needs an ordinary public exponent such as 65537")
    if signing_alg and ALGORITHMS.get(signing_alg) != _shape(key):
        raise ConfigError("provider.signing_alg: does not fit the private key")
    return key
