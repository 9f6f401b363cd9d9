"""Signing in, from outside: pages, redirects, cookies. Nothing here knows how the product is made."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser, Page
from tests.harness.http import ask
from tests.harness.people import go_through, user
from tests.harness.provider import sub_of
from tests.harness.world import SCOPES, World

SESSION = "__Host-Http-bff"


async def at_provider(world: World, browser: Browser, query: str = "") -> Page:
    """A browser on the provider's first page, the login begun."""
    await browser.navigate(f"{world.app}/")
    page = await browser.link(f"{world.app}/bff/login{query}")
    assert page.url.startswith(world.provider.issuer), (page.url, page.text[:300])
    return page


async def callback_url(world: World, browser: Browser, person: str = "ada") -> str:
    """Sign in up to the callback without following it: what the address bar would hold."""
    page = await at_provider(world, browser)
    stopping = _Stopping(browser, world.app)
    try:
        await go_through(stopping, page, person=person, app=world.app)
    except _Stopped as stopped:
        browser.page = stopping.page
        return str(stopped)
    raise AssertionError("never came to the callback")


class _Stopped(Exception):
    """Carries the callback URL."""


class _Stopping(Browser):
    """A browser whose navigation stops in front of the callback."""

    def __init__(self, like: Browser, app: str) -> None:
        super().__init__(like.jar, like.page, like.via, like.fetch_metadata, like.seen, like.timeout_s)
        self._app = app

    async def _exchange(self, method, url, headers, body):  # type: ignore[no-untyped-def]
        if url.startswith(f"{self._app}/bff/callback"):
            raise _Stopped(url)
        return await Browser._exchange(self, method, url, headers, body)


@pytest.mark.row("ARCH-1", "CB-8", "AUTHZ-13", "COOKIE-1")
async def test_a_person_signs_in_calls_the_api_and_the_browser_never_holds_a_token(world: World) -> None:
    browser = await world.signed_in(return_to="/orders?tab=1")
    assert browser.page is not None and browser.page.url == f"{world.app}/orders?tab=1"
    hop = browser.page.hops
    assert [answer.status for answer in hop[-2:]] == [303, 200] and "code=" not in (hop[-2].header("location") or "")
    answer = await browser.fetch("/api/orders")
    assert answer.status == 200 and answer.json()["caller"]["sub"] == sub_of("ada")
    assert answer.json()["received"]["cookie_arrived"] is False
    issued = world.provider.secrets()
    assert not [secret for secret in issued if any(secret in text for text in browser.seen) and "." in secret]
    assert browser.jar.visible_to_scripts(world.app) == {}


@pytest.mark.row("COOKIE-2", "COOKIE-3", "COOKIE-7")
async def test_the_session_cookie_is_strict_host_bound_and_small_the_login_cookie_lax_and_gone(world: World) -> None:
    browser = Browser()
    start = await at_provider(world, browser)
    begun = start.hop_to("/bff/login")
    (login_cookie,) = begun.all("set-cookie")
    assert login_cookie.startswith("__Host-Http-bff-login-") and "SameSite=Lax" in login_cookie
    page = await go_through(browser, start, person="ada", app=world.app)
    session = next(text for text in page.hop_to("/bff/callback").all("set-cookie") if text.startswith(f"{SESSION}="))
    attributes = {part.strip().lower() for part in session.split(";")[1:]}
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= attributes and not any(a.startswith("domain") for a in attributes)
    assert len(session.split(";")[0]) <= 200
    assert browser.jar.names() >= {SESSION} and not [name for name in browser.jar.names() if "-login-" in name]


@pytest.mark.row("ARCH-3", "PRIV-3")
async def test_user_tells_who_is_signed_in_and_nothing_secret(world: World) -> None:
    browser = Browser()
    await browser.navigate(f"{world.app}/")
    assert await user(browser, world.app) is None
    await world.sign_in(browser, "ben")
    told = await user(browser, world.app)
    assert told is not None and told["sub"] == sub_of("ben") and told["name"] == "Ben Okafor"
    session = told["session"]
    assert isinstance(session, dict) and session["logout_url"] == "/bff/logout"
    assert session["expires_in"] > 60 and session["expires_because"]


