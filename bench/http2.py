"""``python -m bench.http2``: what HTTP/2 alone would cost at the door, in the only kept-up Python implementation (h2, hpack).

No sockets, no session, no upstream: a server connection reads requests with a browser's headers and writes answers of 219 bytes. What is
printed is the CPU time of the server's half per request, beside reading the same head as HTTP/1.1 with our own reader. Why the documented
answer to HTTP/2 from browsers is a front proxy: docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from bff.proxy.edge import Edge
from bff.proxy.head import HeadReader

BODY = b"x" * 219
HEADERS = [
    ("sec-ch-ua", '"Chromium";v="142", "Not.A/Brand";v="24"'),
    ("x-csrf", "1"),
    ("sec-ch-ua-mobile", "?0"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"),
    ("accept", "application/json"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
    ("referer", "https://app.example.com/"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cookie", "theme=dark; __Host-Http-bff=" + "A" * 120),
]


def measure_http2(count: int) -> float:
    """CPU seconds of the server's half per request, over one connection."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    client.initiate_connection()
    server.initiate_connection()
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    spent = 0.0
    pseudo = [(":method", "GET"), (":path", "/api/orders"), (":scheme", "https"), (":authority", "app.example.com")]
    for _ in range(count):
        stream = client.get_next_available_stream_id()
        client.send_headers(stream, pseudo + HEADERS, end_stream=True)
        wire = client.data_to_send()
        begun = time.process_time()
        answer = _serve(server, wire)
        spent += time.process_time() - begun
        client.receive_data(answer)
        client.acknowledge_received_data(len(BODY), stream)
        server.receive_data(client.data_to_send())
    return spent / count


def _serve(server: H2Connection, wire: bytes) -> bytes:
    for event in server.receive_data(wire):
        if isinstance(event, RequestReceived) and event.stream_id is not None:
            server.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json"), ("content-length", "219")])
            server.send_data(event.stream_id, BODY, end_stream=True)
    return server.data_to_send()


def measure_http1(count: int) -> float:
    """CPU seconds to read the same head, never seen before each time."""
    reader = HeadReader()
    edge = Edge(peer_ip="127.0.0.1", tls=True, trusted=(), hosts=frozenset({"app.example.com"}))
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    blocks = [f"GET /api/orders HTTP/1.1\r\nhost: app.example.com\r\nx-trace: {n}\r\n{lines}\r\n".encode() for n in range(count)]
    begun = time.process_time()
    for block in blocks:
        reader.read(block, edge)
    return (time.process_time() - begun) / count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.http2", description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    two, one = measure_http2(count) * 1e6, measure_http1(count) * 1e6
    sys.stdout.write(f"HTTP/2 framing and HPACK alone: {two:.0f} us a request\n")
    sys.stdout.write(f"an HTTP/1.1 head, strictly read: {one:.0f} us; ratio {two / one:.0f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
