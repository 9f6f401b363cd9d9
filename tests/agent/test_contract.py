"""openapi.json against the running app, and what every answer carries."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from bff.agent.app import _HANDLERS, _READ_THE_REQUEST
from bff.agent.files import load_openapi
from bff.agent.routes import MAX_BODY_BYTES, agent_routes
from bff.base.errors import BffError, StoreUnavailable
from bff.base.events import EventKind
from bff.policy.handoff import Handed
from bff.policy.routes import Admission, Upstream
from bff.policy.verdict import Admitted
from tests.agent.world import World


def document(prefix: str = "/bff") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(load_openapi(prefix))
    return loaded


def test_the_description_and_the_routes_name_the_same_paths_and_methods() -> None:
    described = {(path, method.upper()) for path, row in document("/auth")["paths"].items() for method in row}
    served = {(r.path, m) for r in agent_routes("/auth", spa=False) for m in r.methods if m != "HEAD"}
    assert described == served


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/bff/login", 302),
        ("GET", "/bff/login?nope=1", 400),
        ("GET", "/bff/callback", 400),
        ("GET", "/bff/user", 401),
        ("GET", "/bff/sessions", 401),
        ("POST", "/bff/sessions/end", 401),
        ("POST", "/bff/logout", 200),
        ("POST", "/bff/backchannel-logout", 400),
        ("GET", "/bff/client.js", 200),
        ("GET", "/bff/openapi.json", 200),
    ],
)
@pytest.mark.row("SECH-1", "SECH-2", "SECH-3", "CACHE-3")
async def test_each_answer_is_described_and_carries_the_protecting_fields(world: World, method: str, path: str, status: int) -> None:
    answer = await world.ask(method, path, page=False)
    row = document()["paths"][path.partition("?")[0]][method.lower()]
    assert answer.status_code == status
    assert str(status) in row["responses"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert answer.headers["Cache-Control"] == ("no-cache" if path.endswith(("js", "json")) else "no-store")
    if answer.content_type == "application/problem+json; charset=utf-8":
        _fits_problem(await answer.get_json(force=True), document()["components"]["schemas"]["Problem"])


def _fits_problem(body: dict[str, Any], schema: dict[str, Any]) -> None:
    assert set(schema["required"]) <= body.keys() <= schema["properties"].keys()
    kinds = {"string": str, "integer": int}
    for name, value in body.items():
        assert isinstance(value, kinds[schema["properties"][name]["type"]]), name


async def test_hsts_is_for_https_alone() -> None:
    base = World()
    plain = World(options=dataclasses.replace(base.options, public_origin="http://localhost:8080"))
    assert "Strict-Transport-Security" not in (await plain.ask("GET", "/bff/user", page=False)).headers


async def test_whoever_comes_without_the_doors_word_gets_nothing(world: World) -> None:
    client = world.app.test_client()
    for headers in ({}, {"bff-handoff": "guess"}, {"bff-handoff": ""}):
        answer = await client.get("/bff/login", headers=headers)
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers
    assert world.client.begun == []


async def test_the_doors_word_counts_once(world: World) -> None:
    await world.ask("GET", "/bff/login")
    assert (await world.app.test_client().get("/bff/login", headers={"bff-handoff": "token-0"})).status_code == 403


async def test_the_handler_is_chosen_by_the_judged_route_and_not_by_the_second_parse(world: World) -> None:
    user_route = world.routes["/bff/user"]
    answer = await world.ask("GET", "/bff/login", page=False, change=lambda a: dataclasses.replace(a, route=user_route))
    assert answer.status_code == 401 and world.client.begun == []


@pytest.mark.row("OPS-3", "PRIV-1")
async def test_any_exception_becomes_the_general_error_without_its_text(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.client.failure = RuntimeError("code=CANARY")
    answer = await world.ask("GET", "/bff/login", page=False)
    body = await answer.get_json(force=True)
    assert answer.status_code == 500 and body["code"] == BffError.code
    assert "CANARY" not in json.dumps(body) + caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.row("OPS-3", "PRIV-1")
async def test_a_verdict_that_cannot_be_read_for_a_reason_of_ours_is_the_general_error(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then what the browser can show: problem or page."""

    secret = "CAN" + "ARY"  # a traceback shows the line that raised

    def fails(note: bytes) -> None:
        raise KeyError(secret)

    monkeypatch.setattr(world.handoff, "read", fails)
    answer = await world.ask("GET", "/bff/user")
    assert (answer.status_code, await answer.get_json()) == (500, {"code": BffError.code})
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"
    assert "CANARY" not in caplog.text and "KeyError" in caplog.text


@pytest.mark.row("F14", "CB-4")
@pytest.mark.parametrize("page", [True, False])
async def test_a_session_that_cannot_be_looked_up_is_a_503_in_the_shape_that_was_asked_for(
    world: World, page: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(handed: Handed) -> Admitted:
        raise StoreUnavailable("CANARY")

    monkeypatch.setattr(world.handoff, "seat", fails)
    answer = await world.ask("GET", "/bff/login", page=page)
    assert answer.status_code == 503 and answer.headers["BFF-Error"] == StoreUnavailable.code
    assert answer.content_type.startswith("text/html" if page else "application/problem+json")
    assert answer.headers["Retry-After"] and "CANARY" not in await answer.get_data(as_text=True)
    assert "Set-Cookie" not in answer.headers and world.client.begun == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "DELETE", "PROPFIND", "TRACE"])
