"""How we prove who we are: one method per request, fresh each time, and nothing private in what we publish."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from bff.base.errors import ConfigError
from bff.base.secret import Secret
from bff.oauth.client_auth import ASSERTION_TYPE, ClientAuthenticator, public_keys
from bff.oauth.metadata import read_provider
from bff.oauth.types import ClientAuth, ClientIdentity
from tests.oauth.scripted_provider import CLIENT_ID, ISSUER, World

ANSWER: dict[str, Any] = {"access_token": "at", "token_type": "Bearer", "expires_in": 600}


def pem(key: Any) -> Secret:
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Secret(private.decode())


def key_client(key: Any, **changes: Any) -> ClientIdentity:
    return ClientIdentity(client_id=CLIENT_ID, client_auth="private_key_jwt", private_key_pem=pem(key), **changes)


@pytest.mark.row("CAUTH-1", "CAUTH-2")
async def test_basic_form_encodes_both_halves_and_puts_nothing_in_the_body(build_world: Any) -> None:
    identity = ClientIdentity(client_id="a:b c", client_auth="client_secret_basic", client_secret=Secret("p:%ä /+&="))
    world = build_world(identity=identity)
    world.provider.answer("/token", ANSWER)
    await world.client.client_token(audience="", scopes=())
    request = world.provider.calls[-1]
    user, _, secret = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode("ascii").partition(":")
    assert (unquote_plus(user), unquote_plus(secret)) == ("a:b c", "p:%ä /+&=")
    assert world.provider.forms("/token") == [{"grant_type": "client_credentials"}]


@pytest.mark.row("CAUTH-1")
async def test_post_puts_both_in_the_body_and_nothing_in_the_header(build_world: Any) -> None:
    world = build_world(identity=ClientIdentity(client_id="spa", client_auth="client_secret_post", client_secret=Secret("p")))
    world.provider.answer("/token", ANSWER)
    await world.client.client_token(audience="", scopes=())
    assert "Authorization" not in world.provider.calls[-1].headers
    assert world.provider.forms("/token") == [{"grant_type": "client_credentials", "client_id": "spa", "client_secret": "p"}]


@pytest.mark.row("PAR-1", "CAUTH-1")
async def test_a_pushed_request_names_its_client_once(build_world: Any) -> None:
    world = build_world(identity=ClientIdentity(client_id="spa", client_auth="client_secret_post", client_secret=Secret("p")))
    world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
    world.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, 201)
    await world.begin()
    assert world.provider.calls[-1].content.count(b"client_id=") == 1
    assert b"client_secret=p" in world.provider.calls[-1].content


@pytest.mark.row("CAUTH-8")
async def test_a_client_known_by_its_certificate_only_names_itself(build_world: Any) -> None:
    world = build_world(identity=ClientIdentity(client_id="spa", client_auth="tls_client_auth"))
    world.provider.answer("/token", ANSWER)
    await world.client.client_token(audience="", scopes=())
    assert world.provider.forms("/token") == [{"grant_type": "client_credentials", "client_id": "spa"}]


KEYS: list[tuple[str, Any, str]] = [
    ("RS256", rsa.generate_private_key(65537, 2048), ""),
    ("PS256", rsa.generate_private_key(65537, 2048), "PS256"),
    ("ES256", ec.generate_private_key(ec.SECP256R1()), ""),
    ("ES384", ec.generate_private_key(ec.SECP384R1()), ""),
    ("Ed25519", ed25519.Ed25519PrivateKey.generate(), ""),
]


@pytest.mark.row("CAUTH-3", "CAUTH-4")
@pytest.mark.parametrize(("alg", "key", "chosen"), KEYS, ids=[alg for alg, _, _ in KEYS])
async def test_an_assertion_is_signed_fresh_for_each_request_and_is_for_the_issuer(
    build_world: Any, alg: str, key: Any, chosen: str
) -> None:
    world = build_world(identity=key_client(key, signing_alg=chosen, key_id="c1"))
    world.provider.announce(pushed_authorization_request_endpoint=ISSUER + "/par")
    world.provider.answer("/token", ANSWER)
    world.provider.answer("/revoke", b"")
    world.provider.answer("/par", {"request_uri": "urn:r:1", "expires_in": 60}, 201)
    await world.begin()
    await world.client.client_token(audience="", scopes=())
    await world.client.client_token(audience="", scopes=())
    await world.client.revoke(Secret("t"), "")
    forms = [form for path in ("/par", "/token", "/revoke") for form in world.provider.forms(path)]
    kind: Any = {"R": RSAKey, "P": RSAKey, "ES": ECKey, "Ed": OKPKey}[alg[:1] if alg[0] in "RP" else alg[:2]]
    seen = set()
    for form in forms:
        assert form["client_assertion_type"] == ASSERTION_TYPE
        signed = jws.deserialize_compact(form["client_assertion"], kind.import_key(key.public_key()), algorithms=[alg])
        assert signed.headers() == {"alg": alg, "kid": "c1"}
        claims = json.loads(signed.payload or b"")
        assert (claims["iss"], claims["sub"], claims["aud"]) == (CLIENT_ID, CLIENT_ID, ISSUER)
        assert 0 < claims["exp"] - world.clock.now() <= 60
        seen.add(claims["jti"])
    assert len(seen) == 4


async def test_the_signing_algorithm_follows_what_the_provider_announces(build_world: Any) -> None:
    world = build_world(identity=key_client(KEYS[0][1]))
    world.provider.announce(token_endpoint_auth_signing_alg_values_supported=["PS256", "ES256"])
    world.provider.answer("/token", ANSWER)
    await world.client.client_token(audience="", scopes=())
    head = world.provider.forms("/token")[0]["client_assertion"].split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "PS256"


@pytest.mark.row("CAUTH-5")
def test_what_is_published_is_public() -> None:
    for _, key, _ in KEYS:
        published = public_keys(key_client(key, key_id="c1"))["keys"]
        assert [member["kid"] for member in published] == ["c1"]
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(published[0])
    assert public_keys(key_client(KEYS[0][1]))["keys"][0]["kid"]
    assert public_keys(ClientIdentity(client_id="a", client_auth="client_secret_post", client_secret=Secret("p"))) == {"keys": []}


@pytest.mark.row("ARCH-1", "J5", "C10")
@pytest.mark.parametrize(
    "identity",
    [
        ClientIdentity(client_id="spa", client_auth="client_secret_basic"),
        ClientIdentity(client_id="spa", client_auth="client_secret_post"),
        ClientIdentity(client_id="", client_auth="client_secret_post", client_secret=Secret("p")),
        ClientIdentity(client_id="spa", client_auth="private_key_jwt"),
        ClientIdentity(client_id="spa", client_auth="private_key_jwt", private_key_pem=Secret("nonsense")),
        key_client(rsa.generate_private_key(65537, 1024)),
        key_client(rsa.generate_private_key(3, 2048)),
        key_client(ec.generate_private_key(ec.SECP256K1())),
        key_client(KEYS[0][1], signing_alg="ES256"),
        key_client(KEYS[2][1], signing_alg="HS256"),
    ],
)
def test_an_identity_that_proves_nothing_is_a_configuration_problem(identity: ClientIdentity) -> None:
    with pytest.raises(ConfigError):
        ClientAuthenticator(identity=identity, clock=World().clock)


methods: list[ClientAuth] = ["client_secret_basic", "client_secret_post"]


@pytest.mark.row("CAUTH-4")
@pytest.mark.parametrize("method", methods)
def test_a_proof_prints_no_secret(method: ClientAuth) -> None:
    identity = ClientIdentity(client_id="spa", client_auth=method, client_secret=Secret("canary"))
    world = World(identity=identity)
    provider = read_provider(world.provider.metadata, issuer=ISSUER)
    assert "canary" not in repr(ClientAuthenticator(identity=identity, clock=world.clock).prove(provider))
