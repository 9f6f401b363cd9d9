"""W3C Trace Context: read what arrives, pass on a child. No library needed; an exporter may be added beside it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_VERSION_00 = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place in a trace. ``sampled`` is the caller's wish (Trace Context §3.2.2.5.1)."""

    trace_id: str
    span_id: str
    sampled: bool = False

    @property
    def header(self) -> str:
        """The traceparent to send onward."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def read_traceparent(text: str | None) -> TraceContext | None:
    """The caller's context, or None for anything that breaks §3.2: the trace is then begun anew, never repaired."""
    found = _TRACEPARENT.fullmatch(text) if text and len(text) <= 128 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


def read_trace_id(text: str) -> str:
    """The trace id of a version 00 traceparent, "" for anything else."""
    found = _VERSION_00.fullmatch(text)
    return found[1] if found else ""


def continue_trace(parent: TraceContext | None, token_hex: Callable[[int], str] = secrets.token_hex) -> TraceContext:
    """A span of ours: in the caller's trace, or in a new one that nobody asked to sample."""
    trace_id = parent.trace_id if parent else token_hex(16)
    return TraceContext(trace_id, token_hex(8), sampled=bool(parent and parent.sampled))
