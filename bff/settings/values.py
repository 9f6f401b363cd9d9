"""The small languages inside the configuration: durations, sizes, addresses, origins, URLs. Pure and strict.

What is not written exactly as documented is refused, never guessed (attack C4: "300x" read as 300, 0 as "for ever").
Each reader raises ``Unusable``: what is wrong and how to write it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15})([A-Za-z]{0,3})", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_URL_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*", re.ASCII)

LONGEST_S = 400 * 86400
LARGEST_BYTES = 2**40
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Unusable(ValueError):
    """A value that cannot be used: ``what`` is wrong with it, and the ``fix``. Never holds the value of a secret."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; fix: {fix}")
        self.what = what
        self.fix = fix


def shown(text: object) -> str:
    """A bounded, escaped spelling of an outside value for a message (D10, PRIV-8)."""
    spelled = ascii(text)
    return spelled if len(spelled) <= 60 else spelled[:57] + "..."


def read_duration(value: object) -> float:
    """Seconds from ``"30m"``, ``"1h30m"``, ``"250ms"`` or a plain whole number of seconds; at most 400 days."""
    fix = 'write a whole number and a unit: "500ms", "30s", "15m", "12h" or "7d"'
    if isinstance(value, int) and not isinstance(value, bool):
        seconds: float = value
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        seconds = int(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    else:
        raise Unusable(f"{shown(value)} is not a duration", fix)
    if not 0 <= seconds <= LONGEST_S:
        raise Unusable(f"{shown(value)} is out of range", "use a duration between 0s and 400d")
    return float(seconds)


def read_size(value: object) -> int:
    """Bytes from ``"1MiB"``, ``"64kB"`` or a plain whole number; at most 1 TiB."""
    fix = 'write a whole number and a unit: "64KiB", "1MiB" or "2GiB"'
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value)) and found[2] in _BYTES:
        size = int(found[1]) * _BYTES[found[2]]
    else:
        raise Unusable(f"{shown(value)} is not a size", fix)
    if not 0 < size <= LARGEST_BYTES:
        raise Unusable(f"{shown(value)} is out of range", "use a size between 1B and 1024GiB")
    return size


def is_loopback(host: str) -> bool:
    """localhost, *.localhost (RFC 6761 §6.3), 127.0.0.0/8 and ::1."""
    bare = host.strip("[]").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a listener sits: ``tcp`` (host, port), ``unix`` (path) or an inherited ``fd``."""

    kind: Literal["tcp", "unix", "fd"]
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    @property
    def authority(self) -> str:
        """host:port as a browser would name it, "" for unix and fd."""
        if self.kind != "tcp":
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return {"tcp": self.authority, "unix": f"unix:{self.path}", "fd": f"fd://{self.fd}"}[self.kind]


def read_listen(value: object) -> Listen:
    """``host:port``, ``[v6]:port``, ``unix:/path`` or ``fd://N``."""
    fix = 'write "127.0.0.1:8080", "[::1]:8080", "unix:/run/bff/door.sock" or "fd://3"'
    if not isinstance(value, str):
        raise Unusable(f"{shown(value)} is not an address", fix)
    if value.startswith("unix:"):
        return _read_unix(value.removeprefix("unix:"), fix)
    if value.startswith("fd://"):
        number = value.removeprefix("fd://")
        if not re.fullmatch(r"[0-9]{1,4}", number, re.ASCII) or int(number) < 3:
            raise Unusable(f"{shown(value)} is not an inherited descriptor", "use fd://3 or higher")
        return Listen("fd", fd=int(number))
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise Unusable(f"{shown(value)} is not an address", fix)
    return Listen("tcp", host=check_host(host), port=int(port))


def _read_unix(path: str, fix: str) -> Listen:
    if not path.startswith("/") or "\0" in path:
        raise Unusable("a unix socket needs an absolute path", fix)
    if len(path.encode()) > 100:
        raise Unusable("the unix socket's path is longer than 100 bytes", "use a shorter path such as /run/bff/door.sock")
    return Listen("unix", path=path)


def check_host(host: str) -> str:
    """A lower-case host name or an IP address, brackets removed."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise Unusable(f"{shown(host)} is not a host", "put an IPv6 address in brackets: [::1]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    if not _HOST.fullmatch(bare) or len(bare) > 253 or bare.rpartition(".")[2].isdigit():
        raise Unusable(f"{shown(host)} is not a host", "use a lower-case host name (IDN as xn--...) or an IP address")
    return bare


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address in parts. ``path`` is as written, ``port`` always filled in."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def plain_and_remote(self) -> bool:
        """Plain http to a host that is not this machine: needs a ``danger_`` switch (ROUTE-10)."""
        return self.scheme == "http" and not is_loopback(self.host)

    def __str__(self) -> str:
        return self.origin + self.path


def read_url(value: object) -> Url:
    """An absolute http(s) URL without userinfo, query or fragment (ROUTE-2, META-3)."""
    fix = 'write it as "https://host[:port]/path"'
    if not isinstance(value, str) or not value.isascii() or any(char <= " " or char == "\\" for char in value):
        raise Unusable("is not a URL", fix)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Unusable("is not a URL", fix) from None
    scheme = parts.scheme
    if scheme != "http" and scheme != "https":
        raise Unusable("is not an http or https URL", fix)
    _check_url_parts(value, parts)
    return Url("https" if scheme == "https" else "http", check_host(_bracketed(parts)), port or _DEFAULT_PORTS[scheme], parts.path)


def _check_url_parts(value: str, parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise Unusable("carries a user name or password", "remove everything up to the @")
    if "?" in value or "#" in value:
        raise Unusable("has a query or fragment", "remove everything from the ? or #")
    if parts.port == 0:
        raise Unusable("names port 0, where nobody listens", "name the port, or leave it out")
    if not parts.hostname or parts.netloc.endswith(":"):
        raise Unusable("names no host", 'write it as "https://host[:port]/path"')
    if not _URL_PATH.fullmatch(parts.path) or any(part in (".", "..") for part in parts.path.split("/")):
        raise Unusable("has a path with characters or segments that are not allowed", "use plain segments, no %, no . or ..")


def _bracketed(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("]")[0]
    return f"{host}]" if host else parts.netloc.partition(":")[0]


def read_origin(value: object) -> Url:
    """An origin exactly as a browser sends it (CSRF-5): no path, no default port, lower case."""
    url = read_url(value)
    if str(url) != value:
        raise Unusable("is not written as browsers send an origin", f'write "{url.origin}"')
    if url.path:
        raise Unusable("has a path", f'write "{url.origin}"')
    return url
