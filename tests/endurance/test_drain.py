"""What the end of an instance does to those who are connected, connect or read just then. Through the real process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from bench.flow import MIB, Run, running
from tests.harness.http import Wire, head_bytes
from tests.harness.programs import free_port

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """A product of one worker, or as many as the parameter says, and somebody signed in."""
    server = {"drain_delay": "0s", "grace": "8s", "workers": getattr(request, "param", 1)}
    with running(config={"server": server}) as made:
        yield made


@pytest.fixture
def secure_run(tmp_path: Path) -> Iterator[tuple[Run, ssl.SSLContext]]:
    """The same with TLS at the door, and what a client needs to trust it."""
    authority, port = trustme.CA(), free_port()
    leaf, context = authority.issue_cert("localhost"), ssl.create_default_context()
    (tmp_path / "door.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(tmp_path / "door.key"))
    authority.configure_trust(context)
    files = {"tls_cert_file": str(tmp_path / "door.pem"), "tls_key_file": str(tmp_path / "door.key")}
    server = {"listen": f"127.0.0.1:{port}", "public_origin": f"https://localhost:{port}", "drain_delay": "0s", "grace": "8s", **files}
    with running(config={"server": server}, sign_in=False) as made:
        made.world.product.port = port
        yield made, context


def tell_it(run: Run, number: signal.Signals) -> None:
    """Signal the supervisor."""
    assert run.world.product.program is not None
    run.world.product.program.signal(number)


async def wire_to(run: Run, *, receive_bytes: int = 0) -> Wire:
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (run.address.host, run.address.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=64 * 1024)
    return Wire(reader, writer)


@pytest.mark.row("F47", "OPS-6")
async def test_a_slow_reader_gets_all_of_an_answer_that_was_sent_before_the_end(run: Run) -> None:
    size = 4 * MIB
    wire = await wire_to(run, receive_bytes=32 * 1024)
    await wire.send(run.head(f"/flow/big?{size}"))
    status, headers, _ = await wire.read_head()
    assert status == 200 and ("Content-Length", str(size)) in headers
    await asyncio.sleep(0.5)
    tell_it(run, signal.SIGTERM)
    got = 0
    while got < size:
        piece = await wire.reader.read(64 * 1024)
        assert piece, f"cut after {got} of {size}"
        got += len(piece)
        await asyncio.sleep(0.03)
    assert await asyncio.to_thread(run.world.product.stop) == 0


@pytest.mark.row("F47", "OPS-6")
@pytest.mark.parametrize("run", [2], indirect=True, ids=["two_workers"])
async def test_while_it_drains_a_new_connection_is_refused_at_once_and_never_left_waiting(run: Run) -> None:
    busy = await wire_to(run)
    await busy.send(run.head("/flow/slow?2"))
    await asyncio.sleep(0.3)
    tell_it(run, signal.SIGTERM)
    await asyncio.sleep(0.7)
    with pytest.raises(ConnectionRefusedError):
        await wire_to(run)
    assert (await busy.read_answer("GET")).status == 200


@pytest.mark.row("F47")
async def test_connections_that_wait_to_be_accepted_when_the_end_comes_are_still_served(run: Run) -> None:
    os.kill(run.worker, signal.SIGSTOP)
    waiting = [await wire_to(run) for _ in range(100)]
    for wire in waiting:
        await wire.send(run.head("/flow/json"))
    tell_it(run, signal.SIGTERM)
    await asyncio.sleep(0.1)
    os.kill(run.worker, signal.SIGCONT)
    for wire in waiting:
        async with asyncio.timeout(5):
            answer = await wire.read_answer("GET")
    assert answer.status == 200 and answer.complete


@pytest.mark.row("F47", "OPS-6")
async def test_event_streams_end_when_the_drain_begins_visibly_and_do_not_hold_it_up(run: Run) -> None:
    wire = await wire_to(run)
    await wire.send(run.head("/flow/events"))
    await wire.read_head()
    begun = time.monotonic()
    tell_it(run, signal.SIGTERM)
    with pytest.raises(asyncio.IncompleteReadError):
        async for piece in wire.chunks():
            assert piece.startswith(b"data: ") and piece.endswith(b"\n\n")
    assert await asyncio.to_thread(run.world.product.stop) == 0
    assert time.monotonic() - begun < 4


@pytest.mark.row("F47", "OPS-6")
async def test_a_tls_handshake_that_meets_the_end_is_finished_and_its_request_served(secure_run: tuple[Run, ssl.SSLContext]) -> None:
    run, context = secure_run
    plain = socket.create_connection((run.address.host, run.world.product.port), 5)
    with plain:
        await asyncio.sleep(0.1)
        tell_it(run, signal.SIGTERM)
        await asyncio.sleep(0.1)
        with context.wrap_socket(plain, server_hostname="localhost") as wire:
            wire.sendall(head_bytes("GET", f"https://localhost:{run.world.product.port}/free/json", []))
            assert wire.recv(1000).startswith(b"HTTP/1.1 200 ")
