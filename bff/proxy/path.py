"""The request line: method, target, version. What is not canonical is refused, never repaired (ROUTE-4 to 9, P1 to P11).

Decided once, for all routes:

* only origin-form; absolute-form and asterisk-form are refused, even for our own authority (RFC 9112 §3.2.2 lets a server accept
  them; no browser sends them to an origin, and two spellings of one host are one too many);
* the path holds unreserved, sub-delims, ``:``, ``@``, ``/`` and percent triples only; ``[ ] | " < > \\ ^ ` { }`` must come encoded;
* no empty segment but a trailing one, no segment that is ``.`` or ``..`` after any number of decodings or before a ``;``;
* the decoded path is UTF-8 without control characters and backslashes, again after any number of decodings;
* an encoded slash in any depth is noted, and matches only routes that opt in (``Route.encoded_slash``);
* the query is printable ASCII without space and ``#``, otherwise opaque: it is forwarded byte for byte and never matched.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bff.policy.path import PathFinding, judge_path
from bff.policy.routes import METHODS
from bff.policy.verdict import Refusal

MAX_TARGET_BYTES = 8 * 1024

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ \r\n\t]+) HTTP/(\d)\.(\d)")
_SEGMENT = rb"/(?!\.{0,2}(?:[/;? ]))[A-Za-z0-9\-._~!$&'()*+,;=:@]+"
# The overwhelming majority: no percent sign, no empty or dot segment. Everything else takes the long way, and so does every refusal.
_PLAIN_LINE = re.compile(rb"([A-Z]{3,8}) ((?:" + _SEGMENT + rb")*/?)(?:\?([!\x22\x24-\x7e]*))? HTTP/1\.([01])")
_PATH = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(rb"[!\x22\x24-\x7e]*")


class Start(NamedTuple):
    """A request line that may be believed."""

    method: str
    path: str
    query: str | None
    http_10: bool
    encoded_slash: bool


def malformed(detail: str) -> Refusal:
    return Refusal(400, "request_malformed", detail, close=True)


def target_refused(detail: str) -> Refusal:
    return Refusal(400, "target_refused", detail, close=True)


TARGET_TOO_LONG = Refusal(414, "target_too_long", f"The address is longer than {MAX_TARGET_BYTES} bytes.", close=True)
_NO_ORIGIN_FORM = target_refused("The request target must be a path on this server.")
_BAD_CHARACTER = target_refused("The address holds a character that must be percent-encoded.")
_DOT_SEGMENT = target_refused("The address holds an empty or a dot segment.")
_BAD_CONTENT = target_refused("The address decodes to control characters, backslashes or invalid UTF-8.")


def read_start(line: bytes) -> Start | Refusal:
    """The request line without its CRLF."""
    plain = _PLAIN_LINE.fullmatch(line)
    if plain is not None and len(line) <= MAX_TARGET_BYTES:
        verb, path, query, minor = plain.groups()
        name = verb.decode()
        if path and name in METHODS:
            return Start(name, path.decode(), None if query is None else query.decode(), minor == b"0", False)
    return _read_slowly(line)


def _read_slowly(line: bytes) -> Start | Refusal:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return malformed("The request line is not METHOD SP TARGET SP HTTP/1.1.")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        return Refusal(505, "version_refused", "Only HTTP/1.1 and HTTP/1.0 are spoken here.", close=True)
    refusal = _refuse_method(method)
    if refusal is not None:
        return refusal
    if len(target) > MAX_TARGET_BYTES:
        return TARGET_TOO_LONG
    return _read_target(method.decode(), target, minor == b"0")


def _refuse_method(method: bytes) -> Refusal | None:
    name = method.decode()
    if name in METHODS:
        return None
    if name in ("CONNECT", "TRACE"):
        return Refusal(405, "method_refused", "CONNECT and TRACE are never served.", close=True, allow=tuple(sorted(METHODS)))
    return Refusal(501, "method_unknown", "This method is not known here; methods are upper-case.", close=True)


def _read_target(method: str, target: bytes, http_10: bool) -> Start | Refusal:
    if not target.startswith(b"/"):
        return _NO_ORIGIN_FORM
    path, mark, rest = target.partition(b"?")
    if _PATH.fullmatch(path) is None or _QUERY.fullmatch(rest) is None:
        return _BAD_CHARACTER
    finding = judge_path(path)
    if finding is PathFinding.BAD_SEGMENT:
        return _DOT_SEGMENT
    if finding is PathFinding.BAD_CONTENT:
        return _BAD_CONTENT
    return Start(method, path.decode(), rest.decode() if mark else None, http_10, finding is PathFinding.ENCODED_SLASH)
