"""Rows that belong to no single package: what the whole product must refuse, over its sockets, each with a positive twin."""

from __future__ import annotations

import ast
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import bff
from bff.session.sealing import KeyRing
from tests.blackbox.conftest import MakeWorld
from tests.harness.browser import Browser
from tests.harness.http import Answer, address_of, ask
from tests.harness.raw import exchange
from tests.harness.world import World

PACKAGE = Path(bff.__file__).parent
NAVIGATION = (("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html"))
EVIL = "https://evil.example"


async def start_login(world: World, query: str = "") -> Answer:
    return await ask("GET", f"{world.app}/bff/login{query}", headers=list(NAVIGATION))


def login_cookie(answer: Answer) -> str:
    return next(line.split(";")[0] for line in answer.all("set-cookie") if "-login-" in line)


def location_query(answer: Answer) -> dict[str, list[str]]:
    return parse_qs(urlsplit(answer.header("location") or "").query)


@pytest.mark.row("AUTHZ-5", "S9", "S10")
async def test_a_pending_login_with_any_character_changed_is_no_pending_login(make_world: MakeWorld) -> None:
    world = make_world(config={"provider": {"par": "never"}})  # a pushed request hides the state
    start = await start_login(world)
    name, _, value = login_cookie(start).partition("=")
    state = location_query(start)["state"][0]
    before = world.provider.requests("token")
    for place in range(0, len(value), max(1, len(value) // 24)):
        changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
        back = await ask("GET", f"{world.app}/bff/callback?code=x&state={state}", headers=[("Cookie", f"{name}={changed}"), *NAVIGATION])
        assert back.status == 400 and not any("__Host-Http-bff=" in line and "Max-Age=0" not in line for line in back.all("set-cookie"))
    assert world.provider.requests("token") == before
    assert (await world.signed_in()).page is not None


@pytest.mark.row("REV-3", "L11")
async def test_no_message_without_a_session_cookie_or_a_signature_revokes_anything(world: World) -> None:
    browser = await world.signed_in("ben")
    family = world.provider.state()["families"][-1]
    forms = (b"sid=" + family["sid"].encode(), b"logout_token=eyJhbGciOiJub25lIn0.e30.", b"iss=x&sid=y")
    for body in forms:
        for path in ("/bff/logout", "/bff/backchannel-logout"):
            kind = ("Content-Type", "application/x-www-form-urlencoded")
            await ask("POST", f"{world.app}{path}?sid={family['sid']}", headers=[kind], body=body)
        await ask("GET", f"{world.app}/bff/logout?iss={world.provider.issuer}&sid={family['sid']}", headers=list(NAVIGATION))
    assert not world.provider.ledger("revoke") and (await browser.fetch("/bff/user")).status == 200
    assert (await browser.fetch("/bff/logout", method="POST")).status == 200
    world.provider.wait_ledger("revoke")


@pytest.mark.row("PRIV-10", "R5", "R6", "AUTHZ-8")
async def test_no_address_we_send_a_browser_to_holds_more_than_the_protocol_needs(world: World) -> None:
    start = await start_login(world, "?return_to=/orders")
    names = set(location_query(start))
    allowed = {"client_id", "request_uri", "response_type", "redirect_uri", "scope", "state", "nonce", "code_challenge"}
    assert names <= allowed | {"code_challenge_method", "resource", "prompt"}
    browser = await world.signed_in(return_to="/orders?tab=1")
    secrets = world.provider.secrets()
    gone = await browser.fetch("/bff/logout", method="POST")
    urls = [start.header("location") or "", browser.page.url if browser.page else "", gone.json()["logout_url"]]
    assert set(parse_qs(urlsplit(urls[2]).query)) <= {"id_token_hint", "post_logout_redirect_uri", "state", "client_id"}
    hint = parse_qs(urlsplit(urls[2]).query)["id_token_hint"][0]
    assert not [url for url in urls for secret in secrets if secret and secret in url and secret != hint]


@pytest.mark.row("P1", "P2", "ROUTE-8")
@pytest.mark.parametrize("tail", ["?/open/", "?x=/open/", ";/open/", "?next=/open/x", "%3F/open/", "?x=..%2Fopen%2F", "/%23/open/"])
async def test_the_query_never_opens_a_protected_path(world: World, tail: str) -> None:
    answer = await ask("GET", f"{world.app}/record/secret{tail}", headers=[("X-CSRF", "1")])
    assert answer.status in (400, 401) and not world.recorder.seen
    assert (await ask("GET", f"{world.app}/open/x", headers=[("X-CSRF", "1")])).status == 200


@pytest.mark.row("P4", "OPS-4", "K5")
@pytest.mark.parametrize("agent", ["GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Prometheus/2.5", "Envoy/HC"])
async def test_a_probe_by_name_is_a_stranger_like_any_other(world: World, agent: str) -> None:
    for path, wanted in (("/record/x", {401}), ("/bff/user", {401}), ("/healthz", {404}), ("/metrics", {404}), ("/readyz", {404})):
        answer = await ask("GET", f"{world.app}{path}", headers=[("User-Agent", agent), ("X-CSRF", "1")])
        assert answer.status in wanted, (path, answer.status)
    assert not world.recorder.seen
    status, _ = world.product.manage("/healthz")
    assert status == 200


ODD_METHODS = ["get", "Get", "__init__", "TRACE", "CONNECT", "TRACK", "DEBUG", "LOCK", "A" * 300, "GET\x00", "PUT", "PATCH"]


@pytest.mark.row("P14", "ROUTE-3")
@pytest.mark.parametrize("path", ["/bff/login", "/bff/logout", "/bff/user", "/bff/callback", "/bff/backchannel-logout", "/bff/client.js"])
async def test_an_odd_method_does_nothing_at_our_own_paths(world: World, ada: Browser, path: str) -> None:
    cookie = ada.jar.header(f"{world.app}/", initiator=f"{world.app}/", navigation=False)
    host = urlsplit(world.app).netloc
    for method in ODD_METHODS:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nX-CSRF: 1\r\nConnection: close\r\n\r\n"
        outcome = await exchange(address_of(world.app), [head.encode()], wait_s=3)
        assert len(outcome.statuses) == 1 and outcome.statuses[0] in (400, 405, 501), (method, outcome.statuses)
    for method in ("GET", "HEAD"):
        answer = await ask(method, f"{world.app}/bff/logout", headers=[("Cookie", cookie), ("X-CSRF", "1")])
        assert answer.status == 405
    assert (await ada.fetch("/bff/user")).status == 200


@pytest.mark.row("P15", "S9", "K6", "ZTA-1")
async def test_each_secret_opens_its_own_door_alone(world: World, ada: Browser) -> None:
    ticket = ada.jar.get("__Host-Http-bff") or ""
    admin = KeyRing.from_json((world.folder / "keys.json").read_text()).admin_token()
    token = world.provider.secrets()[0]
    for value in (admin, token, ticket):
        as_cookie = await ask("GET", f"{world.app}/bff/user", headers=[("Cookie", f"__Host-Http-bff={value}"), ("X-CSRF", "1")])
        as_bearer = await ask("GET", f"{world.app}/bff/user", headers=[("Authorization", f"Bearer {value}"), ("X-CSRF", "1")])
        assert as_cookie.status == (200 if value == ticket else 401) and as_bearer.status == 401
        manage = f"http://127.0.0.1:{world.product.manage_port}/sessions"
        listed = await ask("GET", manage, headers=[("Authorization", f"Bearer {value}")])
        assert listed.status == (200 if value == admin else 401)


@pytest.mark.row("R8", "R9", "R3", "SECH-3")
async def test_redirects_have_no_body_and_errors_never_redirect(world: World) -> None:
    start = await start_login(world)
    assert start.status == 302 and start.body == b"" and start.header("referrer-policy") == "no-referrer"
    for query in ("", "?state=x&code=y", "?error=access_denied&state=x", f"?state=x&code=y&redirect_uri={EVIL}", "?code=a&code=b&state=x"):
        wrong = await ask("GET", f"{world.app}/bff/callback{query}", headers=list(NAVIGATION))
        assert wrong.status == 400 and wrong.header("location") is None and wrong.header("x-content-type-options") == "nosniff"


@pytest.mark.row("R11", "R1", "RPLO-2", "REDIR-4")
@pytest.mark.parametrize("name", ["return_to", "returnUrl", "redirect_uri", "post_logout_redirect_uri", "rd", "target_link_uri"])
async def test_no_parameter_of_any_endpoint_moves_a_browser_off_our_origin(world: World, ada: Browser, name: str) -> None:
    own = (world.app, world.provider.issuer)
    for target in (EVIL, "//evil.example", "/\\evil.example", "https:evil.example", "/%09/evil.example", f"{world.app}@evil.example"):
        for path in ("/bff/login", "/bff/callback", "/bff/logout", "/bff/user", "/", "/bff/client.js", "/bff/openapi.json"):
            answer = await ask("GET", f"{world.app}{path}?{name}={target}", headers=list(NAVIGATION))
            place = answer.header("location") or "/"
            assert place.startswith((*own, "/")) and not place.startswith(("//", "/\\")), (path, place)
            query = parse_qs(urlsplit(place).query)
            assert query.get("redirect_uri", [f"{world.app}/bff/callback"]) == [f"{world.app}/bff/callback"]


@pytest.mark.row("L12", "F16")
async def test_a_hundred_started_logins_leave_nothing_on_the_server(world: World) -> None:
    size = (world.folder / "sessions.db").stat().st_size
    for _ in range(100):
        assert (await start_login(world)).status == 302
    assert (world.folder / "sessions.db").stat().st_size <= size + 65536
    assert (await world.signed_in()).page is not None


@pytest.mark.row("D3", "REQH-16", "D10")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /record/x HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"X-{i}: 1\r\n" for i in range(2000)) + "\r\n", 431),
        ("GET /record/x HTTP/1.1\r\nHost: {host}\r\nX-A: " + "a" * 100_000 + "\r\n\r\n", 431),
        ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: {host}\r\n\r\n", 414),
        ("GET /record/x HTTP/1.1\r\nHost: {host}\r\nX-CSRF: 1\r\n\r\n", 401),
    ],
    ids=["2000 lines", "100 KB line", "70 KB target", "an ordinary head"],
)
async def test_a_head_beyond_the_bounds_is_refused_at_once(world: World, head: str, status: int) -> None:
    text = head.replace("{host}", urlsplit(world.app).netloc).encode()
    outcome = await exchange(address_of(world.app), [text], wait_s=3)
    assert outcome.statuses[:1] == [status] and not world.recorder.seen
    assert max(map(len, world.product.logs.splitlines())) < 4096


@pytest.mark.row("D13")
def test_no_check_of_ours_is_an_assert() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not found


@pytest.mark.row("F23", "CACHE-3")
async def test_asking_again_and_again_changes_nothing(world: World, ada: Browser) -> None:
    first = (await ada.fetch("/bff/user")).json()
    for _ in range(10):
        answer = await ada.fetch("/bff/user")
        assert answer.status == 200 and not answer.all("set-cookie") and "no-store" in (answer.header("cache-control") or "")
        assert {k: v for k, v in answer.json().items() if k != "session"} == {k: v for k, v in first.items() if k != "session"}
        assert (await ada.fetch("/bff/openapi.json")).status == 200 and (await ada.fetch("/bff/client.js")).status == 200


@pytest.mark.row("C12", "C7")
async def test_workers_never_hand_out_the_same_random_value(two_workers: World) -> None:
    starts = [await start_login(two_workers) for _ in range(60)]
    cookies = {login_cookie(start) for start in starts}
    places = {start.header("location") for start in starts}
    assert len(cookies) == 60 and len(places) == 60
    ids = {start.header("x-request-id") for start in starts if start.header("x-request-id")}
    assert len(ids) in (0, 60)
