"""The harness itself: a browser model that stores what Chromium would not, or an upstream that loses bytes, would prove nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.harness.background import Background
from tests.harness.browser import relation, worse
from tests.harness.canary import find_secrets
from tests.harness.chaos import ChaosProxy
from tests.harness.forms import read_forms
from tests.harness.http import Address, ask
from tests.harness.jar import Jar, site_of
from tests.harness.raw import exchange, split_at
from tests.harness.toml import to_toml
from tests.harness.upstream import RecordingUpstream, cut_after, reset, response, sending, stall

HTTP, HTTPS = "http://localhost:8080/", "https://app.example.test/"


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def upstream(background: Background) -> Iterator[RecordingUpstream]:
    made = RecordingUpstream(background).start()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("url", "text", "kept"),
    [
        (HTTP, "__Host-Http-bff=x; Secure; HttpOnly; Path=/; SameSite=Strict", True),
        (HTTP, "__Host-Http-bff=x; Secure; Path=/", False),
        (HTTP, "__Host-a=x; Secure; Path=/", True),
        (HTTP, "__Host-a=x; Path=/", False),
        (HTTP, "__Host-a=x; Secure; Path=/bff", False),
        (HTTPS, "__Host-a=x; Secure; Path=/; Domain=example.test", False),
        (HTTPS, "a=x; Domain=example.test", True),
        (HTTPS, "a=x; Domain=other.test", False),
        ("http://app.example.test/", "a=x; Secure", False),
        (HTTPS, "a=x; SameSite=None", False),
        (HTTPS, "a=" + "x" * 4095, True),
        (HTTPS, "a=" + "x" * 4096, False),
    ],
)
def test_the_jar_keeps_what_chromium_keeps(url: str, text: str, kept: bool) -> None:
    assert Jar().store(url, text) is kept


def test_same_site_is_decided_by_the_initiator_and_ports_do_not_matter() -> None:
    jar = Jar()
    for name, attribute in (("s", "; SameSite=Strict"), ("l", "; SameSite=Lax"), ("n", "; SameSite=None"), ("d", "")):
        jar.store(HTTP, f"{name}=1; Secure; Path=/{attribute}")
    foreign, sibling = "http://127.0.0.1:9400/login", "http://localhost:5173/"
    assert jar.header(HTTP) == jar.header(HTTP, initiator=sibling, navigation=False) == "s=1; l=1; n=1; d=1"
    assert jar.header(HTTP, initiator=foreign) == "l=1; n=1; d=1"
    assert jar.header(HTTP, initiator=foreign, navigation=False) == jar.header(HTTP, initiator=foreign, method="POST") == "n=1"
    assert site_of("http://app.localhost/") != site_of("http://api.localhost/") and site_of(HTTP) != site_of("https://localhost/")


def test_a_cookie_with_max_age_zero_deletes() -> None:
    jar = Jar()
    jar.store(HTTP, "a=1; Path=/")
    jar.store(HTTP, "a=; Path=/; Max-Age=0")
    assert not jar.cookies


def test_fetch_metadata_follows_the_worst_hop() -> None:
    assert relation(None, HTTP) == "none" and relation(HTTP, HTTP) == "same-origin"
    assert relation("http://localhost:1/", HTTP) == "same-site" and relation(HTTPS, HTTP) == "cross-site"
    assert worse("same-origin", "cross-site") == "cross-site" and worse("none", "none") == "none"


def test_forms_hold_hidden_fields_and_buttons() -> None:
    page = '<form method="post" action="/x"><input type="hidden" name="a" value="&lt;1"><button name="b" value="2">Go</button></form>'
    (form,) = read_forms(page)
    assert (form.action, form.method, form.fields, form.buttons) == ("/x", "post", {"a": "<1"}, [("b", "2")])


def test_configuration_is_written_as_toml_reads_it() -> None:
    import tomllib

    config = {"server": {"listen": "a:1", "on": True}, "routes": [{"path": "/a/", "claims": {"x": ["1"]}}, {"path": "/b/", "n": 3}]}
    assert tomllib.loads(to_toml(config)) == config


def test_secrets_are_found_in_every_spelling() -> None:
    secret = "eyJhbGciOiJ9.eyJzdWIiOiJ9.c2lnbmF0dXJlLW9mLXRoaXM"
    for text in (secret, "c2lnbmF0dXJlLW9mLXRoaXM", "ZXlKaGJHY2lPaUo5LmV5SnpkV0lpT2lKOS5jMmxuYm1GMGRYSmxMVzltTFhSb2FYTQ"):
        assert find_secrets([secret], {"log": b"... " + text.encode() + b" ..."})
    assert not find_secrets([secret, "short"], {"log": b"nothing, but short words"})


async def test_the_upstream_keeps_exact_bytes_whatever_the_split(upstream: RecordingUpstream) -> None:
    data = b"POST /a?b HTTP/1.1\r\nhOsT:  x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    outcome = await exchange(Address("127.0.0.1", upstream.port), split_at(data, 5, 40, 64), pause_s=0.01, wait_s=0.3)
    (seen,) = upstream.seen
    assert outcome.statuses == [200] and seen.head == data[: data.index(b"3\r\n")] and seen.body == b"abc" and seen.header("host") == "x"


async def test_the_raw_client_counts_every_answer(upstream: RecordingUpstream) -> None:
    two = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    outcome = await exchange(Address("127.0.0.1", upstream.port), [two], wait_s=0.3)
    assert outcome.statuses == [200, 200] and not outcome.closed


async def test_the_upstream_misbehaves_on_request(upstream: RecordingUpstream) -> None:
    whole = response(200, b"x" * 100)
    upstream.behaviours |= {"/cut": cut_after(whole, len(whole) - 50), "/reset": reset, "/stall": stall, "/bytes": sending(response(418))}
    assert not (await ask("GET", f"{upstream.url}/cut")).complete
    assert (await ask("GET", f"{upstream.url}/bytes")).status == 418
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await ask("GET", f"{upstream.url}/reset")
    with pytest.raises(TimeoutError):
        await ask("GET", f"{upstream.url}/stall", timeout_s=0.2)


async def test_the_chaos_proxy_passes_and_breaks(background: Background, upstream: RecordingUpstream) -> None:
    proxy = ChaosProxy(background, upstream.port).start()
    url = f"http://127.0.0.1:{proxy.port}/x"
    try:
        assert (await ask("GET", url)).status == 200
        proxy.set("reset", after_bytes=20)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask("GET", url)
        proxy.set("cut", after_bytes=150)
        assert not (await ask("GET", url)).complete
        proxy.set("refuse")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask("GET", url)
        proxy.set("blackhole")
        with pytest.raises(TimeoutError):
            await ask("GET", url, timeout_s=0.3)
        proxy.set("pass", delay_s=0.05, drip_bytes=50)
        assert (await ask("GET", url)).complete
    finally:
        proxy.stop()
