"""Which Host the management listener answers to. Pure.

A page whose name was made to point at this machine (DNS rebinding) is of the same origin as what it reads there, and over plain http
a browser sends no Sec-Fetch headers for it: only Host gives it away. It needs a name for that; an address is one that somebody typed.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?", re.ASCII)


def names_us(host: str, names: frozenset[str]) -> bool:
    """Whether ``host``, with or without a port, is an address or one of ``names`` (lower case)."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match["v6"] or match["name"]).lower()
    return (match["v6"] is None and name in names) or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False
