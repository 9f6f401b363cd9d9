"""A browser model: jar, redirects, Fetch Metadata and Origin as Chromium sends them, fetch, EventSource, WebSocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from json import dumps
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tests.harness.forms import Form, read_forms
from tests.harness.http import Address, Answer, Wire, address_of, head_bytes
from tests.harness.jar import Jar, origin_of, site_of

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@dataclass(frozen=True, slots=True)
class Page:
    """A document, with the answers that led to it (the last is its own)."""

    url: str
    answer: Answer
    hops: tuple[Answer, ...] = ()

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def forms(self) -> list[Form]:
        return read_forms(self.text) if "text/html" in (self.answer.header("content-type") or "") else []

    def hop_to(self, part: str) -> Answer:
        """The answer of the first request whose URL contains ``part``."""
        return next(answer for answer in self.hops if part in answer.url)


def relation(initiator: str | None, url: str) -> str:
    """Sec-Fetch-Site of one request without redirects."""
    if initiator is None:
        return "none"
    if origin_of(initiator) == origin_of(url):
        return "same-origin"
    return "same-site" if site_of(initiator) == site_of(url) else "cross-site"


def worse(one: str, other: str) -> str:
    order = ("none", "same-origin", "same-site", "cross-site")
    return max(one, other, key=order.index)


@dataclass(slots=True)
class Browser:
    """One profile. ``page`` is the document shown, whose scripts make the fetches. ``via`` maps an origin to the address really
    connected to, for a proxy in between."""

    jar: Jar = field(default_factory=Jar)
    page: Page | None = None
    via: Mapping[str, Address] = field(default_factory=dict)
    fetch_metadata: bool = True
    seen: list[str] = field(default_factory=list)
    timeout_s: float = 20.0

    def another_tab(self) -> Browser:
        """The same profile, another page: the jar is shared."""
        return Browser(self.jar, None, self.via, self.fetch_metadata, self.seen, self.timeout_s)

    def stolen_copy(self) -> Browser:
        """Another machine that got hold of the cookies."""
        return Browser(self.jar.copy(), self.page, self.via, self.fetch_metadata, [], self.timeout_s)

    # -- navigations ----------------------------------------------------------------------------------------------

    async def navigate(self, url: str, *, initiator: str | None = None, max_hops: int = 20) -> Page:
        """Go to ``url`` from the address bar, or by a link on the page ``initiator``."""
        return await self._go("GET", url, None, initiator, max_hops)

    async def link(self, url: str) -> Page:
        """Follow a link on the current page."""
        assert self.page is not None
        return await self._go("GET", urljoin(self.page.url, url), None, self.page.url, 20)

    async def submit(self, form: Form, *, button: tuple[str, str] | None = None, **fields: str) -> Page:
        """Submit a form of the current page."""
        assert self.page is not None
        values = [*{**form.fields, **fields}.items(), *([button] if button else [])]
        target = urljoin(self.page.url, form.action or self.page.url)
        if form.method != "post":
            return await self._go("GET", f"{target.split('?')[0]}?{urlencode(values)}", None, self.page.url, 20)
        return await self._go("POST", target, urlencode(values).encode(), self.page.url, 20)

    async def _go(self, method: str, url: str, body: bytes | None, initiator: str | None, max_hops: int) -> Page:
        hops: list[Answer] = []
        site = "none"
        for _ in range(max_hops):
            site = worse(site, relation(initiator, url))
            headers = self._navigation_headers(method, url, site, initiator)
            if body is not None:
                headers.append(("Content-Type", "application/x-www-form-urlencoded"))
            answer = await self._exchange(method, url, headers, body)
            hops.append(answer)
            location = answer.header("location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None:
                refresh = _refresh_target(answer)
                if refresh is None:
                    self.page = Page(url, answer, tuple(hops))
                    return self.page
                initiator, location, site = url, refresh, "none"
            if answer.status not in (307, 308):
                method, body = "GET", None
            url = urljoin(url, location)
        raise AssertionError(f"a redirect loop: {[answer.url for answer in hops]}")

    def _navigation_headers(self, method: str, url: str, site: str, initiator: str | None) -> list[tuple[str, str]]:
        headers = [("User-Agent", AGENT), ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("Accept-Language", "en")]
        if self.fetch_metadata:
            headers += [
                ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-User", "?1"),
                ("Upgrade-Insecure-Requests", "1"),
            ]
        if method == "POST" and initiator is not None:
            headers.append(("Origin", origin_of(initiator)))
        return self._with_cookies(headers, url, initiator=initiator, navigation=True, method=method)

    # -- scripts --------------------------------------------------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        csrf: bool = True,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        page: str | None = None,
        mode: str = "cors",
    ) -> Answer:
        """What a script on ``page`` (default: the current one) gets from a fetch with credentials. Redirects are not followed."""
        initiator = page or (self.page.url if self.page else origin_of(url) + "/")
        full = urljoin(initiator, url)
        sent = [("User-Agent", AGENT), ("Accept", "*/*"), ("Accept-Language", "en"), *self._script_headers(full, initiator, method, mode)]
        if csrf:
            sent.append(("X-CSRF", "1"))
        if json is not None:
            body = dumps(json).encode()
            sent.append(("Content-Type", "application/json"))
        sent += list((headers or {}).items())
        sent = self._with_cookies(sent, full, initiator=initiator, navigation=False, method=method)
        return await self._exchange(method, full, sent, body)

    def _script_headers(self, url: str, initiator: str, method: str, mode: str, dest: str = "empty") -> list[tuple[str, str]]:
        site = relation(initiator, url)
        headers = []
        if self.fetch_metadata:
            headers += [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
        if method not in ("GET", "HEAD") or site != "same-origin":
            headers.append(("Origin", origin_of(initiator)))
        headers.append(("Referer", origin_of(initiator) + "/"))
        return headers

    @contextlib.asynccontextmanager
    async def events(self, url: str, *, page: str | None = None, last_event_id: str = "") -> AsyncIterator[EventStream]:
        """An EventSource with credentials: no header of our own is possible."""
        initiator = page or (self.page.url if self.page else origin_of(url) + "/")
        full = urljoin(initiator, url)
        headers = [("User-Agent", AGENT), ("Accept", "text/event-stream"), ("Cache-Control", "no-cache")]
        headers += self._script_headers(full, initiator, "GET", "cors")
        if last_event_id:
            headers.append(("Last-Event-ID", last_event_id))
        wire = await Wire.open(self._address(full))
        try:
            async with asyncio.timeout(self.timeout_s):
                await wire.send(head_bytes("GET", full, self._with_cookies(headers, full, initiator=initiator, navigation=False)))
                status, found, raw = await wire.read_head()
            yield EventStream(Answer(status, tuple(found), b"", raw, full), wire)
        finally:
            await wire.close()

    @contextlib.asynccontextmanager
    async def websocket(self, url: str, *, page: str | None = None, origin: str | None = None) -> AsyncIterator[Socket]:
        """A WebSocket: always with Origin, never with Fetch Metadata (measured)."""
        initiator = page or (self.page.url if self.page else origin_of(url) + "/")
        full = urljoin(initiator, url)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [
            ("User-Agent", AGENT), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key),
            ("Sec-WebSocket-Version", "13"), ("Origin", origin or origin_of(initiator)),
        ]
        wire = await Wire.open(self._address(full))
        try:
            async with asyncio.timeout(self.timeout_s):
                await wire.send(head_bytes("GET", full, self._with_cookies(headers, full, initiator=initiator, navigation=False)))
                yield Socket(await wire.read_answer("GET", full), wire)
        finally:
            await wire.close()

    # -- the wire -------------------------------------------------------------------------------------------------

    def _with_cookies(
        self, headers: list[tuple[str, str]], url: str, *, initiator: str | None, navigation: bool, method: str = "GET"
    ) -> list[tuple[str, str]]:
        cookie = self.jar.header(url, initiator=initiator, navigation=navigation, method=method)
        return [*headers, ("Cookie", cookie)] if cookie else headers

    def _address(self, url: str) -> Address:
        return self.via.get(origin_of(url)) or address_of(url)

    async def _exchange(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None) -> Answer:
        if body is not None:
            headers = [*headers, ("Content-Length", str(len(body)))]
        async with asyncio.timeout(self.timeout_s):
            wire = await Wire.open(self._address(url))
            try:
                await wire.send(head_bytes(method, url, [*headers, ("Connection", "close")]) + (body or b""))
                answer = await wire.read_answer(method, url)
            finally:
                await wire.close()
        self.keep(url, answer)
        return answer

    def keep(self, url: str, answer: Answer) -> None:
        """Store the cookies of an answer, and everything readable in it for the leak search."""
        for text in answer.all("set-cookie"):
            self.jar.store(url, text)
        self.seen.append(answer.raw_head.decode("latin-1") + answer.text[:20_000])


def _refresh_target(answer: Answer) -> str | None:
    """``Refresh: 0; url=...``: a landing page that moves on by itself."""
    refresh = answer.header("refresh")
    if refresh is None or "url=" not in refresh.lower():
        return None
    return refresh[refresh.lower().index("url=") + 4 :].strip("'\" ")


@dataclass(slots=True)
class EventStream:
    answer: Answer
    wire: Wire

    @property
    def status(self) -> int:
        return self.answer.status

    async def pieces(self) -> AsyncIterator[bytes]:
        if (self.answer.header("transfer-encoding") or "").lower() == "chunked":
            async for piece in self.wire.chunks():
                yield piece
            return
        while piece := await self.wire.reader.read(65_536):
            yield piece

    async def read(self, count: int, timeout_s: float = 10.0) -> list[dict[str, str]]:
        """The next ``count`` events (fewer when the stream ends)."""
        events: list[dict[str, str]] = []
        buffer = b""
        async with asyncio.timeout(timeout_s):
            async for piece in self.pieces():
                buffer += piece
                while b"\n\n" in buffer:
                    block, _, buffer = buffer.partition(b"\n\n")
                    event = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
                    if "data" in event:
                        events.append(event)
                    if len(events) == count:
                        return events
        return events

    async def wait_end(self, timeout_s: float) -> float:
        """Seconds until the other side ends the stream. TimeoutError if it does not."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while await self.wire.reader.read(65_536):
                    continue
        return loop.time() - start


