"""A provider served in the test's own loop, and a scripted client that knows OAuth and nothing of our code."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from bff.devkit import DevClient, DevProvider, listen_loopback, serve_provider
from tests.harness.browser import Browser, Page
from tests.harness.http import Answer, ask
from tests.harness.people import go_through

APP = "http://localhost:1"
CALLBACK = f"{APP}/bff/callback"
AUDIENCE = "https://api.example.com"
SCOPE = "openid profile orders:read orders:write offline_access"


def body_of(token: str) -> dict[str, Any]:
    return _part(token, 1)


def head_of(token: str) -> dict[str, Any]:
    return _part(token, 0)


def _part(token: str, at: int) -> dict[str, Any]:
    text = token.split(".")[at]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return read


class StopAtCallback(Browser):
    """A browser that does not connect to the app: nothing listens there."""

    async def _exchange(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None) -> Answer:
        if url.startswith(APP):
            return Answer(200, (("content-type", "text/plain"),), b"the app", b"", url)
        return await Browser._exchange(self, method, url, headers, body)


@dataclass
class Script:
    """The scripted client: each method one message of the protocol."""

    provider: DevProvider
    client_id: str = "spa"
    client_secret: str = "s3cret"
    browser: StopAtCallback = field(default_factory=StopAtCallback)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(40))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def request(self, **changes: str | None) -> dict[str, str]:
        values: dict[str, str | None] = {
            "client_id": self.client_id, "redirect_uri": CALLBACK, "response_type": "code", "scope": SCOPE,
            "state": "the-state", "nonce": "the-nonce", "code_challenge": self.challenge, "code_challenge_method": "S256", **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    async def authorize(self, *, person: str = "ada", extra: str = "", **changes: str | None) -> Page:
        url = f"{self.provider.issuer}/authorize?{urlencode(self.request(**changes))}{extra}"
        page = await self.browser.navigate(url, initiator=f"{APP}/")
        return await go_through(self.browser, page, person=person, app=APP)

    async def code(self, **how: Any) -> str:
        return parameters(await self.authorize(**how))["code"]

    async def post(self, path: str, form: dict[str, Any], *, basic: bool = True) -> Answer:
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        if basic:
            pair = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
            headers.append(("Authorization", f"Basic {pair}"))
        return await ask("POST", f"{self.provider.issuer}{path}", headers=headers, body=urlencode(form, doseq=True).encode())

    async def redeem(self, code: str, **changes: Any) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": self.verifier, **changes}
        return await self.post("/token", form)

    async def tokens(self, **how: Any) -> dict[str, Any]:
        answer = await self.redeem(await self.code(**how))
        assert answer.status == 200, answer.text
        read: dict[str, Any] = answer.json()
        return read

    async def refresh(self, token: str, **changes: Any) -> Answer:
        return await self.post("/token", {"grant_type": "refresh_token", "refresh_token": token, **changes})

    async def get(self, path: str, token: str = "") -> Answer:
        headers = [("Authorization", f"Bearer {token}")] if token else []
        return await ask("GET", f"{self.provider.issuer}{path}", headers=headers)


def parameters(page: Page) -> dict[str, str]:
    """The authorization response that reached the callback."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


@pytest.fixture
async def provider() -> AsyncIterator[DevProvider]:
    sock = listen_loopback()
    made = DevProvider(
        issuer=f"http://127.0.0.1:{sock.getsockname()[1]}",
        audience=AUDIENCE,
        clients=[
            DevClient("spa", "s3cret", redirect_uris=(CALLBACK,), post_logout_redirect_uris=(f"{APP}/",), name="Orders"),
            DevClient("post", "s3cret", client_auth="client_secret_post", redirect_uris=(CALLBACK,)),
            DevClient("narrow", "s3cret", redirect_uris=(CALLBACK,), scopes=frozenset({"openid", "jobs"}), resources=frozenset({"https://a.example"})),
        ],
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_provider(made, sock=sock, stop=stop))
    yield made
    stop.set()
    await serving


@pytest.fixture
def script(provider: DevProvider) -> Script:
    return Script(provider)
