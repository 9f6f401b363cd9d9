"""What the README tells a stranger to type, typed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECRET = "the-secret-from-the-provider"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def lines_of_chapter() -> list[str]:
    """The shell lines of "Five minutes with your own provider"."""
    chapter = README.split("## Five minutes with your own provider")[1].split("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```", chapter, re.M | re.S)
    return [line for block in found for line in block.splitlines()]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(words: list[str], cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (cwd / "log").open("ab") as log:
        process = subprocess.Popen(words, cwd=cwd, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"{url} never answered 200: {log.read_text(errors='replace')[-1500:]}")


def test_the_readme_names_the_two_commands_first() -> None:
    first = blocks("sh")[0]
    assert re.findall(r"^python3 dev\.py (\w+)", first, re.M) == ["demo", "test"]


def test_the_commands_of_the_readme_exist_in_dev_py() -> None:
    said = subprocess.run([sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
    for task in set(re.findall(r"python3 dev\.py (\w+)", README)):
        assert re.search(rf"^    {task}\b", said, re.M), task


def test_the_five_minutes_of_the_readme_work_line_by_line(tmp_path: Path) -> None:
    listen, manage, provider_port, api_port = free_port(), free_port(), free_port(), free_port()
    issuer, origin = f"http://127.0.0.1:{provider_port}", f"http://localhost:{listen}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BFF_SERVER__LISTEN": f"127.0.0.1:{listen}"}
    env |= {"BFF_SERVER__MANAGE_LISTEN": f"127.0.0.1:{manage}", "BFF_SERVER__PUBLIC_ORIGIN": origin, "BFF_SERVER__DRAIN_DELAY": "0s"}
    client = {"client_id": "spa", "client_secret": SECRET, "redirect_uris": [f"{origin}/bff/callback"]}
    app = tmp_path / "app"
    app.mkdir()
    (app / "index.html").write_text("<!doctype html><title>mine</title>")
    provider = [sys.executable, "-m", "bff.devkit", "--port", str(provider_port), "--client", json.dumps(client)]
    api = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(api_port)]
    with running(provider, tmp_path, env) as process, running(api, tmp_path, env) as behind:
        wait_for(f"http://127.0.0.1:{api_port}/", behind, tmp_path / "log")
        wait_for(f"{issuer}/.well-known/openid-configuration", process, tmp_path / "log")
        for line in lines_of_chapter():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                env[name] = value
                continue
            words = [word.replace("https://id.example.com", issuer) for word in line.split()]
            assert words[:3] == ["python3", "dev.py", "bff"], line
            command = [sys.executable, "-m", "bff", *words[3:]]
            if words[3] != "serve":
                done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                if words[3] == "init":
                    assert "/bff/callback" in done.stdout
                    extend(tmp_path / "my-bff" / "bff.toml", app, api_port)
                continue
            with running(command, tmp_path, env) as server:
                wait_for(f"http://127.0.0.1:{manage}/readyz", server, tmp_path / "log")
                with urllib.request.urlopen(f"{origin}/", timeout=5) as page:
                    assert b"<title>mine</title>" in page.read()


def extend(config: Path, app: Path, api_port: int) -> None:
    """Paste the README's TOML at the end of the file that init wrote, with an app and an API that exist here."""
    pasted = blocks("toml")[0].replace("/path/to/your/built/app", str(app)).replace(":9000", f":{api_port}")
    added = tomllib.loads(pasted)
    assert set(added) == {"spa", "routes"}
    assert added["spa"] == {"directory": str(app)}
    config.write_text(config.read_text() + "\n" + pasted)


def test_the_javascript_of_the_readme_uses_names_that_the_helper_has() -> None:
    helper = (ROOT / "bff" / "agent" / "assets" / "client.js").read_text()
    code = blocks("js")[0]
    exported = re.findall(r"import \{ (\w+) \}", code)
    assert all(f"export function {name}" in helper for name in exported)
    returned = re.findall(r"^\s*base: root,(.*?)\}", helper, re.M | re.S)[0]
    for name in re.findall(r"\bbff\.(\w+)\(", code):
        assert re.search(rf"\b{name}\b", returned), name


def test_the_way_for_bundlers_leaves_the_module_to_the_browser() -> None:
    """A bundler follows literal names only; both comments silence what Vite and webpack say about any other."""
    code = blocks("js")[1]
    assert 'const client = "/bff/client.js";' in code and "export const createBff" in code
    assert re.findall(r"import\(([^)]*)\)", code) == ["/* @vite-ignore */ /* webpackIgnore: true */ client"]


def test_the_settings_named_in_the_documents_exist() -> None:
    reference = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "errors").glob("*.md")]:
        for section, key in re.findall(r"`(server|provider|session|cookie|spa|log|limits)\.([a-z_]+)`", page.read_text(encoding="utf-8")):
            chapter = re.search(rf"## `\[{section}\]`(.*?)(?=\n## |\Z)", reference, re.S)
            assert chapter, section
            assert f"| `{key}` |" in chapter[1], f"{page.name}: {section}.{key}"