@dataclass(slots=True)
class Socket:
    """The client's end of a WebSocket, frames in the clear. ``answer.status`` is 101 when it was opened."""

    answer: Answer
    wire: Wire

    @property
    def status(self) -> int:
        return self.answer.status

    async def send(self, text: str) -> None:
        await self.send_frame(0x1, text.encode())

    async def send_frame(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65_536:
            head += bytes([0x80 | 126]) + struct.pack("!H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", size)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if size < 100_000 else _mask(payload, mask)
        await self.wire.send(head + mask + masked)

    async def receive_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame. IncompleteReadError when the connection ends."""
        first, second = await self.wire.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.wire.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.wire.reader.readexactly(8))
        return first & 0x0F, await self.wire.reader.readexactly(size)

    async def receive(self, timeout_s: float = 10.0) -> str:
        """The next text message; pings are answered."""
        async with asyncio.timeout(timeout_s):
            while True:
                opcode, payload = await self.receive_frame()
                if opcode == 0x9:
                    await self.send_frame(0xA, payload)
                elif opcode in (0x1, 0x2):
                    return payload.decode()
                elif opcode == 0x8:
                    raise ConnectionError(f"closed with {close_code(payload)}")

    async def wait_close(self, timeout_s: float) -> int:
        """The close code when the other side closes; 1006 when the connection just ends. TimeoutError if neither."""
        async with asyncio.timeout(timeout_s):
            try:
                while True:
                    opcode, payload = await self.receive_frame()
                    if opcode == 0x8:
                        return close_code(payload)
            except (asyncio.IncompleteReadError, ConnectionError):
                return 1006


def close_code(payload: bytes) -> int:
    return int(struct.unpack("!H", payload[:2])[0]) if len(payload) >= 2 else 1005


def _mask(payload: bytes, mask: bytes) -> bytes:
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")


def host_of(url: str) -> str:
    return urlsplit(url).netloc
