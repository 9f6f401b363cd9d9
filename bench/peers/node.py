"""express-openid-connect with http-proxy-middleware on Node.js, logged in by a real code flow."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from bench.processes import Group, free_port, wait_for_port
from bench.provider import CLIENT_ID, CLIENT_SECRET, BenchVisitor, cookies_of, sign_in, start_provider
from bench.values import OTHER_COOKIES, Absent, Place, Running, Variant

FOLDER = Path(__file__).parent / "node"
COOKIE = "appSession"


def start(place: Place) -> Running:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        raise Absent("express-openid-connect is missing (python -m bench.install, with Node.js 20 or newer)")
    port = free_port()
    issuer, provider = start_provider(place, "node", f"http://localhost:{port}/callback")
    env = {
        **os.environ, "NODE_ENV": "production", "PORT": str(port), "ISSUER": issuer, "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET,
        "UPSTREAM": str(place.upstream_port), "SESSION_SECRET": secrets.token_hex(32),
    }  # fmt: skip
    log, group = place.directory / "node.log", Group()
    group.start([node, "server.mjs"], log=log, cpus=place.variant_cpus, env=env, cwd=FOLDER)
    wait_for_port(port, group, log)
    origin, visitor = f"http://localhost:{port}", BenchVisitor()
    page = sign_in(visitor, f"{origin}/login", issuer)
    own = {name: value for name, value in cookies_of(visitor, origin).items() if name.startswith(COOKIE)}
    if not own:
        raise RuntimeError(f"express-openid-connect set no session cookie, status {page.status}; see {log}")
    cookie = "; ".join([OTHER_COOKIES, *(f"{name}={value}" for name, value in own.items())])
    headers = {"Host": f"localhost:{port}"}
    return Running(port=port, group=group, helper=provider, cookies=[cookie], headers=headers, cookie_name=COOKIE)


VARIANTS = [Variant("express-openid-connect", start, "with http-proxy-middleware; session in an encrypted cookie")]
