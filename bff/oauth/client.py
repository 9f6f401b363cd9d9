"""The wire to the provider: with its transport the only file that imports httpx, and the only I/O of this package.

Every answer is whole, bounded in size and time, from the URL asked (no redirects, K3), over verified TLS (META-4), and
independent of the environment (K4) and of earlier answers (no cookies are kept: they would tie one user's call to another's).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import httpx

from bff.base.clock import Clock, SystemClock
from bff.base.errors import ProviderMisbehaved, ProviderUnavailable
from bff.oauth.answers import Answer, read_document, read_retry_after
from bff.oauth.jsontext import JsonObject
from bff.oauth.transport import Transport

# Shorter than the usual idle time-out of servers (5 s): a POST that meets a closing connection fails ambiguously, and a
# code or a rotated refresh token must not be sent twice.
_KEEP_ALIVE_S = 2.0
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "bff-token-handler"}


class Wire:
    """GET and form POST with total deadlines. Closed by ``close()`` or as an async context manager.

    ``ca_file`` replaces the built-in certificate authorities; ``client_cert_file``/``client_key_file`` authenticate us by
    TLS (RFC 8705). ``timeout_s`` bounds a whole exchange, slow drips included; ``max_bytes`` bounds a body.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 4.0,
        max_bytes: int = 1 << 20,
        ca_file: str = "",
        client_cert_file: str = "",
        client_key_file: str = "",
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._clock: Clock = clock or SystemClock()
        # Only the connection has a limit of its own: the deadline of the whole exchange bounds the rest.
        self._extensions = {"timeout": {"connect": min(connect_timeout_s, timeout_s)}}
        # No httpx.AsyncClient above it: what that adds (redirects, cookies, proxies from the environment) is what must not be, and
        # it doubled the cost of a call.
        self._transport = transport or Transport(tls=_build_tls(ca_file, client_cert_file, client_key_file), rest_s=_KEEP_ALIVE_S)

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Answer:
        """GET ``url``. ProviderUnavailable when nothing usable came, ProviderMisbehaved when too much did."""
        return await self._send(self._build("GET", url, headers or {}, None), timeout_s)

    async def get_json(self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float | None = None) -> JsonObject:
        """The JSON object at ``url``; any other answer is ProviderUnavailable or ProviderMisbehaved."""
        return read_document(await self.get(url, headers=headers, timeout_s=timeout_s), "document")

    async def post_form(
        self, url: str, form: Sequence[tuple[str, str]], *, headers: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> Answer:
        """POST ``form`` once. Never repeated here: after a failure nobody knows whether the provider has acted (CB-6)."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return await self._send(self._build("POST", url, sent, urlencode(form).encode("ascii")), timeout_s)

    async def close(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _build(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Request:
        try:
            place = _read_url(url)
            fields = {"Host": place.netloc.decode("ascii"), **_HEADERS, **headers}
            if content is not None:
                fields["Content-Length"] = str(len(content))
            # As a stream, for which httpx adds no field of its own, so Host and Content-Length are ours: less work for each call.
            return httpx.Request(method, place, headers=fields, stream=httpx.ByteStream(content or b""), extensions=self._extensions)
        except (httpx.InvalidURL, ValueError) as error:
            raise ProviderMisbehaved(f"unusable URL: {type(error).__name__}") from None

    async def _send(self, request: httpx.Request, timeout_s: float | None) -> Answer:
        url = request.url
        where = f"{request.method} {url.scheme}://{url.netloc.decode('ascii')}{url.path}"
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                response = await self._transport.handle_async_request(request)
                try:
                    return self._answer(response, await self._read_body(response, where))
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderUnavailable(f"{where}: timed out") from None
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise ProviderMisbehaved(f"{where}: {type(error).__name__}") from None
        except (httpx.HTTPError, OSError) as error:
            raise ProviderUnavailable(f"{where}: {_reason(error)}") from None

    def _answer(self, response: httpx.Response, body: bytes) -> Answer:
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            body=body,
            retry_after_s=read_retry_after(wait, self._clock.now()) if (wait := response.headers.get("retry-after", "")) else None,
        )

    async def _read_body(self, response: httpx.Response, where: str) -> bytes:
        # We asked for identity. A coded body could be a bomb: one 64 KiB read may inflate to 64 MiB (D5).
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise ProviderMisbehaved(f"{where}: a content coding we did not ask for")
        body = bytearray()
        async for piece in response.stream:  # type: ignore[union-attr]
            body += piece
            if len(body) > self._max_bytes:
                raise ProviderMisbehaved(f"{where}: more than {self._max_bytes} bytes")
        return bytes(body)


def _reason(error: Exception) -> str:
    """The kind of failure, and where the network or TLS says more, that: no certificate, refused and no TLS have different remedies."""
    kind, cause = type(error).__name__, error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{kind} (its certificate is not trusted: {cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return f"{kind} ({'it does not speak TLS there' if cause.reason in _NOT_TLS else cause.reason or 'TLS failed'})"
    if isinstance(cause, socket.gaierror):  # its numbers are not errno's
        return f"{kind} (its name cannot be resolved)"
    return f"{kind} ({os.strerror(cause.errno)})" if isinstance(cause, OSError) and cause.errno and cause.errno > 0 else kind


@lru_cache(maxsize=64)
def _read_url(url: str) -> httpx.URL:
    """The endpoints of a provider are few and reading an address is a tenth of a call. httpx.InvalidURL, ValueError: also for a host
    whose xn-- labels mean nothing, which httpx finds out when it is asked for the host."""
    place = httpx.URL(url)
    if not place.host:
        raise ValueError("no host")
    return place


def _build_tls(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if cert_file:
        context.load_cert_chain(cert_file, key_file or None)
    return context
