"""Metadata and keys: what is believed, how often the provider is asked, and what survives its bad days."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from bff.base.errors import ConfigError, ProviderError, ProviderMisbehaved, ProviderUnavailable, TokenInvalid
from bff.base.events import EventKind
from bff.oauth.id_token import read_id_token
from bff.oauth.metadata import check_configured_issuer, read_provider, well_known_urls
from bff.oauth.types import IdTokenRules
from tests.oauth.scripted_provider import ED, ISSUER, REMOVE, RSA, RSA_2, World, changed, public

WELL_KNOWN = "/.well-known/openid-configuration"


async def check(world: World, *, patient: bool = False, **token: Any) -> None:
    jws = read_id_token(world.provider.id_token(**token), IdTokenRules(), issuer=ISSUER)
    await world.directory.check_signature(jws, patient=patient)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.row("META-2")
@pytest.mark.parametrize(
    ("issuer", "appended", "inserted"),
    [
        ("https://as", "https://as/.well-known/openid-configuration", "https://as/.well-known/oauth-authorization-server"),
        ("https://as/", "https://as/.well-known/openid-configuration", "https://as/.well-known/oauth-authorization-server"),
        ("https://as/t1/", "https://as/t1/.well-known/openid-configuration", "https://as/.well-known/oauth-authorization-server/t1"),
        (
            "http://[::1]:8/t",
            "http://[::1]:8/t/.well-known/openid-configuration",
            "http://[::1]:8/.well-known/oauth-authorization-server/t",
        ),
    ],
)
def test_the_well_known_places_of_an_issuer(issuer: str, appended: str, inserted: str) -> None:
    assert well_known_urls(issuer) == (appended, inserted)


@pytest.mark.row("META-2")
async def test_the_second_place_is_asked_only_when_the_first_has_nothing(build_world: Any) -> None:
    world = build_world(issuer="https://id.example.test/t1")
    world.provider.answer("/t1" + WELL_KNOWN, b"", 404)
    world.provider.handlers["/.well-known/oauth-authorization-server/t1"] = lambda _: httpx.Response(200, json=world.provider.metadata)
    assert (await world.directory.provider()).issuer == "https://id.example.test/t1"
    assert len(world.provider.calls) == 2


async def test_metadata_that_is_at_neither_place_may_still_come(world: World) -> None:
    world.provider.answer(WELL_KNOWN, b"", 404)
    with pytest.raises(ProviderUnavailable):
        await world.directory.provider()
    assert len(world.provider.calls) == 2


@pytest.mark.row("META-1")
@pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER.upper(), "https://evil.test", "", None, [ISSUER], REMOVE])
async def test_a_document_of_another_issuer_is_not_used(world: World, issuer: Any) -> None:
    world.provider.announce(issuer=issuer)
    with pytest.raises(ProviderMisbehaved):
        await world.directory.provider()
    assert world.directory.known is None


BAD_URLS = [
    "http://id.example.test/x",
    "http://127.0.0.1/x",
    "http://localhost/x",
    "https://127.0.0.1/x",
    "https://[::1]/x",
    "https://localhost:1/x",
    "http://169.254.169.254/latest",
    "https://169.254.169.254/latest",
    "https://0.0.0.0/",
    "file:///etc/passwd",
    "ftp://id.example.test/x",
    "data:application/json,{}",
    "https://user:pw@id.example.test/x",
    "https://id.example.test/x#f",
    "//id.example.test/x",
    "/x",
    "https:///x",
    "https://",
    "https://id.example.test\\@evil.test/",
    "https://id.example.test/ x",
    "https://id.example.test:0/",
    "https://id.example.test:x/",
    "https://id.exa\nmple.test/",
    "https://ïd.test/",
    "https://x/" + "a" * 3000,
    "",
    7,
    ["https://id.example.test/x"],
]


@pytest.mark.row("META-3", "META-6", "J8", "F30")
@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri", "pushed_authorization_request_endpoint"])
def test_an_endpoint_we_must_not_call_refuses_the_document(name: str, url: Any) -> None:
    document = World().provider.metadata
    with pytest.raises(ProviderMisbehaved):
        read_provider({**document, name: url}, issuer=ISSUER)


@pytest.mark.row("META-3", "J8")
def test_a_provider_on_https_never_steps_down_to_plain_http_not_even_on_loopback() -> None:
    issuer = "https://localhost:8443"
    document = {name: v.replace(ISSUER, issuer) if isinstance(v, str) else v for name, v in World().provider.metadata.items()}
    assert read_provider(document, issuer=issuer).issuer == issuer
    with pytest.raises(ProviderMisbehaved):
        read_provider({**document, "token_endpoint": "http://localhost:8443/token"}, issuer=issuer)


@pytest.mark.row("META-3", "F30")
def test_an_endpoint_may_be_on_another_host_over_https() -> None:
    document = World().provider.metadata
    moved = read_provider({**document, "token_endpoint": "https://tokens.example.test:8443/t?x=1"}, issuer=ISSUER)
    assert moved.token_endpoint == "https://tokens.example.test:8443/t?x=1"


@pytest.mark.row("META-3")
def test_a_loopback_provider_may_speak_plain_http_and_others_only_with_the_switch() -> None:
    document = World().provider.metadata
    for issuer, switch in (("http://127.0.0.1:9400", False), ("http://localhost:9400", False), ("http://op.internal", True)):
        moved = {name: value.replace(ISSUER, issuer) if isinstance(value, str) else value for name, value in document.items()}
        assert read_provider(moved, issuer=issuer, plain_http=switch).token_endpoint == issuer + "/token"
        if switch:
            with pytest.raises(ProviderMisbehaved):
                read_provider(moved, issuer=issuer)


@pytest.mark.row("META-1")
def test_an_issuer_that_cannot_be_one_is_a_configuration_problem() -> None:
    for issuer in ("http://op.test", "https://op.test/?x", "https://op.test/#f", "op.test", "https://u@op.test", "", "ftp://op.test"):
        with pytest.raises(ConfigError):
            check_configured_issuer(issuer)
    for issuer in ("https://op.test", "https://op.test/t1/", "http://localhost:8080", "http://127.0.0.1:1/x"):
        assert check_configured_issuer(issuer) == issuer
    assert check_configured_issuer("http://op.test", plain_http=True) == "http://op.test"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_a_document_without_a_required_endpoint_is_refused(name: str) -> None:
    with pytest.raises(ProviderMisbehaved):
        read_provider(changed(World().provider.metadata, {name: REMOVE}), issuer=ISSUER)


def test_statements_of_the_wrong_type_are_not_believed() -> None:
    odd = {"scopes_supported": "openid", "acr_values_supported": [1, "a"], "require_pushed_authorization_requests": "true"}
    provider = read_provider({**World().provider.metadata, **odd, "userinfo_endpoint": None}, issuer=ISSUER)
    assert (provider.scopes_supported, provider.acr_values_supported, provider.userinfo_endpoint) == ((), ("a",), "")
    assert provider.require_pushed_authorization_requests is False


@pytest.mark.row("META-3", "F27", "K3", "D8", "J8")
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (302, b"", {"location": "https://evil.test/"}),
        (200, b"<html>", {"content_type": "text/html"}),
        (200, b"[]", {}),
        (200, b"", {}),
        (200, b"{", {}),
        (200, b"x" * (1 << 20) + b"yy", {}),
        (403, b"{}", {}),
        (204, b"", {}),
    ],
)
async def test_an_odd_discovery_answer_is_a_provider_that_misbehaves(
    world: World, status: int, body: bytes, headers: dict[str, str]
) -> None:
    world.provider.answer(WELL_KNOWN, body, status, **headers)
    with pytest.raises(ProviderMisbehaved):
        await world.directory.provider()
    assert all(request.url.host == "id.example.test" for request in world.provider.calls)


@pytest.mark.row("D5", "D8")
async def test_a_compressed_answer_is_refused_unopened(world: World) -> None:
    def bomb(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"\x1f\x8b" + b"\0" * 100), headers={"content-encoding": "gzip"})

    world.provider.handlers[WELL_KNOWN] = bomb
    with pytest.raises(ProviderMisbehaved):
        await world.directory.provider()
    assert world.provider.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.row("F24", "META-5")
async def test_a_provider_that_was_down_at_the_start_is_found_within_five_seconds(world: World) -> None:
    world.provider.fail(WELL_KNOWN, httpx.ConnectError("refused"))
    for _ in range(60):
        with pytest.raises(ProviderUnavailable):
            await world.begin()
        world.clock.advance(0.5)
    assert world.directory.known is None
    del world.provider.handlers[WELL_KNOWN]
    waited = 0.0
    while world.directory.known is None:
        assert waited <= 5
        try:
            await world.begin()
        except ProviderUnavailable as down:
            assert down.retry_after_s
            assert 0 < down.retry_after_s <= 3
            world.clock.advance(0.5)
            waited += 0.5


@pytest.mark.row("F25", "F24")
async def test_a_provider_that_is_down_is_asked_at_most_once_a_pause(world: World) -> None:
    world.provider.fail(WELL_KNOWN, httpx.ConnectError("refused"))
    for _ in range(600):
        with pytest.raises(ProviderUnavailable):
            await world.directory.provider()
        world.clock.advance(0.1)
    assert 15 <= len(world.provider.calls) <= 40


@pytest.mark.row("F32")
async def test_a_provider_that_names_a_time_is_not_asked_before(world: World) -> None:
    world.provider.answer(WELL_KNOWN, b"", 429, retry_after="20")
    for _ in range(19):
        with pytest.raises(ProviderUnavailable):
            await world.directory.provider()
        world.clock.advance(1)
    assert len(world.provider.calls) == 1


@pytest.mark.row("META-5")
async def test_a_hundred_callers_share_one_discovery(world: World) -> None:
    await asyncio.gather(*(world.directory.provider() for _ in range(100)))
    assert len(world.provider.calls) == 1


@pytest.mark.row("META-5", "F25")
async def test_a_stale_copy_is_served_while_the_provider_is_away(world: World) -> None:
    first = await world.directory.provider()
    world.provider.fail(WELL_KNOWN, httpx.ConnectError("refused"))
    world.clock.advance(7200)
    assert await world.directory.provider() is first
    await settle()
    assert world.provider.count(WELL_KNOWN) == 2
    assert await world.directory.provider() is first


@pytest.mark.row("META-5")
async def test_a_stale_copy_is_renewed_behind_the_callers_back(world: World) -> None:
    await world.directory.provider()
    world.provider.announce(token_endpoint=ISSUER + "/token2")
    world.clock.advance(3601)
    assert (await world.directory.provider()).token_endpoint == ISSUER + "/token"
    await settle()
    assert (await world.directory.provider()).token_endpoint == ISSUER + "/token2"


@pytest.mark.row("F30", "META-1", "ISS-4")
@pytest.mark.parametrize(
    "change", [{"token_endpoint": "http://evil.test/t"}, {"issuer": "https://evil.test"}, {"jwks_uri": "https://127.0.0.1/"}]
)
async def test_metadata_that_turns_bad_is_reported_and_the_old_copy_kept(world: World, change: dict[str, str]) -> None:
    first = await world.directory.provider()
    world.provider.announce(**change)
    world.clock.advance(3601)
    await world.directory.provider()
    await settle()
    assert await world.directory.provider() is first
    assert "provider_misbehaved" in world.outcomes(EventKind.KEY_SET_FETCHED)


@pytest.mark.row("JWKS-1", "F28")
async def test_a_rotated_key_is_found_with_one_more_fetch(world: World) -> None:
    await check(world)
    world.provider.keys = [public(RSA_2, kid="r2")]
    await check(world, kid="r2", key=RSA_2)
    assert world.provider.count("/jwks") == 2


@pytest.mark.row("JWKS-2", "J9")
async def test_a_flood_of_unknown_kids_costs_one_fetch_per_interval_and_is_refused(world: World) -> None:
    await check(world)
    results = await asyncio.gather(*(check(world, kid=f"k{i}") for i in range(100)), return_exceptions=True)
    for i in range(100):
        with pytest.raises(TokenInvalid):
            await check(world, kid=f"m{i}")
    assert {type(result) for result in results} == {TokenInvalid}
    assert world.provider.count("/jwks") == 2
    await check(world)  # others are not affected
    world.clock.advance(5.1)
    with pytest.raises(TokenInvalid):
        await check(world, kid="late")
    assert world.provider.count("/jwks") == 3


@pytest.mark.row("F28", "JWKS-2")
async def test_a_token_straight_from_the_provider_waits_for_the_cooldown_with_its_new_key(build_world: Any) -> None:
    """Keys changed twice in quick succession; or somebody's junk has just used up the fetch."""
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        world.clock.advance(seconds - 0.001)  # uvloop's timers may be a millisecond early

    world = build_world(pause=pause)
    await check(world)
    with pytest.raises(TokenInvalid):
        await check(world, kid="junk")
    world.provider.keys = [public(RSA_2, kid="r2")]
    with pytest.raises(TokenInvalid):
        await check(world, kid="r2", key=RSA_2)
    assert not waits and world.provider.count("/jwks") == 2
    await check(world, patient=True, kid="r2", key=RSA_2)
    assert waits == [pytest.approx(5.0, abs=0.02)] and world.provider.count("/jwks") == 3
    with pytest.raises(TokenInvalid):  # a broken signature is no new key: nobody waits for it
        await check(world, patient=True, kid="r2", key=RSA)
    assert len(waits) == 1


