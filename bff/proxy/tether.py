"""Long streams end with their session: what a WebSocket or an event stream holds on to (SSE-4, WS-8, F56)."""

from __future__ import annotations

from collections.abc import Callable

from bff.session.model import EndReason, Live, Session


class Tether:
    """Tied to one session until ``loose()``. ``on_end`` is called at most once, from the keeper or from ``check``.

    The session is judged by its absolute end too, so that a stream can't outlive it even if nobody else looks.
    """

    __slots__ = ("_expires_at", "_live", "_on_end")

    def __init__(self, live: Live, judged: Session, on_end: Callable[[EndReason], None]) -> None:
        self._live = live
        self._expires_at = judged.expires_at
        self._on_end: Callable[[EndReason], None] | None = on_end
        live.watch(self)

    def __call__(self, reason: EndReason) -> None:
        """The session has ended (called by the keeper, once)."""
        on_end = self._on_end
        if on_end is not None:
            self.loose()
            on_end(reason)

    def check(self, now: float) -> None:
        """Called by the tick with wall time: the session may have ended before we held on, or ends by time now."""
        if self._live.session is None:
            self(EndReason.LOGOUT)
        elif now >= self._expires_at:
            self(EndReason.EXPIRED)

    def loose(self) -> None:
        self._on_end = None
        self._live.leave(self)
