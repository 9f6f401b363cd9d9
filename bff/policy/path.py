"""What a path means to everybody who may read it after us (ROUTE-5, ROUTE-6, P5 to P7)."""

from __future__ import annotations

import re
from enum import Enum
from unicodedata import normalize

MAX_DECODINGS = 8
"""Nothing honest is encoded more often. Without a bound 8 KiB of ``%252525…`` cost 130 ms (D7)."""

_TRIPLE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNSAFE_CONTENT = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


class PathFinding(Enum):
    PLAIN = "plain"
    ENCODED_SLASH = "encoded_slash"
    BAD_SEGMENT = "bad_segment"
    BAD_CONTENT = "bad_content"

    @property
    def usable(self) -> bool:
        return self in (PathFinding.PLAIN, PathFinding.ENCODED_SLASH)


def judge_path(path: bytes) -> PathFinding:
    """Look at ``path`` (starting with "/") as each next hop might: after zero, one, two… decodings, until nothing changes.

    BAD_SEGMENT: an empty segment that is not the last, or one that is ``.`` or ``..``, alone or before a ``;`` or spaces (some
    servers drop the parameters first, Windows the spaces). BAD_CONTENT: control characters, a backslash, not UTF-8, or encoded
    too often. ENCODED_SLASH: usable, but two readers may count its segments differently.
    """
    hidden_slash = False
    slashes = path.count(b"/")
    for _ in range(MAX_DECODINGS + 1):
        if _has_bad_segment(path, empty_allowed=hidden_slash):
            return PathFinding.BAD_SEGMENT
        decoded = _TRIPLE.sub(_decode_triple, path)
        if decoded == path:
            return PathFinding.ENCODED_SLASH if hidden_slash else PathFinding.PLAIN
        if _has_unsafe_content(decoded):
            return PathFinding.BAD_CONTENT
        hidden_slash = hidden_slash or decoded.count(b"/") != slashes
        path = decoded
    return PathFinding.BAD_CONTENT


def decode_fully(path: bytes) -> str:
    """``path`` after as many decodings as change it. Only for paths that ``judge_path`` found usable."""
    decoded = _TRIPLE.sub(_decode_triple, path)
    while decoded != path:
        path, decoded = decoded, _TRIPLE.sub(_decode_triple, decoded)
    return path.decode()


def is_plain(path: str) -> bool:
    """True if ``fold_path`` surely changes nothing; cheap."""
    return "%" not in path and "." not in path and ";" not in path and path == path.lower()


def fold_path(path: str) -> str:
    """``path`` as the most forgiving of servers may read it: fully decoded, no case, no ``;parameters``, no empty segments, no
    dots or spaces at the end of a segment (Windows). Two paths that fold alike may name one resource. Only for usable paths."""
    meant = normalize("NFKC", decode_fully(path.encode())).casefold()
    segments = [segment.partition(";")[0].rstrip(". ") for segment in meant.split("/")]
    last = "/" if not segments[-1] else ""
    return "/" + "".join(f"{segment}/" for segment in segments if segment)[: None if last else -1]


def _decode_triple(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _has_unsafe_content(decoded: bytes) -> bool:
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return True
    return _UNSAFE_CONTENT.search(text) is not None


def _has_bad_segment(path: bytes, *, empty_allowed: bool) -> bool:
    segments = path.split(b"/")[1:]
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        name, parameters, _ = segment.partition(b";")
        if name.rstrip(b" ") in (b".", b".."):
            return True
        # An encoded slash may make an empty segment (a%2F%2Fb is data on a route that opted in); a raw one may not.
        if not name and (parameters or index != last) and not empty_allowed:
            return True
    return False
