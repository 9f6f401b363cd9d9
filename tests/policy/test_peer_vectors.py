"""Small values on which the suites of peers insist, asked of our pure functions: return paths (oauth2-proxy, mod_auth_openidc, the
Auth0 SDKs), challenges (oauth4webapi), addresses behind proxies (oauth2-proxy), keys and claims (go-oidc, zitadel/oidc, oauth4webapi,
lua-resty-openidc). Values of our own, one for each kind of theirs that no other test of ours had."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest

from bff.agent.parameters import LoginWish, ParameterError, read_login
from bff.base.clock import FakeClock
from bff.base.errors import TokenInvalid
from bff.oauth.id_token import Expectation, check_id_token, read_id_token
from bff.oauth.jose import ALGORITHMS, read_compact, sign_compact
from bff.oauth.keys import read_published_keys
from bff.oauth.types import Identity, IdTokenRules
from bff.policy.facts import Facts
from bff.policy.return_path import safe_return
from bff.proxy.challenge import read_challenges
from bff.proxy.edge import Edge, find_ip, read_browser
from bff.proxy.head import read_facts
from bff.session.cookies import CookiePolicy, find_cookie
from tests.oauth.scripted_provider import CLIENT_ID, EC, ISSUER, REMOVE, RSA, RSA_2, ScriptedProvider, public

# -- where a login may lead ---------------------------------------------------------------------------------------------

LEADS_AWAY = [
    "/\v/evil.test", "/\v\\evil.test", "/\f/evil.test", "/\t\\evil.test", "/ \\evil.test", "/\t/\t\\evil.test", "/\t\t/\t/evil.test",
    "/\t\t\\\t/evil.test", "/\n\\evil.test", "/\r\\evil.test", "/./\\evil.test", "/./../../\\evil.test", "/\x85/evil.test",
    "/\u2028/evil.test", "/\\\tevil.test", "\\\\\\evil.test", "/\\/\\/evil.test", "////\\;@evil.test", "/%09\\evil.test",
    "/%5cevil.test", "/%2f%5c%2fevil.test", "/x/%0d%0aLocation:%20//evil.test", "/%0aSet-Cookie:a=b", "/\u3002evil.test",
    "https:evil.test", "https:/evil.test", "https:\\evil.test", "http:///evil.test", "hTTps://evil.test", "https://app.test@evil.test",
    "https://app.test:443@evil.test", "https://app.test.evil.test", "https://evil.test?app.test", "https://evil.test#app.test",
    "https://evil.test\\.app.test", "https://app.test", "http://app.test/x", "//app.test/x", "javascript:%0aalert(1)", "JaVaScRiPt:a",
    "data:,x", "file:///etc/passwd", "mailto:a@b", "x", "x/y", "app.test/x", "?a=b", "#a", ".", "./x", "../x", " /x", "/x ", "\ufeff/x",
    "/<svg/onload=alert(1)>", '/"onmouseover=', "/x\x00", "/;/evil.test", "/%2e%2e/evil.test", "/..%2f..%2fevil.test", "/x%", "/%u2215x",
]  # fmt: skip

STAYS_HERE = [
    "/redirect", "/evil.test", "/.evil.test", "/javascript:alert(1)", "/http:/evil.test", "/https:evil.test", "/app.test:80%40evil.test",
    "/216.58.214.206", "/3627734734", "/evil%252etest", "/%68%74%74%70%3a%2f%2fevil.test", "/?url=//evil.test&next=https://evil.test",
    "/redirect?rd=//evil.test", "/go/false?to=http://evil.test/", "/@evil.test", "/$evil.test", "/x?a=1&b=2&&c", "/x?redirect_uri=%2F%2Fe",
    "/x#/evil.test", "/x?//evil.test", "/foo?some=value", "/a,b;c=d", "/x?a=%0d%0a",
]  # fmt: skip


def wish(query: str) -> LoginWish:
    return read_login(query, prefix="/bff", default_return="/", acr_values=("mfa",), optional_scopes=frozenset())


@pytest.mark.parametrize("value", LEADS_AWAY)
def test_a_wish_that_leads_away_or_is_no_path_ends_at_the_default(value: str) -> None:
    assert safe_return(value) is None
    assert wish("return_to=" + quote(value, safe="")).return_to == "/"


@pytest.mark.parametrize("value", STAYS_HERE)
def test_a_path_that_only_looks_like_an_escape_is_a_path_of_ours(value: str) -> None:
    assert safe_return(value) == value
    assert wish("return_to=" + quote(value, safe="")).return_to == value


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("3600", 3600), ("999999999", 999_999_999)])
def test_a_max_age_is_whole_seconds(text: str, seconds: int) -> None:
    assert wish(f"max_age={text}").max_age == seconds


@pytest.mark.parametrize(
    "query",
    [
        *(f"max_age={text}" for text in ("", "-1", "-0", "1.5", "1e3", "0x10", "%2B1", "+1", "1_0", "NaN", "9999999999", "%D9%A3", "soon")),
        *(f"prompt={text}" for text in ("none+login", "login+none", "Login", "login,consent", "+", "login++consent")),
        *(f"acr_values={text}" for text in ("MFA", "mfa++mfa", "+mfa", "mfa,mfa")),
        *(f"ui_locales={text}" for text in ("de_CH", "de,en", "-", "de-", "+de", "%22")),
        *(f"{name}=x" for name in ("client_id", "response_type", "response_mode", "request", "request_uri", "nonce", "state")),
        *(f"{name}=x" for name in ("code_challenge", "resource", "audience", "claims", "display", "id_token_hint")),
        *(f"{name}=x" for name in ("RETURN_TO", "return_to%5B%5D", "returnTo")),
        "max_age=1&max_age=1", "return_to=/a&return_to=/a", "prompt=login&prompt=", "=x",
    ],
)  # fmt: skip
def test_whatever_else_a_link_says_of_a_login_is_refused(query: str) -> None:
    with pytest.raises(ParameterError):
        wish(query)


# -- what an API's 401 says ---------------------------------------------------------------------------------------------

CHALLENGES: dict[str, list[tuple[str, dict[str, str]]]] = {
    "": [],
    ",": [],
    ", ,\t,": [],
    "One": [("one", {})],
    "One, Two": [("one", {}), ("two", {})],
    'One, Two algs="ES256"': [("one", {}), ("two", {"algs": "ES256"})],
    'ONE REALM="a"': [("one", {"realm": "a"})],
    "One realm='a'": [("one", {"realm": "'a'"})],
    'One realm="a%20b"': [("one", {"realm": "a%20b"})],
    'One   realm="a"   ': [("one", {"realm": "a"})],
    'One realm="a",': [("one", {"realm": "a"})],
    ',One realm="a"': [("one", {"realm": "a"})],
    'One realm = "a" ,b =c': [("one", {"realm": "a", "b": "c"})],
    'One realm="\\"a\\""': [("one", {"realm": '"a"'})],
    'One realm="a \\\\ b"': [("one", {"realm": "a \\ b"})],
    'One a="realm=no", realm="yes"': [("one", {"a": "realm=no", "realm": "yes"})],
    'One norealm="no", realm="yes"': [("one", {"norealm": "no", "realm": "yes"})],
    'One realm="a", realm="b"': [("one", {"realm": "a"})],
    'One realm="a, Two b=c", d=1, Two realm="e"': [("one", {"realm": "a, Two b=c", "d": "1"}), ("two", {"realm": "e"})],
    "One YWJjZA": [("one", {})],
    "One YWJjZA==": [("one", {})],
    'One YWJjZA=, Two realm="a"': [("one", {}), ("two", {"realm": "a"})],
    'One a/b+c-d._~==, Two realm="a"': [("one", {}), ("two", {"realm": "a"})],
    'One realm="a", Two x==, Three realm="b"': [("one", {"realm": "a"}), ("two", {}), ("three", {"realm": "b"})],
    "One realm=": [("one", {})],
    'One realm="open': [("one", {})],
    'One realm="open\\"': [("one", {})],
    'One a="b", ???': [("one", {"a": "b"})],
    'a="b"': [],
    '  a="b", c="d"': [],
}


@pytest.mark.parametrize("value", CHALLENGES)
def test_challenges_are_read_as_rfc_9110_writes_them_and_what_is_broken_is_left_out(value: str) -> None:
    found = read_challenges([(b"WWW-Authenticate", value.encode("ascii"))])
    assert [(challenge.scheme, dict(challenge.parameters)) for challenge in found] == CHALLENGES[value]


# -- who is behind a front proxy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7", "198.51.100.7"), ("198.51.100.7:1234", "198.51.100.7"), ("2001:db8::7", "2001:db8::7"), ("::1", "::1"),
        ("[::1]", "::1"), ("[2001:db8::7]:1234", "2001:db8::7"), ("::ffff:198.51.100.7", "198.51.100.7"), ("", None), ("@", None),
        ("nil", None), ("unknown", None), ("_hidden", None), ("10000.1.1.1", None), ("198.51.100", None), ("198.51.100.7:", None),
        ("198.51.100.7:123456", None), ("098.51.100.7", None), ("[::1", None), ("::1]:80", None), ("fe80::1%eth0", None), (" ::1", None),
        ("198.51.100.7, 10.0.0.1", None), ("0x7f.1", None), ("2130706433", None),
    ],
)  # fmt: skip
def test_an_address_is_read_in_the_spellings_that_proxies_write(text: str, address: str | None) -> None:
    found = find_ip(text)
    assert (None if found is None else str(found)) == address


EDGE = Edge(peer_ip="10.0.0.2", tls=False, trusted=(ip_network("10.0.0.0/24"), ip_network("::1/128")), hosts=frozenset({"app.test"}))


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("", "10.0.0.2"), ("198.51.100.7", "198.51.100.7"), ("203.0.113.1, 198.51.100.7", "198.51.100.7"),
        ("203.0.113.1, 198.51.100.7, 10.0.0.9", "198.51.100.7"), ("10.0.0.8, 10.0.0.9", "10.0.0.8"), ("[2001:db8::7]:1,::1", "2001:db8::7"),
        ("nil", "10.0.0.2"), ("198.51.100.7, nil", "10.0.0.2"), ("nil, 10.0.0.9", "10.0.0.9"), ("198.51.100.7,", "10.0.0.2"),
        ("198.51.100.7,,10.0.0.9", "10.0.0.9"), ("198.51.100.7\t, 10.0.0.9", "198.51.100.7"),
    ],
)  # fmt: skip
def test_the_client_is_the_last_hop_that_nobody_vouches_for(chain: str, client: str) -> None:
    browser = read_browser(EDGE, forwarded_for=chain, forwarded_proto=None, forwarded_host=None, forwarded=None)
    assert browser is not None
    assert browser.ip == client


# -- our cookie among others --------------------------------------------------------------------------------------------

NAME = CookiePolicy().session_name


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([f"{NAME}=v"], "v"), ([f'$Version=1; {NAME}=v; $Path="/"'], "v"), ([f"a; {NAME}=v; b"], "v"), ([f";;{NAME}=v;"], "v"),
        ([f"a=b;{NAME}=v;c=d"], "v"), (["a=b", f"{NAME}=v", "c=d"], "v"), ([f"={NAME}=w; {NAME}=v"], "v"), ([f"{NAME}=v; {NAME}x=w"], "v"),
        ([f"x{NAME}=w"], None), ([f"{NAME.lower()}=w"], None), ([f"a=b, {NAME}=w"], None), ([f"={NAME}=w"], None), ([NAME], None),
        ([f"{NAME}=v; {NAME}=v"], None), ([f"{NAME}=v", f"{NAME}=w"], None), (["a=" + NAME + "=w"], None), (["bff=w; __Host-bff=w"], None),
    ],
)  # fmt: skip
def test_exactly_one_cookie_of_our_name_is_ours(lines: list[str], value: str | None) -> None:
    edge = Edge(peer_ip="198.51.100.7", tls=False, trusted=(), hosts=frozenset({"app.test"}))
    head = "GET / HTTP/1.1\r\nHost: app.test\r\n" + "".join(f"Cookie: {line}\r\n" for line in lines) + "\r\n"
    facts = read_facts(head.encode("ascii"), edge=edge)
    assert isinstance(facts, Facts)
    assert find_cookie(facts.cookies, NAME) == value


# -- which key, which claims --------------------------------------------------------------------------------------------


def with_padding(key: Any) -> dict[str, Any]:
    return public(key, kid="a", n=public(key)["n"] + "=")


@pytest.mark.parametrize(
    ("kid", "keys", "fault"),
    [
        (None, [public(RSA, use="sig")], ""),
        (None, [public(RSA, kid="a", use="sig")], ""),
        (None, [public(RSA, use="sig"), public(RSA_2, use="enc")], ""),
        (None, [public(RSA, use="sig"), public(EC, use="sig")], ""),
        (None, [public(RSA, use="sig"), public(RSA_2, use="sig")], "kid"),
        (None, [public(RSA_2)], "signature"),
        (None, [public(RSA, use="enc"), public(RSA_2, use="sig")], "signature"),
        ("a", [public(RSA, kid="a")], ""),
        ("a", [public(RSA, kid="a", use=None, key_ops=None)], ""),
        ("a", [public(RSA, kid="a", alg=None)], ""),
        ("a", [public(RSA, kid="a", x5c=["AA"], x5t="x", ext=True, exp=1)], ""),
        ("a", [public(RSA, kid="a", key_ops=["verify", "wrapKey"])], ""),
        ("a", [public(RSA, kid="a", use="sig"), public(RSA_2, kid="a", use="enc")], ""),
        ("a", [public(RSA, kid="a"), public(RSA_2, kid="b")], ""),
        ("a", [public(RSA, kid="b"), public(RSA_2, kid="c")], "kid"),
        ("a", [public(RSA, kid="A")], "kid"),
        ("a", [public(RSA_2, kid="a"), public(RSA, kid="b")], "signature"),
        ("a", [public(EC, kid="a")], "kid"),
        ("a", [public(RSA, kid="a", kty="UNKNOWN"), public(RSA, kid="a")], ""),
        ("a", [with_padding(RSA), public(RSA_2, kid="a")], "signature"),
    ],
)
def test_one_key_fits_or_none(kid: str | None, keys: list[dict[str, Any]], fault: str) -> None:
    header = {"alg": "RS256"} if kid is None else {"alg": "RS256", "kid": kid}
    token = sign_compact(header, {"sub": "alice"}, RSA)
    published = read_published_keys({"keys": keys})
    assert published is not None
    assert published.find_fault(read_compact(token, algorithms=tuple(ALGORITHMS))) == fault


def identify(
    *, max_age: int | None = None, acr_values: tuple[str, ...] = (), header: dict[str, Any] | None = None, **claims: Any
) -> Identity:
    clock = FakeClock()
    token = ScriptedProvider(clock).id_token(header=header, **{"nonce": "n", **claims})
    asked = Expectation(
        issuer=ISSUER, client_id=CLIENT_ID, now=clock.now(), nonce="n", max_age=max_age, acr_values=acr_values, asked_at=clock.now()
    )
    return check_id_token(read_id_token(token, IdTokenRules(), issuer=ISSUER), IdTokenRules(), asked, access_token="at", code="c")


NOW = int(FakeClock().now())


@pytest.mark.parametrize(
    "given",
    [
        {"exp": float(f"{NOW + 3600:E}")}, {"nbf": NOW - 3600}, {"nbf": NOW + 30}, {"nbf": None}, {"iat": NOW - 300},
        {"aud": [CLIENT_ID] * 2},
        {"header": {"typ": "application/jwt"}}, {"header": {"typ": "jwt"}}, {"header": {"typ": REMOVE}}, {"typ": "ID"}, {"amr": []},
        {"acr": None}, {"sid": None}, {"auth_time": None}, {"_claim_names": {"a": "s"}, "_claim_sources": {}}, {"locale": "g!!!!"},
        {"email_verified": "true"}, {"max_age": 60}, {"max_age": 60, "auth_time": NOW - 100}, {"acr_values": ("a", "b"), "acr": "b"},
        {"session_expiry": "soon"}, {"session_expiry": 1.5}, {"session_expiry": 0}, {"session_expiry": -1}, {"session_expiry": NOW * 1000},
    ],
)  # fmt: skip
def test_what_honest_providers_write_signs_in(given: dict[str, Any]) -> None:
    identity = identify(**given)
    assert identity.subject == "alice"
    assert identity.session_expires_at is None


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("auth_time", {"auth_time": -1}),
        ("auth_time", {"auth_time": "1"}),
        ("auth_time", {"auth_time": []}),
        ("auth_time", {"auth_time": {}}),
        ("auth_time", {"auth_time": True}),
        ("max_age", {"max_age": 60, "auth_time": REMOVE}),
        ("max_age", {"max_age": 60, "auth_time": NOW - 3600}),
        ("max_age", {"max_age": 0, "auth_time": NOW - 120}),
        ("acr", {"acr_values": ("a", "b"), "acr": "c"}),
        ("acr", {"acr_values": ("a",)}),
        ("amr", {"amr": 1}),
        ("amr", {"amr": {"pwd": True}}),
        ("iat", {"iat": 0}),
        ("exp", {"exp": NOW - 3600}),
        ("at_hash", {"at_hash": "YWJjZA"}),
        ("at_hash", {"at_hash": "!!!"}),
        ("azp", {"azp": ""}),
        ("session_expiry", {"session_expiry": NOW - 1}),
        ("typ", {"header": {"typ": "at+jwt"}}),
        ("typ", {"header": {"typ": "id_token+jwt"}}),
        ("sub", {"sub": None}),
        ("aud", {"aud": None}),
    ],
)
def test_what_no_provider_may_write_signs_nobody_in(rule: str, given: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid) as caught:
        identify(**given)
    assert caught.value.rule == rule
