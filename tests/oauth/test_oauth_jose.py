"""The refusal matrix in front of joserfc, the strict JSON reader and the key set."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, RSAKey

from bff.base.errors import TokenInvalid
from bff.oauth.id_token import half_hash
from bff.oauth.jose import (
    ALGORITHMS,
    CompactJws,
    check_typ,
    decode_base64url,
    encode_base64url,
    read_compact,
    sign_compact,
    signature_holds,
)
from bff.oauth.jsontext import JsonRefused, read_json_object
from bff.oauth.keys import read_published_keys
from tests.oauth.scripted_provider import EC, ED, RSA, RSA_2, public, raw_jws

GOOD = sign_compact({"alg": "RS256", "kid": "r1"}, {"sub": "alice"}, RSA)
HEADER = {"alg": "RS256", "kid": "r1"}


def read(token: object) -> CompactJws:
    return read_compact(token, algorithms=tuple(ALGORITHMS))


def fault(token: str, *keys: dict[str, Any]) -> str:
    published = read_published_keys({"keys": list(keys)})
    return "no keys" if published is None else published.find_fault(read(token))


def rule_of(token: object) -> str:
    with pytest.raises(TokenInvalid) as caught:
        read(token)
    assert len(str(caught.value)) < 200
    return caught.value.rule


@pytest.mark.row("JWKS-7", "IDTOKEN-5")
def test_a_signed_token_is_read_and_verified() -> None:
    assert read(GOOD).claims == {"sub": "alice"}
    assert fault(GOOD, public(RSA, kid="r1")) == ""


@pytest.mark.row("J1", "IDTOKEN-7")
@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, [], ["RS256"], 1, True, {}, "RS256 ", "rs256"])
def test_no_spelling_of_no_algorithm_is_read(alg: Any) -> None:
    assert rule_of(raw_jws({"alg": alg}, {})) == "alg"
    assert rule_of(raw_jws({}, {})) == "alg"


@pytest.mark.row("J1", "IDTOKEN-7")
def test_an_empty_signature_is_refused_whatever_the_algorithm() -> None:
    for alg in ("none", "RS256"):
        assert rule_of(raw_jws({"alg": alg}, {}, b"")) == "signature"


def _public_spellings() -> list[bytes]:
    pem = RSA.as_pem(private=False)
    jwk = json.dumps(RSA.as_dict(private=False)).encode()
    modulus = base64.urlsafe_b64decode(RSA.as_dict(private=False)["n"] + "==")
    return [pem, pem.strip(), b"\xef\xbb\xbf" + pem, RSA.as_der(private=False), jwk, b'{"keys":[' + jwk + b"]}", modulus, b"", b"s3cret"]


@pytest.mark.row("J2", "J5", "IDTOKEN-8", "BCLO-2")
@pytest.mark.parametrize("secret", _public_spellings())
def test_a_public_key_is_never_a_mac_secret(secret: bytes) -> None:
    head = encode_base64url(b'{"alg":"HS256","kid":"r1"}') + "." + encode_base64url(b'{"sub":"alice"}')
    token = head + "." + encode_base64url(hmac.new(secret, head.encode(), hashlib.sha256).digest())
    assert rule_of(token) == "alg"
    with pytest.raises(TokenInvalid):
        read_compact(token, algorithms=("HS256", "RS256"))  # not even when configured


@pytest.mark.row("J3", "J4", "IDTOKEN-18", "IDTOKEN-19")
@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": RSA_2.as_dict(private=False)},
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test/c"},
        {"x5c": ["MII"]},
        {"crit": ["x"]},
        {"crit": []},
        {"crit": ["alg"]},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"zip": "DEF"},
        {"p2c": 10**9},
    ],
)
def test_a_header_that_brings_keys_or_extensions_is_refused_even_if_signed(extra: dict[str, Any]) -> None:
    head = encode_base64url(json.dumps({**HEADER, **extra}).encode())
    assert rule_of(".".join([head, *GOOD.split(".")[1:]])) == "header"


@pytest.mark.row("J3")
def test_harmless_header_members_are_ignored() -> None:
    token = sign_compact({**HEADER, "x5t": "abc", "cty": "JWT", "x": "y"}, {"sub": "alice"}, RSA)
    assert fault(token, public(RSA, kid="r1")) == ""


@pytest.mark.row("J7")
@pytest.mark.parametrize("kid", [1, [], {}, "", "k" * 513, True])
def test_a_kid_that_is_not_a_short_string_is_refused(kid: Any) -> None:
    assert rule_of(raw_jws({"alg": "RS256", "kid": kid}, {})) == "kid"


@pytest.mark.row("J3", "J7")
@pytest.mark.parametrize("kid", ["../../dev/null", "r1' OR 1=1", "https://evil.test/k", "R1", "r1 ", "r1\x00"])
def test_a_kid_matches_letter_by_letter_or_not_at_all(kid: str) -> None:
    assert fault(sign_compact({"alg": "RS256", "kid": kid}, {}, RSA), public(RSA, kid="r1")) == "kid"


def _variants() -> list[str]:
    head, claims, signature = GOOD.split(".")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sloppy = alphabet[alphabet.index(last) | 1] if alphabet.index(last) % 2 == 0 else alphabet[alphabet.index(last) ^ 1]
    return [
        GOOD + "=",
        GOOD + "==",
        GOOD + " ",
        " " + GOOD,
        GOOD + "\n",
        GOOD.replace(".", " .", 1),
        f"{head}=.{claims}.{signature}",
        f"{head}.{claims}.{signature[:-1]}{sloppy}",
        f"{head}.{claims}.{signature}.",
        f".{GOOD}",
        f"{head}..{signature}",
        f"{head}.{claims}",
        f"{head}.{claims}.{signature[:-4]}+/ab",
        f"{head}.{claims}.{signature[:-2]}é!",
        json.dumps({"payload": claims, "signature": signature}),
        f"{head}.{claims}.a.b.c",
        "",
        "...",
        "a.b.c",
        "." * 10**6,
    ]


@pytest.mark.row("J17", "J14", "JWKS-7", "IDTOKEN-21")
@pytest.mark.parametrize("token", _variants(), ids=range(len(_variants())))
def test_only_one_spelling_of_a_token_is_read(token: str) -> None:
    assert rule_of(token) in ("format", "encoding", "encrypted", "size", "json", "signature")


@pytest.mark.row("J17")
@pytest.mark.parametrize("token", [None, 1, b"a.b.c", ["a"], {"a": 1}])
def test_what_is_not_text_is_not_a_token(token: Any) -> None:
    assert rule_of(token) == "format"


@pytest.mark.row("J14", "J12", "J11", "D10", "JWKS-8")
def test_a_giant_is_refused_by_its_length_at_once() -> None:
    started = time.process_time()
    assert rule_of("A" * (16 << 20) + ".e30.x") == "size"
    assert rule_of(encode_base64url(b'{"alg":"RS256","x":"' + b"a" * 5000 + b'"}') + ".e30.eA") == "size"
    assert rule_of(".".join([*GOOD.split(".")[:2], "A" * 2000])) == "size"
    assert rule_of("eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1cifQ.a.b.c.d") == "encrypted"
    assert time.process_time() - started < 0.5


@pytest.mark.row("IDTOKEN-22", "J10", "J16")
@pytest.mark.parametrize(
    "claims",
    [
        b'{"sub":"a","sub":"b"}',
        b'{"x":{"a":1,"a":1}}',
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b"",
        b"{",
        b"\xff\xfe",
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"exp":-Infinity}',
        b'{"exp":1e999}',
        b'{"n":' + b"9" * 21 + b"}",
        b'{"n":' + b"9" * 10_000 + b"}",
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"a":' + b"[" * 30_000,
        b'{"s":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":1}x',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":"\n"}',
    ],
)
def test_odd_json_is_refused_cleanly(claims: bytes) -> None:
    assert rule_of(raw_jws(HEADER, claims)) in ("json", "encoding", "size")
    if claims:
        assert rule_of(raw_jws(claims, {})) in ("json", "size")


@pytest.mark.row("J10", "D12")
def test_the_depth_check_takes_linear_time_whatever_the_quotes() -> None:
    for text in ('{"a":"' + '\\"' * 200_000, '{"' * 100_000, "[" * 200_000, '{"a":"' + "[" * 200_000 + '"', '"\\' * 100_000 + "{" * 20):
        started = time.process_time()
        with pytest.raises(JsonRefused):
            read_json_object(text)
        assert time.process_time() - started < 0.5


def test_brackets_inside_strings_are_not_depth() -> None:
    assert read_json_object('{"a":"' + "[{" * 50 + '\\"[[["}') == {"a": "[{" * 50 + '"[[['}
    assert read_json_object('{"s":"\\ud83d\\ude00"}') == {"s": "😀"}


@pytest.mark.row("IDTOKEN-20", "J18", "BCLO-9")
def test_a_token_of_another_kind_is_refused() -> None:
    for typ in ("at+jwt", "application/at+jwt", "logout+jwt", "token-introspection+jwt", "secevent+jwt", "dpop+jwt", "JOSE"):
        with pytest.raises(TokenInvalid):
            check_typ(read(raw_jws({"alg": "RS256", "typ": typ}, {})), allowed={"", "jwt"})
    for header in ({"typ": "JWT"}, {"typ": "jwt"}, {"typ": "application/jwt"}, {}):
        check_typ(read(raw_jws({"alg": "RS256", **header}, {})), allowed={"", "jwt"})
    assert rule_of(raw_jws({"alg": "RS256", "typ": ["JWT"]}, {})) == "typ"


@pytest.mark.row("J19")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512"])
def test_degenerate_ecdsa_signatures_do_not_verify(alg: str) -> None:
    crv = ALGORITHMS[alg][1]
    key = ECKey.generate_key(crv)
    size = {"P-256": 32, "P-384": 48, "P-521": 66}[crv]
    one, zero, high = (1).to_bytes(size, "big"), bytes(size), b"\xff" * size
    for signature in (zero + zero, one + zero, zero + one, high + high, one + one, zero, b"\0", zero + zero + b"\0"):
        assert fault(raw_jws({"alg": alg, "kid": "k"}, {}, signature), public(key, kid="k")) == "signature"
    good = sign_compact({"alg": alg, "kid": "k"}, {}, key)
    assert fault(good, public(key, kid="k")) == ""


@pytest.mark.row("J19", "JWKS-5")
def test_points_off_the_curve_and_wrong_curves_are_no_keys() -> None:
    good = public(EC, kid="k")
    for change in (
        {"y": good["x"]},
        {"x": "AA", "y": "AA"},
        {"crv": "P-384"},
        {"crv": "P-192"},
        {"crv": "secp256k1"},
        {"crv": 1},
        {"x": ""},
    ):
        assert read_published_keys({"keys": [{**good, **change}]}) is None


@pytest.mark.row("JWKS-5", "J7", "J10")
@pytest.mark.parametrize(
    "member",
    [
        public(RSA, kid="r1", use="enc"),
        public(RSA, kid="r1", key_ops=["encrypt"]),
        public(RSA, kid="r1", key_ops="verify"),
        public(RSA, kid="r1", alg="RSA-OAEP"),
        public(RSA, kid="r1", alg=["RS256"]),
        public(RSA, kid=1),
        RSA.as_dict(private=True) | {"kid": "r1"},
        RSAKey.generate_key(3072).as_dict(private=False) | {"n": "AQAB", "kid": "r1"},
        public(RSA, kid="r1", e="AQ"),
        public(RSA, kid="r1", e="AA"),
        public(RSA, kid="r1", kty="oct", k="AAAA"),
        OctKey.generate_key(256).as_dict() | {"kid": "r1"},
        {"kty": "RSA"},
        {"kty": []},
        {},
        [],
        None,
        "x",
        1,
        {"kty": "RSA", "n": 1, "e": "AQAB"},
        {"kty": "RSA", "n": "A" * 5000, "e": "AQAB"},
    ],
)
def test_an_unusable_member_never_verifies_and_never_spoils_the_others(member: Any) -> None:
    assert read_published_keys({"keys": [member]}) is None
    published = read_published_keys({"keys": [member] * 20 + [public(RSA, kid="good")]})
    assert published is not None
    assert [key.kid for key in published.keys] == ["good"]


@pytest.mark.row("J7")
def test_a_key_of_another_type_verifies_nothing_and_breaks_nothing() -> None:
    assert not signature_holds(read(GOOD), EC)
    assert not signature_holds(read(GOOD), RSA_2)
    assert signature_holds(read(GOOD), RSA)


@pytest.mark.row("JWKS-5")
def test_a_short_rsa_key_is_refused() -> None:
    with pytest.warns(Warning, match="2048"):
        weak = RSAKey.generate_key(1024)
    assert read_published_keys({"keys": [public(weak, kid="r1")]}) is None


@pytest.mark.row("C10", "JWKS-5")
@pytest.mark.parametrize(("exponent", "usable"), [(3, False), (17, False), (65535, False), (65537, True), (65539, True)])
def test_a_key_with_a_tiny_public_exponent_is_refused_though_its_signature_holds(exponent: int, usable: bool) -> None:
    key = RSAKey.import_key(rsa_key(exponent))
    token = sign_compact({"alg": "RS256", "kid": "k"}, {}, key)
    assert signature_holds(read(token), key)
    assert (read_published_keys({"keys": [public(key, kid="k")]}) is not None) is usable
    assert (fault(token, public(key, kid="k"), public(RSA, kid="other")) == "") is usable


def rsa_key(exponent: int) -> Any:
    """A key with any odd exponent: the library makes them with 3 and 65537 alone."""
    made = rsa.generate_private_key(65537, 2048)
    while True:
        p, q = made.private_numbers().p, made.private_numbers().q
        try:
            d = pow(exponent, -1, (p - 1) * (q - 1))
            break
        except ValueError:
            made = rsa.generate_private_key(65537, 2048)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(exponent, p * q))
    return numbers.private_key()


@pytest.mark.row("J10", "F29")
@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": {}}, {"keys": None}, {"keys": "x"}])
def test_a_document_without_usable_keys_is_no_key_set(document: Any) -> None:
    assert read_published_keys(document) is None


@pytest.mark.row("JWKS-4", "J7")
def test_without_kid_the_set_must_leave_no_choice() -> None:
    token = sign_compact({"alg": "RS256"}, {}, RSA)
    assert fault(token, public(RSA, kid="r1"), public(EC, kid="e1")) == ""
    assert fault(token, public(RSA, kid="r1"), public(RSA_2, kid="r2")) == "kid"
    assert fault(token, public(RSA, kid="r1", alg="RS256"), public(RSA_2, kid="r2", alg="PS256")) == ""


@pytest.mark.row("JWKS-4", "J7")
def test_equal_kids_are_told_apart_by_type_and_the_same_key_twice_is_one_key() -> None:
    token = sign_compact({"alg": "RS256", "kid": "k"}, {}, RSA)
    assert fault(token, public(RSA, kid="k"), public(EC, kid="k"), public(ED, kid="k")) == ""
    assert fault(token, public(RSA, kid="k"), public(RSA, kid="k")) == ""
    assert fault(token, public(RSA, kid="k"), public(RSA_2, kid="k")) == "kid"


@pytest.mark.row("JWKS-6")
def test_a_key_declared_for_one_algorithm_verifies_no_other() -> None:
    token = sign_compact({"alg": "PS256", "kid": "k"}, {}, RSA)
    assert fault(token, public(RSA, kid="k", alg="RS256")) == "kid"
    assert fault(token, public(RSA, kid="k", alg="PS256")) == ""
    edwards = sign_compact({"alg": "Ed25519", "kid": "k"}, {}, ED)
    assert fault(edwards, public(ED, kid="k", alg="EdDSA")) == ""


@pytest.mark.row("IDTOKEN-5", "S10")
@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), replacement=st.sampled_from("ABCabc012-_.=~ "))
def test_no_single_changed_character_verifies(position: int, replacement: str) -> None:
    token = GOOD[:position] + replacement + GOOD[position + 1 :]
    if token == GOOD:
        return
    with contextlib.suppress(TokenInvalid):
        assert fault(token, public(RSA, kid="r1")) != ""


@pytest.mark.row("J17", "J16", "L8")
@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="eyJ.AQ-_=", max_size=80), st.binary(max_size=100).map(encode_base64url)))
def test_reading_anything_ends_in_a_token_or_a_clean_refusal(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", f"eyJhbGciOiJSUzI1NiJ9.{text}.eA"):
        try:
            assert isinstance(read(token).claims, dict)
        except TokenInvalid as refused:
            assert refused.rule


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.row("IDTOKEN-22")
@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]), json_values), st.dictionaries(st.text(max_size=8), json_values))
def test_any_header_and_claims_are_read_or_cleanly_refused(header: Any, claims: Any) -> None:
    try:
        jws = read(raw_jws(header, claims))
    except TokenInvalid:
        return
    assert (jws.alg, jws.claims) == (header["alg"], claims)


@pytest.mark.row("J17")
@given(st.binary(min_size=1, max_size=64))
def test_base64url_round_trips_and_has_one_spelling(data: bytes) -> None:
    text = encode_base64url(data)
    assert decode_base64url(text) == data
    with pytest.raises(TokenInvalid):
        decode_base64url(text + "=")


@pytest.mark.row("IDTOKEN-15", "J6")
@pytest.mark.parametrize(
    ("alg", "name"), [("ES256", "sha256"), ("RS384", "sha384"), ("PS512", "sha512"), ("Ed25519", "sha512"), ("EdDSA", "sha512")]
)
def test_the_half_hash_follows_the_algorithm(alg: str, name: str) -> None:
    digest = hashlib.new(name, b"token").digest()
    assert half_hash("token", alg) == encode_base64url(digest[: len(digest) // 2])


def test_the_half_hash_of_the_specifications_example() -> None:
    """CORE appendix A.3: at_hash of the access token jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y under RS256."""
    assert half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"
