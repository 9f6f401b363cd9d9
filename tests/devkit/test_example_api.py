"""The example API trusts nobody: each token is checked by the API itself (RS-1 to RS-5, RS-7)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bff.devkit import Mutation, listen_loopback
from spa_example.api import build_api, serve_api
from tests.devkit.conftest import AUDIENCE, Script
from tests.harness.browser import Browser
from tests.harness.http import Answer, ask


class Api:
    """The API at ``url``, called by hand."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str, *authorization: str, method: str = "GET", body: bytes | None = None) -> Answer:
        headers = [("Authorization", value) for value in authorization]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        return await ask(method, f"{self.url}{path}", headers=headers, body=body)


@pytest.fixture
async def api(script: Script) -> AsyncIterator[Api]:
    sock = listen_loopback()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    stop = asyncio.Event()
    app = build_api(issuer=script.provider.issuer, audience=AUDIENCE, tick_s=0.01)
    serving = asyncio.create_task(serve_api(app, bind=f"fd://{sock.detach()}", stop=stop))
    yield Api(url)
    stop.set()
    await serving


async def bearer(script: Script, **how: Any) -> str:
    return f"Bearer {(await script.tokens(**how))['access_token']}"


async def test_a_good_token_is_answered_with_who_called_and_what_arrived(api: Api, script: Script) -> None:
    answer = await api.get("/orders", await bearer(script))
    told = answer.json()
    assert answer.status == 200 and told["orders"] and told["caller"]["sub"] == "ada-7c1f04"
    assert told["received"]["cookie_arrived"] is False and told["received"]["authorization"] == "Bearer"
    assert "uthorization" not in str(told["received"]["headers"])


@pytest.mark.row("RS-1")
@pytest.mark.parametrize("typ", ["JWT", "logout+jwt", "token-introspection+jwt", None])
async def test_only_access_tokens_are_accepted(api: Api, script: Script, typ: str | None) -> None:
    change = Mutation("access_token", header={"typ": typ}) if typ else Mutation("access_token", remove_header=("typ",))
    script.provider.knobs.mutations.append(change)
    answer = await api.get("/whoami", await bearer(script))
    assert answer.status == 401 and 'error="invalid_token"' in (answer.header("www-authenticate") or "")
    id_token = (await script.tokens())["id_token"]
    assert (await api.get("/whoami", f"Bearer {id_token}")).status == 401
    script.provider.knobs.mutations.append(Mutation("access_token", header={"typ": "application/at+jwt"}))
    assert (await api.get("/whoami", await bearer(script))).status == 200


@pytest.mark.row("RS-2", "RS-5")
@pytest.mark.parametrize(
    "change",
    [
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "https://other.example.com"}},
        {"claims": {"aud": []}},
        {"remove": ("aud",)},
        {"claims": {"exp": int(time.time()) - 60}},
        {"claims": {"exp": "soon"}},
        {"claims": {"exp": True}},
        {"remove": ("exp",)},
        {"remove": ("sub",)},
        {"remove": ("client_id",)},
        {"remove": ("iat",)},
        {"remove": ("jti",)},
        {"claims": {"iat": int(time.time()) + 600}},
        {"claims": {"cnf": {"jkt": "x"}}},
        {"header": {"crit": ["x"]}},
        {"mode": "none"},
        {"mode": "bad_signature"},
        {"mode": "empty_signature"},
        {"mode": "hmac_public_pem"},
        {"mode": "foreign_key"},
        {"mode": "embedded_jwk"},
        {"mode": "no_kid"},
        {"mode": "garbage"},
        {"mode": "encrypted"},
    ],
    ids=lambda change: re.sub(r"[0-9]{9,}", "a-time", str(change)),
)
async def test_a_token_with_one_thing_wrong_is_an_invalid_token(api: Api, script: Script, change: dict[str, Any]) -> None:
    script.provider.knobs.mutations.append(Mutation("access_token", **change))
    answer = await api.get("/whoami", await bearer(script))
    assert answer.status == 401 and 'error="invalid_token"' in (answer.header("www-authenticate") or "")
    assert (await api.get("/whoami", await bearer(script))).status == 200


@pytest.mark.row("RS-3")
async def test_a_missing_scope_is_named_and_refused(api: Api, script: Script) -> None:
    chloe = await bearer(script, person="chloe")
    answer = await api.get("/orders", chloe, method="POST", body=b'{"item": "Lamp"}')
    assert answer.status == 403 and 'scope="orders:write"' in (answer.header("www-authenticate") or "")
    assert (await api.get("/orders", chloe)).status == 200
    script.browser.jar.cookies.clear()
    created = await api.get("/orders", await bearer(script), method="POST", body=b'{"item": "Lamp", "quantity": 2}')
    assert created.status == 201 and created.json()["order"]["by"] == "ada-7c1f04"


