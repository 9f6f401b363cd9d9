"""Strict JSON: what a provider sends is an object with each member once, bounded in depth and in number size.

Python's own reader takes the last of two equal members, ``NaN`` and lone surrogates; each of these has been a way to make
two readers see two documents (RFC 8725bis §3.10, J10, IDTOKEN-22).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

JsonObject = dict[str, Any]

MAX_DEPTH = 16
MAX_INT_DIGITS = 20

# The string alternative also matches an unterminated string up to the end: otherwise each quote in it would start a new
# scan and the work would grow with the square of the input.
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonRefused(ValueError):
    """Not JSON, or JSON that we refuse to read. The text says which rule; it never quotes the input."""


def read_json_object(data: bytes | str) -> JsonObject:
    """The object in ``data``. Raises JsonRefused for anything else, whatever the bytes are."""
    text = _read_text(data)
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except JsonRefused:
        raise
    except (ValueError, RecursionError):
        raise JsonRefused("not JSON") from None
    if not isinstance(value, dict):
        raise JsonRefused("not an object")
    if _SURROGATE_ESCAPE.search(text):
        _check_encodable(value)
    return value


def _read_text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonRefused("not UTF-8") from None


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonRefused("nested too deeply")
        elif first in "]}":
            depth -= 1


def _unique_members(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonRefused("a member appears twice")
    return members


def _no_constant(_name: str) -> Any:
    raise JsonRefused("NaN or Infinity")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_INT_DIGITS:
        raise JsonRefused("a number is too long")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonRefused("a number is too large")
    return value


def _check_encodable(value: JsonObject) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonRefused("a lone surrogate") from None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_int=_bounded_int, parse_float=_finite)
"""Made once: ``json.loads`` would make it anew for each text."""
