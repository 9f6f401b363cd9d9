"""What the test suites of Duende BFF, the Auth0 SDKs, oauth2-proxy and mod_auth_openidc expect of login, user, logout and sessions,
said in our contract (docs/peers-test-cases.md has the whole list)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.forms import Form
from tests.harness.http import Answer, ask
from tests.harness.people import user
from tests.harness.provider import sub_of
from tests.harness.world import World

SESSION = "__Host-Http-bff"
NAVIGATION = (("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html"))


async def open_page(world: World, path: str, browser: Browser | None = None, method: str = "GET") -> Answer:
    """One navigation from the address bar; redirects are not followed."""
    jar = (browser or Browser()).jar
    cookie = jar.header(f"{world.app}{path}", initiator=None, navigation=True)
    answer = await ask(method, f"{world.app}{path}", headers=[*NAVIGATION, *([("Cookie", cookie)] if cookie else [])])
    for text in answer.all("set-cookie"):
        jar.store(f"{world.app}{path}", text)
    return answer


async def call(world: World, cookies: str, path: str = "/record/x") -> Answer:
    return await ask("GET", f"{world.app}{path}", headers=[("Cookie", cookies), ("X-CSRF", "1")])


async def tell(world: World, token: str) -> Answer:
    kind = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    return await ask("POST", f"{world.app}/bff/backchannel-logout", headers=[kind], body=f"logout_token={token}".encode())


# -- login ------------------------------------------------------------------------------------------------------------


async def test_a_login_while_signed_in_goes_to_the_provider_all_the_same(world: World, ada: Browser) -> None:
    answer = await open_page(world, "/bff/login", ada)
    assert answer.status == 302 and (answer.header("location") or "").startswith(world.provider.issuer)


@pytest.mark.row("AUTHZ-8")
@pytest.mark.parametrize(
    "query", ["prompt=no_such_prompt", "max_age=-1", "max_age=soon", "acr_values=unknown", "redirect_uri=x", "returnUrl=/x"]
)
async def test_a_login_with_a_parameter_that_is_not_taken_is_a_400_and_starts_nothing(world: World, query: str) -> None:
    answer = await open_page(world, f"/bff/login?{query}")
    assert answer.status == 400 and not answer.all("set-cookie") and not world.provider.requests("par")


async def test_a_login_starts_with_get_alone(world: World) -> None:
    for method in ("POST", "HEAD", "PUT"):
        answer = await open_page(world, "/bff/login", method=method)
        assert answer.status == 405 and answer.header("allow") == "GET" and not answer.all("set-cookie")


async def test_a_person_comes_back_to_the_deep_link_with_query_and_fragment(world: World) -> None:
    page = await world.sign_in(Browser(), "ben", return_to="/orders/7?tab=a&x=%2F#lines")
    assert page.url == f"{world.app}/orders/7?tab=a&x=%2F#lines" and page.status == 200


@pytest.mark.row("CSRF-8")
async def test_a_portals_link_to_the_login_shows_the_way_to_the_app_and_starts_nothing(world: World) -> None:
    portal = dict(NAVIGATION) | {"Sec-Fetch-Site": "cross-site"}
    answer = await ask("GET", f"{world.app}/bff/login", headers=list(portal.items()))
    assert answer.status == 403 and not answer.all("set-cookie") and '<a href="/">' in answer.text
    for kind in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Purpose": "prefetch"}):
        framed = dict(NAVIGATION) | {"Sec-Fetch-Site": "same-origin"} | kind
        assert (await ask("GET", f"{world.app}/bff/login", headers=list(framed.items()))).status == 403
    assert not world.provider.requests("par")


@pytest.mark.row("ARCH-5", "AUTHZ-5")
async def test_a_page_full_of_calls_by_a_stranger_begins_no_login_and_leaves_no_cookie(world: World) -> None:
    browser = Browser()
    calls = [browser.fetch(f"{world.app}/record/{number}", page=f"{world.app}/") for number in range(30)]
    answers = await asyncio.gather(*calls, browser.fetch(f"{world.app}/bff/login", page=f"{world.app}/", csrf=False))
    assert {(answer.status, answer.code) for answer in answers} == {(401, "unauthenticated"), (403, "login_needs_navigation")}
    assert not browser.jar.names() and not world.provider.requests("par") and answers[0].json()["login_url"] == "/bff/login"


@pytest.mark.row("CB-2", "AUTHZ-5")
async def test_a_callback_with_another_state_leaves_the_begun_login_alone(world: World) -> None:
    browser = Browser()
    await open_page(world, "/bff/login", browser)
    begun = browser.jar.names()
    answer = await open_page(world, "/bff/callback?state=not-ours&code=x", browser)
    assert answer.status == 400 and browser.jar.names() == begun and not world.provider.requests("token")


async def test_a_stale_callback_of_somebody_signed_in_leads_to_the_app(world: World, ada: Browser) -> None:
    for query in ("", "?state=old&code=used"):
        answer = await open_page(world, f"/bff/callback{query}", ada)
        assert (answer.status, answer.header("location")) == (303, "/") and not answer.all("set-cookie")
    assert (await open_page(world, "/bff/callback?state=old&code=used")).status == 400


# -- cookies ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("COOKIE-18", "COOKIE-21", "SESS-10")
async def test_a_cookie_that_was_touched_anywhere_is_a_plain_401_that_clears_it(world: World, ada: Browser) -> None:
    good = ada.jar.get(SESSION) or ""
    flipped = [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in (4, 44, len(good) - 5)]
    for value in ("", "x", "%00", "e30.e30.", good[:-1], good + "A", f'"{good}"', "x" * 4000, *flipped):
        answer = await call(world, f"{SESSION}={value}")
        assert (answer.status, answer.code) == (401, "unauthenticated"), value[:30]
        assert f"{SESSION}=" in answer.all("set-cookie")[0] and "Max-Age=0" in answer.all("set-cookie")[0]
    assert not world.recorder.seen and (await call(world, f"a=b; {SESSION}={good}; c")).status == 200


@pytest.mark.row("COOKIE-22", "COOKIE-21")
async def test_cookies_in_several_fields_are_one_list_and_a_double_is_nobody(world: World, ada: Browser) -> None:
    good = f"{SESSION}={ada.jar.get(SESSION)}"
    url, header = f"{world.app}/record/x", ("X-CSRF", "1")
    assert (await ask("GET", url, headers=[("Cookie", "a=b"), ("Cookie", good), ("Cookie", "c=d"), header])).status == 200
    assert (await ask("GET", url, headers=[("Cookie", good), ("Cookie", f"{SESSION}=x"), header])).status == 401


async def test_a_broken_session_cookie_stands_in_the_way_of_no_page(world: World) -> None:
    cookie = ("Cookie", f"{SESSION}=broken; {SESSION}-login-x=y")
    assert (await ask("GET", f"{world.app}/", headers=[*NAVIGATION, cookie])).status == 200
    assert (await ask("GET", f"{world.app}/bff/login", headers=[*NAVIGATION, cookie])).status == 302


# -- user -------------------------------------------------------------------------------------------------------------


@pytest.mark.row("SESS-6", "TOKEN-9")
async def test_user_keeps_answering_while_the_provider_is_down_and_takes_unknown_parameters(world: World) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in()
    world.provider.fault("token", status=500)
    await asyncio.sleep(1.1)
    assert (await browser.fetch("/record/x")).status == 503
    assert (await browser.fetch("/bff/user?slide=false")).json()["sub"] == sub_of("ada")


@pytest.mark.row("SESS-8")
async def test_without_a_refresh_token_the_session_ends_with_its_token_for_user_and_calls_alike(world: World) -> None:
    world.provider.knobs(access_token_s=1, issue_refresh_token=False)
    browser = await world.signed_in("ben")
    assert (await browser.fetch("/record/x")).status == 200
    await asyncio.sleep(1.2)
    answer = await browser.fetch("/record/x")
    assert (answer.status, answer.code) == (401, "unauthenticated") and SESSION not in browser.jar.names()
    assert (await browser.fetch("/bff/user")).status == 401


@pytest.mark.row("SESS-9")
async def test_a_session_ends_when_the_provider_says_and_one_that_is_over_never_begins(world: World) -> None:
    world.provider.mutate(claims={"session_expiry": int(time.time()) + 90})
    told = (await (await world.signed_in("ben")).fetch("/bff/user")).json()["session"]
    assert 60 < told["expires_in"] <= 90 and told["expires_because"] == "absolute"
    world.provider.mutate(claims={"session_expiry": int(time.time()) - 90})
    browser = Browser()
    page = await world.sign_in(browser, "ben")
    assert page.status == 502 and SESSION not in browser.jar.names()


@pytest.mark.row("TOKEN-9")
@pytest.mark.parametrize("error", ["mfa_required", "interaction_required"])
async def test_a_refresh_that_needs_the_person_is_a_step_up_and_no_outage(world: World, error: str) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in("ben")
    world.provider.fault("token", status=403, error=error)
    await asyncio.sleep(1.1)
    for _ in range(2):
        answer = await browser.fetch("/record/x")
        assert (answer.status, answer.code, answer.json()["login_url"]) == (401, "step_up_required", "/bff/login")
    assert not world.recorder.seen and (await browser.fetch("/bff/user")).status == 200
    world.provider.fault("token")
    await world.sign_in(browser, "ben")
    assert (await browser.fetch("/record/x")).status == 200


# -- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("F10", "SESS-15")
async def test_a_refresh_that_returns_after_the_logout_restores_nothing(world: World) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in("ben")
    copy = browser.stolen_copy()
    await asyncio.sleep(1.1)
    world.provider.fault("token", delay_s=0.6, after=True)
    late = asyncio.create_task(browser.fetch("/record/x"))
    await asyncio.sleep(0.2)
    assert (await browser.fetch("/bff/logout", method="POST")).status == 200
    assert (await late).status == 401 and SESSION not in browser.jar.names() and not world.recorder.seen
    assert (await copy.fetch("/record/x")).status == 401


@pytest.mark.row("TOKEN-6", "F1")
async def test_calls_for_two_audiences_on_an_expired_token_refresh_once_each(world: World) -> None:
    world.provider.knobs(access_token_s=1)
    browser = await world.signed_in()
    await asyncio.sleep(1.1)
    before = world.provider.requests("token")
    answers = await asyncio.gather(*(browser.fetch(path) for path in ("/record/x", "/other/x") for _ in range(8)))
    assert {answer.status for answer in answers} == {200} and world.provider.requests("token") == before + 2


# -- logout -----------------------------------------------------------------------------------------------------------


@pytest.mark.row("RPLO-2", "RPLO-3", "REDIR-2")
async def test_a_logout_can_name_the_page_to_land_on(world: World) -> None:
    browser = await world.signed_in("ben")
    answer = await browser.fetch("/bff/logout?return_to=/goodbye%3Fx%3D1", method="POST")
    assert "goodbye" not in answer.json()["logout_url"]
    assert (await browser.link(answer.json()["logout_url"])).url == f"{world.app}/goodbye?x=1"
    browser = await world.signed_in("ben")
    assert (await browser.submit(Form(action="/bff/logout?return_to=/goodbye", method="post"))).url == f"{world.app}/goodbye"
    assert await user(browser, world.app) is None


@pytest.mark.row("REDIR-2", "RPLO-5")
@pytest.mark.parametrize(
    "wish", ["https://evil.example/", "//evil.example", "/%5Cevil.example", "javascript:alert(1)", "/bff/login", "/a&return_to=/b"]
)
async def test_a_logout_never_leads_elsewhere_and_never_fails_for_its_wish(world: World, wish: str) -> None:
    nobody = await Browser().fetch(f"{world.app}/bff/logout?return_to={wish}", method="POST", page=f"{world.app}/")
    assert (nobody.status, nobody.json()) == (200, {"logout_url": "/"})
    browser = await world.signed_in("ben")
    answer = await browser.fetch(f"/bff/logout?return_to={wish}", method="POST")
    assert answer.status == 200 and (await browser.link(answer.json()["logout_url"])).url == f"{world.app}/"


@pytest.mark.row("RPLO-6")
async def test_a_logout_clears_begun_logins_too_and_works_twice(world: World) -> None:
    browser = await world.signed_in("ben")
    for _ in range(3):
        await open_page(world, "/bff/login", browser)
    for _ in range(2):
        assert (await browser.fetch("/bff/logout", method="POST")).status == 200
        assert not [name for name in browser.jar.names() if name.startswith(SESSION)]


async def test_a_provider_without_end_session_or_revocation_still_signs_out_here(make_world: MakeWorld) -> None:
    world = make_world()
    world.provider.knobs(metadata_removed=["end_session_endpoint", "revocation_endpoint", "pushed_authorization_request_endpoint"])
    world.product.restart()
    browser = await world.signed_in("ben")
    answer = await browser.fetch("/bff/logout?return_to=/goodbye", method="POST")
    assert answer.json() == {"logout_url": "/goodbye"} and await user(browser, world.app) is None


# -- back-channel logout ------------------------------------------------------------------------------------------------


async def signed_out_soon(world: World, browser: Browser) -> bool:
    for _ in range(30):
        if await user(browser, world.app) is None:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.row("BCLO-10", "BCLO-11")
async def test_a_logout_token_whose_sid_belongs_to_somebody_else_ends_nothing(world: World) -> None:
    browser = await world.signed_in("chloe")
    sid = [one["sid"] for one in world.provider.state()["sign_ins"] if one["sub"] == sub_of("chloe")][-1]
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub="somebody-else", sid=sid))).status == 200
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("chloe"), sid="another-session"))).status == 200
    assert not await signed_out_soon(world, browser)
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("chloe"), sid=sid))).status == 200
    assert await signed_out_soon(world, browser)


@pytest.mark.row("BCLO-10")
async def test_a_session_whose_id_token_had_no_sid_ends_with_a_logout_token_that_has_one(world: World) -> None:
    world.provider.mutate(remove=["sid"])
    browser = await world.signed_in("chloe")
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub=sub_of("chloe"), sid="the-provider's-own"))).status == 200
    assert await signed_out_soon(world, browser)


@pytest.mark.row("BCLO-3", "BCLO-5", "BCLO-6")
@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": 123}, 400),
        ({"sid": ["a"]}, 400),
        ({"aud": ["spa"]}, 200),
        ({"aud": ["spa", "untrusted"]}, 400),
        ({"jti": 5}, 400),
        ({"iat": "now"}, 400),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {"more": 1}, "urn:x": {}}}, 200),
    ],
    ids=str,
)
async def test_claims_of_a_logout_token_have_their_types(world: World, claims: dict[str, Any], status: int) -> None:
    world.provider.mutate(token="logout_token", claims=claims)
    assert (await tell(world, world.provider.logout_token(client_id="spa", sub="nobody", sid="none"))).status == status


async def test_a_logout_call_without_a_token_is_a_400_that_nobody_keeps(world: World) -> None:
    for body in (None, b"", b"logout_token="):
        answer = await ask("POST", f"{world.app}/bff/backchannel-logout", body=body)
        assert answer.status == 400 and answer.header("cache-control") == "no-store"
