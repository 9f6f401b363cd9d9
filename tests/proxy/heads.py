"""Raw request heads for the tests of the head reader, and the edge they arrive at."""

from __future__ import annotations

from ipaddress import ip_network

from bff.policy.facts import Facts
from bff.policy.verdict import Refusal
from bff.proxy.edge import Edge
from bff.proxy.head import HeadReader, read_facts

HOST = b"Host: a.test\r\n"
POST = b"POST /x HTTP/1.1"
EDGE = Edge(peer_ip="192.0.2.7", tls=False, trusted=(), hosts=frozenset({"a.test"}))
BEHIND = Edge(peer_ip="10.0.0.1", tls=False, trusted=(ip_network("10.0.0.0/8"),), hosts=frozenset({"a.test"}))


def head(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head block with ``lines`` after Host."""
    return start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def accepted(block: bytes, edge: Edge = EDGE) -> Facts:
    facts = read_facts(block, edge=edge)
    assert isinstance(facts, Facts), facts
    return facts


def refused(block: bytes, status: int = 400, edge: Edge = EDGE) -> Refusal:
    refusal = read_facts(block, edge=edge)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.status == status
    assert refusal.close
    return refusal


def accepted_by(reader: HeadReader, block: bytes) -> Facts:
    facts = reader.read(block, EDGE)
    assert isinstance(facts, Facts)
    return facts
