"""The realm, the configuration and the API of docker-compose.yml, started by hand: a real Keycloak, `bff serve`, the example API.

Keycloak's distribution comes from Maven Central through Maven. What compose would add is only the containers around the same programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from bff.demo.visitor import Answer, Visitor, fetch_headers, page_headers, read_forms

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.findall(r"image: keycloak/keycloak:([\d.]+)", (ROOT / "docker-compose.yml").read_text())[0]
SECRET, PASSWORD = "client-secret-for-the-test", "demo-password-for-the-test"
CALL = {**fetch_headers(), "X-CSRF": "1"}

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(500)]


def missing(hint: str) -> None:
    if "keycloak" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
        pytest.fail(hint)
    pytest.skip(hint)


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keycloak unpacked, of the version that compose names."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        missing("Keycloak needs java and mvn (Debian: apt-get install default-jre-headless maven)")
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    command = ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"]
    got = subprocess.run(command, timeout=400, capture_output=True)
    found = sorted((Path.home() / ".m2").rglob(f"keycloak-quarkus-dist-{VERSION}.zip"))
    if got.returncode or not found:
        missing(f"Maven did not bring {artifact}: {got.stdout[-500:]!r}")
    place = tmp_path_factory.mktemp("keycloak")
    with zipfile.ZipFile(found[0]) as archive:
        archive.extractall(place)
    unpacked = place / f"keycloak-{VERSION}"
    (unpacked / "bin" / "kc.sh").chmod(0o755)
    return unpacked


@dataclass(frozen=True)
class Stack:
    app: str
    issuer: str
    manage: str
    keycloak: str


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(words: list[str | Path], log: Path, env: dict[str, str], ready: str, seconds: float) -> Iterator[None]:
    with log.open("ab") as sink:
        process = subprocess.Popen([str(word) for word in words], stdout=sink, stderr=sink, env={**os.environ, **env}, cwd=log.parent)
    try:
        deadline = time.monotonic() + seconds
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{ready} never answered 200:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.3)
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=3) as answer:
        return bool(answer.status == 200)
    return False


@pytest.fixture(scope="module")
def stack(distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    kc, kc_manage, api, door, manage = (free_port() for _ in range(5))
    stack = Stack(f"http://localhost:{door}", f"http://127.0.0.1:{kc}/realms/bff", f"http://127.0.0.1:{manage}", f"http://127.0.0.1:{kc}")
    imported = distribution / "data" / "import"
    imported.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "keycloak" / "realm.json", imported)
    keycloak = {
        "KC_HTTP_PORT": str(kc), "KC_HTTP_MANAGEMENT_PORT": str(kc_manage), "KC_HOSTNAME": stack.keycloak, "KC_HEALTH_ENABLED": "true",
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
        "APP_ORIGIN": stack.app, "BFF_CLIENT_SECRET": SECRET, "DEMO_PASSWORD": PASSWORD,
    }  # fmt: skip
    ours = {
        "PYTHONPATH": str(ROOT), "BFF_SERVER__LISTEN": f"127.0.0.1:{door}", "BFF_SERVER__PUBLIC_ORIGIN": stack.app,
        "BFF_SERVER__MANAGE_LISTEN": f"127.0.0.1:{manage}", "BFF_SERVER__DRAIN_DELAY": "0s", "BFF_PROVIDER__ISSUER": stack.issuer,
        "BFF_PROVIDER__CLIENT_SECRET": SECRET, "BFF_SESSION__KEYS_FILE": str(folder / "keys.json"),
        "BFF_SESSION__STORE": f"sqlite://{folder}/sessions.db", "BFF_SPA__DIRECTORY": str(ROOT / "spa_example" / "web"),
        "BFF_ROUTES__0__UPSTREAM": f"http://127.0.0.1:{api}/",
    }  # fmt: skip
    python = sys.executable
    make_keys = [python, "-m", "bff", "keys", "new", "--output", folder / "keys.json"]
    subprocess.run(make_keys, env={**os.environ, **ours}, check=True, timeout=60)
    example = [python, "-m", "spa_example.api", "--port", str(api), "--issuer", stack.issuer, "--audience", "https://api.example.test/orders"]
    serve = [python, "-m", "bff", "serve", "--config", ROOT / "deploy" / "bff.toml"]
    health = f"http://127.0.0.1:{kc_manage}/health/ready"
    provider = [distribution / "bin" / "kc.sh", "start-dev", "--import-realm"]
    with contextlib.ExitStack() as stay:
        stay.enter_context(running(provider, folder / "kc.log", keycloak, health, 240))
        stay.enter_context(running(example, folder / "api.log", ours, f"http://127.0.0.1:{api}/health", 60))
        stay.enter_context(running(serve, folder / "bff.log", ours, f"{stack.manage}/readyz", 60))
        yield stack


def submit(visitor: Visitor, page: Answer, values: dict[str, str]) -> Answer:
    form = read_forms(page.body)[0]
    headers = {**page_headers("same-origin"), "Content-Type": "application/x-www-form-urlencoded"}
    sent = visitor.ask("POST", form.action, headers, urlencode({**form.fields, **values}).encode())
    return visitor.visit(sent.header("Location"), site="cross-site") if sent.header("Location") else sent


def sign_in(stack: Stack, name: str) -> Visitor:
    visitor = Visitor()
    page = visitor.visit(f"{stack.app}/bff/login?return_to=/", site="none")
    assert page.url.startswith(stack.issuer), page.url
    landed = submit(visitor, page, {"username": name, "password": PASSWORD})
    assert landed.url == f"{stack.app}/", (landed.url, landed.status)
    return visitor


def test_a_person_signs_in_at_keycloak_and_calls_the_api_with_a_token_it_accepts(stack: Stack) -> None:
    visitor = sign_in(stack, "alice")
    user = visitor.ask("GET", f"{stack.app}/bff/user", CALL)
    assert (user.status, user.json()["preferred_username"]) == (200, "alice")
    orders = visitor.ask("GET", f"{stack.app}/api/orders", CALL)
    assert orders.status == 200, orders.body
    assert not orders.json()["received"]["cookie_arrived"]


def test_keycloak_ends_the_session_here_when_an_administrator_signs_the_person_out(stack: Stack) -> None:
    visitor = sign_in(stack, "bob")
    admin = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    got = Visitor().ask("POST", f"{stack.keycloak}/realms/master/protocol/openid-connect/token", form, urlencode(admin).encode())
    bearer = {"Authorization": f"Bearer {got.json()['access_token']}"}
    (bob,) = json.loads(Visitor().ask("GET", f"{stack.keycloak}/admin/realms/bff/users?username=bob&exact=true", bearer).body)
    ended = Visitor().ask("POST", f"{stack.keycloak}/admin/realms/bff/users/{bob['id']}/logout", {**bearer, "Content-Length": "0"})
    assert ended.status == 204
    deadline = time.monotonic() + 5
    while visitor.ask("GET", f"{stack.app}/bff/user", CALL).status != 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert visitor.ask("GET", f"{stack.app}/bff/user", CALL).status == 401


def test_signing_out_here_signs_out_at_keycloak_too(stack: Stack) -> None:
    visitor = sign_in(stack, "carol")
    gone = visitor.ask("POST", f"{stack.app}/bff/logout", {**CALL, "Origin": stack.app})
    assert gone.status == 200
    back = visitor.visit(gone.json()["logout_url"], site="cross-site")
    assert back.url.startswith(f"{stack.app}/"), back.url
    again = visitor.visit(f"{stack.app}/bff/login?return_to=/", site="none")
    assert again.url.startswith(stack.issuer), "Keycloak still knew who it was"
