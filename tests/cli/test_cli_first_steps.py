"""What somebody meets on the first day: files that may not be read, ports that may not be opened, what init leaves to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from bff.base.errors import ProviderUnavailable
from bff.oauth.client import Wire, _reason
from tests.cli.conftest import Outcome

Bff = Callable[..., Outcome]
ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(
    ("environment", "argv", "spelled"),
    [
        ({"DEV_STARTED_AS": "python3 ../dev.py bff"}, "/x/bff/__main__.py", "python3 ../dev.py bff"),
        ({}, "/x/bff/__main__.py", f"{Path(sys.executable).name} -m bff"),
        ({}, "/usr/local/bin/bff", "bff"),
    ],
)
def test_init_says_what_works_next_as_it_was_started(
    bff: Bff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], argv: str, spelled: str
) -> None:
    monkeypatch.delenv("DEV_STARTED_AS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [argv])
    outcome = bff("init", "--issuer", "https://id.example.com", "--client-id", "spa", "--output", "my bff")
    steps = outcome.out.partition("Then:")[2].splitlines()
    for number, command in enumerate(("check", "doctor", "serve"), 2):
        assert f"  {number}. {spelled} {command} --config 'my bff/bff.toml'" in steps
    assert "open the app at http://localhost:8080, not at 127.0.0.1" in steps[-1]
    text = (tmp_path / "my bff" / "bff.toml").read_text()
    assert "dev.py" not in text, "the file goes to other machines"
    named = text.splitlines()[0].removeprefix("#:schema ")
    assert json.loads((tmp_path / "my bff" / named).read_text())["title"] == "bff.toml"


def test_dev_py_tells_how_it_was_started(tmp_path: Path) -> None:
    dev = os.path.relpath(ROOT / "dev.py", tmp_path)
    command = [sys.executable, dev, "bff", "init", "--issuer", "https://id.example.com", "--client-id", "spa"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert f"python3 {dev} bff serve --config bff.toml" in done.stdout, done.stderr


@pytest.mark.row("OPS-1")
async def test_the_log_says_why_the_provider_could_not_be_reached() -> None:
    """A ConnectError alone leaves the choice between firewall, certificate and a port that speaks plain http."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    certificate = trustme.CA().issue_cert("localhost")
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(ours)
    for context, told in ((None, r"\(it does not speak TLS there\)"), (ours, r"\(its certificate is not trusted: .+\)")):
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            async with Wire() as wire:
                with pytest.raises(ProviderUnavailable) as caught:
                    await wire.get_json(f"https://localhost:{port}/x")
                assert re.search(told, caught.value.detail), caught.value.detail
    async with Wire() as wire:
        with pytest.raises(ProviderUnavailable) as caught:
            await wire.get_json(f"http://127.0.0.1:{port}/x")
        assert "(Connection refused)" in caught.value.detail
    unknown = httpx.ConnectError("gaierror")
    unknown.__cause__ = socket.gaierror(8, "nodename nor servname provided")
    assert _reason(unknown) == "ConnectError (its name cannot be resolved)", "no errno, which would be another error's"
    assert _reason(httpx.ReadError("closed at once")) == "ReadError"
