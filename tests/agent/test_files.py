from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.agent.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    web = tmp_path / "web"
    (web / "assets").mkdir(parents=True)
    (web / "index.html").write_text("<!doctype html><title>SPA</title>")
    (web / "app.js").write_text("export {};")
    (web / "assets" / "app-3f9a1c2b.js").write_text("export {};")
    (web / "with space.css").write_text("b{}")
    (web / ".env").write_text("SECRET")
    (tmp_path / "outside.txt").write_text("OUTSIDE")
    (web / "link.txt").symlink_to(tmp_path / "outside.txt")
    base = World()
    return World(options=dataclasses.replace(base.options, spa_directory=web))


@pytest.mark.row("COOKIE-8", "SECH-1", "SECH-2", "SECH-3", "SECH-4", "PRIV-9")
async def test_the_index_is_for_everybody_under_a_strict_policy_and_sets_no_cookie(world: World) -> None:
    answer = await world.ask("GET", "/")
    assert answer.status_code == 200 and "SPA" in await answer.get_data(as_text=True)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "https:" not in policy
    for rule in ("default-src 'none'", "script-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "wss://app.example.test" in policy
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert answer.headers["Cache-Control"] == "no-cache" and "Expires" not in answer.headers
    assert not answer.headers.getlist("Set-Cookie")


async def test_a_policy_of_ones_own_takes_the_place_of_the_strict_one(world: World) -> None:
    own = "default-src 'self' https://fonts.example"
    other = World(options=dataclasses.replace(world.options, spa_csp=own))
    for path in ("/", "/app.js"):
        assert (await other.ask("GET", path)).headers.getlist("Content-Security-Policy") == [own]


async def test_a_deep_link_gets_the_index_and_a_missing_file_gets_a_404(world: World) -> None:
    assert (await world.ask("GET", "/orders/7")).status_code == 200
    assert (await world.ask("GET", "/orders/7", page=False)).status_code == 404
    assert (await world.ask("GET", "/gone.js")).status_code == 404
    assert (await world.ask("GET", "/gone.js", page=False)).content_type == "application/problem+json; charset=utf-8"


async def test_files_have_the_type_a_browser_needs_and_hashed_names_are_kept(world: World) -> None:
    answer = await world.ask("GET", "/app.js", page=False)
    assert answer.headers["Content-Type"].startswith("text/javascript") and answer.headers["Cache-Control"] == "no-cache"
    hashed = await world.ask("GET", "/assets/app-3f9a1c2b.js", page=False)
    assert "immutable" in hashed.headers["Cache-Control"]
    assert (await world.ask("GET", "/with%20space.css", page=False)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/.env", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/link.txt", "/assets/", "/%00", "/%ff", "/assets/..%5c..%5coutside.txt"],
)
async def test_nothing_outside_the_directory_and_no_dot_file_is_served(world: World, path: str) -> None:
    answer = await world.ask("GET", path, page=False)
    assert answer.status_code == 404
    text = await answer.get_data(as_text=True)
    assert "OUTSIDE" not in text and "SECRET" not in text


@pytest.mark.parametrize("path", ["/" + "a" * 256, "/" + "a" * 8000, "/assets/" + "a" * 300, "/" + "a/" * 4000 + "b"])
async def test_a_name_longer_than_any_files_is_a_route_of_the_app_or_a_404(world: World, path: str) -> None:
    assert (await world.ask("GET", path)).status_code == 200
    assert (await world.ask("GET", path, page=False)).status_code == 404


@pytest.mark.row("R3")
@pytest.mark.parametrize("path", ["/orders/", "/app.js/", "/bff/user/", "//evil.test"])
async def test_a_slash_is_never_repaired_by_a_redirect(world: World, path: str) -> None:
    answer = await world.ask("GET", path)
    assert answer.status_code in (200, 404) and "Location" not in answer.headers


@pytest.mark.row("RPLO-3")
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("state=logout-state./.signed", 303),
        ("state=forged", 200),
        ("state=logout-state.//evil.test.signed", 200),
        ("state=other.x.signed", 200),
        ("x=1", 200),
    ],
)
async def test_coming_back_from_the_providers_logout_acts_on_our_own_state_alone(world: World, query: str, status: int) -> None:
    answer = await world.ask("GET", f"/?{query}")
    assert answer.status_code == status
    assert answer.headers.get("Location", "/") == "/"


async def test_without_a_directory_there_are_no_files() -> None:
    assert (await World().ask("GET", "/")).status_code == 404


async def test_the_helper_is_served_and_revalidates(world: World) -> None:
    answer = await world.ask("GET", "/bff/client.js", page=False)
    text = await answer.get_data(as_text=True)
    assert answer.status_code == 200 and "export function createBff" in text
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert answer.headers["ETag"] and answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/app.js", "/bff/client.js"])
@pytest.mark.parametrize("ranged", ["bytes=-5", "bytes=-100000", "bytes=9-1", "bytes=0-1,3-4", "items=0-1", "bytes=", "bytes=1", "5"])
async def test_a_range_that_we_do_not_serve_is_none(world: World, path: str, ranged: str) -> None:
    """RFC 9110 §14.2: a server may ignore it. The framework answered one that counts from the end with a failure."""
    answer = await world.ask("GET", path, page=False, ranged=ranged)
    assert answer.status_code == 200
    assert await answer.get_data() == await (await world.ask("GET", path, page=False)).get_data()


@pytest.mark.parametrize("path", ["/app.js", "/bff/client.js"])
async def test_a_range_from_a_first_byte_is_served_and_one_behind_the_end_is_not(world: World, path: str) -> None:
    whole = bytes(await (await world.ask("GET", path, page=False)).get_data(as_text=False))
    answer = await world.ask("GET", path, page=False, ranged="bytes=2-5")
    assert (answer.status_code, await answer.get_data(as_text=False)) == (206, whole[2:6])
    assert answer.headers["Content-Range"] == f"bytes 2-5/{len(whole)}"
    rest = await world.ask("GET", path, page=False, ranged="bytes=3-")
    assert (rest.status_code, await rest.get_data(as_text=False)) == (206, whole[3:])
    assert (await world.ask("GET", path, page=False, ranged="bytes=9999999-")).status_code == 416


@pytest.mark.row("ARCH-3")
async def test_the_helper_has_no_way_to_a_token(world: World) -> None:
    text = await (await world.ask("GET", "/bff/client.js", page=False)).get_data(as_text=True)
    assert "access_token" not in text and "getToken" not in text and "localStorage" not in text
