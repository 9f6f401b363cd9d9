"""What somebody meets on the first day: files that may not be read, ports that may not be opened, what init leaves to do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome

Bff = Callable[..., Outcome]


@pytest.mark.row("OPS-1")
def test_a_key_ring_that_may_not_be_read_is_not_to_be_replaced(bff: Bff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bff("keys", "new", "ring.json").code == 0

    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    outcome = bff("keys", "rotate", "ring.json")
    assert outcome.code == 78 and "correct its owner or mode" in outcome.err and "keys new" not in outcome.err
    assert str(tmp_path / "ring.json") in outcome.err


@pytest.mark.row("K9")
def test_check_warns_of_a_secret_in_a_file_that_everybody_can_read(bff: Bff, config: Path) -> None:
    assert bff("check").err == ""
    config.chmod(0o644)
    outcome = bff("check")
    assert outcome.code == 0 and "1 warning" in outcome.out
    assert outcome.err.startswith("warn  provider.client_secret: stands in ") and "chmod 600" in outcome.err
