"""openapi.json against the running app, and what every answer carries."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bff.agent.files import load_openapi
from bff.agent.routes import agent_routes
from bff.base.errors import BffError
from bff.base.events import EventKind
from bff.policy.routes import Admission, Upstream
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
