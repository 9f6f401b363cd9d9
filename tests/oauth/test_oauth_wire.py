"""The wire over real sockets: deadlines, TLS, and errors of the network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from bff.base.errors import ProviderMisbehaved, ProviderUnavailable
from bff.oauth.client import _HEADERS, Wire
from bff.oauth.transport import _wire_of

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


async def ask(serve: Serve, wire: Wire, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", method: str = "GET") -> Any:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        async with wire:
            url = f"{'https' if context else 'http'}://{host}:{port}/x"
            return await (wire.get_json(url) if method == "GET" else wire.post_form(url, [("a", "b c")]))
    finally:
        server.close()


def answering(*pieces: bytes, pause_s: float = 0.0) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return serve


async def test_an_answer_comes_back_whole() -> None:
    assert await ask(answering(OK[:-1], OK[-1:]), Wire()) == {}


async def test_a_form_is_posted_as_a_form() -> None:
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"a=b+c"))
        writer.write(OK)
        await writer.drain()
        writer.close()

    answer = await ask(serve, Wire(), method="POST")
    assert (answer.status, answer.body) == (200, b"{}")
    assert b"content-type: application/x-www-form-urlencoded" in bytes(seen).lower()


@pytest.mark.row("META-3", "F26", "F27")
@pytest.mark.parametrize("drip", [[], [b"HTTP/1.1 200 OK\r\n"] + [b"x: y\r\n"] * 100, [OK.replace(b": 2", b": 999")] + [b" "] * 100])
async def test_silence_and_slow_drips_end_at_the_total_deadline(drip: list[bytes]) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(ProviderUnavailable):
        await ask(answering(*(drip or [b""] * 100), pause_s=0.05), Wire(timeout_s=0.3))
    assert asyncio.get_running_loop().time() - started < 2


@pytest.mark.row("META-3", "D8", "F27")
async def test_an_endless_body_ends_at_the_size_bound() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with pytest.raises(ProviderMisbehaved):
        await ask(answering(head, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 100), Wire(max_bytes=100_000))


@pytest.mark.row("F27")
@pytest.mark.parametrize("junk", [b"", b"hello", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", b"SSH-2.0-x\r\n\r\n"])
async def test_an_answer_that_breaks_off_or_is_not_http_is_an_outage(junk: bytes) -> None:
    with pytest.raises(ProviderUnavailable):
        await ask(answering(junk), Wire())


@pytest.mark.row("F25")
async def test_a_refused_connection_is_an_outage() -> None:
    async with Wire() as wire:
        with pytest.raises(ProviderUnavailable):
            await wire.get_json("http://127.0.0.1:1/")


@pytest.mark.row("K4")
async def test_the_environment_does_not_reroute_or_authenticate_a_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        writer.close()

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    for name, value in (("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1"), ("NETRC", str(tmp_path / "netrc"))):
        monkeypatch.setenv(name, value)
    assert await ask(serve, Wire()) == {}
    assert b"authorization" not in bytes(seen).lower()


@pytest.mark.row("J8")
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "data:,x", "http://", "gopher://x", "https://x\n/"])
async def test_an_address_that_is_not_http_goes_nowhere(url: str) -> None:
    async with Wire() as wire:
        with pytest.raises(ProviderMisbehaved):
            await wire.get_json(url)


@pytest.mark.row("J8", "META-3")
@pytest.mark.parametrize("host", ["xn--", "xn--a.example", "xn---.test", "xn--zzzzzzzz9999.test"])
async def test_a_host_that_is_no_name_in_any_alphabet_goes_nowhere(host: str) -> None:
    """Metadata may name it. Its failure is the provider's, and told as such: nobody but us takes another for one."""
    async with Wire() as wire:
        for call in (wire.get_json(f"https://{host}/x"), wire.post_form(f"https://{host}/x", [("a", "b")])):
            with pytest.raises(ProviderMisbehaved):
                await call


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test/",
        "https://a.test:443/x?y",
        "https://A.test:8443/",
        "http://[::1]:8080/x",
        "http://[::1]/",
        "https://b\u00fccher.test/\u00e4",
        "http://u:p@h.test/",
    ],
)
@pytest.mark.parametrize(("method", "content"), [("GET", None), ("POST", b"a=b"), ("POST", b"")])
async def test_the_fields_that_we_write_are_those_that_httpx_would(url: str, method: str, content: bytes | None) -> None:
    async with Wire() as wire:
        ours = wire._build(method, url, {"DPoP": "x"}, content)
        theirs = httpx.Request(method, url, headers={**_HEADERS, "DPoP": "x"}, content=content)
        assert sorted((await _wire_of(ours)).split(b"\r\n")) == sorted((await _wire_of(theirs)).split(b"\r\n"))


def tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.mark.row("META-4")
async def test_tls_is_verified_against_the_configured_authority(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca_file = str(tmp_path / "ca.pem")
    good = tls(ours.issue_cert("localhost"))
    assert await ask(answering(OK), Wire(ca_file=ca_file), context=good, host="localhost") == {}
    for wire, context in (
        (Wire(), good),
        (Wire(ca_file=ca_file), tls(ours.issue_cert("elsewhere.test"))),
        (Wire(ca_file=ca_file), tls(other.issue_cert("localhost"))),
    ):
        with pytest.raises(ProviderUnavailable):
            await ask(answering(OK), wire, context=context, host="localhost")


@pytest.mark.row("CAUTH-8")
async def test_a_client_certificate_is_shown_when_configured(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("client.test")
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    context = tls(authority.issue_cert("localhost"))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    files = {"ca_file": str(tmp_path / "ca.pem"), "client_cert_file": str(tmp_path / "me.pem")}
    assert await ask(answering(OK), Wire(**files), context=context, host="localhost") == {}
