"""The audit trail: each security event as one line and one count (PRIV-7)."""

from __future__ import annotations

from typing import Protocol

from bff.base.events import Event, EventKind
from bff.observe.logs import Logger
from bff.observe.redaction import redact

_QUIET = frozenset({EventKind.TOKEN_REFRESHED, EventKind.LOGIN_STARTED})
_NOT_SIGNED_IN = frozenset({"unauthenticated", "session_gone"})
_FAILED = {EventKind.KEY_SET_FETCHED: "provider_fetch_failed"}
"""What a failure is called in the log where the kind's own name tells of a success. Metrics have a label for that."""
_GRAVE = frozenset({EventKind.STORE_FAILED, EventKind.CLIENT_CREDENTIAL_REFUSED})


class EventCounter(Protocol):
    def count_event(self, event: Event) -> None: ...


class AuditTrail:
    """A Probe. Called inline by everybody: quick, and never raises, whatever the disk or terminal does."""

    def __init__(self, *, log: Logger, metrics: EventCounter) -> None:
        self._log = log
        self._metrics = metrics

    def __call__(self, event: Event) -> None:
        try:
            self._metrics.count_event(event)
            self._write(event)
        except Exception:  # noqa: S110 - a full disk must not fail a login; the loss shows as a gap against the counters
            pass

    def _write(self, event: Event) -> None:
        fixed = {
            "outcome": event.outcome,
            "request_id": event.request_id,
            "session": event.session,
            "subject": event.subject,
            "route": event.route,
        }
        fields = {**redact(event.fields), **{name: value for name, value in fixed.items() if value}}
        fields.pop("event", None)
        name = event.kind.value if event.outcome == "ok" else _FAILED.get(event.kind, event.kind.value)
        self._log.log(_level(event), name, audit=True, **fields)


def _level(event: Event) -> int:
    """Severity as logging numbers it: grave failures stand out; what went well does not, nor does somebody who is not signed in yet: that
    is how each visit begins."""
    if event.kind in _GRAVE:
        return 40
    if event.outcome == "ok" or (event.kind is EventKind.REQUEST_REFUSED and event.outcome in _NOT_SIGNED_IN):
        return 20
    return 20 if event.kind in _QUIET else 30
