"""SIGHUP at the agent: all of a plan, or nothing of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from quart import Quart

from bff import agency
from bff.base.errors import ConfigError
from bff.session.sealing import KeyRing


class Noted:
    """Takes every call, and notes it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.calls.append(name)


def reload(folder: Path, monkeypatch: pytest.MonkeyPatch, *, refused: bool) -> tuple[KeyRing, KeyRing, Noted]:
    """The ring in force before and the new one after a reload, and what was called."""
    old, new, noted = KeyRing.generate(), KeyRing.generate(), Noted()
    (folder / "keys.json").write_text(new.to_json())
    plan = SimpleNamespace(
        session=SimpleNamespace(keys_file=str(folder / "keys.json"), claims=None),
        provider=SimpleNamespace(resources=()),
        agent=None,
    )

    def build_table(plan: object) -> None:
        if refused:
            raise ConfigError("two routes at one path")

    monkeypatch.setattr(agency, "build_table", build_table)
    monkeypatch.setattr(agency, "adopt_options", lambda app, options: noted.calls.append("options"))
    parts = SimpleNamespace(shared=SimpleNamespace(ring=old, log=noted), keeper=noted, client=noted, agent=cast(Quart, None))
    agency._reload(cast(Any, parts), cast(Any, SimpleNamespace(read=lambda: plan)))
    return old, new, noted


@pytest.mark.row("F46", "OPS-2")
def test_a_plan_that_workers_refuse_changes_no_key_here_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, new, noted = reload(tmp_path, monkeypatch, refused=True)
    assert ring.kids != new.kids and noted.calls == ["error"]


@pytest.mark.row("F46", "OPS-2")
def test_a_plan_that_can_be_used_is_adopted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, new, noted = reload(tmp_path, monkeypatch, refused=False)
    assert ring.kids == new.kids and noted.calls == ["adopt", "adopt", "options", "forget_all", "info"]
