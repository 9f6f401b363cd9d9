"""A request body on its way up: counted exactly, decoded strictly, framed anew, never larger than the route allows."""

from __future__ import annotations

from bff.proxy.framing import LAST_CHUNK, ChunkedReader, chunk


class BodyTooLarge(Exception):
    """The body passed the route's limit (BODY-3)."""


class Upload:
    """Takes what the browser sends and returns what the upstream gets, in pieces of any size. ``length`` is None where it is chunked.

    ``done`` once the body is complete; ``rest`` then holds the bytes after it, which belong to the next request.
    ``received`` counts payload bytes. FramingError and BodyTooLarge end the connection.
    """

    __slots__ = ("_left", "_limit", "_reader", "done", "received", "rest")

    def __init__(self, length: int | None, *, limit: int) -> None:
        self._left = length or 0
        self._reader = ChunkedReader() if length is None else None
        self._limit = limit
        self.received = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if self._reader is None:
            return self._feed_counted(data)
        payload = self._reader.feed(data)
        self.received += len(payload)
        if self.received > self._limit:
            raise BodyTooLarge
        if not self._reader.done:
            return chunk(payload)
        self.done = True
        self.rest = self._reader.rest
        return chunk(payload) + LAST_CHUNK

    def _feed_counted(self, data: bytes) -> bytes:
        if len(data) > self._left:
            data, self.rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        self.received += len(data)
        self.done = self._left == 0
        return data
