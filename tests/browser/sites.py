"""Two places to try the product in a browser, app and provider on different *sites* in both.

``http``: what ``bff demo`` starts, localhost and 127.0.0.1. ``https``: www.example.test and login.other.test, by a
configuration file, with certificates of a throw-away authority; the browser maps both names to loopback, and so does the
product's process through ``resolver``. App and provider on one host would hide every SameSite fault there is.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme

from bff.devkit import DevClient, DevProvider, listen_loopback, serve_provider
from spa_example.api import build_api, serve_api
from spa_example.tokens import TokenChecker
from tests.harness.background import Background
from tests.harness.product import Product, make_keys
from tests.harness.programs import ROOT, environment, free_port

AUDIENCE = "https://api.example.com"
SECRET = "a-client-secret-for-tests-0123456789"
RESOLVER = '''"""Loaded by the interpreter at start: names below .test are this machine, as a hosts file would say."""
import socket, sys
sys.modules["uvloop"] = None
ask = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    name = host.decode() if isinstance(host, bytes) else host
    return ask("127.0.0.1" if name and name.endswith(".test") else host, *rest, **more)
socket.getaddrinfo = getaddrinfo
'''


@dataclass(frozen=True, slots=True)
class Site:
    """Where a browser finds everything. ``knobs`` turns the provider's; ``stranger`` is a page's origin of the same site as the app."""

    name: str
    app: str
    provider: str
    stranger: str
    post: Callable[[str, Mapping[str, Any]], None]

    def knobs(self, **changes: Any) -> None:
        self.post("/admin/knobs", changes)


def post_json(origin: str, path: str, body: Mapping[str, Any]) -> None:
    request = urllib.request.Request(f"{origin}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
        return


@contextmanager
def http_site() -> Iterator[Site]:
    """``bff demo`` as a user would start it; where things are is read from what it prints."""
    command = [sys.executable, "-m", "bff", "demo", "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT) as demo:
        assert demo.stdout is not None
        found: dict[str, str] = {}
        try:
            for line in demo.stdout:
                words = line.removeprefix("- ").split()
                found |= {words[1].rstrip(":"): words[2]} if words[:1] == ["the"] and len(words) > 2 else {}
                if "Ctrl-C" in line:
                    break
            provider = found["provider"].removesuffix("/admin")
            stranger = f"http://localhost:{free_port()}"
            yield Site("http", found["app"], provider, stranger, lambda path, body: post_json(provider, path, body))
        finally:
            demo.terminate()
            demo.wait(15)


@contextmanager
def https_site(folder: Path, background: Background) -> Iterator[Site]:
    """The product by configuration file with TLS at the door; provider and API in a thread of this process."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    _write_certificate(ca, folder / "app", "www.example.test")
    _write_certificate(ca, folder / "id", "login.other.test")
    (folder / "resolver").mkdir()
    (folder / "resolver" / "sitecustomize.py").write_text(RESOLVER, encoding="utf-8")
    product = Product(folder=folder, config={}, start=False, env={"PYTHONPATH": f"{folder / 'resolver'}:{ROOT}"})
    product.origin = f"https://www.example.test:{product.port}"
    sock = listen_loopback()
    issuer = f"https://login.other.test:{sock.getsockname()[1]}"
    provider = DevProvider(issuer=issuer, clients=[_client(product.origin)], audience=AUDIENCE, tls=_trusting(ca))
    api_port = free_port()
    api = build_api(issuer=issuer, audience=AUDIENCE, checker=_checker(provider), tick_s=0.2)
    stop = asyncio.Event()
    serving = [
        asyncio.run_coroutine_threadsafe(work, background.loop)
        for work in (
            serve_provider(provider, sock=sock, stop=stop, cert_file=folder / "id.pem", key_file=folder / "id.key"),
            serve_api(api, bind=f"127.0.0.1:{api_port}", stop=stop),
        )
    ]
    product.config = _config(folder, issuer, f"http://127.0.0.1:{api_port}")
    make_keys(folder)

    def post(path: str, body: Mapping[str, Any]) -> None:
        with httpx.Client(verify=False, trust_env=False) as client:
            local = issuer.replace("login.other.test", "127.0.0.1")
            client.post(f"{local}{path}", json=body, headers={"Host": issuer.removeprefix("https://")}).raise_for_status()

    try:
        product.start()
        yield Site("https", product.origin, issuer, f"https://evil.example.test:{product.port}", post)
    finally:
        product.stop()
        background.loop.call_soon_threadsafe(stop.set)
        for one in serving:
            one.result(10)


def _write_certificate(ca: trustme.CA, path: Path, *names: str) -> None:
    certificate = ca.issue_cert(*names)
    certificate.private_key_pem.write_to_path(str(path.with_suffix(".key")))
    for number, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(str(path.with_suffix(".pem")), append=number > 0)


def _trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def _client(app: str) -> DevClient:
    return DevClient(
        client_id="spa",
        client_secret=SECRET,
        redirect_uris=(f"{app}/bff/callback",),
        post_logout_redirect_uris=(f"{app}/",),
        backchannel_logout_uri=f"{app}/bff/backchannel-logout",
        name="Harbour Orders",
    )


def _checker(provider: DevProvider) -> TokenChecker:
    async def fetch_keys() -> Mapping[str, Any]:
        return {"keys": provider.keys.published()}

    return TokenChecker(issuer=provider.issuer, audience=AUDIENCE, fetch_keys=fetch_keys, keys_max_age_s=0.5)


def _config(folder: Path, issuer: str, api: str) -> dict[str, Any]:
    ca_file = str(folder / "ca.pem")
    port = issuer.rpartition(":")[2]
    return {
        "server": {
            "tls_cert_file": str(folder / "app.pem"),
            "tls_key_file": str(folder / "app.key"),
            "grace": "2s",
        },
        "provider": {
            "issuer": issuer,
            "client_id": "spa",
            "client_secret": SECRET,
            "ca_file": ca_file,
            "scopes": ["openid", "profile", "email", "offline_access", "orders:read", "orders:write", "payments"],
        },
        "session": {"store": "sqlite:sessions.db", "keys_file": "keys.json", "claims": ["name", "email", "department", "region", "roles"]},
        "spa": {"directory": str(ROOT / "spa_example" / "web")},
        "log": {"level": "info", "format": "json"},
        "routes": [
            {"path": "/api/", "upstream": f"{api}/"},
            {"path": "/api/payments", "exact": True, "upstream": f"{api}/payments", "acr": ["mfa"]},
            {"path": "/demo-provider/", "upstream": f"https://login.other.test:{port}/", "token": "none", "ca_file": ca_file},
        ],
    }
