"""Loopback or nothing: a provider with demo passwords and fault knobs must never be reachable from elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from urllib.parse import urlencode, urlsplit

from bff.base.errors import ConfigError

MAX_ANSWER_BYTES = 64 * 1024


def is_loopback_host(host: str) -> bool:
    """A loopback literal, ``localhost`` or a name below it (RFC 6761 §6.3)."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_local_name(host: str) -> bool:
    """Loopback, or a name below ``.test``, which no public DNS serves (RFC 6761 §6.2): browser tests map it to loopback."""
    return is_loopback_host(host) or host.rstrip(".").lower().endswith(".test")


def check_issuer(issuer: str) -> str:
    """The issuer, if it is a local http(s) origin. ConfigError otherwise."""
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_local_name(parts.hostname):
        raise ConfigError(f"the development provider serves loopback only; its issuer cannot be {issuer!r}")
    if parts.query or parts.fragment or parts.username or issuer.endswith("/"):
        raise ConfigError("the development provider's issuer must be scheme, host, port and an optional path without a final slash")
    return issuer


def listen_loopback(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket on a loopback address; port 0 picks a free one. ConfigError for any other address, OSError if taken."""
    if not is_loopback_host(host):
        raise ConfigError(f"the development provider binds to loopback only, not to {host!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def post_form(url: str, form: dict[str, str], *, timeout_s: float = 5.0, tls: ssl.SSLContext | None = None) -> int:
    """POST a form to a local URL and return the status, 0 when there was no answer. Refuses hosts that are not local."""
    parts = urlsplit(url)
    if not parts.hostname or not is_local_name(parts.hostname):
        return 0
    try:
        async with asyncio.timeout(timeout_s):
            return await _post(parts.hostname, parts.port, parts.path or "/", parts.query, parts.netloc, urlencode(form).encode(), tls)
    except (OSError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        return 0


async def _post(host: str, port: int | None, path: str, query: str, authority: str, body: bytes, tls: ssl.SSLContext | None) -> int:
    address = host if is_loopback_host(host) else "127.0.0.1"
    reader, writer = await asyncio.open_connection(
        address, port or (443 if tls else 80), ssl=tls, server_hostname=host if tls else None, limit=MAX_ANSWER_BYTES
    )
    target = f"{path}?{query}" if query else path
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()
