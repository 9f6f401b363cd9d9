"""``bff front-proxy``: what it prints, and when it doesn't."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bff.cli.main import run
from bff.forward_auth.generate import PROGRAMS
from bff.forward_auth.stripping import NAMES
from bff.session.sealing import KeyRing
from tests.forward_auth.fronts import find_program

BASE = """
[server]
listen = "127.0.0.1:8081"
public_origin = "{origin}"
trusted_proxies = ["127.0.0.1/32"]
[provider]
issuer = "https://id.example.com"
client_id = "spa"
client_secret = "canary-5f1d9c3a7b"
[forward_auth]
identity_headers = {{ X-User = "sub" }}
{more}
[[routes]]
path = "/api/"
upstream = "https://api.example.com/v1/"
[[routes]]
path = "/api/orders"
upstream = "http://127.0.0.1:9000/orders"
scopes = ["orders:read"]
[[routes]]
path = "/one"
exact = true
upstream = "http://127.0.0.1:9000/two"
token = "none"
[[routes]]
path = "/region/"
[routes.upstream_by_claim]
claim = "region"
eu = "https://eu.example.com/"
us = "https://us.example.com/"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = tmp_path / "keys.json"
    keys.write_text(KeyRing.generate().to_json())
    keys.chmod(0o600)
    return write(tmp_path)


def write(folder: Path, origin: str = "http://localhost:8080", more: str = "") -> Path:
    path = folder / "bff.toml"
    path.write_text(BASE.format(origin=origin, more=more))
    return path


every_program = pytest.mark.parametrize("program", PROGRAMS)


@every_program
def test_it_prints_a_configuration_and_nothing_else(program: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in PROGRAMS[program]:
        assert run(["front-proxy", program, "--config", str(config), "--part", part]) == 0
        out, err = capsys.readouterr()
        assert err == "" and out.endswith("\n") and f"bff front-proxy {program}" in out
        assert "/region/ passes through the door" in out
        assert "canary-5f1d9c3a7b" not in out


@every_program
def test_the_same_configuration_gives_the_same_text(program: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert run(["front-proxy", program, "--config", str(config)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("program", ["nginx", "traefik", "caddy", "haproxy", "envoy"])
def test_every_header_that_claims_something_is_named(program: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["front-proxy", program, "--config", str(config)]) == 0
    text = capsys.readouterr().out.lower()
    for name in ("remote-user", "x-forwarded", "cookie", "authorization", "x-csrf", "x-user"):
        assert name in text, name
    if program in ("nginx", "traefik"):
        rebuilt = {f"x-forwarded-{name}" for name in ("for", "host", "proto", "port", "server")} | {"x-real-ip"}
        missing = [name for name in NAMES if name not in text and not (program == "traefik" and name in rebuilt)]
        assert missing == []


def test_what_leaves_a_front_proxy_no_way_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for origin, more, code, part in (
        ("http://localhost:8081", "", 78, "the door is"),
        ("http://localhost:8081", 'listen = "127.0.0.1:8082"', 0, ""),
        ("http://localhost:8080", 'door = "unix:/x"', 78, "is not host:port"),
        ("http://localhost:8080", 'pass_headers = ["X-User"]', 78, "an API may see"),
    ):
        write(config.parent, origin, more)
        assert run(["front-proxy", "nginx", "--config", str(config)]) == code, (origin, more)
        assert part in capsys.readouterr().err
    write(config.parent)
    for words in (
        ["nginx", "--cache", "5m"],
        ["nginx", "--cache", "x"],
        ["envoy", "--cache", "5s"],
        ["nginx", "--part", "static"],
        ["iis"],
    ):
        assert run(["front-proxy", *words, "--config", str(config)]) == 2, capsys.readouterr()
        capsys.readouterr()


def test_how_stale_a_repeated_answer_may_be_is_said_in_the_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in ((["--cache", "7s"], True), ([], False)):
        assert run(["front-proxy", "nginx", *words, "--config", str(config)]) == 0
        text = capsys.readouterr().out
        assert ("up to 7 s: a sign-out reaches API calls with the old cookie that much later" in text) is told
        assert ("proxy_cache bff_answers" in text) is told


@every_program
def test_several_instances_are_all_asked(program: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doors = ["--door", "10.0.0.1:8081", "--door", "10.0.0.2:8082"]
    if program == "traefik":
        assert run(["front-proxy", program, *doors, "--config", str(config)]) == 2
        assert "one address" in capsys.readouterr().err
        assert run(["front-proxy", program, *doors[:2], "--config", str(config)]) == 0
        assert "10.0.0.1:8081" in capsys.readouterr().out
        return
    assert run(["front-proxy", program, *doors, "--config", str(config)]) == 0
    text = capsys.readouterr().out
    assert "127.0.0.1:8081" not in text and all(address in text for address in ("10.0.0.1", "10.0.0.2", "8081", "8082"))
    assert run(["front-proxy", program, "--door", "unix:/x", "--config", str(config)]) == 78
    assert run(["front-proxy", program, "--door", "nonsense", "--config", str(config)]) == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_https_api_named_by_its_address_is_checked_or_left_to_the_door(
    program: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("https://api.example.com/v1/", "https://192.0.2.7/v1/"))
    assert run(["front-proxy", program, "--config", str(config)]) == 0
    text = capsys.readouterr().out
    assert ("/api/ passes through the door: its API's certificate names an address" in text) is (program in ("nginx", "haproxy"))


def test_a_door_that_trusts_nobody_is_warned_about(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace('trusted_proxies = ["127.0.0.1/32"]', ""))
    assert run(["front-proxy", "caddy", "--config", str(config)]) == 0
    assert "trusted_proxies" in capsys.readouterr().err


CHECKS = {
    "nginx": ["-t", "-e", "{folder}/error.log", "-g", "pid {folder}/pid;", "-c", "{file}"],
    "haproxy": ["-c", "-f", "{file}"],
    "envoy": ["--mode", "validate", "-l", "error", "-c", "{file}"],
    "caddy": ["validate", "--adapter", "caddyfile", "--config", "{file}"],
}


@pytest.mark.interop
@pytest.mark.parametrize("program", CHECKS)
def test_the_program_itself_finds_no_fault_with_tls_either(program: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A https origin at its own port, which no test can listen at: test_fronts_tls starts them at another."""
    import trustme

    from tests.forward_auth.conftest import need

    need(program)
    folder = config.parent
    issued = trustme.CA().issue_cert("app.example.com")
    issued.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    for further in issued.cert_chain_pems[1:]:
        further.write_to_path(folder / "chain.pem", append=True)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "chain.pem.key").write_bytes((folder / "key.pem").read_bytes())
    write(folder, "https://app.example.com", f'tls_cert_file = "{folder}/chain.pem"\ntls_key_file = "{folder}/key.pem"')
    # Names resolve nowhere in a test; the address does as well.
    config.write_text(config.read_text().replace("https://api.example.com/v1/", "https://localhost:9443/v1/"))
    assert run(["front-proxy", program, "--config", str(config)]) == 0
    text = capsys.readouterr().out.replace("/var/log/nginx/access.log", f"{folder}/access.log")
    file = folder / f"{program}.{'yaml' if program == 'envoy' else 'conf'}"
    file.write_text(text)
    words = [word.format(folder=folder, file=file) for word in CHECKS[program]]
    done = subprocess.run([str(find_program(program)), *words], capture_output=True, text=True, timeout=60, env={"HOME": str(folder)})
    assert done.returncode == 0, (done.stdout + done.stderr)[:2000]
