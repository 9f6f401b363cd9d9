"""The BFF as it is deployed: policy, CSRF and Origin check, access log, metrics and deadlines on, sessions from real sign-ins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.processes import Group, free_port, wait_for_port
from bench.provider import CLIENT_ID, CLIENT_SECRET, BenchVisitor, cookies_of, our_environment, sign_in, start_provider
from bench.values import OTHER_COOKIES, Place, Running, Variant

COOKIE = "__Host-Http-bff"

CONFIG = """\
[server]
listen = "127.0.0.1:{port}"
public_origin = "http://localhost:{port}"
manage_listen = "127.0.0.1:{manage}"
workers = {workers}
trusted_proxies = ["127.0.0.1/32"]
drain_delay = "0s"

[provider]
issuer = "{issuer}"
client_id = "{client_id}"
client_secret = "{client_secret}"
scopes = ["openid", "profile", "offline_access"]

[session]
store = "{store}"
keys_file = "{keys}"

[[routes]]
path = "/api/"
upstream = "http://127.0.0.1:{upstream}/api/"
forward_cookies = ["theme", "lang"]

[log]
format = "json"
access = true
"""


def start(place: Place) -> Running:
    """Serve, then sign in ``place.sessions`` people one after the other."""
    port, manage = free_port(), free_port()
    origin = f"http://localhost:{port}"
    issuer, provider = start_provider(place, "bff", f"{origin}/bff/callback")
    config = _write(place, port=port, manage=manage, issuer=issuer)
    group, log = Group(), place.directory / "bff.log"
    command: list[str | Path] = [sys.executable, "-m", "bff", "serve", "--config", config]
    group.start(command, log=log, cpus=place.variant_cpus, env=our_environment(), cwd=place.directory)
    wait_for_port(port, group, log)
    wait_for_port(manage, group, log)
    cookies = [_cookie(origin, issuer, number) for number in range(place.sessions)]
    headers = {"Host": f"localhost:{port}", "X-CSRF": "1"}
    return Running(port=port, group=group, helper=provider, cookies=cookies, headers=headers, cookie_name=COOKIE)


def _write(place: Place, *, port: int, manage: int, issuer: str) -> Path:
    keys = place.directory / "keys.json"
    command = [sys.executable, "-m", "bff", "keys", "new", "--output", str(keys), "--force"]
    subprocess.run(command, env=our_environment(), check=True, capture_output=True)
    database = place.directory / "sessions.db"
    database.unlink(missing_ok=True)
    text = CONFIG.format(
        port=port, manage=manage, workers=place.workers, issuer=issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, keys=keys,
        upstream=place.upstream_port, store="memory:" if place.store == "memory" else f"sqlite://{database}",
    )  # fmt: skip
    path = place.directory / "bff.toml"
    path.write_text(text)
    return path


def _cookie(origin: str, issuer: str, number: int) -> str:
    visitor = BenchVisitor(number)
    sign_in(visitor, f"{origin}/bff/login?return_to=/", issuer)
    value = cookies_of(visitor, origin).get(COOKIE)
    if value is None:
        raise RuntimeError("signed in, but no session cookie came")
    return f"{OTHER_COOKIES}; {COOKIE}={value}"


VARIANTS = [Variant("bff", start, "this project, everything on that a deployment has on")]
