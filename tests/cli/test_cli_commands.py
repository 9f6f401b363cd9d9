"""The commands: exit codes, two-line errors, files they write."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bff import serve, supervised
from bff.base.errors import BffError, ConfigError, ProviderUnavailable, StoreUnavailable
from bff.cli import options
from bff.cli.report import Stop, guarded
from bff.session.sealing import KeyRing
from bff.settings import load_settings
from tests.cli.conftest import Outcome

Bff = Callable[..., Outcome]
ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-5f1d9c3a7b"


def is_two_lines(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) == 2 and lines[0].startswith("bff: ") and lines[1].startswith("     fix: ") and len(lines[1]) > 12


@pytest.mark.row("OPS-1")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "--config", "none.toml"], 78),
        (["serve", "--check", "--config", "none.toml"], 78),
        (["check", "--config", "none.toml"], 78),
        (["doctor", "--config", "none.toml"], 78),
        (["sessions", "list", "--config", "none.toml"], 78),
        (["sessions", "end"], 2),
        (["sessions", "end", "--session", "a", "--subject", "b"], 2),
        (["serve", "--confgi", "x"], 2),
        (["srve"], 2),
        (["front-proxy", "nginx", "--config", "none.toml"], 78),
        (["front-proxy", "iis"], 2),
        (["init"], 2),
        (["keys", "rotate", "--file", "none.json"], 78),
        (["keys", "rotate", "--drop-older", "300x"], 2),
        (["demo", "--port", "70000"], 2),
    ],
)
def test_an_error_is_two_lines_and_a_code(bff: Bff, arguments: list[str], code: int) -> None:
    """OPS-1: what, and what to do."""
    outcome = bff(*arguments)
    assert outcome.code == code
    assert is_two_lines(outcome.err), outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.row("OPS-1", "OPS-3")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("locked"), 69),
        (ProviderUnavailable("refused"), 69),
        (BffError("x"), 75),
        (OSError(errno.EADDRINUSE, "Address already in use"), 69),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 75),
        (RuntimeError(CANARY), 75),
        (Stop(69, "what is wrong", "what to do"), 69),
    ],
)
def test_whatever_is_raised_ends_in_two_lines(capsys: pytest.CaptureFixture[str], error: Exception, code: int) -> None:
    """OPS-3: the last resort; an unexpected error's text is not shown, it could hold anything."""

    def command() -> int:
        raise error

    assert guarded(command, debug=False) == code
    printed = capsys.readouterr()
    assert is_two_lines(printed.err)
    assert CANARY not in printed.err
    guarded(command, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for it either."""

    def command() -> int:
        raise KeyboardInterrupt

    assert guarded(command, debug=False) == 75
    assert capsys.readouterr().err == ""


@pytest.mark.row("PRIV-8")
def test_outside_text_cannot_move_the_cursor(bff: Bff) -> None:
    """PRIV-8: ANSI in a file name or option."""
    assert "\x1b" not in bff("check", "--config", "a\x1b[31mb.toml").err


def test_help_and_version(bff: Bff) -> None:
    """Every command of the contract is there."""
    text = bff("--help").out
    for command in ("serve", "demo", "init", "check", "doctor", "keys", "sessions", "front-proxy", "schema", "healthcheck"):
        assert f"  {command} " in text
    assert bff("--version").out.startswith("bff, version ")
    assert bff().code == 2


@pytest.mark.row("OPS-1")
def test_check_tells_all_problems_or_that_all_is_well(bff: Bff, config: Path) -> None:
    """OPS-1: ``serve --check`` is the same."""
    for arguments in (["check"], ["serve", "--check"]):
        good = bff(*arguments)
        assert (good.code, good.err) == (0, "")
        assert good.out.startswith("ok ")
    config.write_text(config.read_text() + "\n[session]\nidle = '300x'\nmx = '1h'\n[cookie]\nsame_site = 'none'\n")
    bad = bff("check", "--config", str(config))
    assert bad.code == 78
    assert bad.err.count("bff: ") == 3
    assert bad.err.count("     fix: ") == 3
    assert CANARY not in bad.err


def test_check_shows_warnings_and_still_passes(bff: Bff, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings do not fail a deployment."""
    monkeypatch.setenv("BFF_SESSION__MAX", "24h")
    outcome = bff("check")
    assert outcome.code == 0
    assert "warn  session.max" in outcome.err


def test_schema_prints_json(bff: Bff) -> None:
    """For editors."""
    assert json.loads(bff("schema").out)["title"] == "bff.toml"


def test_init_writes_what_check_accepts_and_prints_what_to_register(bff: Bff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to a configuration that runs: only the secret is missing, and check says so."""
    outcome = bff("init", "--issuer", "https://id.example.com/", "--client-id", "spa", "--output", "new")
    assert outcome.code == 0
    for url in ("http://localhost:8080/bff/callback", "http://localhost:8080/bff/backchannel-logout", "http://localhost:8080/\n"):
        assert url in outcome.out
    assert stat.S_IMODE((tmp_path / "new" / "keys.json").stat().st_mode) == 0o600
    missing = bff("check", "--config", "new/bff.toml")
    assert missing.code == 78
    assert "provider.client_secret" in missing.err
    monkeypatch.setenv("BFF_PROVIDER__CLIENT_SECRET", "x")
    assert bff("check", "--config", "new/bff.toml").code == 0
    settings = load_settings(tmp_path / "new" / "bff.toml", os.environ)
    assert settings.provider.issuer == "https://id.example.com/"


@pytest.mark.parametrize("how", ["client_secret_post", "private_key_jwt", "tls_client_auth"])
def test_init_names_the_credential_that_is_missing(bff: Bff, how: str) -> None:
    """Whatever the method of client authentication."""
    assert bff("init", "--issuer", "https://id.example.com", "--client-id", "spa", "--client-auth", how).code == 0
    outcome = bff("check")
    assert outcome.code == 78
    assert is_two_lines(outcome.err)


def test_init_never_replaces_files_without_being_told(bff: Bff, tmp_path: Path) -> None:
    """Replacing keys.json signs everybody out."""
    arguments = ["init", "--issuer", "https://id.example.com", "--client-id", "spa"]
    assert bff(*arguments).code == 0
    before = (tmp_path / "keys.json").read_text()
    (tmp_path / "bff.toml").unlink()
    outcome = bff(*arguments)
    assert (outcome.code, is_two_lines(outcome.err)) == (2, True)
    assert (tmp_path / "keys.json").read_text() == before
    assert not (tmp_path / "bff.toml").exists()
    assert bff(*arguments, "--force").code == 0
    assert (tmp_path / "keys.json").read_text() != before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--issuer", "id.example.com", "--client-id", "spa"],
        ["--issuer", "http://id.example.com", "--client-id", "spa"],
        ["--issuer", "https://id.example.com/.well-known/openid-configuration", "--client-id", "spa"],
        ["--issuer", "https://id.example.com", "--client-id", "spa", "--public-origin", "http://app.example.com"],
        ["--issuer", "https://id.example.com", "--client-id", 'a"b'],
        ["--issuer", "https://id.example.com", "--client-id", "spa", "--public-origin", "https://app.example.com/"],
    ],
)
def test_init_refuses_what_check_would_refuse(bff: Bff, tmp_path: Path, arguments: list[str]) -> None:
    """C3: and writes nothing then."""
    outcome = bff("init", *arguments)
    assert (outcome.code, is_two_lines(outcome.err)) == (78, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.row("OPS-2", "K9", "COOKIE-20")
def test_keys_are_written_private_and_rotated_in_place(bff: Bff, tmp_path: Path) -> None:
    """COOKIE-20: the new key in front, the old ones behind it; K9: mode 0600 throughout."""
    path = tmp_path / "ring.json"
    assert bff("keys", "new", "--output", "ring.json").code == 0
    first = KeyRing.from_json(path.read_text())
    sealed = first.seal("purpose", b"text")
    assert bff("keys", "new", "--output", "ring.json").code == 2
    time.sleep(0.002)  # a key's time is in whole milliseconds
    assert bff("keys", "rotate", "--file", "ring.json", "--after", "0s").code == 0
    second = KeyRing.from_json(path.read_text())
    assert second.kids[1:] == first.kids
    assert second.open("purpose", sealed) == (b"text", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bff("keys", "rotate", "--file", "ring.json", "--drop-older", "0s").code == 0
    assert len(KeyRing.from_json(path.read_text()).kids) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["ring.json"]
    assert KeyRing.from_json(bff("keys", "new", "--output", "-").out).kids


def test_serve_and_demo_hand_over_to_their_runners(bff: Bff, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checked settings, and their exit code is ours."""
    called: list[Any] = []
    monkeypatch.setattr("bff.serve.run", lambda settings, path: called.append((settings.provider.client_id, path)) or 69)
    monkeypatch.setattr("bff.demo.run", lambda **given: called.append(given) or 0)
    monkeypatch.setenv("BFF_SERVER__MANAGE_LISTEN", "0.0.0.0:9464")
    served = bff("serve", "--config", str(config))
    assert served.code == 69
    assert "warn  server.manage_listen" in served.err
    assert bff("demo", "--once", "--port", "0").code == 0
    assert called[0] == ("spa", config)
    assert called[1]["once"] is True


def test_the_configuration_comes_from_bff_config(bff: Bff, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """BFF_CONFIG, beaten by --config."""
    moved = config.rename(tmp_path / "other.toml")
    assert bff("check").code == 78
    monkeypatch.setenv("BFF_CONFIG", str(moved))
    assert bff("check").code == 0
    assert bff("check", "--config", "none.toml").code == 78
    assert options.load(moved).provider.client_id == "spa"


def test_the_module_runs_as_a_program() -> None:
    """``python -m bff``: exit code and no traceback, from any folder."""
    done = subprocess.run([sys.executable, "-m", "bff", "nonsense"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert is_two_lines(done.stderr)


@pytest.mark.row("OPS-4")
def test_a_health_check_imports_next_to_nothing() -> None:
    """It runs every few seconds in a container: no pydantic, no Quart, no cryptography."""
    code = (
        "import sys; from bff.cli import run; code = run(['healthcheck']); "
        "print(code, [name for name in ('pydantic', 'quart', 'cryptography', 'httpx', 'structlog') if name in sys.modules])"
    )
    env = {**os.environ, "BFF_SERVER__MANAGE_LISTEN": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "69 []"
    assert is_two_lines(done.stderr)


@pytest.mark.row("OPS-1")
def test_an_address_that_is_taken_is_named_in_two_lines(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        monkeypatch.setenv("BFF_SERVER__LISTEN", address)
        assert serve.run(load_settings(config, os.environ), config) == 69
    told = capsys.readouterr().err
    assert is_two_lines(told) and told.count(address) == 1


@pytest.mark.row("OPS-1", "OPS-3")
@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("bff.toml: session.keys_file: is odd; fix: mend it"), 78), (StoreUnavailable("sqlite: \x1b[2J"), 69)]
)
def test_a_worker_that_cannot_start_says_it_in_two_lines(capsys: pytest.CaptureFixture[str], error: BffError, code: int) -> None:
    async def work() -> int:
        raise error

    assert supervised.run_child(work()) == code
    told = capsys.readouterr().err
    assert is_two_lines(told) and "\x1b" not in told


@pytest.mark.row("OPS-1")
@pytest.mark.parametrize("content", [b"", b"{}", b'{"keys": []}', b"\xff\xfe\x00", b'{"keys": [{"kid": "a", "secret": "!"}]}'])
def test_a_file_that_is_no_key_ring_is_named_and_left_alone(bff: Bff, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ring.json").write_bytes(content)
    outcome = bff("keys", "rotate", "ring.json")
    assert outcome.code == 78 and is_two_lines(outcome.err) and "ring.json" in outcome.err
    assert (tmp_path / "ring.json").read_bytes() == content


@pytest.mark.row("F46", "OPS-2")
def test_a_rotated_key_seals_only_when_every_instance_has_had_time_to_read_it(bff: Bff, tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    assert bff("keys", "new", "ring.json").code == 0
    slow_instance = KeyRing.from_json(path.read_text())
    told = bff("keys", "rotate", "ring.json")
    assert told.code == 0 and "seals from" in told.out
    quick_instance = KeyRing.from_json(path.read_text())
    assert len(quick_instance.kids) == 2
    assert slow_instance.open("purpose", quick_instance.seal("purpose", b"text"))[0] == b"text"
    assert quick_instance.newest().kid == quick_instance.kids[1]
    assert bff("keys", "rotate", "ring.json", "--after", "soon").code == 2


def test_keys_go_where_the_configuration_looks_for_them(bff: Bff, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bff.toml").write_text('[session]\nkeys_file = "ring/keys.json"\n', encoding="utf-8")
    (tmp_path / "conf" / "ring").mkdir()
    assert bff("keys", "new", "--config", "conf/bff.toml").code == 0
    assert (tmp_path / "conf" / "ring" / "keys.json").stat().st_mode & 0o777 == 0o600
    assert bff("keys", "rotate", "--config", "conf/bff.toml").code == 0
    assert bff("keys", "new", "named.json").code == 0 and (tmp_path / "named.json").is_file()
    assert bff("keys", "new", "--config", "none.toml").code == 2


@pytest.mark.row("F46", "OPS-2")
def test_an_emergency_rotation_wins_over_one_that_has_not_begun_and_leaves_a_ring_that_can_be_read(bff: Bff, tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    assert bff("keys", "new", "ring.json").code == 0
    assert bff("keys", "rotate", "ring.json").code == 0
    waiting = KeyRing.from_json(path.read_text())
    outcome = bff("keys", "rotate", "ring.json", "--after", "0s")
    assert outcome.code == 0
    assert f"key {waiting.kids[0]} had not begun to seal and stands back" in outcome.out
    ring = KeyRing.from_json(path.read_text())
    assert ring.kids[1:] == waiting.kids
    assert ring.newest().kid == ring.kids[0] == ring.sealer_at(time.time() + 3600).kid
    assert bff("keys", "rotate", "ring.json").code == 0


def test_a_ring_that_could_not_be_read_again_replaces_nothing(bff: Bff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bff("keys", "new", "ring.json").code == 0
    before = (tmp_path / "ring.json").read_text()
    monkeypatch.setattr(KeyRing, "rotated", lambda ring, **_: KeyRing([*ring._keys, *ring._keys]))
    outcome = bff("keys", "rotate", "ring.json")
    assert outcome.code == 78 and is_two_lines(outcome.err) and "same kid" in outcome.err
    assert (tmp_path / "ring.json").read_text() == before


@pytest.mark.row("COOKIE-20")
def test_keys_that_sessions_may_still_need_are_not_dropped_where_the_configuration_says_how_long(
    bff: Bff, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_ring() -> KeyRing:
        """Three keys: the last but one ceased to seal an hour ago, long after it was made."""
        now = time.time()
        ring = KeyRing.generate(now=now - 86400 * 90).rotated(now=now - 86400 * 60).rotated(now=now - 3600)
        (config.parent / "keys.json").write_text(ring.to_json())
        return ring

    before = write_ring()
    for named in (["--config", str(config)], [], ["keys.json"]):
        outcome = bff("keys", "rotate", *named, "--drop-older", "0s")
        assert outcome.code == 2 and is_two_lines(outcome.err) and "43200s" in outcome.err
    assert KeyRing.from_json((config.parent / "keys.json").read_text()).kids == before.kids
    outcome = bff("keys", "rotate", "--drop-older", "12h")
    assert "1 old key removed, 2 old keys kept" in outcome.out
    assert KeyRing.from_json((config.parent / "keys.json").read_text()).kids[1:] == before.kids[:2]
    monkeypatch.setenv("BFF_SESSION__MAX", "30m")
    before = write_ring()
    assert "2 old keys removed, 1 old key kept" in bff("keys", "rotate", "--drop-older", "30m").out
    assert KeyRing.from_json((config.parent / "keys.json").read_text()).kids[1:] == before.kids[:1]
    monkeypatch.setenv("BFF_SESSION__MAX", "soon")
    assert bff("keys", "rotate", "--drop-older", "30m").code == 78
