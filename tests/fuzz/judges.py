"""Two independent parsers, h11 and llhttp, and what each makes of the same bytes. What we accept they must accept, with the same meaning.

Where a judge is known to be laxer or stricter than the RFC, the difference is named here and nowhere else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Heard:
    """One message as a judge understood it. ``error`` is why it refused, "" when it did not."""

    method: bytes = b""
    target: bytes = b""
    status: int = 0
    http_10: bool = False
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    rest: bytes = b""
    error: str = ""
    keep_alive: bool = True


class _Callbacks:
    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def on_url(self, url: bytes) -> None:
        if not self.heard.complete:
            self.heard.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heard.complete:
            # llhttp leaves white space behind a value, which is no part of it (RFC 9110 §5.5).
            self.heard.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, data: bytes) -> None:
        if not self.heard.complete:
            self.heard.body += data

    def on_message_complete(self) -> None:
        self.heard.complete = True


def _lower(fields: Any) -> Fields:
    return [(bytes(name).lower(), bytes(value)) for name, value in fields]


def ask_llhttp(data: bytes, *, answer: bool = False) -> Heard:
    """A request, or an ``answer`` to a GET, as llhttp in its strict default mode reads it."""
    heard = Heard()
    parser = (httptools.HttpResponseParser if answer else httptools.HttpRequestParser)(_Callbacks(heard))
    try:
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    except httptools.HttpParserError as error:
        # Bytes behind a complete message are another message: their errors are not this one's.
        heard.error = "" if heard.complete else str(error) or type(error).__name__
    if answer:
        heard.status = parser.get_status_code()
    elif not heard.error:
        heard.method = parser.get_method()
    with contextlib.suppress(Exception):
        heard.http_10 = parser.get_http_version() == "1.0"
    return heard


def ask_h11(data: bytes, *, answer_to: bytes = b"") -> Heard:
    """A request, or the answer to a request with the method ``answer_to``, as h11 reads it."""
    heard = Heard()
    connection = h11.Connection(h11.CLIENT if answer_to else h11.SERVER, max_incomplete_event_size=256 * 1024)
    if answer_to:
        connection.send(h11.Request(method=answer_to, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                heard.method, heard.target = bytes(event.method), bytes(event.target)
                heard.fields, heard.http_10 = _lower(event.headers), event.http_version == b"1.0"
            elif isinstance(event, h11.InformationalResponse | h11.Response):
                heard.status, heard.fields = event.status_code, _lower(event.headers)
                heard.http_10 = event.http_version == b"1.0"
                if isinstance(event, h11.InformationalResponse):
                    break
            elif isinstance(event, h11.Data):
                heard.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                heard.complete = True
                break
            else:
                break
    except h11.RemoteProtocolError as error:
        heard.error = str(error)
    heard.rest = bytes(connection.trailing_data[0])
    heard.keep_alive = connection.their_state is not h11.MUST_CLOSE and connection.our_state is not h11.MUST_CLOSE
    return heard
