"""Security events as lines and numbers."""

from __future__ import annotations

import io
import json

import pytest

from bff.base.events import Event, EventKind
from bff.observe.audit import AuditTrail
from bff.observe.logs import build_logger
from bff.observe.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.row("PRIV-7")
@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("outcome", ["ok", "login_denied"])
def test_every_event_is_one_line_with_time_outcome_and_pseudonyms(metrics: Metrics, kind: EventKind, outcome: str) -> None:
    """PRIV-7: UTC time, outcome, route, pseudonymous user, correlation id; and one count."""
    out = io.StringIO()
    trail = AuditTrail(log=build_logger(out, as_text=False), metrics=metrics)
    trail(
        Event(
            kind,
            outcome=outcome,
            request_id="r1",
            session="0123456789abcdef",
            subject="fedcba9876543210",
            route="/api/",
            fields={"count": 2},
        )
    )
    line = json.loads(out.getvalue())
    name = "provider_fetch_failed" if kind is EventKind.KEY_SET_FETCHED and outcome != "ok" else kind.value
    assert (line["event"], line["outcome"], line["request_id"], line["route"], line["count"]) == (name, outcome, "r1", "/api/", 2)
    assert (line["session"], line["subject"], line["audit"]) == ("0123456789abcdef", "fedcba9876543210", True)
    assert line["ts"].endswith("Z")
    assert value(metrics, "bff_security_events_total", event=kind.value, outcome="ok" if outcome == "ok" else "failed") == 1


@pytest.mark.parametrize(("outcome", "level"), [("unauthenticated", "info"), ("session_gone", "info"), ("cross_origin", "warning")])
def test_who_is_not_signed_in_yet_is_no_cause_for_a_warning(metrics: Metrics, outcome: str, level: str) -> None:
    """Each page of an app asks who is signed in: at that level what deserves a look would be buried."""
    out = io.StringIO()
    AuditTrail(log=build_logger(out, as_text=False), metrics=metrics)(Event(EventKind.REQUEST_REFUSED, outcome=outcome))
    assert json.loads(out.getvalue())["level"] == level


@pytest.mark.parametrize(
    ("outcome", "level", "name"), [("ok", "info", "key_set_fetched"), ("provider_unavailable", "warning", "provider_fetch_failed")]
)
def test_a_provider_that_cannot_be_read_stands_out(metrics: Metrics, outcome: str, level: str, name: str) -> None:
    """By its level and by a name that reads as a failure; the metric keeps one name and says the outcome in its label."""
    out = io.StringIO()
    AuditTrail(log=build_logger(out, as_text=False), metrics=metrics)(Event(EventKind.KEY_SET_FETCHED, outcome=outcome))
    line = json.loads(out.getvalue())
    assert (line["level"], line["event"]) == (level, name)
    assert value(metrics, "bff_security_events_total", event="key_set_fetched", outcome="ok" if outcome == "ok" else "failed") == 1


@pytest.mark.row("PRIV-1")
def test_event_fields_are_redacted_and_cannot_replace_the_fixed_ones(metrics: Metrics) -> None:
    """PRIV-1: whatever an author of an event put in."""
    out = io.StringIO()
    fields = {"refresh_token": "canary", "event": "forged", "outcome": "ok", "subject": "alice@example.com"}
    AuditTrail(log=build_logger(out, as_text=False), metrics=metrics)(
        Event(EventKind.LOGOUT, outcome="failed_here", subject="ab", fields=fields)
    )
    line = json.loads(out.getvalue())
    assert "canary" not in out.getvalue()
    assert (line["event"], line["outcome"], line["subject"]) == ("logout", "failed_here", "ab")


def test_a_broken_log_fails_nothing(metrics: Metrics) -> None:
    """PRIV-7: a Probe never raises; the counters still count."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    trail = AuditTrail(log=build_logger(Full(), as_text=False), metrics=metrics)
    trail(Event(EventKind.LOGIN_SUCCEEDED))
    assert value(metrics, "bff_logins_total", result="ok") == 1


def test_events_move_the_counters_that_operators_watch(metrics: Metrics) -> None:
    """The names of the conventions."""
    for event in (
        Event(EventKind.LOGIN_SUCCEEDED),
        Event(EventKind.LOGIN_FAILED, outcome="login_expired"),
        Event(EventKind.SESSION_ENDED, fields={"reason": "idle"}),
        Event(EventKind.SESSION_ENDED, fields={"reason": "administrator", "count": 3}),
        Event(EventKind.SESSION_ENDED, fields={"reason": "ended_elsewhere"}),
        Event(EventKind.TOKEN_REFRESHED),
        Event(EventKind.TOKEN_REFRESH_FAILED, outcome="grant_revoked"),
        Event(EventKind.REQUEST_REFUSED, outcome="csrf_header_missing"),
        Event(EventKind.REQUEST_REFUSED, outcome='x"} forged{'),
    ):
        metrics.count_event(event)
    assert value(metrics, "bff_sessions_started_total") == 1
    assert value(metrics, "bff_logins_total", result="login_expired") == 1
    assert value(metrics, "bff_sessions_ended_total", reason="idle") == 1
    assert value(metrics, "bff_sessions_ended_total", reason="administrator") is None
    assert value(metrics, "bff_sessions_ended_total", reason="ended_elsewhere") is None, "whoever ended it counted it"
    assert value(metrics, "bff_token_refreshes_total", result="grant_revoked") == 1
    assert value(metrics, "bff_refused_total", reason="csrf_header_missing") == 1
    assert value(metrics, "bff_refused_total", reason="other") == 1
