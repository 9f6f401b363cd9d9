"""What SIGHUP does not take is known by name: section.key as the file has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bff.settings import Settings
from bff.settings.fixed import fixed_settings
from bff.settings.plan import build_plan
from tests.settings.good import CANARY

Load = Callable[..., Settings]


@pytest.mark.row("OPS-2")
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([], []),
        ([("session", "idle", "29m")], ["session.idle"]),
        ([("session", "idle", "1800s")], []),
        ([("provider", "client_id", "other")], ["provider.client_id"]),
        ([("provider", "client_secret", "another")], ["provider.client_secret"]),
        ([("provider", "scopes", ["openid"]), ("log", "level", "debug")], ["provider.scopes", "log.level"]),
        ([("spa", "csp", "default-src 'self'"), ("forward_auth", "enabled", False)], ["spa.csp", "forward_auth.enabled"]),
        ([("server", "hosts", ["other.example"])], ["server.hosts"]),
        ([("provider", "resources", ["https://a.example"])], ["provider.resources"]),
    ],
)
def test_a_changed_setting_that_only_a_start_takes_is_named(load: Load, changes: list[Any], names: list[str]) -> None:
    assert build_plan(load()).find_fixed_changes(build_plan(load(*changes))) == names


@pytest.mark.row("OPS-2")
def test_what_a_reload_takes_is_not_named(load: Load) -> None:
    taken = [
        (
            "routes",
            [{"path": "/new/", "upstream": "https://new.internal/"}, {"path": "/b/", "upstream": "https://b.internal/", "acr": ["x"]}],
        ),
        ("session", "claims", ["email"]),
        ("provider", "acr_values", ["phr"]),
        ("limits", "max_body", "1MiB"),
        ("forward_auth", "pass_headers", ["X-App"]),
    ]
    newer = build_plan(load(*taken))
    assert build_plan(load()).find_fixed_changes(newer) == []
    assert newer.configured == 2


@pytest.mark.row("OPS-2")
def test_a_secret_rotated_in_its_file_is_named_by_the_file_and_never_shown(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    in_file = (("provider", "client_secret", ...), ("provider", "client_secret_file", "secret"))
    secret.write_text(f"{CANARY}-1\n")
    before = build_plan(load(*in_file))
    secret.write_text(f"{CANARY}-2\n")
    after = build_plan(load(*in_file))
    assert before.find_fixed_changes(after) == ["provider.client_secret_file"]
    assert CANARY.encode() not in b"".join(after.fixed.values())


def test_every_setting_but_the_routes_is_looked_at(load: Load) -> None:
    """A key that somebody adds is either taken at a reload, and listed as such, or named when it changes."""
    settings = load()
    sections = {name.partition(".")[0] for name in fixed_settings(settings, build_plan(settings).provider.identity)}
    assert sections == set(Settings.model_fields) - {"routes", "limits"}
