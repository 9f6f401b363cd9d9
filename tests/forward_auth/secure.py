"""A product whose public origin is https: the front proxy ends TLS for browsers, and speaks TLS to an API behind it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

import trustme

from tests.forward_auth.fronts import FrontProxy
from tests.forward_auth.http2 import send_h2, trusting
from tests.forward_auth.judging import Outcome
from tests.harness.background import Background
from tests.harness.http import HeaderList
from tests.harness.programs import free_port
from tests.harness.upstream import RecordingUpstream
from tests.harness.world import World, build_world


class TlsUpstream(RecordingUpstream):
    """The recording API behind TLS. ``certificate`` is set before ``start``."""

    certificate: trustme.LeafCert

    async def _listen(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(context)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1024 * 1024, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]


@dataclass(frozen=True, slots=True)
class SecureWorld:
    """``apis``: ``right`` has the certificate that its route expects, the others one for another name, one of an unknown authority."""

    world: World
    authority_pem: bytes
    apis: dict[str, TlsUpstream]
    by_address: TlsUpstream

    def quiet(self) -> None:
        self.world.quiet()
        for api in (*self.apis.values(), self.by_address):
            api.clear()

    def stop(self) -> None:
        self.world.stop()
        for api in (*self.apis.values(), self.by_address):
            api.stop()


def build_secure_world(folder: Path, background: Background) -> SecureWorld:
    """Routes ``/tls-right/``, ``/tls-other_name/`` and ``/tls-stranger/`` go to https APIs by name, ``/tls-address/`` by address."""
    authority, apis_ca = trustme.CA(), trustme.CA()
    issued = {
        "right": apis_ca.issue_cert("localhost"),
        "other_name": apis_ca.issue_cert("elsewhere.example"),
        "stranger": trustme.CA().issue_cert("localhost"),
    }
    files = _write(authority.issue_cert("localhost"), folder)
    apis_ca.cert_pem.write_to_path(folder / "apis.pem")
    apis = {name: _start(certificate, background) for name, certificate in issued.items()}
    by_address = _start(apis_ca.issue_cert("127.0.0.1"), background)
    origin = f"https://localhost:{free_port()}"
    server = {
        "listen": f"127.0.0.1:{free_port()}", "public_origin": origin, "trusted_proxies": ["127.0.0.1/32"], "workers": 1, "grace": "3s",
    }  # fmt: skip
    client = {"redirect_uris": [f"{origin}/bff/callback"], "post_logout_redirect_uris": [f"{origin}/"]}
    config = {"server": server, "forward_auth": {"identity_headers": {"X-User": "sub", "X-Department": "department"}, **files}}
    world = build_world(folder, background, config=config, client=client)
    world.product.origin = origin
    trust = {"ca_file": str(folder / "apis.pem")}
    world.product.config["routes"] += [
        {"path": f"/tls-{name}/", "upstream": f"https://localhost:{api.port}/up/", **trust} for name, api in apis.items()
    ]
    up = world.recorder.url
    world.product.config["routes"] += [
        {"path": "/tls-address/", "upstream": f"https://127.0.0.1:{by_address.port}/up/", **trust},
        {"path": "/cookies/", "upstream": f"{up}/cookies/", "forward_cookies": ["theme"]},
    ]
    world.product.restart()
    return SecureWorld(world, authority.cert_pem.bytes(), apis, by_address)


def _start(certificate: trustme.LeafCert, background: Background) -> TlsUpstream:
    api = TlsUpstream(background)
    api.certificate = certificate
    api.start()
    return api


def _write(certificate: trustme.LeafCert, folder: Path) -> dict[str, str]:
    chain, key = folder / "front.pem", folder / "front.pem.key"  # beside it under this name HAProxy finds the key
    chain.write_bytes(b"".join(piece.bytes() for piece in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    key.chmod(0o600)
    return {"tls_cert_file": str(chain), "tls_key_file": str(key)}


async def through_tls(
    front: FrontProxy,
    secure: SecureWorld,
    version: str,
    method: str,
    target: str,
    headers: HeaderList,
    body: bytes | None = None,
    trailers: HeaderList | None = None,
) -> Outcome:
    """What came of a request in this version of HTTP, and what the API without TLS saw of it. ``trailers`` in HTTP/2 alone."""
    recorder = secure.world.recorder
    recorder.clear()
    if version == "http/1.1":
        answer = await front.ask(method, target, headers, body)
    else:
        address = replace(front.address, tls=trusting(secure.authority_pem, "h2"))
        answer = await send_h2(address, front.authority, method, target, headers, body, trailers)
    return Outcome(answer, tuple(recorder.seen))
