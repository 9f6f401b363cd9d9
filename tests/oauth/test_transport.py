"""The connections to the provider, against a server that is told byte for byte what to say."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11
import httpx
import pytest
import trustme
import uvloop

from bff.oauth.transport import MAX_HEAD, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[["Talk"], Awaitable[None]]


class Talk:
    """One connection at the server's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ended = asyncio.Event()

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await self.reader.readexactly(size)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class Server:
    """Plays one script on every connection; remembers requests and connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.talks: list[Talk] = []
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        self.talks.append(talk)
        try:
            with suppress(asyncio.IncompleteReadError, OSError):
                await self.script(talk)
                await reader.read()
        finally:
            talk.ended.set()
            writer.close()

    async def answer_each(self, talk: Talk, *, answer: bytes = OK) -> None:
        while True:
            self.requests.append(await talk.request())
            await talk.say(answer)


@asynccontextmanager
async def running(script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://{host}:{listener.sockets[0].getsockname()[1]}/x"
    try:
        yield server
    finally:
        listener.close()


def new_transport(**changes: object) -> Transport:
    return Transport(**{"tls": ssl.create_default_context(), **changes})  # type: ignore[arg-type]


async def call(transport: Transport, url: str, *, method: str = "GET", body: bytes = b"", connect_s: float | None = 5.0) -> httpx.Response:
    """One exchange, its body read to the end."""
    response = await begin(transport, url, method=method, body=body, connect_s=connect_s)
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


async def begin(transport: Transport, url: str, *, method: str = "GET", body: bytes = b"", connect_s: float | None = 5.0) -> httpx.Response:
    request = httpx.Request(method, url, content=body or None, extensions={"timeout": {"connect": connect_s}})
    async with asyncio.timeout(5):
        return await transport.handle_async_request(request)


def answering(answer: bytes) -> Script:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(answer)

    return script


# -- addresses -------------------------------------------------------------------------------------------------------


def at(url: str) -> tuple[str, int]:
    host, _, port = url.split("/")[2].rpartition(":")
    return host, int(port)


def place(address: tuple[str, int]) -> tuple[int, int, int, str, tuple[str, int]]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)


@pytest.mark.row("F25")
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("first", ["refuses", "is silent"])
def test_an_address_that_does_not_answer_costs_a_moment_and_not_the_sign_in(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], first: str
) -> None:
    """RFC 8305: a host with two addresses, the first of them dead."""

    async def try_it() -> None:
        with socket.socket() as deaf:  # bound and nothing more: refuses; with a full queue: silent
            deaf.bind(("127.0.0.1", 0))
            waiting = fill_queue(deaf) if first == "is silent" else []
            async with running(answering(OK)) as server:

                async def resolve(host: str, port: int) -> list[Any]:
                    return [place(deaf.getsockname()), place(at(server.url))]

                transport = new_transport(resolve=resolve)
                assert (await call(transport, server.url)).content == b"ok"
                await transport.aclose()
            for sock in waiting:
                sock.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(try_it())


def fill_queue(deaf: socket.socket) -> list[socket.socket]:
    """From here on the kernel lets whoever connects wait."""
    deaf.listen(0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(deaf.getsockname())
        waiting.append(sock)
    return waiting


async def test_a_name_that_no_server_knows_is_a_connect_error() -> None:
    async def resolve(host: str, port: int) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    transport = new_transport(resolve=resolve)
    with pytest.raises(httpx.ConnectError):
        await call(transport, "http://nowhere.test/")
    await transport.aclose()


# -- keep-alive -------------------------------------------------------------------------------------------------------


async def test_the_next_call_goes_over_the_connection_that_rests() -> None:
    transport = new_transport()
    async with running(answering(OK)) as server:
        for _ in range(3):
            assert (await call(transport, server.url)).content == b"ok"
        assert len(server.talks) == 1
        await transport.aclose()
        await server.talks[0].ended.wait()


async def test_two_calls_at_once_take_two_connections_and_both_rest_afterwards() -> None:
    transport = new_transport()
    async with running(answering(OK)) as server:
        await asyncio.gather(call(transport, server.url), call(transport, server.url))
        await asyncio.gather(call(transport, server.url), call(transport, server.url))
        assert len(server.talks) == 2
        await transport.aclose()


async def test_no_more_rest_than_may() -> None:
    transport = new_transport(resting=1)
    async with running(answering(OK)) as server:
        await asyncio.gather(*(call(transport, server.url) for _ in range(3)))
        assert sum(not talk.ended.is_set() for talk in server.talks) <= 3
        await asyncio.gather(*(talk.ended.wait() for talk in server.talks[:2] if talk.ended.is_set()))
        assert len(transport._resting) == 1
        await transport.aclose()


@pytest.mark.row("CB-6", "F27")
async def test_a_connection_that_rested_too_long_is_not_used_again() -> None:
    transport = new_transport(rest_s=0.0)
    async with running(answering(OK)) as server:
        await call(transport, server.url)
        await call(transport, server.url)
        assert len(server.talks) == 2
        await server.talks[0].ended.wait()
        await transport.aclose()


async def test_connections_of_one_origin_serve_no_other() -> None:
    transport = new_transport()
    async with running(answering(OK)) as one, running(answering(OK.replace(b"ok", b"no"))) as other:
        assert (await call(transport, one.url)).content == b"ok"
        assert (await call(transport, other.url)).content == b"no"
        assert (await call(transport, one.url)).content == b"ok"
        assert (len(one.talks), len(other.talks)) == (1, 1)
        await transport.aclose()


@pytest.mark.row("T4")
@pytest.mark.parametrize("surplus", [b"x", OK.replace(b"ok", b"no"), b"\r\n", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("together", [True, False])
async def test_surplus_bytes_never_become_the_next_answer(surplus: bytes, together: bool) -> None:
    said = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        if together:
            await talk.say(OK + surplus)
        else:
            await talk.say(OK)
            await said.wait()
            await talk.say(surplus)
        said.set()
        await talk.request()
        await talk.say(OK)

    transport = new_transport()
    async with running(script) as server:
        assert (await call(transport, server.url)).content == b"ok"
        said.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert (await call(transport, server.url)).content == b"ok"
        assert len(server.talks) == 2, "the surplus cost the connection"
        await transport.aclose()


@pytest.mark.row("CB-6", "F27")
async def test_an_end_that_the_loop_has_not_seen_yet_costs_a_connection_and_not_a_request() -> None:
    """The provider closes as we ask: the end is in the kernel, and a refresh token sent now would be lost with its answer."""

    close = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        await close.wait()
        talk.writer.transport.abort()

    transport = new_transport()
    async with running(script) as server:
        assert (await call(transport, server.url)).content == b"ok"
        resting = transport._resting[0]
        resting.transport.pause_reading()
        close.set()
        await server.talks[0].ended.wait()
        assert not resting._ended and not resting.transport.is_closing()
        assert (await call(transport, server.url, method="POST", body=b"a=b")).content == b"ok"
        assert len(server.talks) == 2
        await transport.aclose()


async def test_a_connection_that_the_server_closes_after_its_answer_is_not_kept() -> None:
    transport = new_transport()
    async with running(answering(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) as server:
        assert (await call(transport, server.url)).content == b"ok"
        assert transport._resting == []
        await server.talks[0].ended.wait()


# -- framings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "body", "rests"),
    [
        (OK, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: x\r\n\r\n", b"ok", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    ],
    ids=["counted", "empty", "204", "chunked", "1xx", "1.0"],
)
async def test_every_framing_is_read_to_its_end_and_no_further(answer: bytes, body: bytes, rests: bool) -> None:
    transport = new_transport()
    async with running(answering(answer)) as server:
        assert (await call(transport, server.url)).content == body
        assert bool(transport._resting) is rests
        await transport.aclose()


async def test_a_body_that_ends_with_the_connection_is_read_whole_and_the_connection_not_kept() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\n\r\nto the end")
        talk.writer.write_eof()

    transport = new_transport()
    async with running(script) as server:
        assert (await call(transport, server.url)).content == b"to the end"
        assert transport._resting == []


@pytest.mark.row("F27")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD + 65_536) + b"\r\n\r\n",
    ],
    ids=["nothing", "short", "chunk", "two lengths", "negative", "coding", "101", "status", "tls", "huge head"],
)
async def test_an_answer_that_is_none_is_an_error_and_its_connection_is_gone(answer: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer)
        talk.writer.write_eof()

    transport = new_transport(most=1)
    async with running(script) as server:
        for _ in range(3):  # with room for one: each failure gives its room back
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await call(transport, server.url)
        assert transport._resting == []


async def test_a_head_just_under_the_bound_is_read() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD - 1000) + b"\r\nContent-Length: 2\r\n\r\nok"
    transport = new_transport()
    async with running(answering(answer)) as server:
        assert (await call(transport, server.url)).content == b"ok"
        await transport.aclose()


async def test_a_form_goes_out_as_one_request_with_its_length() -> None:
    server_box: list[bytes] = []

    async def script(talk: Talk) -> None:
        server_box.append(await talk.request())
        await talk.say(OK)

    transport = new_transport()
    async with running(script) as server:
        await call(transport, server.url, method="POST", body=b"a=b")
        await transport.aclose()
    head, _, body = server_box[0].partition(b"\r\n\r\n")
    assert body == b"a=b" and b"content-length: 3" in head.lower() and head.startswith(b"POST /x HTTP/1.1\r\n")


async def test_a_request_that_is_no_http_is_our_own_fault_and_costs_nobody_else_the_connection() -> None:
    transport = new_transport(most=1)
    async with running(answering(OK)) as server:
        request = httpx.Request("GET", server.url, headers=[(b"x", b"a\r\nb: c")])
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
        assert (await call(transport, server.url)).content == b"ok"
        await transport.aclose()


@pytest.mark.row("J8")
async def test_only_http_and_https_are_spoken() -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await new_transport().handle_async_request(httpx.Request("GET", "ftp://example.com/"))


# -- bounds and leaving -----------------------------------------------------------------------------------------------


async def test_at_most_so_many_are_in_use_and_the_next_waits_for_one_to_be_done() -> None:
    transport = new_transport(most=2)
    async with running(answering(OK)) as server:
        held = [await begin(transport, server.url) for _ in range(2)]
        third = asyncio.ensure_future(call(transport, server.url))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not third.done() and len(server.talks) == 2
        await held[0].aread()
        await held[0].aclose()
        assert (await third).content == b"ok"
        await held[1].aclose()
        await transport.aclose()


async def test_the_bound_is_64_unless_told() -> None:
    assert new_transport()._room._value == 64


async def test_a_cancelled_call_closes_its_connection_and_frees_its_room() -> None:
    asked = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        if asked.is_set():
            await talk.say(OK)
        asked.set()

    transport = new_transport(most=1)
    async with running(script) as server:
        running_call = asyncio.ensure_future(call(transport, server.url))
        await asked.wait()
        running_call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running_call
        await server.talks[0].ended.wait()
        assert (await call(transport, server.url)).content == b"ok"
        await transport.aclose()


async def test_a_caller_who_is_cancelled_while_waiting_for_room_takes_none_with_it() -> None:
    transport = new_transport(most=1)
    async with running(answering(OK)) as server:
        held = await begin(transport, server.url)
        waiting = asyncio.ensure_future(call(transport, server.url))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await held.aclose()
        assert (await call(transport, server.url)).content == b"ok"
        await transport.aclose()


@pytest.mark.row("FRAME-9", "T4")
async def test_a_body_that_was_not_read_to_its_end_costs_the_connection() -> None:
    transport = new_transport()
    async with running(answering(OK)) as server:
        response = await begin(transport, server.url)
        await response.aclose()
        await server.talks[0].ended.wait()
        assert (await call(transport, server.url)).content == b"ok"
        assert len(server.talks) == 2
        await transport.aclose()


async def test_closing_twice_gives_the_room_back_once() -> None:
    transport = new_transport(most=1)
    async with running(answering(OK)) as server:
        response = await begin(transport, server.url)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await response.stream.aclose()
        await response.stream.aclose()
        assert transport._room._value == 1


@pytest.mark.row("F25")
async def test_a_refused_connection_is_a_connect_error_and_frees_its_room() -> None:
    transport = new_transport(most=1)
    async with running(answering(OK)) as server:
        url = server.url
    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            await call(transport, url)


@pytest.mark.row("F26")
async def test_a_connection_that_does_not_come_about_in_time_is_a_connect_timeout() -> None:
    """Here the TLS handshake: the server accepts and says nothing."""

    async def script(talk: Talk) -> None:
        await talk.reader.read()

    transport = new_transport(most=1)
    async with running(script) as server:
        for _ in range(2):
            with pytest.raises(httpx.ConnectTimeout):
                await call(transport, server.url.replace("http:", "https:"), connect_s=0.05)


# -- TLS --------------------------------------------------------------------------------------------------------------


def tls_pair(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context for a certificate of ``name``, and a client's that trusts its authority."""
    authority = trustme.CA()
    served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(served)
    authority.configure_trust(trusting)
    return served, trusting


