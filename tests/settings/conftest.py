"""A configuration that is right, to be spoiled one value at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bff.base.errors import ConfigError
from bff.session.sealing import KeyRing
from bff.settings import Settings, load_settings
from tests.settings.good import GOOD, to_toml


@pytest.fixture(scope="session")
def ring_text() -> str:
    return KeyRing.generate().to_json()


@pytest.fixture
def load(tmp_path: Path, ring_text: str) -> Callable[..., Settings]:
    """Load GOOD with changes: ``load(("server", "workers", 2), env={...})``; value ``...`` removes the key."""
    keys = tmp_path / "keys.json"
    keys.write_text(ring_text)
    keys.chmod(0o600)

    def run(*changes: tuple[Any, ...], env: Mapping[str, str] | None = None) -> Settings:
        raw = copy.deepcopy(GOOD)
        for *place, value in changes:
            holder: Any = raw
            for part in place[:-1]:
                holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder[part]
            if value is ...:
                holder.pop(place[-1])
            else:
                holder[place[-1]] = value
        (tmp_path / "bff.toml").write_text(to_toml(raw))
        return load_settings(tmp_path / "bff.toml", {"BFF_SECRETS_DIR": str(tmp_path), **(env or {})})

    return run


@pytest.fixture
def problems(load: Callable[..., Settings]) -> Callable[..., list[str]]:
    """The problems of GOOD with changes; an empty list if there are none."""

    def run(*changes: tuple[Any, ...], env: Mapping[str, str] | None = None) -> list[str]:
        try:
            load(*changes, env=env)
        except ConfigError as error:
            return list(error.problems)
        return []

    return run
