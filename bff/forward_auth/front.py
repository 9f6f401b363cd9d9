"""What a generated configuration is made from: plain values, the same for each front proxy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bff.forward_auth.dialects import ENDPOINT
from bff.policy.routes import Admission, Route, Upstream

SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"

# What means something inside one of the five configuration languages; such a path goes through the door instead.
_SPELLABLE = re.compile(r"[A-Za-z0-9._~!&'()*+,=:@/-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """One route that the front proxy serves itself: asks us, then goes straight to the API. ``index`` names its parts."""

    index: int
    route: Route
    upstream: Upstream

    @property
    def server(self) -> str:
        """Host and port to connect to."""
        return str(Address(self.upstream.host, self.upstream.port))

    @property
    def secure(self) -> bool:
        return self.upstream.scheme == "https"

    @property
    def by_address(self) -> bool:
        """The API is named by an address: its certificate must name that, and a server name cannot be sent (RFC 6066 §3)."""
        return is_address(self.upstream.host)

    @property
    def base(self) -> str:
        """What replaces the route's path."""
        return self.upstream.base_path

    def pattern(self, group: str = "") -> str:
        """A regular expression for the raw target; its one group is what follows the route's path (PCRE, RE2 and Go alike)."""
        return f"^{escape(self.route.path)}({group}{self.tail})$"

    @property
    def path_pattern(self) -> str:
        """The same for the raw path without its query."""
        tail = {"": "", "/": ".*", "/...": "(?:/.*)?"}[self.reach]
        return f"^{escape(self.route.path)}({tail})$"

    @property
    def tail(self) -> str:
        return {"": r"(?:\?.*)?", "/": ".*", "/...": r"(?:[/?].*)?"}[self.reach]

    @property
    def reach(self) -> str:
        """Empty for this path alone, "/" for all that starts with it, "/..." for it and all whole segments below it."""
        if self.route.exact:
            return ""
        return "/" if self.route.path.endswith("/") else "/..."

    @property
    def keeps_cookies(self) -> bool:
        """The API may see some of the browser's cookies: those that the answer to the question names."""
        return bool(self.route.forward_cookies)

    @property
    def anonymous(self) -> bool:
        return self.route.token == "none" and not self.route.session  # noqa: S105 - a kind

    @property
    def cache_control(self) -> str:
        """What replaces the API's own Cache-Control, "" to leave it (CACHE-1)."""
        if self.route.cache == "upstream" or self.anonymous:
            return ""
        return "no-store" if self.route.cache == "no-store" else "private, no-cache"


@dataclass(frozen=True, slots=True)
class Front:
    """One front proxy before one door, or before those of several instances that share sessions. ``others`` are routes that pass
    through the door, each with the reason."""

    origin: str
    listen: Address
    doors: tuple[Address, ...]
    prefix: str
    secret: str
    cookie: str
    ways: tuple[Way, ...]
    others: tuple[tuple[str, str], ...] = ()
    identity: tuple[str, ...] = ()
    pass_headers: tuple[str, ...] = ()
    csrf_header: str = "x-csrf"
    tls_cert_file: str = ""
    tls_key_file: str = ""
    cache_s: int = 0
    cache_folder: str = "/run/bff-forward-auth"
    script: str = ""

    @property
    def door(self) -> Address:
        return self.doors[0]

    @property
    def tls(self) -> bool:
        return self.origin.startswith("https://")

    @property
    def authority(self) -> str:
        return self.origin.partition("://")[2]

    @property
    def host(self) -> str:
        return self.authority.rpartition(":")[0] if re.search(r":\d+$", self.authority) else self.authority

    @property
    def endpoint(self) -> str:
        """The folder of the endpoint: a dialect's name follows."""
        return self.prefix + ENDPOINT

    @property
    def answer_headers(self) -> tuple[str, ...]:
        """Request headers that the API gets from our answer alone, whatever the browser sent."""
        return ("Authorization", "Cookie", *self.identity)

    @property
    def largest_body(self) -> int:
        return max((way.route.limits.body_bytes for way in self.ways), default=0)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def escape(text: str) -> str:
    """``text`` as a regular expression that PCRE, RE2, Go and the configuration files around them all read alike."""
    return re.sub(r"[.*+()?^|]", lambda match: f"[{match[0]}]" if match[0] != "^" else r"\^", text)


def read_ways(routes: Sequence[Route], *, checks_addresses: bool = True) -> tuple[tuple[Way, ...], tuple[tuple[str, str], ...]]:
    """The routes that a front proxy can serve itself, longest and exact first, and the others with why not.

    ``checks_addresses``: it can check a certificate against an address instead of a name.
    """
    ways: list[Way] = []
    others: list[tuple[str, str]] = []
    listed = [route for route in routes if route.admission is Admission.API and (route.upstream is not None or route.by_claim)]
    for route in sorted(listed, key=lambda route: (not route.exact, -len(route.path), route.path)):
        reason = _why_through_door(route, checks_addresses)
        if reason or route.upstream is None:
            others.append((route.path, reason))
        else:
            ways.append(Way(len(ways), route, route.upstream))
    return tuple(ways), tuple(others)


def _why_through_door(route: Route, checks_addresses: bool) -> str:
    upstream = route.upstream
    if route.by_claim:
        return "its API is chosen by a claim, which only we know"
    if upstream is None or upstream.socket_path:
        return "its API has no address that a front proxy could reach"
    if upstream.client_cert_file:
        return "its API wants our certificate"
    if upstream.scheme == "https" and is_address(upstream.host) and not checks_addresses:
        return "its API's certificate names an address, which this front proxy cannot check"
    if route.return_cookies:
        return "its API may set some cookies and not others"
    if not _SPELLABLE.fullmatch(route.path + upstream.base_path):
        return "its path holds characters that mean something in configuration files"
    return ""