@pytest.mark.row("JWKS-2", "J9")
async def test_the_cooldown_holds_also_when_the_fetch_fails(world: World) -> None:
    await check(world)
    world.provider.answer("/jwks", b"", 500)
    for _ in range(10):
        with pytest.raises(TokenInvalid):
            await check(world, kid="unknown")
    assert world.provider.count("/jwks") == 2
    await check(world)


@pytest.mark.row("JWKS-1", "J9")
async def test_everybody_who_waits_for_the_refetch_gets_the_new_key(world: World) -> None:
    await check(world)
    world.provider.keys = [public(RSA_2, kid="r2")]
    await asyncio.gather(*(check(world, kid="r2", key=RSA_2) for _ in range(50)))
    assert world.provider.count("/jwks") == 2


@pytest.mark.row("F28")
async def test_a_new_key_under_an_old_kid_is_found_too(world: World) -> None:
    await check(world)
    world.provider.keys = [public(RSA_2, kid="r1")]
    await check(world, key=RSA_2)
    with pytest.raises(TokenInvalid) as caught:
        await check(world, key=RSA)
    assert caught.value.rule == "signature"


@pytest.mark.row("JWKS-3")
async def test_a_key_that_was_taken_out_stops_verifying_after_the_lifetime(world: World) -> None:
    await check(world)
    world.provider.keys = [public(RSA_2, kid="r2")]
    await check(world)
    world.clock.advance(601)
    with pytest.raises(TokenInvalid) as caught:
        await check(world)
    assert caught.value.rule == "kid"


