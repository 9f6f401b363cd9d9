"""Where sealed sessions are kept. ``open_store`` is the only place that knows which stores there are."""

from __future__ import annotations

from pathlib import Path

from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.session.store.memory import MemoryStore
from bff.session.store.port import Changes, Row, SessionStore
from bff.session.store.sqlite import SqliteStore

__all__ = ["Changes", "MemoryStore", "Row", "SessionStore", "SqliteStore", "open_store"]

_EXTRAS = {"redis": "redis", "rediss": "redis", "valkey": "redis", "valkeys": "redis", "postgresql": "postgres", "postgres": "postgres"}


def open_store(url: str, *, clock: Clock, memory_file: Path | None = None) -> SessionStore:
    """The store that ``url`` names: ``memory:``, ``sqlite:///absolute/path`` or ``sqlite:relative/path``.

    ``memory_file`` is where several processes share what ``memory:`` means for one: sessions that end with them.
    Nothing is opened before the first call, so it may be built before a fork. ConfigError.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise ConfigError(f"session.store is not a URL: {_shown(url)}. Use memory: or sqlite:///path/to/sessions.db")
    if scheme == "memory" and not rest:
        return MemoryStore(clock=clock) if memory_file is None else SqliteStore(memory_file, clock=clock, durable=False)
    if scheme == "sqlite":
        return SqliteStore(_sqlite_path(rest), clock=clock)
    if scheme in _EXTRAS:
        extra = _EXTRAS[scheme]
        raise ConfigError(f"session.store {scheme}: needs the extra: pip install bff-token-handler[{extra}] (not in this release yet)")
    raise ConfigError(f"session.store has an unknown scheme: {_shown(scheme)}. Use memory: or sqlite:///path/to/sessions.db")


def _sqlite_path(rest: str) -> Path:
    if rest.startswith("///"):
        rest = rest[2:]
    if not rest or rest.startswith("//") or rest.endswith("/") or any(mark in rest for mark in "?#\0"):
        raise ConfigError("session.store for SQLite is sqlite:///absolute/path or sqlite:relative/path, without options.")
    return Path(rest)


def _shown(text: str) -> str:
    """A URL may carry a password: no more of it than its scheme is ever shown."""
    return repr(text) if len(text) <= 12 else "(not shown)"
