from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.oauth.scripted_provider import World


@pytest.fixture
async def build_world() -> AsyncIterator[Callable[..., World]]:
    worlds: list[World] = []

    def build(**options: Any) -> World:
        worlds.append(World(**options))
        return worlds[-1]

    yield build
    for world in worlds:
        await world.directory.close()
        await world.wire.close()


@pytest.fixture
def world(build_world: Callable[..., World]) -> World:
    return build_world()