@pytest.mark.row("META-4")
async def test_over_tls_the_name_is_verified_and_the_connection_used_again() -> None:
    served, trusting = tls_pair("localhost")
    transport = new_transport(tls=trusting)
    async with running(answering(OK), tls=served, host="localhost") as server:
        assert (await call(transport, server.url)).content == b"ok"
        assert (await call(transport, server.url)).content == b"ok"
        assert len(server.talks) == 1
        await transport.aclose()


@pytest.mark.row("META-4")
async def test_a_certificate_for_another_name_or_from_another_authority_is_refused() -> None:
    served, trusting = tls_pair("elsewhere.test")
    async with running(answering(OK), tls=served, host="localhost") as server:
        for context in (trusting, ssl.create_default_context()):
            transport = new_transport(tls=context, most=1)
            with pytest.raises(httpx.ConnectError):
                await call(transport, server.url)
            assert transport._room._value == 1


def test_h11_still_tells_what_came_behind_an_answer() -> None:
    """``usable`` stands on it."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(OK + b"more")
    while not isinstance(http.next_event(), h11.EndOfMessage):
        pass
    assert http.trailing_data[0] == b"more"


@pytest.mark.row("F25", "F27")
@pytest.mark.parametrize("loop_factory", [None, pytest.importorskip("uvloop").new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_that_ends_before_anything_is_said_on_it_is_an_outage(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop raises a RuntimeError for what is written to a closed transport; nobody above would take that for an outage."""

    class Late(Transport):
        async def _connect(self, request: httpx.Request) -> Any:
            connection = await super()._connect(request)
            connection.abort()
            await asyncio.sleep(0.01)
            return connection

    async def run() -> None:
        transport = Late(tls=ssl.create_default_context(), most=1)
        async with running(answering(OK)) as server:
            for _ in range(2):
                with pytest.raises(httpx.HTTPError):
                    await call(transport, server.url)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


@pytest.mark.row("F27")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
    ids=["bad chunk", "no last chunk", "short", "status"],
)
def test_under_uvloop_too_an_answer_that_is_none_is_an_outage_and_no_fault_of_ours(answer: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer)
        talk.writer.write_eof()

    async def run() -> None:
        transport = new_transport(most=1)
        async with running(script) as server:
            for _ in range(2):
                with pytest.raises(httpx.HTTPError):
                    await call(transport, server.url)

    with asyncio.Runner(loop_factory=pytest.importorskip("uvloop").new_event_loop) as runner:
        runner.run(run())
