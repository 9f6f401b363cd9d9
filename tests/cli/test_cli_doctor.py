"""The doctor: each ill has its line; a real provider gets a clean bill."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from bff.cli.doctor import client, provider, surroundings
from bff.cli.doctor.lines import Line
from bff.cli.raw import Http, Reply, Unreachable
from bff.settings import Settings, load_settings
from tests.cli.conftest import Outcome
from tests.harness.provider import Provider, as_client

Bff = Callable[..., Outcome]
ISSUER = "https://id.example.com"
METADATA: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
    "end_session_endpoint": f"{ISSUER}/logout",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "code_challenge_methods_supported": ["S256"],
    "authorization_response_iss_parameter_supported": True,
    "id_token_signing_alg_values_supported": ["RS256"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "backchannel_logout_supported": True,
    "scopes_supported": ["openid", "profile", "offline_access"],
}


class Canned:
    """An Asker with prepared answers by URL up to the query; ``None`` is unreachable."""

    def __init__(self, **answers: Reply | None) -> None:
        self.answers = answers
        self.sent: list[tuple[str, list[tuple[str, str]]]] = []

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self._find(url, [])

    def post(self, url: str, form: list[tuple[str, str]], headers: Mapping[str, str] | None = None) -> Reply:
        return self._find(url, form)

    def _find(self, url: str, form: list[tuple[str, str]]) -> Reply:
        self.sent.append((url, form))
        reply = self.answers.get(url.partition("?")[0].rpartition("/")[2].replace("-", "_"), Reply(404, {}, b""))
        if reply is None:
            raise Unreachable("no route to host")
        return reply


def as_reply(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {"date": formatdate(time.time(), usegmt=True), **headers}, json.dumps(body).encode())


def jwks() -> dict[str, Any]:
    return {"keys": [{**RSAKey.generate_key(2048).as_dict(private=False), "kid": "k", "use": "sig"}]}


@pytest.fixture
def settings(config: Path) -> Settings:
    return load_settings(config, {})


def look(settings: Settings, **changes: Any) -> dict[str, Line]:
    """Lines about a provider whose metadata has ``changes``."""
    document = {name: value for name, value in {**METADATA, **changes}.items() if value is not ...}
    found, lines = provider.discover(settings, Canned(openid_configuration=as_reply(document)))
    told = list(lines)
    if found is not None and found.provider is not None:
        told += provider.check_features(settings, found, found.provider)
    return {line.what: line for line in told}


def test_a_good_provider_gets_only_ok_lines(settings: Settings) -> None:
    """The positive twin of the table below."""
    assert {line.level for line in look(settings).values()} == {"ok"}


@pytest.mark.row("META-1", "OPS-1")
@pytest.mark.parametrize(
    ("changes", "what", "level"),
    [
        ({"issuer": ISSUER + "/"}, "issuer", "fail"),
        ({"issuer": ...}, "issuer", "fail"),
        ({"token_endpoint": "http://id.example.com/token"}, "discovery", "fail"),
        ({"token_endpoint": ...}, "discovery", "fail"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE", "warn"),
        ({"authorization_response_iss_parameter_supported": ...}, "iss parameter", "warn"),
        ({"grant_types_supported": ["authorization_code"]}, "refresh", "warn"),
        ({"scopes_supported": ["openid", "profile"]}, "refresh", "warn"),
        ({"scopes_supported": ["openid", "offline_access"]}, "scopes", "warn"),
        ({"end_session_endpoint": ...}, "logout", "warn"),
        ({"revocation_endpoint": ...}, "revocation", "warn"),
        ({"backchannel_logout_supported": ...}, "back-channel logout", "warn"),
    ],
)
def test_each_ill_of_the_metadata_has_its_line(settings: Settings, changes: dict[str, Any], what: str, level: str) -> None:
    """META-1: with a reason and a fix."""
    line = look(settings, **changes)[what]
    assert line.level == level
    assert line.why
    assert line.fix


@pytest.mark.parametrize("reply", [None, Reply(404, {}, b""), Reply(200, {}, b"<html>"), Reply(200, {}, b"[]"), Reply(500, {}, b"")])
def test_a_provider_without_metadata_is_told(settings: Settings, reply: Reply | None) -> None:
    """Discovery: unreachable, missing, HTML."""
    found, lines = provider.discover(settings, Canned(openid_configuration=reply, oauth_authorization_server=reply))
    assert found is None
    assert [line.level for line in lines] == ["fail"]


@pytest.mark.parametrize(("apart", "level"), [(0, "ok"), (20, "warn"), (-20, "warn"), (90, "fail"), (-9000, "fail")])
def test_clocks_are_compared(apart: float, level: str) -> None:
    """A wrong clock looks like bad tokens."""
    reply = as_reply({}, date=formatdate(1_800_000_000 + apart, usegmt=True))
    assert [line.level for line in provider.check_clock(reply, 60, now=1_800_000_000)] == [level]


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_provider_without_date_is_told(date: str) -> None:
    """Nothing to compare with."""
    assert [line.level for line in provider.check_clock(Reply(200, {"date": date}, b""), 60)] == ["warn"]


@pytest.mark.parametrize(
    ("reply", "algorithms", "levels"),
    [
        (as_reply(jwks()), ("RS256",), ["ok", "ok"]),
        (as_reply(jwks()), ("ES256",), ["ok", "fail"]),
        (as_reply({"keys": []}), ("RS256",), ["fail"]),
        (as_reply({"keys": [{"kty": "oct", "k": "AAAA"}]}), ("RS256",), ["fail"]),
        (None, ("RS256",), ["fail"]),
        (Reply(200, {}, b"no"), ("RS256",), ["fail"]),
    ],
)
def test_keys_and_algorithms_are_looked_at(settings: Settings, reply: Reply | None, algorithms: tuple[str, ...], levels: list[str]) -> None:
    """What the provider signs with must be what we accept."""
    found, _ = provider.discover(settings, Canned(openid_configuration=as_reply(METADATA)))
    assert found is not None
    assert found.provider is not None
    assert [line.level for line in provider.check_keys(found.provider, Canned(jwks=reply), algorithms)] == levels


REDIRECT = "http://localhost:8080/bff/callback"


@pytest.mark.row("AUTHZ-7")
@pytest.mark.parametrize(
    ("reply", "level"),
    [
        (Reply(302, {"location": f"{REDIRECT}?error=login_required&state=x"}, b""), "ok"),
        (Reply(303, {"location": f"{REDIRECT}?error=interaction_required"}, b""), "ok"),
        (Reply(302, {"location": f"{REDIRECT}?error=invalid_scope"}, b""), "fail"),
        (Reply(302, {"location": f"{REDIRECT}x?error=login_required"}, b""), "fail"),
        (Reply(302, {"location": "https://id.example.com/oauth/error?x=1"}, b""), "fail"),
        (Reply(302, {"location": "https://id.example.com/login"}, b""), "warn"),
        (Reply(400, {}, b"redirect_uri_mismatch"), "fail"),
        (Reply(503, {}, b""), "warn"),
        (Reply(200, {}, b"<html>login"), "warn"),
    ],
)
def test_the_redirect_uri_is_judged_by_where_the_browser_is_sent(reply: Reply, level: str) -> None:
    """RFC 6749 §4.1.2.1: a provider must not redirect to what is not registered."""
    assert client.judge_redirect("x", REDIRECT, reply).level == level


@pytest.mark.parametrize(
    ("reply", "level"),
    [
        (as_reply({"error": "invalid_grant"}, 400), "ok"),
        (as_reply({"error": "invalid_client"}, 401), "fail"),
        (as_reply({}, 401), "fail"),
        (as_reply({"error": "unauthorized_client"}, 400), "fail"),
        (as_reply({"error": "server_error"}, 500), "warn"),
        (Reply(200, {}, b"<html>"), "warn"),
        (as_reply({"error": "x\x1b[31m"}, 400), "warn"),
    ],
)
def test_credentials_are_judged_by_the_answer_to_an_impossible_code(reply: Reply, level: str) -> None:
    """RFC 6749 §5.2: invalid_grant comes after client authentication."""
    line = client.judge_credentials(reply, "client_secret_basic")
    assert line.level == level
    assert "\x1b" not in str(line)


def test_pushed_requests_are_used_where_they_are_demanded(settings: Settings) -> None:
    """RFC 9126: the redirect URI is then judged at the PAR endpoint."""
    document = {**METADATA, "pushed_authorization_request_endpoint": f"{ISSUER}/par", "require_pushed_authorization_requests": True}
    found, _ = provider.discover(settings, Canned(openid_configuration=as_reply(document)))
    assert found is not None
    assert found.provider is not None
    for reply, level in (
        (as_reply({"request_uri": "urn:x"}, 201), "ok"),
        (as_reply({"error": "invalid_request"}, 400), "fail"),
        (None, "fail"),
    ):
        asked = Canned(par=reply, token=as_reply({"error": "invalid_grant"}, 400))
        assert [line.level for line in client.check_client(settings, found.provider, asked)] == [level, "ok"]
        assert dict(asked.sent[0][1])["redirect_uri"] == settings.redirect_uri


def test_the_surroundings_are_looked_at(settings: Settings, config: Path) -> None:
    """Store, upstreams, cookie and origin, switches."""
    assert [line.level for line in surroundings.check_store(settings)] == ["ok"]
    assert [line.level for line in surroundings.check_upstreams(settings)] == ["fail"]
    assert [line.level for line in surroundings.check_origin(settings)] == ["ok"]
    env = {"BFF_SERVER__PUBLIC_ORIGIN": "http://app.example.com", "BFF_SERVER__DANGER_PLAIN_HTTP_ORIGIN": "true"}
    env["BFF_SESSION__STORE"] = "sqlite:///proc/none/x.db"
    bad = load_settings(config, env)
    assert [line.level for line in surroundings.check_store(bad)] == ["fail"]
    assert [line.level for line in surroundings.check_origin(bad)] == ["fail"]
    assert any("server.danger_plain_http_origin is on" in line.why for line in surroundings.check_switches(bad, config))
    config.chmod(0o644)
    assert any(line.what == "provider.client_secret" for line in surroundings.check_switches(bad, config))
    proxied = load_settings(config, {"BFF_SERVER__PUBLIC_ORIGIN": "https://app.example.com"})
    assert [line.level for line in surroundings.check_origin(proxied)] == ["ok", "warn"]


def test_plain_http_speaks_to_a_dead_end_in_words() -> None:
    """Whatever goes wrong has a short reason."""
    with pytest.raises(Unreachable, match="refused"):
        Http().get("http://127.0.0.1:1/")


@pytest.fixture
def plain_server() -> Iterator[int]:
    """Something that speaks http; the port."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_another_service_is_not_taken_for_a_provider_of_another_name(settings: Settings) -> None:
    """Some JSON at that address: to set provider.issuer to exactly None would help nobody."""
    line = look(settings, issuer=...)["issuer"]
    assert "no provider's address" in line.why and "None" not in str(line) and "exactly that" not in line.fix


