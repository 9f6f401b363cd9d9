"""TLS at the door and towards upstreams, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import datetime
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from bench.flow import Flow, Run, cpu_s, running
from tests.endurance.attackers import make_hello
from tests.harness.background import Background
from tests.harness.http import Wire, address_of, ask
from tests.harness.programs import free_port, wait_until

pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


HELLO = make_hello()


def write(cert: trustme.LeafCert, folder: Path, name: str) -> tuple[str, str]:
    """Certificate chain and key files."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    cert.private_key_pem.write_to_path(key)
    return str(chain), str(key)


# -- the door -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Secure:
    run: Run
    authority: trustme.CA
    folder: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.run.world.product.port}/free/json"

    def trust(self, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        for name, version in versions.items():
            setattr(context, name, version)
        return context

    def serial(self) -> str:
        """Of the certificate that a new handshake gets."""
        with socket.create_connection(("127.0.0.1", self.run.world.product.port), 5) as plain, ExitStack() as stack:
            wrapped = stack.enter_context(self.trust().wrap_socket(plain, server_hostname="localhost"))
            return str((wrapped.getpeercert() or {})["serialNumber"])


def secure_config(folder: Path, port: int) -> dict[str, Any]:
    listen = {"listen": f"127.0.0.1:{port}", "public_origin": f"https://localhost:{port}"}
    return {"server": {**listen, "tls_cert_file": str(folder / "door.pem"), "tls_key_file": str(folder / "door.key"), "head_timeout": "2s"}}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("door")
    authority = trustme.CA()
    write(authority.issue_cert("localhost"), folder, "door")
    port = free_port()
    with running(config=secure_config(folder, port), sign_in=False) as run:
        run.world.product.port = port
        yield Secure(run, authority, folder)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_12_and_13_are_spoken(version: ssl.TLSVersion, secure: Secure) -> None:
    answer = await ask("GET", secure.url, tls=secure.trust(minimum_version=version, maximum_version=version))
    assert answer.status == 200
    assert answer.header("strict-transport-security")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_11_is_refused(secure: Secure) -> None:
    context = secure.trust(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask("GET", secure.url, tls=context)


@pytest.mark.row("M2")
async def test_http_2_is_not_offered(secure: Secure) -> None:
    context = secure.trust()
    context.set_alpn_protocols(["h2", "http/1.1"])
    wire = await Wire.open(address_of(secure.url, tls=context))
    assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")
    await wire.close()


@pytest.mark.row("F46")
async def test_a_renewed_certificate_is_used_after_sighup_and_no_connection_is_dropped(secure: Secure) -> None:
    wire = await Wire.open(address_of(secure.url, tls=secure.trust()))
    request = f"GET /free/json HTTP/1.1\r\nHost: localhost:{secure.run.world.product.port}\r\n\r\n".encode()
    await wire.send(request)
    assert (await wire.read_answer("GET")).status == 200
    before = secure.serial()
    write(secure.authority.issue_cert("localhost"), secure.folder, "door")
    secure.run.world.product.reload()
    await asyncio.to_thread(wait_until, lambda: secure.serial() != before, timeout_s=15, what="the new certificate")
    await wire.send(request)
    assert (await wire.read_answer("GET")).status == 200, "the old connection was dropped"
    await wire.close()


async def test_a_broken_certificate_file_changes_nothing(secure: Secure) -> None:
    before = secure.serial()
    kept = (secure.folder / "door.pem").read_bytes()
    (secure.folder / "door.pem").write_text("no certificate")
    try:
        secure.run.world.product.reload()
        refused = lambda: "config_refused" in secure.run.world.product.logs  # noqa: E731
        await asyncio.to_thread(wait_until, refused, timeout_s=15, what="a refusal in the log")
        assert secure.serial() == before
        assert (await ask("GET", secure.url, tls=secure.trust())).status == 200
    finally:
        (secure.folder / "door.pem").write_bytes(kept)


@pytest.mark.row("D9")
async def test_a_stalled_handshake_is_dropped_and_harms_nobody(secure: Secure) -> None:
    begun = time.monotonic()
    stalled = [await Wire.open(secure.run.address) for _ in range(100)]
    for wire in stalled[:50]:
        await wire.send(b"\x16\x03\x01\x02\x00\x01")
    assert (await ask("GET", secure.url, tls=secure.trust())).status == 200
    async with asyncio.timeout(10):
        for wire in stalled:
            try:
                while await wire.reader.read(4096):
                    continue
            except ConnectionError:
                pass
            await wire.close()
    assert time.monotonic() - begun < 8


async def test_plain_http_at_the_tls_door_is_dropped(secure: Secure) -> None:
    wire = await Wire.open(secure.run.address)
    await wire.send(b"GET /free/json HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        async with asyncio.timeout(5):
            assert not (await wire.reader.read(4096)).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        pass
    await wire.close()


@contextmanager
def small(tmp_path: Path, **server: Any) -> Iterator[Secure]:
    """A TLS door with other bounds."""
    authority, port = trustme.CA(), free_port()
    write(authority.issue_cert("localhost"), tmp_path, "door")
    config = secure_config(tmp_path, port)
    config["server"] |= {"workers": 1, "head_timeout": "30s", **server}
    with running(config=config, sign_in=False) as run:
        run.world.product.port = port
        yield Secure(run, authority, tmp_path)


async def left(wire: Wire) -> bool:
    """Whether the door has closed this connection."""
    try:
        async with asyncio.timeout(2):
            return await wire.reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def gone(wire: Wire) -> bool:
    """The same without patience."""
    try:
        async with asyncio.timeout(0.05):
            while await wire.reader.read(4096):
                continue
            return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def connections(secure: Secure) -> int:
    text = secure.run.world.product.manage("/metrics")[1]
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith("bff_http_connections "))


@pytest.mark.row("D9", "D15", "F52")
@pytest.mark.parametrize("said", [b"", HELLO], ids=["silent", "hello and no more"])
async def test_handshakes_count_as_connections_and_give_way_to_a_newcomer(said: bytes, tmp_path: Path) -> None:
    with small(tmp_path, max_connections=50) as secure:
        held = [await Wire.open(secure.run.address) for _ in range(50)]
        for wire in held:
            await wire.send(said)
        await asyncio.to_thread(wait_until, lambda: connections(secure) == 50, what="the count")
        await asyncio.sleep(0.3)  # who has just come is not sent away by his own kind
        begun = time.monotonic()
        answer = await ask("GET", secure.url, tls=secure.trust())
        assert answer.status == 200 and time.monotonic() - begun < 1.0
        assert sum([await gone(wire) for wire in held]) == 1, "one gave way, the others need not"
        for wire in held:
            await wire.close()


@pytest.mark.row("D15", "F52")
async def test_one_address_may_hold_so_many_handshakes_and_others_do_not_suffer(tmp_path: Path) -> None:
    with small(tmp_path, max_connections_per_address=10) as secure:
        held = [await Wire.open(secure.run.address, source="127.0.0.66") for _ in range(10)]
        over = await Wire.open(secure.run.address, source="127.0.0.66")
        assert await left(over) and not await gone(held[0])
        assert (await ask("GET", secure.url, tls=secure.trust())).status == 200
        for wire in [*held, over]:
            await wire.close()


@pytest.mark.row("D9")
async def test_a_hello_in_drips_is_dropped_by_the_same_deadline(tmp_path: Path) -> None:
    with small(tmp_path, head_timeout="2s") as secure:
        wire, begun = await Wire.open(secure.run.address), time.monotonic()
        with suppress(ConnectionError):
            for byte in HELLO[:40]:
                await wire.send(bytes([byte]))
                await asyncio.sleep(0.2)
        assert await left(wire) and time.monotonic() - begun < 11
        await wire.close()
        assert (await ask("GET", secure.url, tls=secure.trust())).status == 200


@pytest.mark.row("F52")
async def test_a_tls_door_out_of_file_descriptors_waits_quietly_and_recovers(tmp_path: Path) -> None:
    with small(tmp_path) as secure:
        worker = secure.run.worker
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (64, 64))
        held = [socket.create_connection(("127.0.0.1", secure.run.world.product.port), 5) for _ in range(200)]
        before = cpu_s(worker)
        await asyncio.sleep(2)
        assert cpu_s(worker) - before < 0.5, "it spins"
        for sock in held:
            sock.close()
        begun = time.monotonic()
        assert (await ask("GET", secure.url, tls=secure.trust())).status == 200
        assert time.monotonic() - begun < 2.0 and secure.run.worker == worker


# -- upstreams ----------------------------------------------------------------------------------------------------------


async def _serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        shown = writer.get_extra_info("ssl_object").getpeercert()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n" + (b"mtls" if shown else b"tls!"))
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


class Upstreams:
    """TLS servers by name, each with its own kind of certificate."""

    def __init__(self, folder: Path) -> None:
        self.background = Background()
        self.authority, self.stranger, clients = trustme.CA(), trustme.CA(), trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        self.client_cert, self.client_key = write(clients.issue_cert("bff@example.com"), folder, "client")
        certs = {
            "good": self.authority.issue_cert("127.0.0.1"),
            "wrong-host": self.authority.issue_cert("other.example.com"),
            "expired": self.authority.issue_cert("127.0.0.1", not_before=past - datetime.timedelta(days=9), not_after=past),
            "stranger": self.stranger.issue_cert("127.0.0.1"),
            "mutual": self.authority.issue_cert("127.0.0.1"),
        }
        self.ports = {name: self.background.run(self._listen(cert, clients if name == "mutual" else None)) for name, cert in certs.items()}

    async def _listen(self, cert: trustme.LeafCert, clients: trustme.CA | None) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert.configure_cert(context)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            clients.configure_trust(context)
        server = await asyncio.start_server(_serve_once, "127.0.0.1", 0, ssl=context)
        return int(server.sockets[0].getsockname()[1])

    def routes(self, _: Flow) -> list[dict[str, Any]]:
        rows = [self.row(name, name) for name in self.ports]
        shown = {"client_cert_file": self.client_cert, "client_key_file": self.client_key}
        return [*rows, {**self.row("shown", "mutual"), **shown}, {**self.row("system", "good"), "ca_file": ""}]

    def row(self, path: str, name: str) -> dict[str, Any]:
        return {"path": f"/{path}/", "upstream": f"https://127.0.0.1:{self.ports[name]}/", "token": "none", "ca_file": self.ca_file}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    upstreams = Upstreams(tmp_path_factory.mktemp("upstreams"))
    with running(routes=upstreams.routes, sign_in=False) as run:
        yield run
    upstreams.background.close()


@pytest.mark.row("ROUTE-10")
@pytest.mark.parametrize(("name", "body"), [("good", b"tls!"), ("shown", b"mtls")])
async def test_an_upstream_that_proves_itself_is_called(name: str, body: bytes, calls: Run) -> None:
    answer = await ask("GET", f"{calls.world.app}/{name}/x")
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.row("ROUTE-10")
@pytest.mark.parametrize("name", ["wrong-host", "expired", "stranger", "system", "mutual"])
async def test_an_upstream_that_does_not_or_does_not_know_us_is_a_502(name: str, calls: Run) -> None:
    """``system``: its authority is not among the system's. ``mutual``: we have no certificate to show it."""
    answer = await ask("GET", f"{calls.world.app}/{name}/x")
    assert answer.status == 502, (answer.status, answer.text)