@pytest.mark.row("RS-4")
async def test_no_token_is_challenged_without_an_error_and_a_token_in_two_ways_is_a_bad_request(api: Api, script: Script) -> None:
    token = await bearer(script)
    nothing = await api.get("/orders")
    assert nothing.status == 401 and "error=" not in (nothing.header("www-authenticate") or "")
    assert (await api.get("/orders", "Basic eDp5")).status == 401
    assert (await api.get(f"/orders?access_token={token[7:]}")).status == 400
    assert (await api.get(f"/orders?access_token={token[7:]}", token)).status == 400
    assert (await api.get("/orders", token, token)).status == 400
    assert (await api.get("/orders", "Bearer")).status == 401


@pytest.mark.row("RS-7", "STEPUP-1")
async def test_payments_demand_a_second_factor_and_say_which(api: Api, script: Script) -> None:
    answer = await api.get("/payments", await bearer(script))
    challenge = answer.header("www-authenticate") or ""
    assert answer.status == 401 and 'error="insufficient_user_authentication"' in challenge and 'acr_values="mfa"' in challenge
    assert (await api.get("/payments", await bearer(script, acr_values="mfa"))).status == 200


async def test_an_order_that_makes_no_sense_is_refused(api: Api, script: Script) -> None:
    token = await bearer(script)
    for body in (b"", b"[]", b'{"item": ""}', b'{"item": "x", "quantity": -1}', b"{"):
        assert (await api.get("/orders", token, method="POST", body=body)).status == 400


async def test_expired_tokens_stop_working_here_once_the_key_is_withdrawn(script: Script) -> None:
    sock = listen_loopback()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    stop = asyncio.Event()
    app = build_api(issuer=script.provider.issuer, audience=AUDIENCE, keys_max_age_s=0.0)
    serving = asyncio.create_task(serve_api(app, bind=f"fd://{sock.detach()}", stop=stop))
    api, token = Api(url), await bearer(script)
    assert (await api.get("/whoami", token)).status == 200
    script.provider.expire_access_tokens()
    assert (await api.get("/whoami", token)).status == 401
    assert (await api.get("/whoami", await bearer(script))).status == 200
    stop.set()
    await serving


async def test_without_keys_it_says_503_and_not_401(script: Script) -> None:
    script.provider.knobs.turn({"faults": {"jwks": {"status": 500}}})
    app = build_api(issuer=script.provider.issuer, audience=AUDIENCE)
    answer = await app.test_client().get("/whoami", headers={"Authorization": await bearer(script)})
    assert answer.status_code == 503


async def test_events_are_numbered_and_a_reconnect_goes_on_after_the_last(api: Api, script: Script) -> None:
    token = await bearer(script)
    first = await api.get("/ticks?count=3", token)
    assert first.header("content-type") == "text/event-stream" and [line for line in first.text.splitlines() if line.startswith("id:")] == [
        "id: 1", "id: 2", "id: 3",
    ]
    headers = [("Authorization", token), ("Last-Event-ID", "3")]
    again = await ask("GET", f"{api.url}/ticks?count=1", headers=headers)
    assert "id: 4" in again.text


async def test_the_websocket_needs_a_token_and_echoes(api: Api, script: Script) -> None:
    async with Browser().websocket(f"{api.url}/echo".replace("http:", "ws:")) as refused:
        assert refused.status == 401
    token = await bearer(script)

    class WithToken(Browser):
        def _with_cookies(self, headers: list[tuple[str, str]], url: str, **_: Any) -> list[tuple[str, str]]:
            return [*headers, ("Authorization", token)]

    async with WithToken().websocket(f"{api.url}/echo".replace("http:", "ws:")) as socket:
        assert socket.status == 101 and "ada-7c1f04" in await socket.receive()
        await socket.send("hello")
        assert await socket.receive() == "hello"


async def test_a_download_is_chunked_and_has_the_asked_size(api: Api, script: Script) -> None:
    answer = await api.get("/download?bytes=100000", await bearer(script))
    assert len(answer.body) == 100_000 and answer.header("transfer-encoding") == "chunked" and answer.complete
    assert (await api.get("/download?bytes=many", await bearer(script))).status == 400


async def test_health_needs_no_token(api: Api) -> None:
    assert (await api.get("/health")).json() == {"status": "ok"}
