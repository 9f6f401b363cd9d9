"""One request over HTTP/2, its fields exactly as listed: crumbs, doubles and names that no browser would send."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import h2.config
import h2.connection
import h2.events

from tests.harness.http import Address, Answer, HeaderList


def trusting(authority_pem: bytes, *protocols: str) -> ssl.SSLContext:
    """A browser's TLS that trusts this one authority."""
    context = ssl.create_default_context(cadata=authority_pem.decode("ascii"))
    context.set_alpn_protocols(list(protocols))
    return context


async def send_h2(
    address: Address,
    authority: str,
    method: str,
    target: str,
    headers: HeaderList,
    body: bytes | None = None,
    trailers: HeaderList | None = None,
) -> Answer:
    """The answer as one of HTTP/1.1 would be read. ConnectionError where the stream or the connection is reset instead."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=address.tls, server_hostname=address.server_name)
        try:
            spoken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            if spoken != "h2":
                raise AssertionError(f"{spoken} is spoken instead of h2")
            return await _Stream(reader, writer).ask(authority, method, target, headers, body, trailers)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        # Hostile fields must leave as they are.
        config = h2.config.H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False, split_outbound_cookies=False
        )
        self.connection = h2.connection.H2Connection(config)
        self.status = 0
        self.headers: HeaderList = []
        self.body = b""
        self.ended = False

    async def ask(
        self, authority: str, method: str, target: str, headers: HeaderList, body: bytes | None, trailers: HeaderList | None
    ) -> Answer:
        connection = self.connection
        connection.initiate_connection()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", target)]
        connection.send_headers(1, [*pseudo, *headers], end_stream=body is None)
        left = body or b""
        ending = body is not None
        while not self.ended:
            while left and (window := min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)):
                connection.send_data(1, left[:window])
                left = left[window:]
            if ending and not left:
                ending = False
                if trailers:
                    connection.send_headers(1, trailers, end_stream=True)
                else:
                    connection.end_stream(1)
            self.writer.write(connection.data_to_send())
            await self._hear()
        return Answer(self.status, tuple(self.headers), self.body)

    async def _hear(self) -> None:
        data = await self.reader.read(65_536)
        if not data:
            raise ConnectionResetError("the connection ended before the answer")
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                fields = [(str(name), str(value)) for name, value in event.headers]
                self.status = int(dict(fields)[":status"])
                self.headers = [field for field in fields if not field[0].startswith(":")]
            elif isinstance(event, h2.events.DataReceived):
                self.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated) and not self.status:
                raise ConnectionResetError(f"{event}")
        self.writer.write(self.connection.data_to_send())
