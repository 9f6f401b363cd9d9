"""The agent's own server: whole requests in, whole answers out, and nothing that looks whole and is not."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from quart import Quart, Response, request

from bff.agent.server import MAX_BODY, AgentServer


class Stage:
    """A server with a small app on a Unix socket, and what its handlers did."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.done: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []
        app = Quart(__name__, static_folder=None)
        app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
        app.config["BODY_TIMEOUT"] = 5
        app.add_url_rule("/", "all", self.answer, methods=["GET", "HEAD", "POST"], provide_automatic_options=False)
        self.server = AgentServer(app)

    async def answer(self) -> Response:
        kind = request.headers.get("x-kind", "")
        if kind == "fails":
            raise RuntimeError("a bug")
        if kind == "waits":
            self.begun.set()
            await self.gate.wait()
            self.done.append(kind)
        if kind == "empty":
            return Response("", 204)
        if kind == "streams":
            return Response(self.pieces(), 200)
        if kind == "breaks":
            return Response(self.broken(), 200)
        if kind == "large":
            return Response(b"x" * 4_000_000)
        body = await request.get_data()
        return Response(f"{request.method} {len(body)} {request.headers.get('x-two', '')}", headers={"Set-Cookie": "a=b"})

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    async def broken(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("in the middle")

    async def wire(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=8 * 1024 * 1024)
        self.writers.append(writer)
        return reader, writer


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(str(tmp_path / "s"))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(made.path)
    sock.setblocking(False)
    await made.server.start(sock)
    yield made
    made.gate.set()
    await made.server.stop(1.0)
    for writer in made.writers:
        writer.transport.abort()
    for _ in range(5):
        await asyncio.sleep(0)


def head(method: str = "GET", kind: str = "", *more: str) -> bytes:
    lines = [f"{method} /any?thing HTTP/1.1", "Host: a.test", f"X-Kind: {kind}", *more]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def answer_of(reader: asyncio.StreamReader, *, bodiless: bool = False) -> tuple[int, bytes, bytes]:
    async with asyncio.timeout(5):
        block = await reader.readuntil(b"\r\n\r\n")
        status = int(block.split()[1])
        size = next((int(line[15:]) for line in block.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return status, block, b"" if bodiless or status == 204 else await reader.readexactly(size)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        try:
            while piece := await reader.read(65536):
                data += piece
        except ConnectionError:
            pass
    return data


async def test_requests_follow_each_other_on_one_connection_and_hold_nothing_of_those_before(stage: Stage) -> None:
    reader, writer = await stage.wire()
    writer.write(head("POST", "", "X-Two: here", "Content-Length: 3") + b"abc")
    status, block, body = await answer_of(reader)
    assert (status, body) == (200, b"POST 3 here") and b"set-cookie: a=b\r\n" in block.lower()
    (date,) = [line[6:] for line in block.decode().split("\r\n") if line.startswith("Date: ")]
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 10, "RFC 9110 section 6.6.1"
    writer.write(head())
    assert (await answer_of(reader))[2] == b"GET 0 "
    assert len(stage.server.connections) == 1


async def test_a_request_in_pieces_and_a_chunked_body_are_one_request(stage: Stage) -> None:
    reader, writer = await stage.wire()
    for byte in head("POST", "", "Transfer-Encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n":
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await answer_of(reader))[2] == b"POST 3 "


async def test_head_and_204_have_no_body_and_the_connection_goes_on(stage: Stage) -> None:
    reader, writer = await stage.wire()
    for request_ in (head("HEAD"), head("HEAD", "streams"), head("GET", "empty")):
        writer.write(request_)
        status, block, _ = await answer_of(reader, bodiless=True)
        assert status in (200, 204) and b"transfer-encoding" not in block.lower()
    writer.write(head())
    assert (await answer_of(reader))[2] == b"GET 0 "


async def test_an_answer_of_unknown_length_is_chunked_to_its_end(stage: Stage) -> None:
    reader, writer = await stage.wire()
    writer.write(head("GET", "streams"))
    async with asyncio.timeout(5):
        assert b"Transfer-Encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    writer.write(head())
    assert (await answer_of(reader))[2] == b"GET 0 "


@pytest.mark.row("FRAME-7")
async def test_an_answer_that_breaks_off_does_not_look_whole(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await stage.wire()
    writer.write(head("GET", "breaks"))
    said = await rest_of(reader)
    assert said.endswith(b"4\r\nhalf\r\n") and reader.at_eof()
    assert any("unexpected RuntimeError" in record.message for record in caplog.records)


async def test_a_large_answer_waits_for_its_reader_and_is_whole(stage: Stage) -> None:
    reader, writer = await stage.wire()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(head("GET", "large"))
    for _ in range(200):
        await asyncio.sleep(0)
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await answer_of(reader))[2]) == 4_000_000


async def test_a_handler_that_fails_is_a_500(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    reader, writer = await stage.wire()
    writer.write(head("GET", "fails"))
    assert (await answer_of(reader))[0] == 500


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\nHost a.test\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x00\x00\x00\x01x",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        head("POST", "", f"Content-Length: {MAX_BODY + 2}") + b"x" * (MAX_BODY + 1),
        head("GET", "waits") + head(),
    ],
    ids=["no colon", "tls", "desk frame", "two framings", "upgrade", "too much", "two at once"],
)
async def test_what_our_door_would_never_send_costs_the_connection(stage: Stage, bad: bytes) -> None:
    reader, writer = await stage.wire()
    writer.write(bad)
    assert b" 200 " not in await rest_of(reader)
    other, again = await stage.wire()
    again.write(head())
    assert (await answer_of(other))[0] == 200


@pytest.mark.row("TOKEN-8", "F6")
async def test_a_door_that_hangs_up_stops_nothing_and_is_written_to_no_more(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await stage.wire()
    writer.write(head("GET", "waits"))
    await stage.begun.wait()
    writer.transport.abort()
    async with asyncio.timeout(5):
        while stage.server.connections:
            await asyncio.sleep(0)
    stage.gate.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert stage.done == ["waits"] and caplog.records == []


async def test_stop_finishes_what_runs_and_takes_nobody_new(stage: Stage) -> None:
    reader, writer = await stage.wire()
    idle, _ = await stage.wire()
    writer.write(head("GET", "waits"))
    await stage.begun.wait()
    stopping = asyncio.ensure_future(stage.server.stop(5.0))
    await asyncio.sleep(0)
    stage.gate.set()
    await stopping
    assert (await answer_of(reader))[2] == b"GET 0 " and await rest_of(idle) == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(stage.path)


async def test_a_successor_finds_the_place_where_callers_look(stage: Stage) -> None:
    """Its socket is the supervisor's too, and stays: the path must not go with a server that stops."""
    await stage.server.stop(0.1)
    assert Path(stage.path).exists()


async def test_stop_waits_no_longer_than_told(stage: Stage) -> None:
    reader, writer = await stage.wire()
    writer.write(head("GET", "waits"))
    await stage.begun.wait()
    await stage.server.stop(0.01)
    assert await rest_of(reader) == b""
