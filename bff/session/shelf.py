"""The first-level cache: which cookie value is which live session, in this worker. Bounded, and cheap to ask."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakValueDictionary

from bff.session.model import Live


class Shelf:
    """Cookie values in two generations (a full one pushes out the older): least recently used, near enough, without
    moving anything on a hit. Lives by store key are held weakly: one that a stream or a refresh still holds stays
    known, and is told of its end, after its cookie has fallen off. Bound: ``cached`` cookies.
    """

    def __init__(self, *, cached: int) -> None:
        self._half = max(1, cached // 2)
        self._recent: dict[str, Live] = {}
        self._older: dict[str, Live] = {}
        self._lives: WeakValueDictionary[bytes, Live] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def find(self, cookie_value: str) -> Live | None:
        live = self._recent.get(cookie_value)
        if live is None and (live := self._older.pop(cookie_value, None)) is not None:
            self._place(live.cookie if live.cookie == cookie_value else cookie_value, live)
        return live

    def put(self, cookie_value: str, live: Live) -> None:
        self._lives[live.key] = live
        live.cookie = cookie_value
        self._place(cookie_value, live)

    def know(self, live: Live) -> None:
        """Known by its key alone, for as long as somebody holds it."""
        self._lives[live.key] = live

    def find_key(self, key: bytes) -> Live | None:
        return self._lives.get(key)

    def lives(self) -> Iterable[Live]:
        return list(self._lives.values())

    def forget_cookies(self) -> None:
        self._recent.clear()
        self._older.clear()

    def drop_over(self, now: float) -> None:
        """Let go of sessions that ended or ran out (``now`` in epoch seconds): their owners may never ask again, and nothing
        else would push them out on a quiet worker. Whoever does ask is told by the store."""
        for cookies in (self._recent, self._older):
            for value in [value for value, live in cookies.items() if _is_over(live, now)]:
                del cookies[value]

    def _place(self, cookie_value: str, live: Live) -> None:
        if len(self._recent) >= self._half:
            self._older, self._recent = self._recent, {}
        self._recent[cookie_value] = live


def _is_over(live: Live, now: float) -> bool:
    return live.session is None or now >= live.session.expires_at or now >= live.idle_until
