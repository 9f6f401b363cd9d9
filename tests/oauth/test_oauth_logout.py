"""Logout tokens and the way to the provider's logout page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from bff.base.errors import TokenInvalid
from bff.base.secret import Secret
from bff.oauth.logout import LOGOUT_EVENT
from bff.oauth.types import IdTokenRules
from tests.oauth.scripted_provider import CLIENT_ID, EC, ISSUER, REMOVE, RSA_2, World, query_of

NOW = 1_800_000_000


@pytest.mark.row("BCLO-3", "BCLO-5", "BCLO-8")
async def test_a_good_logout_token_says_whom_to_end(world: World) -> None:
    notice = await world.client.check_logout_token(world.provider.logout_token())
    assert (notice.issuer, notice.subject, notice.sid, notice.jti) == (ISSUER, "alice", "s1", "j1")
    assert notice.expires_at == NOW + 120 + 60


@pytest.mark.row("BCLO-5", "BCLO-9")
@pytest.mark.parametrize(
    "changes",
    [
        {"sub": REMOVE},
        {"sid": REMOVE},
        {"header": {"typ": REMOVE}},
        {"header": {"typ": "LOGOUT+JWT"}},
        {"header": {"typ": "application/logout+jwt"}},
        {"alg": "ES256", "key": EC, "header": {"kid": "e1"}},
        {"iat": NOW - 100},
        {"aud": [CLIENT_ID]},
    ],
)
async def test_a_logout_token_with_a_permitted_difference_is_accepted(world: World, changes: dict[str, Any]) -> None:
    assert await world.client.check_logout_token(world.provider.logout_token(**changes))


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "wrong iss": ("iss", {"iss": "https://evil.test"}),
    "no iss": ("iss", {"iss": REMOVE}),
    "wrong aud": ("aud", {"aud": "other"}),
    "aud of a stranger too": ("aud", {"aud": [CLIENT_ID, "other"]}),
    "no iat": ("iat", {"iat": REMOVE}),
    "old": ("iat", {"iat": NOW - 200}),
    "of the future": ("iat", {"iat": NOW + 600}),
    "no exp": ("exp", {"exp": REMOVE}),
    "expired": ("exp", {"exp": NOW - 61}),
    "exp true": ("exp", {"exp": True}),
    "neither sub nor sid": ("sub", {"sub": REMOVE, "sid": REMOVE}),
    "sub number": ("sub", {"sub": 1}),
    "sid list": ("sid", {"sid": ["s1"]}),
    "sid empty": ("sid", {"sid": ""}),
    "no events": ("events", {"events": REMOVE}),
    "events list": ("events", {"events": [LOGOUT_EVENT]}),
    "another event": ("events", {"events": {"https://x": {}}}),
    "event as text": ("events", {"events": {LOGOUT_EVENT: "{}"}}),
    "event as true": ("events", {"events": {LOGOUT_EVENT: True}}),
    "nonce": ("nonce", {"nonce": "n"}),
    "nonce null": ("nonce", {"nonce": None}),
    "no jti": ("jti", {"jti": REMOVE}),
    "jti number": ("jti", {"jti": 1}),
    "jti huge": ("jti", {"jti": "j" * 300}),
    "typ JWT": ("typ", {"header": {"typ": "JWT"}}),
    "typ at+jwt": ("typ", {"header": {"typ": "at+jwt"}}),
    "typ of another event": ("typ", {"header": {"typ": "secevent+jwt"}}),
    "wrong key": ("signature", {"key": RSA_2}),
    "unknown kid": ("kid", {"header": {"kid": "x"}}),
}


@pytest.mark.row("BCLO-2", "BCLO-3", "BCLO-4", "BCLO-5", "BCLO-6", "BCLO-7", "BCLO-8", "BCLO-9", "L10", "J18")
@pytest.mark.parametrize("case", BAD)
async def test_a_bad_logout_token_is_refused_by_its_rule(world: World, case: str) -> None:
    rule, changes = BAD[case]
    with pytest.raises(TokenInvalid) as caught:
        await world.client.check_logout_token(world.provider.logout_token(**changes))
    assert caught.value.rule == rule


@pytest.mark.row("BCLO-2", "L10", "BCLO-13")
@pytest.mark.parametrize("token", ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "a.b.c.d.e", "x" * (1 << 20), "eyJhbGciOiJIUzI1NiJ9.e30.eA"])
async def test_what_is_no_signed_token_is_refused_without_asking_the_provider(world: World, token: str) -> None:
    with pytest.raises(TokenInvalid):
        await world.client.check_logout_token(token)
    assert world.provider.calls == []


@pytest.mark.row("JARM-2", "JWKS-2")
async def test_a_token_of_another_issuer_costs_no_fetch(world: World) -> None:
    with pytest.raises(TokenInvalid):
        await world.client.check_logout_token(world.provider.logout_token(iss="https://evil.test"))
    assert world.provider.calls == []


STRICT = IdTokenRules(logout_typ="strict")
LENIENT = IdTokenRules(logout_typ="lenient")


@pytest.mark.row("J18", "BCLO-6", "BCLO-7", "BCLO-9", "IDTOKEN-20")
@pytest.mark.parametrize("rules", [STRICT, IdTokenRules(), LENIENT], ids=["strict", "compatible", "lenient"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nonce": REMOVE},
        {"header": {"typ": REMOVE}},
        {"header": {"typ": "JWT"}, "nonce": REMOVE},
        {"header": {"typ": "logout+jwt"}},
        {"header": {"typ": "logout+jwt"}, "nonce": REMOVE},
        {"header": {"typ": "logout+jwt"}, "events": {LOGOUT_EVENT: {}}},
        {"header": {"typ": REMOVE}, "events": {LOGOUT_EVENT: {}}},
        {"header": {"typ": REMOVE}, "events": {"https://x": {}}, "nonce": REMOVE},
    ],
)
async def test_an_id_token_is_no_logout_token_whatever_it_says_of_itself(
    build_world: Any, rules: IdTokenRules, changes: dict[str, Any]
) -> None:
    """What tells them apart is the event, the nonce and the kind, each of which is enough (BCLO §4.1)."""
    world = build_world(rules=rules)
    with pytest.raises(TokenInvalid):
        await world.client.check_logout_token(world.provider.id_token(**{"nonce": "n", "jti": "j", "sid": "s1", **changes}))


@pytest.mark.row("J18", "IDTOKEN-20")
@pytest.mark.parametrize("typ", ["JWT", "logout+jwt"])
async def test_a_logout_token_is_no_id_token(world: World, typ: str) -> None:
    pending, _ = await world.begin()
    world.provider.token_answer(pending, id_token=world.provider.logout_token(nonce=pending.nonce, header={"typ": typ}))
    with pytest.raises(TokenInvalid):
        await world.client.finish_login(pending, [("state", pending.state), ("code", "c")])


@pytest.mark.row("BCLO-9")
async def test_in_strict_mode_the_kind_must_be_written_on_it(build_world: Any) -> None:
    world = build_world(rules=STRICT)
    assert await world.client.check_logout_token(world.provider.logout_token())
    for typ in (REMOVE, "JWT", ""):
        with pytest.raises(TokenInvalid):
            await world.client.check_logout_token(world.provider.logout_token(header={"typ": typ}))


@pytest.mark.row("BCLO-9")
async def test_a_provider_that_writes_no_kind_on_its_logout_tokens_can_be_allowed_to(build_world: Any) -> None:
    """And no more than that: a token that says it is something else stays refused."""
    world = build_world(rules=LENIENT)
    for typ in (REMOVE, "JWT", "logout+jwt"):
        assert await world.client.check_logout_token(world.provider.logout_token(header={"typ": typ}))
    for other in ("at+jwt", "secevent+jwt", "dpop+jwt"):
        with pytest.raises(TokenInvalid):
            await world.client.check_logout_token(world.provider.logout_token(header={"typ": other}))


@pytest.mark.row("RPLO-2", "RPLO-3", "RPLO-4")
async def test_the_logout_page_gets_hint_client_return_address_and_state(world: World) -> None:
    world.provider.announce(end_session_endpoint=ISSUER + "/end?x=1")
    url = await world.client.end_session_url(id_token_hint=Secret("h"), post_logout_redirect_uri="https://app.test/", state="s")
    assert query_of(url) == [
        ("x", "1"),
        ("id_token_hint", "h"),
        ("client_id", CLIENT_ID),
        ("post_logout_redirect_uri", "https://app.test/"),
        ("state", "s"),
    ]


@pytest.mark.row("RPLO-4")
async def test_a_hint_too_long_for_a_url_is_left_out(world: World) -> None:
    url = await world.client.end_session_url(id_token_hint=Secret("h" * 7000), post_logout_redirect_uri="", state="s")
    assert query_of(url) == [("client_id", CLIENT_ID)]
    assert urlsplit(url).path == "/end"


@pytest.mark.row("RPLO-1", "F31")
async def test_without_a_logout_page_or_a_provider_there_is_no_url(build_world: Any) -> None:
    without, down, clash = build_world(), build_world(), build_world()
    without.provider.announce(end_session_endpoint=REMOVE)
    down.provider.fail("/.well-known/openid-configuration", httpx.ConnectError("refused"))
    clash.provider.announce(end_session_endpoint=ISSUER + "/end?client_id=x")
    for world in (without, down, clash):
        assert await world.client.end_session_url(id_token_hint=Secret("h"), post_logout_redirect_uri="", state="") == ""