@pytest.mark.parametrize("path", ["/bff/login", "/bff/client.js"])
async def test_the_method_that_counts_is_the_judged_one(world: World, path: str, method: str) -> None:
    """Whatever stands in the second request line: no handler of another method runs, and nothing is answered in its place."""
    other = {"POST": "GET"}.get(method, "POST")
    answer = await world.ask(
        other, path, page=False, change=lambda a: dataclasses.replace(a, facts=dataclasses.replace(a.facts, method=method))
    )
    served = method in world.route(path).methods
    assert (answer.status_code == 404 and answer.headers["BFF-Error"] == "route_unknown") is not served
    assert "Allow" not in answer.headers and "Set-Cookie" not in answer.headers and world.client.begun == []


async def test_a_method_that_the_framework_does_not_know_is_no_failure(world: World) -> None:
    answer = await world.ask("PROPFIND", "/bff/login", page=False)
    assert answer.status_code == 404 and answer.headers["BFF-Error"] == "route_unknown"


async def test_no_path_makes_the_framework_redirect_or_refuse(world: World) -> None:
    """Its own router would put a slash right, and answer with a Location made of the path (R3)."""
    user_route = world.routes["/bff/user"]
    for target in ("//evil.test/x", "/a//b/", "/bff/login/", "/%2e%2e/x"):
        answer = await world.ask("GET", target, page=False, change=lambda a: dataclasses.replace(a, route=user_route))
        assert answer.status_code == 401 and "Location" not in answer.headers, target


@pytest.mark.row("BODY-3")
async def test_a_body_over_the_bound_is_refused_where_one_is_read_and_nothing_comes_of_it(world: World) -> None:
    live = world.keeper.add("a")
    world.keeper.add("b")
    body = json.dumps({"others": True}).encode().ljust(MAX_BODY_BYTES + 1)
    answer = await world.ask("POST", "/bff/sessions/end", live=live, page=False, body=body, content_type="application/json")
    assert answer.status_code == 413 and (await answer.get_json(force=True))["code"] == "body_too_large"
    assert answer.headers["Cache-Control"] == "no-store"
    assert world.keeper.ended == []
    just = await world.ask("POST", "/bff/sessions/end", live=live, page=False, body=body[:-1], content_type="application/json")
    assert (await just.get_json()) == {"ended": 1}


def test_the_app_bounds_bodies_by_size_and_time(world: World) -> None:
    assert world.app.config["MAX_CONTENT_LENGTH"] == MAX_BODY_BYTES
    assert world.app.config["BODY_TIMEOUT"] == 20


async def test_whoever_reads_the_frameworks_request_is_given_it() -> None:
    """A handler that is not on the list would fail at its first look, on a path that no test may take."""
    reading = {name for name, handler in _HANDLERS.items() if _reads_request(handler)}
    assert reading <= _READ_THE_REQUEST and {"bff.sessions-end", "bff.backchannel-logout"} <= reading


def _reads_request(handler: Callable[..., Any]) -> bool:
    """Whether ``handler``, or a function of its own module that it names, names Quart's request or what needs one."""
    names = {"request", "send_file"}
    seen: set[str] = set()
    left = [handler.__code__]
    space = handler.__globals__
    while left:
        code = left.pop()
        if names.intersection(code.co_names):
            return True
        for name in set(code.co_names) - seen:
            seen.add(name)
            found = space.get(name)
            if isinstance(found, FunctionType) and found.__module__ == handler.__module__:
                left.append(found.__code__)
    return False


async def test_a_cancelled_call_has_no_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops takes its calls with it: they must not be turned into errors that somebody then answers and logs."""
    waits = asyncio.Event()

    async def forever(**wish: Any) -> Any:
        waits.set()
        await asyncio.Event().wait()

    world.client.begin_login = forever  # type: ignore[method-assign]
    call = asyncio.ensure_future(world.ask("GET", "/bff/login"))
    await waits.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert caplog.records == []


@pytest.mark.row("PRIV-6", "PRIV-7")
async def test_events_name_people_by_pseudonym(world: World) -> None:
    live = world.keeper.add("a")
    await world.ask("POST", "/bff/logout", live=live, page=False)
    event = next(e for e in world.events if e.kind is EventKind.LOGOUT)
    assert (event.session, event.subject, event.request_id, event.route) == ("P(session)", "P(subject)", "req-1", "bff.logout")
    assert "alice" not in repr(event)


@pytest.mark.row("ARCH-6", "CSRF-8", "CSRF-9")
def test_each_path_is_admitted_the_way_it_needs() -> None:
    kinds = {route.path: route.admission for route in agent_routes()}
    assert kinds["/bff/login"] is Admission.NAVIGATION
    assert kinds["/bff/callback"] is Admission.RETURN_NAVIGATION
    assert kinds["/bff/logout"] is Admission.FORM
    assert kinds["/bff/backchannel-logout"] is Admission.MACHINE
    assert {kinds[path] for path in ("/bff/user", "/bff/sessions", "/bff/sessions/end")} == {Admission.API}
    assert {kinds[path] for path in ("/", "/bff/client.js", "/bff/openapi.json")} == {Admission.OPEN}


def test_a_development_server_can_serve_the_spa_instead() -> None:
    vite = Upstream("http", "127.0.0.1", 5173)
    assert agent_routes(spa_upstream=vite)[-1].upstream == vite
    assert all(route.path != "/" for route in agent_routes(spa=False))
