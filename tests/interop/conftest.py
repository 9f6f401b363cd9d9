"""The product in front of providers that other people wrote."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from tests.harness.background import Background
from tests.harness.browser import Browser
from tests.harness.example_api import ExampleApi
from tests.harness.http import ask
from tests.harness.product import Product, make_keys
from tests.harness.programs import Program, free_port
from tests.harness.upstream import RecordingUpstream
from tests.harness.world import AUDIENCE, SECRET
from tests.interop.installing import CannotInstall, nanoidp, oidc_provider


@dataclass(slots=True)
class Site:
    """One product, one foreign provider, one API."""

    issuer: str
    provider: Program
    product: Product
    recorder: RecordingUpstream
    api: ExampleApi | None

    @property
    def app(self) -> str:
        return self.product.origin


def demand(install: Callable[[], Path]) -> Path:
    """The installed provider, or a skip that BFF_TEST_REQUIRE=interop turns into a failure."""
    try:
        return install()
    except CannotInstall as missing:
        if "interop" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(f"interop is required here: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


def configuration(issuer: str, recorder: RecordingUpstream, api: ExampleApi | None, **provider: Any) -> dict[str, Any]:
    routes = [{"path": "/record/", "upstream": f"{recorder.url}/up/"}]
    if api is not None:
        routes.append({"path": "/api/", "upstream": f"{api.url}/"})
    return {
        "server": {"workers": 1, "grace": "2s"},
        "provider": {"issuer": issuer, "client_id": "spa", "client_secret": SECRET, **provider},
        "session": {"store": "sqlite:sessions.db", "keys_file": "keys.json"},
        "log": {"level": "debug", "format": "json"},
        "routes": routes,
    }


def prepare(folder: Path) -> Product:
    folder.mkdir(parents=True, exist_ok=True)
    make_keys(folder)
    (folder / "web").mkdir(exist_ok=True)
    (folder / "web" / "index.html").write_text("<!doctype html><title>app</title>", encoding="utf-8")
    return Product(folder=folder, config={}, start=False)


async def answers(url: str) -> bool:
    return (await ask("GET", url)).status == 200


MakeSite = Callable[..., Site]


@pytest.fixture
def node_site(tmp_path: Path, background: Background) -> Iterator[MakeSite]:
    """Builds a site with npm's oidc-provider. ``auth`` is the client authentication."""
    script = demand(oidc_provider)
    made: list[Site] = []

    def build(*, auth: str = "client_secret_basic", ttl_s: int = 300, **options: Any) -> Site:
        product = prepare(tmp_path / "site")
        port = free_port()
        issuer = f"http://127.0.0.1:{port}"
        client, provider_settings = registration(product, auth, tmp_path / "site")
        settings = {"resource": AUDIENCE, "accessTokenTtl": ttl_s, **options}
        node = shutil.which("node")
        assert node is not None
        arguments = [node, str(script), str(port), json.dumps([client]), json.dumps(settings)]
        provider = Program(arguments, log_file=tmp_path / "oidc-provider.log", cwd=script.parent)
        provider.wait_ready(lambda: "listening" in provider.log)
        recorder = RecordingUpstream(background).start()
        api = ExampleApi(folder=tmp_path, issuer=issuer, audience=AUDIENCE)
        scopes = ["openid", "profile", "email", "offline_access", "orders:read", "orders:write"]
        product.config = configuration(issuer, recorder, api, scopes=scopes, resources=[AUDIENCE], **provider_settings)
        made.append(Site(issuer, provider, product, recorder, api))
        product.config["spa"] = {"directory": "web"}
        product.start()
        return made[-1]

    yield build
    for site in made:
        stop(site)


def registration(product: Product, auth: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The client as oidc-provider registers it, and the product's side of it."""
    client: dict[str, Any] = {
        "client_id": "spa",
        "redirect_uris": [f"{product.origin}/bff/callback"],
        "post_logout_redirect_uris": [f"{product.origin}/"],
        "backchannel_logout_uri": f"{product.origin}/bff/backchannel-logout",
        "backchannel_logout_session_required": True,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth,
        "id_token_signed_response_alg": "RS256",
    }
    if auth != "private_key_jwt":
        return {**client, "client_secret": SECRET}, {"client_auth": auth}
    key = ECKey.generate_key("P-256", {"kid": "client-key", "alg": "ES256", "use": "sig"})
    pem = folder / "client.pem"
    pem.write_bytes(key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem.chmod(0o600)
    client |= {"jwks": {"keys": [key.as_dict(private=False)]}, "token_endpoint_auth_signing_alg": "ES256"}
    return client, {"client_auth": auth, "private_key_file": "client.pem", "key_id": "client-key", "client_secret": ""}


NANO_SETTINGS = """
config_version: 1
server: {{host: "127.0.0.1", port: {port}}}
oauth:
  issuer: "{issuer}"
  audience: "{audience}"
  token_expiry_minutes: 1
  require_pkce: true
  refresh_token_rotation: true
  clients:
    - client_id: spa
      client_secret: "{secret}"
      redirect_uris: ["{origin}/bff/callback"]
      post_logout_redirect_uris: ["{origin}/"]
      allowed_resources: ["{audience}"]
"""
NANO_USERS = """
config_version: 1
users:
  ada: {password: "lovelace", email: "ada@example.com", roles: ["USER"], tenant: "default"}
"""


@pytest.fixture
def nano_site(tmp_path: Path, background: Background) -> Iterator[Site]:
    """A site with nanoidp."""
    program = demand(nanoidp)
    product = prepare(tmp_path / "site")
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    folder = tmp_path / "nanoidp"
    folder.mkdir()
    settings = NANO_SETTINGS.format(port=port, issuer=issuer, audience=AUDIENCE, secret=SECRET, origin=product.origin)
    (folder / "settings.yaml").write_text(settings, encoding="utf-8")
    (folder / "users.yaml").write_text(NANO_USERS, encoding="utf-8")
    arguments = [str(program), "--config", str(folder), "--port", str(port), "--profile", "oauth21"]
    provider = Program(arguments, log_file=tmp_path / "nanoidp.log", cwd=folder)
    provider.wait_ready(lambda: _listens(issuer))
    recorder = RecordingUpstream(background).start()
    product.config = configuration(issuer, recorder, None, scopes=["openid", "profile", "email", "offline_access"], resources=[AUDIENCE])
    product.config["spa"] = {"directory": "web"}
    site = Site(issuer, provider, product, recorder, None)
    try:
        product.start()
        yield site
    finally:
        stop(site)


def _listens(issuer: str) -> bool:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{issuer}/.well-known/openid-configuration", timeout=5) as answer:
        return bool(answer.status == 200)


def stop(site: Site) -> None:
    if site.product.program is not None:
        site.product.stop(5)
    if site.api is not None:
        site.api.stop()
    site.recorder.stop()
    site.provider.stop(3)


@pytest.fixture
def browser() -> Browser:
    return Browser()
