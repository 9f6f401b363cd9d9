"""The access log and trace context."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.observe.access import AccessLog, AccessRecord, count_requests
from bff.observe.logs import line_as_text
from bff.observe.redaction import LONGEST
from bff.observe.tracing import TraceContext, continue_trace, read_traceparent
from bff.policy.facts import Facts

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FACTS = Facts(
    method="GET",
    path="/api/orders/17",
    query="code=canary&access_token=canary",
    host="app.example.com",
    headers=((b"cookie", b"canary"), (b"authorization", b"canary")),
    cookies=(("__Host-Http-bff", "canary"),),
    client_ip="192.0.2.77",
    traceparent=TRACEPARENT,
)


def record(facts: Facts | None = FACTS, request_id: bytes = b"r1", route: str = "/api/orders/") -> AccessRecord:
    return (1_800_000_000.25, request_id, facts, route, b"k" * 32, 200, 10, 512, 0.0123, "ok")


@pytest.fixture
def written() -> list[bytes]:
    return []


@pytest.fixture
def log(written: list[bytes]) -> AccessLog:
    return AccessLog(write=written.append, pseudonym=lambda key: key.hex()[:16])


@pytest.mark.row("PRIV-6", "PRIV-1")
def test_a_request_is_one_line_without_query_cookie_or_whole_address(log: AccessLog, written: list[bytes]) -> None:
    """PRIV-6: path without query, the network instead of the address, a pseudonym instead of the session."""
    log.write([record()])
    line = json.loads(written[0])
    assert line == {
        "ts": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "event": "request",
        "request_id": "r1",
        "route": "/api/orders/",
        "status": 200,
        "outcome": "ok",
        "duration_ms": 12.3,
        "received": 10,
        "sent": 512,
        "method": "GET",
        "path": "/api/orders/17",
        "client_ip": "192.0.2.0",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "session": "6b6b6b6b6b6b6b6b",
    }
    assert b"canary" not in written[0]


def test_a_request_that_could_not_be_read_is_a_line_too(log: AccessLog, written: list[bytes]) -> None:
    """PRIV-7: refused heads show up."""
    log.write([record(None, route="")])
    assert "path" not in json.loads(written[0])
    log.write([])
    assert b"".join(written).count(b"\n") == 1


@pytest.mark.row("PRIV-8", "K2", "D10")
@given(st.text(max_size=700), st.binary(max_size=40))
def test_no_path_or_request_id_can_forge_a_line(path: str, request_id: bytes) -> None:
    """K2: one line of printable ASCII, bounded, whatever is in it."""
    log = AccessLog(write=lambda data: None, pseudonym=lambda key: "")
    line = log.format(record(replace(FACTS, path=path), request_id=request_id))
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert line.endswith("}\n")
    shown = json.loads(line)["path"]
    assert "?" not in shown
    assert len(shown) <= LONGEST
    assert len(line) < 8 * LONGEST


def test_a_broken_output_loses_lines_and_nothing_else(written: list[bytes]) -> None:
    """A reader that is gone must not end requests."""

    def broken(data: bytes) -> None:
        raise BrokenPipeError

    log = AccessLog(write=broken, pseudonym=lambda key: "")
    log.write([record(), record()])
    assert log.lost == 2


def test_pseudonyms_are_remembered_until_the_keys_change(written: list[bytes]) -> None:
    """PRIV-6: and made anew after a reload."""
    asked: list[bytes] = []
    log = AccessLog(write=written.append, pseudonym=lambda key: asked.append(key) or "p")  # type: ignore[func-returns-value]
    log.write([record(), record()])
    assert len(asked) == 1
    log.forget()
    log.write([record()])
    assert len(asked) == 2


def test_requests_are_counted_for_the_metrics() -> None:
    """By route, method and status."""
    assert count_requests([record(), record(), record(None)]) == {("/api/orders/", "GET", 200): 2, ("/api/orders/", "", 200): 1}


def test_a_trace_is_continued_under_a_span_of_ours() -> None:
    """Trace Context §3.2: same trace, our span, the caller's wish to sample."""
    parent = read_traceparent(TRACEPARENT)
    assert parent == TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
    child = continue_trace(parent)
    assert child.trace_id == parent.trace_id
    assert child.span_id != parent.span_id
    assert read_traceparent(child.header) == child
    fresh = continue_trace(None)
    assert not fresh.sampled
    assert read_traceparent(fresh.header) == fresh


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        TRACEPARENT.upper(),
        TRACEPARENT + "-x",
        "ff" + TRACEPARENT[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        TRACEPARENT + "\n",
        "01" + TRACEPARENT[2:] + "-" + "x" * 200,
    ],
)
def test_a_malformed_traceparent_is_ignored(text: str | None) -> None:
    """Trace Context §3.2.2: never repaired. A later version may say more."""
    assert read_traceparent(text) is None
    assert read_traceparent("01" + TRACEPARENT[2:] + "-more") is not None


def test_on_a_terminal_access_lines_look_like_all_others(written: list[bytes]) -> None:
    log = AccessLog(write=written.append, pseudonym=lambda key: key.hex()[:16], render=line_as_text)
    log.write([record(), record(replace(FACTS, path="/a\x1b[2J"), request_id=b"r2")])
    first, second = b"".join(written).decode().splitlines()
    assert first.startswith('2027-01-15T08:00:00.250Z info    request  request_id="r1" route="/api/orders/" status=200 outcome="ok"')
    assert "canary" not in first and "\x1b" not in second and second.count('request_id="r2"') == 1