@pytest.mark.row("F29", "META-5", "JWKS-3")
@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b""), (200, b"<html>"), (200, b'{"keys":[]}'), (200, b'{"keys":[{"kty":"RSA"}]}'), (302, b"")]
)
async def test_a_bad_key_set_answer_keeps_the_last_good_one(world: World, status: int, body: bytes) -> None:
    await check(world)
    world.provider.answer("/jwks", body, status)
    for _ in range(20):
        world.clock.advance(300)
        await check(world)


@pytest.mark.row("F24", "CB-7")
async def test_without_any_key_set_nothing_is_verified(world: World) -> None:
    world.provider.answer("/jwks", b"", 503)
    with pytest.raises(ProviderError):
        await check(world)
    del world.provider.handlers["/jwks"]
    world.clock.advance(3.1)
    await check(world)


@pytest.mark.row("J10", "JWKS-5")
async def test_bad_members_do_not_spoil_a_key_set(world: World) -> None:
    world.provider.keys = [
        {"kty": "RSA"},
        {},
        public(ED, kid="o1", use="enc"),
        *world.provider.keys,
        {"kty": "EC", "crv": "P-256", "x": "A", "y": "B"},
    ]
    await check(world)


@pytest.mark.row("META-5", "F24")
async def test_the_background_run_fetches_both_and_then_only_what_is_stale(world: World) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        world.clock.advance(seconds)
        if len(pauses) == 3:
            del world.provider.handlers[WELL_KNOWN]
        if len(pauses) == 200:
            raise asyncio.CancelledError

    world.provider.fail(WELL_KNOWN, httpx.ConnectError("refused"))
    with pytest.raises(asyncio.CancelledError):
        await world.directory.run(sleep=sleep)
    assert world.directory.known is not None
    assert max(pauses) <= 3
    assert world.provider.count("/jwks") <= 2


async def test_closing_ends_a_renewal_under_way(world: World) -> None:
    await world.directory.provider()
    world.clock.advance(3601)
    await world.directory.provider()
    await world.directory.close()
    await settle()
