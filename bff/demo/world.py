"""Everything a stranger needs on one machine: development provider, example API, SPA and the BFF, on loopback, in a folder that goes away.

The app is on ``localhost`` and the provider on ``127.0.0.1``: two *sites* to a browser, so SameSite behaves as in production (on another
port of localhost every bug of that class would hide). Sockets are bound here, before anything starts, so no port can be lost to a race.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

APP_PORT, PROVIDER_PORT, API_PORT, MANAGE_PORT = 8080, 9400, 9500, 9464
AUDIENCE = "https://api.demo.example"
READY_WITHIN_S = 20.0

_REFUSALS = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not for this user to open (ports below 1024 are root's)"}

CONFIG = """\
[server]
listen = "fd://{app_fd}"
public_origin = "{app}"
manage_listen = "fd://{manage_fd}"
workers = {workers}
drain_delay = "0s"
grace = "3s"

[provider]
issuer = "{provider}"
client_id = "demo-spa"
client_secret_file = "client-secret"
scopes = ["openid", "profile", "email", "offline_access", "orders:read", "orders:write", "payments"]

[session]
store = "sqlite:sessions.db"
keys_file = "keys.json"
claims = ["name", "email", "department", "region", "roles"]

[spa]
directory = "{web}"

[[routes]]
path = "/api/"
upstream = "{api}/"

[[routes]]
path = "/api/payments"
exact = true
upstream = "{api}/payments"
acr = ["mfa"]

[[routes]]
path = "/demo-provider/"
upstream = "{provider}/"
token = "none"

[log]
level = "{level}"
access = {access}
"""


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is, as origins without a trailing slash."""

    app: str
    provider: str
    api: str
    manage: str
    folder: Path
    moved: tuple[str, ...] = ()


def example_folder() -> Path:
    """spa_example: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "spa_example"
    return inside if inside.is_dir() else package.parent / "spa_example"


@contextmanager
def running_world(*, port: int = APP_PORT, workers: int = 1, quiet: bool = True) -> Iterator[World]:
    """Start it all, wait until it is ready, and take it all down at the end. RuntimeError if it does not come up."""
    with tempfile.TemporaryDirectory(prefix="bff-demo-") as name:
        sockets, moved = _bind_all(port)
        app, provider, api, manage = sockets
        world = World(
            app=f"http://localhost:{app.getsockname()[1]}",
            provider=f"http://127.0.0.1:{provider.getsockname()[1]}",
            api=f"http://127.0.0.1:{api.getsockname()[1]}",
            manage=f"http://127.0.0.1:{manage.getsockname()[1]}",
            folder=Path(name),
            moved=moved,
        )
        secret = _write_files(world, app.fileno(), manage.fileno(), workers=workers, quiet=quiet)
        children = [
            _fork(lambda: _run_bff(world), closing=(provider, api)),
            _fork(lambda: _run_provider_and_api(world, secret, provider, api), closing=(app, manage)),
        ]
        try:
            for sock in sockets:
                sock.close()
            _wait_ready(f"{world.manage}/readyz", children)
            yield world
        finally:
            _end(children)


def _bind_all(port: int) -> tuple[list[socket.socket], tuple[str, ...]]:
    sockets: list[socket.socket] = []
    moved: list[str] = []
    for name, host, wanted in (
        ("the app", "localhost", port),
        ("the provider", "127.0.0.1", PROVIDER_PORT),
        ("the API", "127.0.0.1", API_PORT),
        ("the management listener", "127.0.0.1", MANAGE_PORT),
    ):
        sock, why = _bind(host, wanted)
        if why:
            moved.append(f"port {wanted} {why}, so {name} is on port {sock.getsockname()[1]}")
        sockets.append(sock)
    return sockets, tuple(moved)


def _bind(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket on that port, or on another one and why."""
    address, why = "127.0.0.1" if host == "localhost" else host, ""
    try:
        sock = socket.create_server((address, port), backlog=1024)
    except OSError as error:
        why = _REFUSALS.get(error.errno or 0) or f"cannot be opened ({error.strerror})"
        sock = socket.create_server((address, 0), backlog=1024)
    sock.set_inheritable(True)
    return sock, why


def _write_files(world: World, app_fd: int, manage_fd: int, *, workers: int, quiet: bool) -> str:
    secret = secrets.token_urlsafe(32)
    text = CONFIG.format(
        app_fd=app_fd,
        manage_fd=manage_fd,
        app=world.app,
        provider=world.provider,
        api=world.api,
        web=example_folder() / "web",
        workers=workers,
        level="error" if quiet else "info",
        access="false" if quiet else "true",
    )
    _write_private(world.folder / "bff.toml", text)
    _write_private(world.folder / "client-secret", secret)
    return secret


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _fork(work: Callable[[], int], *, closing: tuple[socket.socket, ...]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, 0)  # a Ctrl-C in the terminal ends the parent, and the parent ends us in order
        for sock in closing:
            sock.close()
        code = work()
    except KeyboardInterrupt:
        code = 0
    except BaseException as error:  # the child's last word: nothing above it would tell
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(code)


# What the two children import is most of a start, so it is imported there, at the same time, and not here before both.


def _run_bff(world: World) -> int:
    from bff import serve
    from bff.session.sealing import KeyRing
    from bff.settings import load_settings

    _write_private(world.folder / "keys.json", KeyRing.generate().to_json())
    path = world.folder / "bff.toml"
    return serve.run(load_settings(path, {}), path)


def _run_provider_and_api(world: World, secret: str, provider_sock: socket.socket, api_sock: socket.socket) -> int:
    from bff.devkit import DevClient, DevProvider, serve_provider

    client = DevClient(
        client_id="demo-spa",
        client_secret=secret,
        redirect_uris=(f"{world.app}/bff/callback",),
        post_logout_redirect_uris=(f"{world.app}/",),
        backchannel_logout_uri=f"{world.app}/bff/backchannel-logout",
        name="Example orders",
    )
    provider = DevProvider(issuer=world.provider, clients=[client], audience=AUDIENCE)

    async def both() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await asyncio.gather(serve_provider(provider, sock=provider_sock, stop=stop), _serve_api(world, api_sock, stop))

    asyncio.run(both())
    return 0


async def _serve_api(world: World, sock: socket.socket, stop: asyncio.Event) -> None:
    sys.path.insert(0, str(example_folder().parent))
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from spa_example.api import build_api

    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 0.2
    await serve(build_api(issuer=world.provider, audience=AUDIENCE), config, shutdown_trigger=stop.wait)


def _wait_ready(url: str, children: list[int]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        for pid in children:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                raise RuntimeError(f"a part of the demo ended at once (exit {os.waitstatus_to_exitcode(status)}); the lines above say why")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"the demo was not ready within {READY_WITHIN_S:.0f} s; `bff demo --verbose` shows the log")


def _end(children: list[int]) -> None:
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10.0
    for pid in children:
        while time.monotonic() < deadline and not os.waitpid(pid, os.WNOHANG)[0]:
            time.sleep(0.02)
