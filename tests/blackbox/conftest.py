"""Worlds for the black-box tests. One shared world for what leaves no trace; a world of its own for what breaks things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.background import Background
from tests.harness.browser import Browser, Page
from tests.harness.http import Answer
from tests.harness.jar import Jar
from tests.harness.world import World, build_world

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[World]:
    made = build_world(tmp_path_factory.mktemp("world"), background)
    yield made
    made.stop()


@pytest.fixture
def world(shared_world: World) -> World:
    """The shared world with all knobs turned back and an empty ledger. Sessions of other tests are still there: count your own."""
    shared_world.quiet()
    return shared_world


@pytest.fixture(scope="session")
def adas_jar(shared_world: World) -> Jar:
    """One sign-in for all tests that only need somebody signed in."""
    return asyncio.run(shared_world.signed_in("ada")).jar


@pytest.fixture
def ada(world: World, adas_jar: Jar) -> Browser:
    """Ada's browser, showing the app. Do not sign her out here."""
    browser = Browser(adas_jar.copy())
    browser.page = Page(f"{world.app}/", Answer(200, (), b""))
    return browser


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, background: Background) -> Iterator[World]:
    """A world whose product has two workers on one SQLite file."""
    made = build_world(tmp_path_factory.mktemp("two"), background, config={"server": {"workers": 2, "grace": "3s"}})
    made.product.wait_workers(2)
    yield made
    made.stop()


@pytest.fixture
def make_world(tmp_path: Path, background: Background) -> Iterator[MakeWorld]:
    """Builds a world of the test's own: ``make_world(config={"server": {"workers": 2}})``."""
    made: list[World] = []

    def build(**how: Any) -> World:
        folder = tmp_path / f"world-{len(made)}"
        folder.mkdir()
        made.append(build_world(folder, background, **how))
        return made[-1]

    yield build
    for one in made:
        one.stop()
