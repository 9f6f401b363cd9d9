"""Behind nginx, Envoy, Traefik, Caddy and HAProxy with the configuration we print: the verdict is the door's."""

from __future__ import annotations

import itertools

import pytest

from tests.forward_auth.fronts import FrontProxy
from tests.forward_auth.judging import Door, through
from tests.harness.http import HeaderList
from tests.harness.jar import Jar
from tests.harness.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
SAMPLES: list[dict[str, str]] = [
    {**OWN, "X-CSRF": "1"},
    {**OWN},
    {**OWN, "X-CSRF": "0"},
    {**OWN, "X-CSRF": "1", "Origin": "{app}"},
    {**OWN, "X-CSRF": "1", "Origin": "null"},
    {**OWN, "X-CSRF": "1", "Origin": "{app}.evil.example"},
    {**OWN, "X-CSRF": "1", "Sec-Fetch-Site": "same-site"},
    {**OWN, "X-CSRF": "1", "Sec-Fetch-Site": "cross-site"},
    {**OWN, "X-CSRF": "1", "Sec-Fetch-Site": "none"},
    {**OWN, "X-CSRF": "1", "Sec-Fetch-Dest": "script"},
    {**OWN, "X-CSRF": "1", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"X-CSRF": "1"},
    {"X-CSRF": "1", "Origin": "{app}"},
    {"X-CSRF": "1", "Origin": "https://evil.example"},
    {"X-CSRF": "1", "Referer": "https://evil.example/"},
    {"X-CSRF": "1", "Referer": "{app}/page"},
    {"Origin": "{app}"},
    {},
]


def filled(sample: dict[str, str], world: World, cookie: str) -> HeaderList:
    headers = [(name, value.replace("{app}", world.app)) for name, value in sample.items()]
    return [*headers, *([("Cookie", cookie)] if cookie else [])]


@pytest.mark.row("CSRF-1", "CSRF-2", "CSRF-3", "CSRF-4", "CSRF-5", "ZTA-2")
async def test_the_admission_truth_table_is_the_doors(front: FrontProxy, world: World, adas_jar: Jar, door: Door) -> None:
    cookie = adas_jar.header(f"{world.app}/")
    different = []
    for method, sample, sent in itertools.product(METHODS, SAMPLES, (cookie, "")):
        body = b'{"a":1}' if method in ("POST", "PUT", "PATCH") else None
        headers = filled(sample, world, sent)
        wanted = await door.meaning(world, method, "/record/x?y=%2F&z", headers, body)
        here = await through(front, world, method, "/record/x?y=%2F&z", headers, body)
        if wanted != here.meaning:
            different.append((method, sample, bool(sent), wanted, here.meaning))
    assert different == []


ELSEWHERE = ["/open/x", "/machine/x", "/writers/x", "/fresh/x", "/sales/x", "/region/x", "/other/x", "/returning/x", "/get/x", "/exact",
             "/exact/", "/exact?x=1", "/record", "/record/", "/recordx", "/api/payments", "/api/orders", "/api/orders/", "/api/ordersx",
             "/gone/x", "/nowhere", "/", "/bff/user", "/bff/nothing", "/bff/login"]  # fmt: skip


@pytest.mark.row("ROUTE-1", "ROUTE-7", "ROUTE-8", "ROUTE-12", "ZTA-2")
async def test_every_kind_of_route_gets_the_doors_verdict(front: FrontProxy, world: World, adas_jar: Jar, door: Door) -> None:
    cookie = adas_jar.header(f"{world.app}/")
    different = []
    for target, method, sent in itertools.product(ELSEWHERE, ("GET", "POST"), (cookie, "", "__Host-Http-bff=forged")):
        headers = filled({**OWN, "X-CSRF": "1"}, world, sent)
        body = b"{}" if method == "POST" else None
        wanted = await door.meaning(world, method, target, headers, body)
        here = await through(front, world, method, target, headers, body)
        # An API that is down is told in the front proxy's own way.
        if target == "/gone/x" and wanted[0] == 502:
            assert here.answer.status in (502, 503), here.answer
        elif wanted != here.meaning:
            different.append((target, method, sent[:24], wanted, here.meaning))
    assert different == []


@pytest.mark.row("K8", "COOKIE-21")
async def test_a_refused_cookie_is_cleared_and_the_problem_is_readable(front: FrontProxy, world: World) -> None:
    headers = filled({**OWN, "X-CSRF": "1"}, world, "__Host-Http-bff=forged")
    answer = (await through(front, world, "GET", "/record/x", headers)).answer
    assert answer.status == 401 and answer.code == "unauthenticated"
    assert answer.json()["login_url"] == "/bff/login" and answer.json()["request_id"]
    assert (answer.header("content-type") or "").startswith("application/problem+json")
    assert any(value.startswith("__Host-Http-bff=;") for value in answer.all("set-cookie"))


@pytest.mark.row("STEPUP-1")
async def test_a_step_up_reaches_the_app(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    headers = filled({**OWN, "X-CSRF": "1"}, world, adas_jar.header(f"{world.app}/"))
    answer = (await through(front, world, "GET", "/api/payments", headers)).answer
    assert answer.status == 401 and answer.json()["step_up"]["acr_values"] == ["mfa"]


@pytest.mark.row("REQH-15")
async def test_options_at_its_last_hop_is_never_taken_for_a_yes(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    headers = [*filled({**OWN, "X-CSRF": "1"}, world, adas_jar.header(f"{world.app}/")), ("Max-Forwards", "0")]
    here = await through(front, world, "OPTIONS", "/record/x", headers)
    assert not here.seen and here.answer.status in (204, 403, 200)


async def test_a_large_body_goes_to_the_api_and_not_to_us(front: FrontProxy, world: World, adas_jar: Jar) -> None:
    """The endpoint refuses a question with a body, so a yes shows that none was sent."""
    headers = filled({**OWN, "X-CSRF": "1"}, world, adas_jar.header(f"{world.app}/"))
    body = bytes(range(256)) * 8192
    here = await through(front, world, "POST", "/record/x", headers, body)
    assert here.answer.status == 200 and here.seen[0].body == body