def test_a_port_that_speaks_no_tls_is_told_in_words(config: Path, plain_server: int) -> None:
    """OpenSSL says WRONG_VERSION_NUMBER."""
    there = f"https://127.0.0.1:{plain_server}"
    settings = load_settings(config, {"BFF_ROUTES__0__UPSTREAM": there, "BFF_PROVIDER__ISSUER": there})
    (upstream,) = surroundings.check_upstreams(settings)
    _, (discovery,) = provider.discover(settings, Http())
    for line in (upstream, discovery):
        assert line.level == "fail" and "does not speak TLS" in line.why and "http://" in line.fix and "VERSION" not in str(line)


def test_what_does_not_run_on_this_machine_is_asked_after(config: Path) -> None:
    """DNS and firewall have no part in it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        there = f"http://127.0.0.1:{free.getsockname()[1]}"
    settings = load_settings(config, {"BFF_ROUTES__0__UPSTREAM": there, "BFF_PROVIDER__ISSUER": there})
    (upstream,) = surroundings.check_upstreams(settings)
    _, (discovery,) = provider.discover(settings, Http())
    for line in (upstream, discovery):
        assert line.level == "fail" and "nothing listens there" in line.why and "is it running?" in line.fix and "DNS" not in line.fix


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    folder = tmp_path_factory.mktemp("provider")
    registered = dict(as_client("spa", "http://localhost:8080", "canary-5f1d9c3a7b"))
    started = Provider(folder=folder, clients=[registered], audience="https://api.example.com")
    yield started
    started.stop()


def test_a_real_provider_gets_a_clean_bill(bff: Bff, config: Path, running: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: every probe against a provider that runs, and no line shows a secret."""
    monkeypatch.setenv("BFF_PROVIDER__ISSUER", running.issuer)
    monkeypatch.setenv("BFF_ROUTES__0__UPSTREAM", running.issuer)
    outcome = bff("doctor")
    assert outcome.code == 0, outcome.out
    for start in (
        "ok    discovery",
        "ok    issuer",
        "ok    clock",
        "ok    keys",
        "ok    PKCE",
        "ok    redirect URI",
        "ok    credentials",
        "ok    store",
        "ok    upstream",
    ):
        assert start in outcome.out
    assert "canary-5f1d9c3a7b" not in outcome.out


def test_a_wrong_secret_and_a_wrong_redirect_uri_are_found(
    bff: Bff, config: Path, running: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end: exit 69, and the lines say which."""
    monkeypatch.setenv("BFF_PROVIDER__ISSUER", running.issuer)
    monkeypatch.setenv("BFF_PROVIDER__CLIENT_SECRET", "another")
    monkeypatch.setenv("BFF_SERVER__PUBLIC_ORIGIN", "http://localhost:9999")
    outcome = bff("doctor")
    assert outcome.code == 69
    assert "fail  redirect URI http://localhost:9999/bff/callback" in outcome.out
    assert "fail  credentials" in outcome.out
