"""Structured logs: one JSON object a line on standard output, text on a terminal. Nothing here is global but Python's own
logging root, which is made to speak the same language: libraries' records become lines like ours, redacted like ours.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog

from bff.observe.redaction import redact, scrub

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_TIME = structlog.processors.TimeStamper(fmt="iso", utc=True)
_Fields = MutableMapping[str, Any]


def configure_logs(*, format: Literal["auto", "json", "text"] = "auto", level: str = "info", stream: TextIO | None = None) -> Logger:
    """Build the program's logger and send the libraries' records the same way. Call once per process."""
    out = stream or sys.stdout
    log = build_logger(out, as_text=is_text(format, out), level=level)
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(log)]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    for chatty in ("httpx", "httpcore", "hypercorn.access", "hypercorn.error", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return log


def is_text(format: str, out: TextIO) -> bool:
    """Whether lines for people are wanted on ``out``: by choice, or because it is a terminal."""
    return format == "text" or (format == "auto" and out.isatty())


def line_as_text(line: str) -> str:
    """One JSON line of the access log as the other lines look on a terminal."""
    return _render_text(None, "", msgspec.json.decode(line)) + "\n"


def build_logger(out: TextIO, *, as_text: bool, level: str = "info") -> Logger:
    """A logger that writes redacted lines to ``out``, each with its end in one piece, for other processes write there too; touches
    nothing else."""
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[structlog.processors.add_log_level, _describe_exception, _redact, _add_time, _render_text if as_text else _render_json],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger


def _describe_exception(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    """The chain of types and where they were raised. Never their texts: a library's may quote what it choked on (K1)."""
    given = fields.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        fields["error_type"] = " < ".join(_type_names(error))
        fields["trace"] = [
            f"{_short(frame.filename)}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-12:]
        ]
    return fields


def _type_names(error: BaseException) -> list[str]:
    names: list[str] = []
    link: BaseException | None = error
    while link is not None and len(names) < 6:
        names.append(type(link).__name__)
        link = link.__cause__ or link.__context__
    return names


def _short(filename: str) -> str:
    return "/".join(filename.replace("\\", "/").split("/")[-2:])


def _redact(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    return redact(fields)


def _add_time(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    first = {"ts": _TIME(None, "", {})["timestamp"], "level": fields.pop("level", ""), "event": fields.pop("event", "")}
    return {**first, **fields}


def _render_json(_logger: Any, _method: str, fields: _Fields) -> str:
    return escape_invisible(msgspec.json.encode(fields).decode())


def _render_text(_logger: Any, _method: str, fields: _Fields) -> str:
    head = f"{fields.pop('ts')} {fields.pop('level'):<8}{fields.pop('event')}"
    rest = " ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in fields.items() if value not in ("", None))
    return escape_invisible(f"{head}  {rest}".rstrip())


def escape_invisible(line: str) -> str:
    """``line`` with whatever could move a cursor, hide or reorder text spelled out (PRIV-8, K2: ANSI, bidi, NUL, C1)."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else "\\ufffd" for char in line)


class _LibraryHandler(logging.Handler):
    """Records of libraries as our lines. Below WARNING only the template, since arguments may be anything."""

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage() if record.levelno >= logging.WARNING else str(record.msg)
        except Exception:
            message = str(record.msg)
        level = max(logging.DEBUG, min(record.levelno, logging.CRITICAL)) // 10 * 10
        self._log.log(level, "library", logger=record.name, message=scrub(message.partition("\n")[0]), exc_info=record.exc_info or None)
