"""Logs: one object a line, nothing secret, nothing that forges a line or moves a cursor."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.secret import Secret
from bff.observe.logs import Logger, build_logger, configure_logs
from bff.observe.redaction import LONGEST, redact, scrub, truncate_ip

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLWNhbmFyeQ"


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(out: io.StringIO) -> Logger:
    return build_logger(out, as_text=False, level="debug")


@pytest.fixture
def untouched_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_event(log: Logger, out: io.StringIO) -> None:
    """PRIV-7: time in UTC."""
    log.info("serving", listen="127.0.0.1:8080", pid=7)
    (line,) = lines(out)
    assert (line["event"], line["level"], line["listen"], line["pid"]) == ("serving", "info", "127.0.0.1:8080", 7)
    assert str(line["ts"]).endswith("Z")


@pytest.mark.row("PRIV-1", "K1")
@pytest.mark.parametrize(
    "name", ["access_token", "refresh_token", "id_token", "client_secret", "state", "nonce", "code_verifier", "cookie", "anything"]
)
def test_a_field_that_is_not_on_the_list_loses_its_text(log: Logger, out: io.StringIO, name: str) -> None:
    """PRIV-1: an allow-list, at any level."""
    log.debug("x", **{name: "canary"})
    log.error("x", **{name: ["canary"]})
    assert "canary" not in out.getvalue()
    assert len(lines(out)) == 2


@pytest.mark.row("PRIV-1", "K1")
@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"refused: {JWT}",
        f"https://u:pa55word@host/x?code={JWT}",
        "https://app/cb?code=SplxlOBeZQQYbYS6WxSbIA&state=af0",
        "a" * 8 + "B7" * 20,
    ],
)
def test_free_text_loses_what_looks_like_a_token_a_query_or_a_password(log: Logger, out: io.StringIO, text: str) -> None:
    """K1: in fields that are allowed too."""
    log.warning("x", detail=text)
    written = out.getvalue()
    assert not any(part in written for part in ("eyJ", "Splx", "pa55word", "B7B7", "state="))


def test_ordinary_words_survive(log: Logger, out: io.StringIO) -> None:
    """PRIV-1: the positive twin: logs stay useful."""
    log.info(
        "x",
        detail="metadata: GET id.example.com/.well-known/openid-configuration timed out",
        request_id="a" * 32,
        session="0123456789abcdef",
        code="store_unavailable",
    )
    (line,) = lines(out)
    assert line["detail"] == "metadata: GET id.example.com/.well-known/openid-configuration timed out"
    assert (line["request_id"], line["session"], line["code"]) == ("a" * 32, "0123456789abcdef", "store_unavailable")


@pytest.mark.row("PRIV-1")
@pytest.mark.parametrize(
    ("name", "value"), [("code", "SplxlOBeZQQYbYS6WxSbIA"), ("request_id", "a b"), ("outcome", JWT), ("session", "x" * 65)]
)
def test_a_word_or_id_that_is_not_one_is_left_out(name: str, value: str) -> None:
    """PRIV-1: "code" is an error code here and never an authorization code."""
    assert redact({name: value}) == {name: "[not logged]"}


def test_a_secret_never_prints(log: Logger, out: io.StringIO) -> None:
    """PRIV-1: even under an allowed name."""
    log.info("x", detail=Secret("canary"))
    assert "canary" not in out.getvalue()


@pytest.mark.row("PRIV-8", "K2")
@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("bad", ["\r\n", "\x1b[31m", "\x00", "\u202e", "\u2028", "\x9b", '"}\n{"event":"forged', "\ud800"])
def test_untrusted_text_cannot_forge_or_disturb_a_line(out: io.StringIO, as_text: bool, bad: str) -> None:
    """K2: one event, one line, printable only."""
    build_logger(out, as_text=as_text).info("x", detail=f"before{bad}after", path=f"/{bad}", **{"request_id": bad})
    written = out.getvalue()
    assert written.count("\n") == 1
    assert written[:-1].isprintable()
    if not as_text:
        assert json.loads(written)["event"] == "x"


@pytest.mark.row("D10")
@given(st.text(max_size=3000))
def test_no_text_grows_a_line_without_bound(text: str) -> None:
    """D10: an oversize token was echoed whole (joserfc CVE-2025-65015)."""
    assert len(scrub(text * 3)) <= LONGEST


@pytest.mark.row("K1", "D10")
def test_an_exception_is_logged_by_types_and_places_not_by_text(log: Logger, out: io.StringIO) -> None:
    """K1: a library's text may quote the token it choked on."""
    try:
        try:
            raise ValueError(JWT)
        except ValueError as error:
            raise RuntimeError("canary") from error
    except RuntimeError as error:
        log.error("failed", exc_info=error)
        log.error("failed", exc_info=True)
    assert "eyJ" not in out.getvalue()
    assert "canary" not in out.getvalue()
    for line in lines(out):
        assert line["error_type"] == "RuntimeError < ValueError"
        assert "test_observe_logs.py" in str(line["trace"])


@pytest.mark.row("PRIV-1", "PRIV-8")
def test_records_of_libraries_become_lines_of_ours(out: io.StringIO, untouched_root: None) -> None:
    """PRIV-1: redacted the same way; arguments of chatter are not written at all."""
    configure_logs(format="json", level="debug", stream=out)
    logging.getLogger("some.package").info("asked %s", JWT)
    logging.getLogger("some.package").warning("choked on %s\nsecond line", JWT)
    logging.getLogger("some.package").warning("broken %d", "args")
    logging.getLogger("httpx").info("HTTP Request: GET https://id/cb?code=canary")
    assert "eyJ" not in out.getvalue()
    assert "canary" not in out.getvalue()
    assert [line["message"] for line in lines(out)] == ["asked %s", "choked on [redacted]", "broken %d"]


def test_text_goes_to_terminals_and_json_elsewhere(out: io.StringIO, untouched_root: None) -> None:
    """The "auto" format follows the stream."""
    configure_logs(stream=out).info("x")
    assert out.getvalue().startswith("{")
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    configure_logs(stream=terminal).info("x", pid=3)
    assert "x  pid=3" in terminal.getvalue()
    configure_logs(level="error", stream=out).info("not written")
    assert "not written" not in out.getvalue()


@pytest.mark.row("PRIV-6")
@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2::3", "2001:db8:1::"),
        ("::ffff:192.0.2.7", "192.0.2.0"),
        ("fe80::1%eth0", "fe80::"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_client_addresses_are_truncated(address: str, network: str) -> None:
    """PRIV-6: /24 and /48."""
    assert truncate_ip(address) == network


def test_a_line_and_its_end_leave_in_one_piece_for_other_processes_write_to_the_same_file() -> None:
    """With PYTHONUNBUFFERED each write is one to the file: a line without its end would get another process's behind it."""

    class Pieces(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[str] = []

        def write(self, text: str) -> int:
            self.written.append(text)
            return len(text)

    out = Pieces()
    log = build_logger(out, as_text=False)
    log.info("serving")
    log.warning("config_refused", problems=["x"])
    assert len(out.written) == 2 and all(piece.startswith("{") and piece.endswith("}\n") for piece in out.written)
