"""Where a connection came from, and whose word about the browser behind it we take (REQH-7, H2, H5, H11)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

_FORWARDED_PAIR = re.compile(r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"([^"\\]*)"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))[ \t]*""")
_HANDSHAKES = {"ws": "http", "wss": "https"}
"""What Traefik calls the two schemes when the request is a WebSocket handshake."""
_IP_LITERAL = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|([0-9.]{7,15})(?::\d{1,5})?|([0-9A-Fa-f:.]{2,45})")


def find_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address in ``1.2.3.4``, ``1.2.3.4:80``, ``::1`` or ``[::1]:80``; None for anything else (``unknown``, ``_hidden``)."""
    match = _IP_LITERAL.fullmatch(text)
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@dataclass(frozen=True, slots=True)
class Edge:
    """One accepted connection, as far as judging its requests needs it.

    ``peer_ip`` is "" for a Unix socket, which counts as trusted only where ``trusted`` is not empty: whoever may open the
    socket file was put in front of us on purpose, but only a configured list says that there *is* a front proxy.
    ``hosts`` holds every Host value that is ours, lower-case, with its port where a browser would write one.
    ``via`` is our pseudonym in Via (ROUTE-11). ``peer_net`` is what counts as one client: an address, or in IPv6 the /64 it is from.
    """

    peer_ip: str
    tls: bool
    trusted: tuple[Network, ...]
    hosts: frozenset[str]
    via: str = "bff"
    peer_trusted: bool = field(init=False)
    peer_net: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "peer_net", _net_of(self.peer_ip))
        object.__setattr__(self, "peer_trusted", bool(self.trusted) and (not self.peer_ip or self.trusts(self.peer_ip)))

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def trusts(self, text: str) -> bool:
        address = find_ip(text)
        return address is not None and any(address in network for network in self.trusted)


def _net_of(ip: str) -> str:
    address = find_ip(ip) if ":" in ip else None
    return address.packed[:8].hex() if isinstance(address, IPv6Address) else ip


@dataclass(frozen=True, slots=True)
class Browser:
    """The far end as the trusted hops describe it. ``scheme`` and ``host`` are "" where they say nothing."""

    ip: str
    scheme: str = ""
    host: str = ""


def read_browser(
    edge: Edge, *, forwarded_for: str | None, forwarded_proto: str | None, forwarded_host: str | None, forwarded: str | None
) -> Browser | None:
    """What a trusted peer said; None when it said something we can't read, which ends in a 400.

    X-Forwarded-For is walked from the right: the first address that is not a trusted hop is the client, whatever stands to the
    left of it (H11). RFC 7239 Forwarded is read only where no X-Forwarded-* came, so that the two can't contradict.
    """
    if forwarded_for is None and forwarded_proto is None and forwarded_host is None and forwarded is not None:
        return _read_forwarded(edge, forwarded)
    scheme = (forwarded_proto or "").strip().lower()
    scheme = _HANDSHAKES.get(scheme, scheme)
    if scheme not in ("", "http", "https") or (forwarded_host is not None and "," in forwarded_host):
        return None
    hops = forwarded_for.split(",") if forwarded_for else []
    return Browser(ip=_client(edge, hops), scheme=scheme, host=(forwarded_host or "").strip().lower())


def _client(edge: Edge, hops: list[str]) -> str:
    client = edge.peer_ip
    for hop in reversed(hops[-50:]):
        address = find_ip(hop.strip(" \t"))
        if address is None:
            return client
        client = str(address)
        if not edge.trusts(client):
            return client
    return client


def _read_forwarded(edge: Edge, value: str) -> Browser | None:
    elements = [_read_element(element) for element in value.split(",")]
    if any(element is None for element in elements):
        return None
    known = [element for element in elements if element is not None]
    client = _client(edge, [element.get("for", "unknown") for element in known])
    last = known[-1]
    scheme = last.get("proto", "").lower()
    if scheme not in ("", "http", "https"):
        return None
    return Browser(ip=client, scheme=scheme, host=last.get("host", "").lower())


def _read_element(element: str) -> dict[str, str] | None:
    pairs: dict[str, str] = {}
    for part in element.split(";"):
        match = _FORWARDED_PAIR.fullmatch(part)
        if match is None or match[1].lower() in pairs:
            return None
        pairs[match[1].lower()] = match[2] if match[2] is not None else match[3]
    return pairs
