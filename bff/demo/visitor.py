"""A browser small enough to read: cookies by host, forms, redirects, one WebSocket, one event stream.

For ``bff demo --once`` only. It sends what Chromium sends where the BFF looks (Fetch Metadata, Origin) and keeps every answer, so that
the journey can print what a browser really saw.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Form:
    """The first form of a page: where it goes and what it holds."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(action=values.get("action", "")))
        elif self.forms and tag == "button" and values.get("name"):
            self.forms[-1].buttons.append((values["name"], values.get("value", "")))
        elif self.forms and tag == "input" and values.get("name"):
            if values.get("type") in ("radio", "checkbox") and "checked" not in values:
                self.forms[-1].fields.setdefault(values["name"], "")
            else:
                self.forms[-1].fields[values["name"]] = values.get("value", "")


def read_forms(page: bytes) -> list[Form]:
    """Every form of an HTML page, in order."""
    reader = _FormReader()
    reader.feed(page.decode("utf-8", "replace"))
    return reader.forms


def page_headers(site: str) -> dict[str, str]:
    """What Chromium adds to a navigation."""
    metadata = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"}
    return {**metadata, "Accept": "text/html"}


def fetch_headers() -> dict[str, str]:
    """What Chromium adds to a same-origin fetch."""
    return {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Accept": "application/json"}


class Visitor:
    """One browser profile. ``jar``: host → cookie name → value (ports share cookies, as in life)."""

    def __init__(self) -> None:
        self.jar: dict[str, dict[str, str]] = {}

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
        """One request, redirects not followed; stores the cookies of the answer."""
        connection, path = self._connect(url)
        try:
            connection.request(method, path, body=body, headers={**self._cookie(url), **(headers or {})})
            response = connection.getresponse()
            answer = Answer(url, response.status, tuple(response.getheaders()), response.read())
        finally:
            connection.close()
        self._keep(url, answer)
        return answer

    def visit(self, url: str, *, site: str = "none", hops: int = 10) -> Answer:
        """A navigation: follows redirects as a browser does."""
        answer = self.ask("GET", url, page_headers(site))
        return self._follow(answer, hops)

    def submit(self, page: Answer, form: Form, values: Mapping[str, str]) -> Answer:
        """Post a form of ``page`` and follow where it leads."""
        url = urljoin(page.url, form.action)
        body = urlencode({**form.fields, **values}).encode()
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
        headers = {**page_headers("same-origin"), "Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        return self._follow(self.ask("POST", url, headers, body), 10)

    def events(self, url: str, count: int) -> list[str]:
        """The data lines of the first ``count`` server-sent events."""
        connection, path = self._connect(url)
        headers = {**self._cookie(url), **fetch_headers(), "Accept": "text/event-stream"}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                return []
            lines = (line.decode().strip() for line in response)
            data = (line[5:].strip() for line in lines if line.startswith("data:"))
            return [item for item, _ in zip(data, range(count), strict=False)]
        finally:
            connection.close()

    def talk(self, url: str, origin: str, message: str) -> tuple[int, str]:
        """Open a WebSocket, say ``message``, return (handshake status, first answer)."""
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 80), TIMEOUT_S) as sock:
            key = base64.b64encode(os.urandom(16)).decode()
            lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Origin: {origin}"]
            lines += ["Upgrade: websocket", "Connection: Upgrade"]
            lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
            lines += [f"{name}: {value}" for name, value in self._cookie(url).items()]
            sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            stream = sock.makefile("rb")
            status = int(stream.readline().split()[1])
            while stream.readline().strip():
                pass
            if status != http.client.SWITCHING_PROTOCOLS:
                return status, ""
            sock.sendall(_text_frame(message.encode()))
            return status, _read_text_frame(stream)

    def _follow(self, answer: Answer, hops: int) -> Answer:
        while answer.status in (301, 302, 303, 307, 308) and hops > 0:
            target = urljoin(answer.url, answer.header("Location"))
            site = "same-origin" if urlsplit(target).netloc == urlsplit(answer.url).netloc else "cross-site"
            answer = self.ask("GET", target, page_headers(site))
            hops -= 1
        return answer

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(url)
        path = parts.path or "/"
        return http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S), f"{path}?{parts.query}" if parts.query else path

    def _cookie(self, url: str) -> dict[str, str]:
        cookies = self.jar.get(urlsplit(url).hostname or "", {})
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}

    def _keep(self, url: str, answer: Answer) -> None:
        jar = self.jar.setdefault(urlsplit(url).hostname or "", {})
        for name, value in _set_cookies(answer):
            if value is None:
                jar.pop(name, None)
            else:
                jar[name] = value


def _set_cookies(answer: Answer) -> Iterator[tuple[str, str | None]]:
    for key, line in answer.headers:
        if key.lower() == "set-cookie":
            pair, *attributes = line.split(";")
            name, _, value = pair.strip().partition("=")
            gone = any(item.strip().lower() == "max-age=0" for item in attributes)
            yield name, None if gone else value


def _text_frame(payload: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + masked


def _read_text_frame(stream: Any) -> str:
    first, length = stream.read(2)
    if length == 126:
        length = int.from_bytes(stream.read(2), "big")
    payload: bytes = stream.read(length)
    return payload.decode() if first & 0x0F == 1 else f"(frame {first & 0x0F})"
