"""The command line in this process: what it printed and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bff.cli import run
from bff.session.sealing import KeyRing


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that runs the tests, and a folder of our own."""
    import os

    for name in [name for name in os.environ if name.startswith(("BFF_", "CREDENTIALS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bff(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: str) -> Outcome:
        code = run(arguments)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that is right; its store is SQLite beside it."""
    keys = tmp_path / "keys.json"
    keys.write_text(KeyRing.generate().to_json())
    keys.chmod(0o600)
    path = tmp_path / "bff.toml"
    path.write_text(
        """
        [server]
        public_origin = "http://localhost:8080"
        [provider]
        issuer = "https://id.example.com"
        client_id = "spa"
        client_secret = "canary-5f1d9c3a7b"
        [[routes]]
        path = "/api/"
        upstream = "https://api.internal/"
        """
    )
    path.chmod(0o600)
    return path
