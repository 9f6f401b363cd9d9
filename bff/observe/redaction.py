"""What may be written down: allowed names, bounded lengths, nothing that looks like a token (PRIV-1, PRIV-6, PRIV-8, D10, K1).

An allow-list, because a deny-list forgets: a field whose name is not listed keeps its place in the line and loses its text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 512
"""No text in a log line is longer, whatever was sent to us (joserfc CVE-2025-65015)."""

_NAMES = frozenset(
    {
        *(
            "event",
            "level",
            "ts",
            "logger",
            "message",
            "detail",
            "error",
            "error_type",
            "public",
            "trace",
            "method",
            "path",
            "status",
            "route",
        ),
        *(
            "client_ip",
            "audit",
            "surface",
            "worker",
            "role",
            "slot",
            "pid",
            "exit",
            "signal",
            "version",
            "python",
            "platform",
            "listen",
            "manage_listen",
        ),
        *(
            "address",
            "public_origin",
            "issuer",
            "endpoint",
            "phase",
            "upstream",
            "store",
            "op",
            "kind",
            "rule",
            "in_doubt",
            "alg",
            "typ",
            "cause",
            "audience",
        ),
        *(
            "token_type_hint",
            "scope",
            "problems",
            "warnings",
            "danger",
            "config",
            "keys_file",
            "client_auth",
            "what",
            "fix",
            "where",
            "check",
        ),
        *("setting", "settings", "open", "origin", "oauth_error", "ended_by", "why"),
    }
)
_IDS = frozenset({"request_id", "trace_id", "span_id", "session", "subject", "kid"})
"""Short identifiers that may be as long as a token and aren't one: pseudonyms, random ids, key ids."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{0,64}", re.ASCII)
_WORDS = frozenset({"outcome", "code", "reason", "result"})
_WORD = re.compile(r"[a-z0-9_]{0,48}", re.ASCII)
_QUERY = re.compile(r"\?[^\s\"'<>]*")
_USERINFO = re.compile(r"(?<=://)[^/\s@]*@")
_LONG_RUN = re.compile(r"[A-Za-z0-9_.+=-]{24,}")
_LEFT_OUT = "[not logged]"


def redact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``fields`` that is safe to write. Numbers and booleans pass under any name, text under listed ones."""
    return {name: _redact_value(name, value) for name, value in fields.items()}


def _redact_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name in _IDS:
        return value if isinstance(value, str) and _ID.fullmatch(value) else _LEFT_OUT
    if name in _WORDS:
        return value if isinstance(value, str) and _WORD.fullmatch(value) else _LEFT_OUT
    if name not in _NAMES:
        return _LEFT_OUT
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub(str(item)) for item in list(value)[:32]]
    return scrub(str(value))


def scrub(text: str) -> str:
    """Free text without query strings, URL passwords or anything long enough to be a token, at most 512 characters.

    Pseudonyms (16 hex) survive; 24 characters in one run do not, unless they read like a host or file name.
    """
    short = text[: 4 * LONGEST]
    if not short.isascii():
        short = short.encode("utf-8", "replace").decode()
    short = _USERINFO.sub("", _QUERY.sub("", short))
    return _bounded(_LONG_RUN.sub(_keep_words, short))


def _keep_words(found: re.Match[str]) -> str:
    """A run of lower-case words with hardly a digit stays. Tokens mix cases or are full of digits (a UUID: three in five)."""
    run = found[0]
    digits = sum(map(str.isdigit, run))
    return run if run == run.lower() and 10 * digits <= len(run) and "=" not in run and "+" not in run else "[redacted]"


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def truncate_ip(address: str) -> str:
    """The network a client is in: /24 for IPv4, /48 for IPv6 (PRIV-6). "" for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False).network_address)
