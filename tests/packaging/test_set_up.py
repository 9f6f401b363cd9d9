"""dev.py and the lists it installs from."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted((ROOT / "requirements").glob("*.txt"))
UNWANTED = {"niquests", "urllib3-future", "httpx2", "aiohttp", "authlib", "python-jose"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    """Name to the text of its entry."""
    entries = re.split(r"^(?=\S)", path.read_text(), flags=re.M)
    return {canonical(found[1]): entry for entry in entries if (found := re.match(r"([A-Za-z0-9_.-]+)==\S+", entry))}


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """dev.py as a module that lives in a folder of its own."""
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "TOOLS", tmp_path / ".tools")
    return module


@pytest.mark.row("C11")
@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_every_locked_package_is_pinned_with_hashes_and_no_address(path: Path) -> None:
    entries = pinned(path)
    assert entries
    assert [name for name, entry in entries.items() if "--hash=sha256:" not in entry] == []
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"^--(index-url|extra-index-url|find-links|trusted-host)", text, re.M)


@pytest.mark.row("C11")
@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_no_list_holds_a_package_that_was_decided_against(path: Path) -> None:
    assert UNWANTED & set(pinned(path)) == set()


def test_the_lists_hold_every_dependency_of_the_project() -> None:
    with (ROOT / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)
    names = {canonical(re.split(r"[<>=!~;\[ ]", text)[0]) for text in project["project"]["dependencies"]}
    assert names <= set(pinned(ROOT / "requirements" / "runtime.txt"))
    tested = {canonical(re.split(r"[<>=!~;\[ ]", text)[0]) for text in project["dependency-groups"]["test"]}
    assert names | tested <= set(pinned(ROOT / "requirements" / "dev.txt"))


def test_an_old_python_gets_one_sentence(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit) as ended:
        dev.main()
    assert str(ended.value).startswith("Python 3.11 or newer is needed, this is ")


def test_dev_py_uses_no_syntax_that_an_old_python_would_trip_over() -> None:
    import ast

    tree = ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 6))
    assert "annotations" not in {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_a_second_start_installs_nothing(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, venv, installs = tmp_path / "list.txt", tmp_path / ".venv", []

    def install(place: Path, source: Path) -> None:
        python = dev.python_in(place)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        installs.append(source.read_text())

    monkeypatch.setattr(dev, "install", install)
    lock.write_text("one")
    dev.sync(venv, lock)
    dev.sync(venv, lock)
    assert installs == ["one"]
    lock.write_text("two")
    dev.sync(venv, lock)
    assert installs == ["one", "two"]


def test_a_set_up_that_failed_is_not_taken_for_one_that_worked(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, venv = tmp_path / "list.txt", tmp_path / ".venv"
    lock.write_text("one")
    monkeypatch.setattr(dev, "find_uv", lambda: "false")
    with pytest.raises(SystemExit):
        dev.sync(venv, lock)
    assert not (venv / ".stamp").exists()


def test_an_unknown_task_prints_the_help_and_says_usage() -> None:
    done = subprocess.run([sys.executable, "dev.py", "dance"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "demo" in done.stdout


def test_the_installers_keep_their_caches_in_the_folder(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert all(dev.environment()[name].startswith(str(dev.TOOLS)) for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR"))
    monkeypatch.setenv("UV_CACHE_DIR", os.sep + "mine")
    assert dev.environment()["UV_CACHE_DIR"] == os.sep + "mine"


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither exec nor SIGTERM")
def test_a_signal_to_dev_py_reaches_what_it_runs(tmp_path: Path) -> None:
    """A supervisor or script ends the process that it started; what that one started must not live on with the port."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import dev, os; from pathlib import Path; "
    program += "sys.exit(dev.hand_over([sys.executable, '-c', sys.argv[2]], where=Path(sys.argv[3]), env={**os.environ, 'SEEN': 'yes'}))"
    inner = "import os, time; print(os.getpid(), os.getcwd(), os.environ['SEEN'], flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(ROOT), inner, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == [str(process.pid), str(tmp_path.resolve()), "yes"]
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
