"""What a wheel holds: the package, its assets, and the example app."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The file names in a wheel built from a copy of what is tracked."""
    builder = ROOT / ".tools" / "quality" / "bin" / "hatchling"
    if not builder.exists():
        if "compose" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail("hatchling is missing: python3 dev.py check installs it")
        pytest.skip("hatchling is missing: python3 dev.py check installs it")
    copy = tmp_path_factory.mktemp("wheel")
    for part in ("bff", "spa_example", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, copy / part)
    subprocess.run([builder, "build", "-t", "wheel", "-d", "out"], cwd=copy, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(next((copy / "out").glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_the_wheel_holds_the_command_its_assets_and_the_example_app(names: set[str]) -> None:
    wanted = {"bff/__main__.py", "bff/py.typed", "bff/agent/assets/client.js", "bff/agent/assets/openapi.json"}
    assert wanted | {"spa_example/api.py", "spa_example/web/index.html"} <= names


def test_the_wheel_holds_nothing_but_the_two_packages(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"bff", "spa_example"}
    assert not [name for name in names if name.startswith(("tests/", "bench/")) or name.endswith(".pyc")]


def test_the_configuration_of_the_image_passes_the_products_own_check(tmp_path: Path) -> None:
    (tmp_path / "client_secret").write_text("secret-of-the-client")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<!doctype html>")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BFF_PROVIDER__CLIENT_SECRET_FILE": str(tmp_path / "client_secret")}
    env |= {"BFF_SESSION__KEYS_FILE": str(tmp_path / "keys.json"), "BFF_SPA__DIRECTORY": str(tmp_path / "web")}
    env |= {"BFF_SESSION__STORE": f"sqlite://{tmp_path}/sessions.db"}
    made = subprocess.run([sys.executable, "-m", "bff", "keys", "new", "--output", str(tmp_path / "keys.json")], env=env, timeout=60)
    assert made.returncode == 0
    command = [sys.executable, "-m", "bff", "check", "--config", str(ROOT / "deploy" / "bff.toml")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
