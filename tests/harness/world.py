"""Everything around one product: provider, example API, recording upstream, and a configuration that joins them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.background import Background
from tests.harness.browser import Browser, Page
from tests.harness.example_api import ExampleApi
from tests.harness.people import sign_in
from tests.harness.product import Product, make_keys
from tests.harness.programs import free_port
from tests.harness.provider import Provider, as_client
from tests.harness.upstream import RecordingUpstream

AUDIENCE = "https://api.example.com"
SECRET = "a-client-secret-for-tests-0123456789"
SCOPES = ["openid", "profile", "email", "offline_access", "orders:read", "orders:write"]


def routes_for(api: str, recorder: str) -> list[dict[str, Any]]:
    """The routes every black-box test may count on."""
    return [
        {"path": "/api/", "upstream": f"{api}/"},
        {"path": "/api/orders", "upstream": f"{api}/orders", "scopes": ["orders:read"]},
        {"path": "/api/payments", "upstream": f"{api}/payments", "acr": ["mfa"]},
        {"path": "/sales/", "upstream": f"{recorder}/sales/", "claims": {"department": ["sales"]}},
        {"path": "/record/", "upstream": f"{recorder}/up/"},
        {"path": "/gone/", "upstream": "http://127.0.0.1:9/"},
        {"path": "/open/", "upstream": f"{recorder}/open/", "token": "none"},
        {"path": "/machine/", "upstream": f"{recorder}/machine/", "token": "client"},
        {"path": "/either/", "upstream": f"{recorder}/up/", "token": "user_or_client"},
        {"path": "/greeting/", "upstream": f"{recorder}/up/", "token": "user_or_none"},
        {"path": "/quick/", "upstream": f"{recorder}/up/", "head_timeout": "500ms", "idle_timeout": "500ms"},
        {"path": "/files/", "upstream": f"{recorder}/up/", "navigable": True, "redirect_origins": ["https://files.example.com"]},
        {"path": "/fresh/", "upstream": f"{recorder}/fresh/", "max_age": "1h"},
        {"path": "/other/", "upstream": f"{recorder}/other/", "audience": "https://other.example.com"},
        {"path": "/writers/", "upstream": f"{recorder}/writers/", "scopes": ["orders:write"]},
        {
            "path": "/region/", "upstream": f"{recorder}/elsewhere/",
            "upstream_by_claim": {"claim": "region", "eu": f"{recorder}/eu/", "us": f"{recorder}/us/"},
        },
    ]


@dataclass(slots=True)
class World:
    """One product and what it talks to."""

    folder: Path
    background: Background
    provider: Provider
    api: ExampleApi
    recorder: RecordingUpstream
    product: Product

    @property
    def app(self) -> str:
        return self.product.origin

    async def signed_in(self, person: str = "ada", **more: str) -> Browser:
        """A browser that has signed in and shows the app."""
        browser = Browser()
        page = await self.sign_in(browser, person, **more)
        assert page.status == 200, (page.url, page.status, page.text[:600])
        return browser

    async def sign_in(self, browser: Browser, person: str = "ada", **more: str) -> Page:
        return await sign_in(browser, self.app, person=person, **more)

    def quiet(self) -> None:
        """Knobs, ledger and recorder as new; sessions stay."""
        self.provider.reset()
        self.recorder.clear()

    def stop(self) -> None:
        self.product.stop(5)
        self.api.stop()
        self.recorder.stop()
        self.provider.stop()


def build_world(
    folder: Path, background: Background, *, config: Mapping[str, Any] | None = None, client: Mapping[str, Any] | None = None
) -> World:
    """A running world. ``config`` is merged section by section over the default one."""
    make_keys(folder)
    (folder / "web").mkdir(exist_ok=True)
    (folder / "web" / "index.html").write_text("<!doctype html><title>app</title><h1>The app</h1>", encoding="utf-8")
    product = Product(folder=folder, config={}, start=False)
    registration = dict(as_client("spa", product.origin, SECRET, name="Orders", **(client or {})))
    provider = Provider(folder=folder, clients=[registration], audience=AUDIENCE, port=free_port())
    api = ExampleApi(folder=folder, issuer=provider.issuer, audience=AUDIENCE)
    recorder = RecordingUpstream(background).start()
    product.config = merged(default_config(provider.issuer, routes_for(api.url, recorder.url)), config or {})
    world = World(folder, background, provider, api, recorder, product)
    try:
        product.start()
    except BaseException:
        world.api.stop()
        world.provider.stop()
        world.recorder.stop()
        if product.program is not None:
            product.program.stop(2)
        raise
    return world


def default_config(issuer: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "server": {"workers": 1, "grace": "3s"},
        "provider": {"issuer": issuer, "client_id": "spa", "client_secret": SECRET, "scopes": SCOPES, "resources": [AUDIENCE]},
        "session": {"store": "sqlite:sessions.db", "keys_file": "keys.json"},
        "spa": {"directory": "web"},
        "log": {"level": "debug", "format": "json"},
        "routes": routes,
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(base))
    for section, content in changes.items():
        result[section] = {**result.get(section, {}), **content} if isinstance(content, Mapping) else content
    return result