@pytest.mark.row("AUTHZ-1", "AUTHZ-4", "AUTHZ-7", "AUTHZ-9")
async def test_the_authorization_request_is_complete_fresh_and_follows_no_header(world: World) -> None:
    seen = []
    for _ in range(5):
        headers = [("Accept", "text/html"), ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example")]
        answer = await ask("GET", f"{world.app}/bff/login", headers=headers)
        assert answer.status in (302, 303) and answer.header("cache-control") == "no-store"
        assert answer.header("referrer-policy") == "no-referrer"
        location = answer.header("location") or ""
        seen.append({name: values[0] for name, values in parse_qs(urlsplit(location).query).items()})
    if "request_uri" in seen[0]:
        assert all(set(query) == {"client_id", "request_uri"} for query in seen)
        assert len(world.provider.ledger("par")) == 5 and len({query["request_uri"] for query in seen}) == 5
        return
    assert all(query["code_challenge_method"] == "S256" and query["redirect_uri"] == f"{world.app}/bff/callback" for query in seen)
    assert all(set(query["scope"].split()) == set(SCOPES) and query["response_type"] == "code" for query in seen)
    for name in ("state", "nonce", "code_challenge"):
        assert len({query[name] for query in seen}) == 5
    assert all(22 <= len(query["nonce"]) <= 64 for query in seen)


@pytest.mark.row("AUTHZ-6", "F17")
async def test_logins_in_three_tabs_succeed_in_any_order(world: World) -> None:
    browser = Browser()
    tabs = [(tab, await at_provider(world, tab)) for tab in (browser, browser.another_tab(), browser.another_tab())]
    for tab, page in reversed(tabs):
        tab.page = page
        done = await go_through(tab, page, person="ada", app=world.app)
        assert done.status == 200 and done.url.startswith(world.app), done.text[:300]
    assert (await user(browser, world.app) or {})["sub"] == sub_of("ada")


@pytest.mark.row("AUTHZ-6", "COOKIE-11")
async def test_fifty_begun_logins_do_not_fill_the_cookie_header(world: World) -> None:
    browser = Browser()
    await browser.navigate(f"{world.app}/")
    for _ in range(50):
        assert (await browser.link(f"{world.app}/bff/login")).url.startswith(world.provider.issuer)
        browser.page = Page(f"{world.app}/", browser.page.answer) if browser.page else None
    assert len(browser.jar.header(f"{world.app}/bff/callback")) < 8192
    assert len([name for name in browser.jar.names() if "-login-" in name]) <= 10


@pytest.mark.row("CB-2", "F19", "L2")
async def test_the_back_button_replays_nothing_and_keeps_the_session(world: World) -> None:
    browser = Browser()
    url = await callback_url(world, browser)
    page = await browser.navigate(url, initiator=world.provider.issuer)
    assert page.status == 200 and page.url == f"{world.app}/"
    redeemed = world.provider.requests("token")
    again = await browser.navigate(url)
    assert again.status in (200, 400) and world.provider.requests("token") == redeemed
    assert (await user(browser, world.app) or {})["sub"] == sub_of("ada")


@pytest.mark.row("CB-2", "L4")
async def test_the_same_callback_fired_twenty_times_at_once_redeems_one_code(world: World) -> None:
    browser = Browser()
    url = await callback_url(world, browser)
    tabs = [browser.another_tab() for _ in range(20)]
    pages = await asyncio.gather(*(tab.navigate(url, initiator=world.provider.issuer) for tab in tabs))
    assert world.provider.requests("token") == 1 and not [page for page in pages if page.status >= 500]
    assert len(world.provider.ledger("authorization_code", outcome="ok")) == 1
    assert (await user(browser, world.app) or {})["sub"] == sub_of("ada")


@pytest.mark.row("AUTHZ-3", "L1", "L2")
async def test_a_callback_finished_in_another_browser_signs_nobody_in(world: World) -> None:
    browser = Browser()
    url = await callback_url(world, browser)
    other = Browser()
    page = await other.navigate(url, initiator=world.provider.issuer)
    assert page.status == 400 and SESSION not in other.jar.names() and world.provider.requests("token") == 0
    page = await browser.navigate(url, initiator=world.provider.issuer)
    assert page.status == 200 and SESSION in browser.jar.names()


def changed(url: str, **changes: str | None) -> str:
    """The URL with query parameters changed, or removed by None."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    query = {name: value for name, value in {**query, **changes}.items() if value is not None}
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"


@pytest.mark.row("CB-1", "CB-3", "ISS-1", "ISS-2", "L2", "L3", "L5")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: changed(url, state=None),
        lambda url: changed(url, state=""),
        lambda url: changed(url, state="A" * 43),
        lambda url: changed(url, iss=None),
        lambda url: changed(url, iss="https://evil.example"),
        lambda url: changed(url, code=None),
        lambda url: url + "&code=another",
        lambda url: url + "&state=another",
        lambda url: url + "&iss=another",
        lambda url: url + "&error=access_denied&error=x",
        lambda url: url + "&access_token=stolen",
        lambda url: url + "&id_token=stolen",
    ],
    ids=[
        "no-state", "empty-state", "wrong-state", "no-iss", "wrong-iss", "no-code", "code-twice", "state-twice", "iss-twice", "error-twice",
        "access-token", "id-token",
    ],
)
async def test_a_callback_with_one_thing_wrong_never_reaches_the_token_endpoint(world: World, spoil: object) -> None:
    browser = Browser()
    url = await callback_url(world, browser)
    page = await browser.navigate(spoil(url), initiator=world.provider.issuer)  # type: ignore[operator]
    assert page.status == 400 and "text/html" in (page.answer.header("content-type") or "")
    assert world.provider.requests("token") == 0 and SESSION not in browser.jar.names()


@pytest.mark.row("CB-10")
async def test_a_code_of_another_login_is_refused_by_pkce_and_signs_nobody_in(world: World) -> None:
    attacker, victim = Browser(), Browser()
    stolen = await callback_url(world, attacker, "ben")
    own = await callback_url(world, victim)
    code = parse_qs(urlsplit(stolen).query)["code"][0]
    page = await victim.navigate(changed(own, code=code), initiator=world.provider.issuer)
    assert page.status >= 400 and SESSION not in victim.jar.names()


@pytest.mark.row("CB-4", "F21", "L6")
@pytest.mark.parametrize("error", ["access_denied", "server_error", "temporarily_unavailable", "login_required", "<script>x</script>"])
async def test_an_error_from_the_provider_is_a_clear_page_without_its_text(world: World, error: str) -> None:
    world.provider.knobs(authorize_error=error, authorize_error_description="<img src=x onerror=alert(1)> canary-text")
    browser = await signed_in_before(world)
    page = await world.sign_in(browser)
    assert 400 <= page.status < 600 and page.url.startswith(f"{world.app}/bff/callback")
    assert "canary-text" not in page.text and "<script" not in page.text and "onerror" not in page.text
    assert "default-src 'none'" in (page.answer.header("content-security-policy") or "")
    assert (await user(browser, world.app) or {})["sub"] == sub_of("ada")
    world.provider.reset()
    assert (await world.sign_in(browser, "ada")).status == 200


async def signed_in_before(world: World) -> Browser:
    """A session that a failed login must not harm (KEPT)."""
    error = world.provider.state()["knobs"]
    world.provider.knobs(authorize_error="", authorize_error_description="")
    browser = await world.signed_in()
    world.provider.knobs(authorize_error=error["authorize_error"], authorize_error_description=error["authorize_error_description"])
    return browser


@pytest.mark.row("CB-4")
async def test_a_forged_error_without_our_state_touches_no_session(world: World) -> None:
    browser = await world.signed_in()
    page = await browser.navigate(f"{world.app}/bff/callback?error=access_denied&state=forged", initiator="https://evil.example/")
    assert page.status in (200, 400) and (await user(browser, world.app) or {})["sub"] == sub_of("ada")


@pytest.mark.row("CB-5")
async def test_prompt_none_without_a_sign_in_returns_to_the_app_without_a_loop(world: World) -> None:
    browser = Browser()
    await browser.navigate(f"{world.app}/")
    page = await browser.link(f"{world.app}/bff/login?prompt=none&return_to=/x")
    assert page.status == 200 and page.url.startswith(f"{world.app}/x") and await user(browser, world.app) is None


@pytest.mark.row("CB-9")
async def test_a_posted_callback_is_refused(world: World) -> None:
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    answer = await ask("POST", f"{world.app}/bff/callback", headers=form, body=b"code=x&state=y")
    assert answer.status == 405 and world.provider.requests("token") == 0


@pytest.mark.row("SESS-2", "S1")
async def test_every_login_makes_a_new_session_and_ends_the_old_one(world: World) -> None:
    browser = await world.signed_in()
    old = browser.stolen_copy()
    first = browser.jar.get(SESSION)
    await world.sign_in(browser)
    assert browser.jar.get(SESSION) != first
    assert (await browser.fetch("/api/orders")).status == 200
    await asyncio.sleep(1.2)
    assert (await old.fetch("/api/orders")).status == 401


@pytest.mark.row("SESS-2", "COOKIE-21")
@pytest.mark.parametrize("value", ["planted", "A" * 120, "", '"quoted"', "%00", "a" * 3900])
async def test_a_planted_session_cookie_becomes_nothing(world: World, value: str) -> None:
    browser = Browser()
    browser.jar.store(f"{world.app}/", f"{SESSION}={value}; Secure; HttpOnly; Path=/; SameSite=Strict")
    await browser.navigate(f"{world.app}/")
    assert (await browser.fetch("/api/orders")).status == 401
    await world.sign_in(browser)
    assert browser.jar.get(SESSION) != value and (await browser.fetch("/api/orders")).status == 200


RETURN_TARGETS = [
    "//evil.example", "https://evil.example/", "/\\evil.example", "/%09/evil.example", "javascript:alert(1)", "/a\tb", "\\\\evil.example",
    "/\x00", "http:evil.example", "/..//evil.example", "///evil.example", "/bff/logout", "evil.example", "/@evil.example/../..//x",
]


@pytest.mark.row("REDIR-1", "REDIR-2", "R1")
@pytest.mark.parametrize("target", RETURN_TARGETS)
async def test_after_login_nobody_is_sent_elsewhere(world: World, target: str) -> None:
    world.provider.knobs(auto_login="ada")
    browser = Browser()
    await browser.navigate(f"{world.app}/")
    page = await browser.link(f"{world.app}/bff/login?{urlencode({'return_to': target})}")
    assert page.url.startswith(f"{world.app}/")
    assert not page.url.startswith((f"{world.app}//", f"{world.app}/\\", f"{world.app}/bff/logout"))
    page = await browser.link(f"{world.app}/bff/login?return_to=/fine%3Fq%3D1")
    assert page.url == f"{world.app}/fine?q=1"


@pytest.mark.row("AUTHZ-8")
@pytest.mark.parametrize(
    "extra",
    ["client_id=evil", "redirect_uri=http://evil.example", "resource=x", "request=x", "state=x", "nonce=x", "return_to=/a&return_to=/b"],
)
async def test_the_login_address_cannot_set_protocol_parameters(world: World, extra: str) -> None:
    answer = await ask("GET", f"{world.app}/bff/login?{extra}", headers=[("Accept", "text/html")])
    if answer.status in (302, 303):
        value = extra.partition("=")[2]
        assert value not in parse_qs(urlsplit(answer.header("location") or "").query).get(extra.partition("=")[0], [])
    else:
        assert answer.status == 400 and not answer.all("set-cookie")


@pytest.mark.row("CSRF-8")
@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")],
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        [("X-CSRF", "1")],
        [("Origin", "https://evil.example")],
    ],
    ids=["fetch", "image", "other-site", "iframe", "header", "origin"],
)
async def test_only_a_navigation_of_our_own_starts_a_login(world: World, headers: list[tuple[str, str]]) -> None:
    answer = await ask("GET", f"{world.app}/bff/login", headers=headers)
    assert answer.status == 403 and not answer.all("set-cookie") and "location" not in dict(answer.headers)
    typed = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")]
    assert (await ask("GET", f"{world.app}/bff/login", headers=typed)).status in (302, 303)


@pytest.mark.row("L7", "RESP-4")
async def test_without_a_session_an_api_call_is_a_401_problem_and_never_a_redirect(world: World) -> None:
    browser = Browser()
    await browser.navigate(f"{world.app}/")
    answer = await browser.fetch("/record/secret")
    problem = answer.json()
    assert answer.status == 401 and answer.header("location") is None and problem["code"] == "unauthenticated" and problem["request_id"]
    assert (answer.header("content-type") or "").startswith("application/problem+json") and not world.recorder.seen


@pytest.mark.row("STEPUP-3", "AUTHZ-8", "AUTHZ-9")
async def test_a_scope_that_few_need_is_asked_for_when_the_app_wishes_it_and_no_other_is(make_world: MakeWorld) -> None:
    usual = [scope for scope in SCOPES if scope != "orders:write"]
    world = make_world(config={"provider": {"scopes": usual, "optional_scopes": ["orders:write"]}})
    browser = await world.signed_in()
    assert (await browser.fetch("/writers/x")).status == 403
    wished = await browser.link(f"{world.app}/bff/login?scope=admin")
    assert wished.status == 400
    browser = Browser()
    assert (await world.sign_in(browser, query="&scope=orders:write")).status == 200
    assert (await browser.fetch("/writers/x")).status == 200


@pytest.mark.row("AUTHZ-8", "AUTHZ-9")
async def test_a_providers_own_parameters_are_in_the_address_that_starts_a_sign_in(make_world: MakeWorld) -> None:
    more = {"access_type": "offline", "prompt": ""}
    world = make_world(config={"provider": {"par": "never", "authorize_parameters": more}})
    typed = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")]
    answer = await ask("GET", f"{world.app}/bff/login", headers=typed)
    sent = parse_qs(urlsplit(answer.header("location") or "").query)
    assert sent["access_type"] == ["offline"] and "prompt" not in sent and "offline_access" in sent["scope"][0]


@pytest.mark.row("SESS-3", "SESS-9")
async def test_behind_a_new_sign_in_the_session_before_it_is_over_at_once(world: World) -> None:
    """The person types a password, so the callback comes without the Strict cookie: the worker that holds the session hears of its end."""
    browser = await world.signed_in()
    before = browser.stolen_copy()
    assert (await before.fetch("/api/orders")).status == 200
    page = await go_through(browser, await browser.link("/bff/login?prompt=login"), person="ada", app=world.app)
    callback = page.hop_to("/bff/callback")
    assert callback.status == 303 and callback.header("bff-ended") is None
    assert (await before.fetch("/api/orders")).status == 401
    assert (await browser.fetch("/api/orders")).status == 200
