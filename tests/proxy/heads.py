"""Raw request heads for the tests of the head reader, and the edge they arrive at."""

from __future__ import annotations

from ipaddress import ip_network

from bff.proxy.edge import Edge

HOST = b"Host: a.test\r\n"
EDGE = Edge(peer_ip="192.0.2.7", tls=False, trusted=(), hosts=frozenset({"a.test"}))
BEHIND = Edge(peer_ip="10.0.0.1", tls=False, trusted=(ip_network("10.0.0.0/8"),), hosts=frozenset({"a.test"}))


def head(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head block with ``lines`` after Host."""
    return start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
