"""Where a request goes: the closed table of routes. Only configured routes go anywhere (ROUTE-1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

TokenKind = Literal["user", "client", "user_or_client", "user_or_none", "none"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"})


class Admission(Enum):
    """Who may knock, decided by ``screen`` before anything else is touched (CSRF-7)."""

    API = "api"
    """A session-bearing call: header and Origin and Fetch Metadata; WebSocket and EventSource by Origin alone."""
    NAVIGATION = "navigation"
    """Starts a login: top-level navigations from our own pages or the address bar only."""
    RETURN_NAVIGATION = "return_navigation"
    """The callback: a top-level navigation from anywhere, bound to the browser by the pending login's cookie."""
    FORM = "form"
    """Logout: a fetch with the header, or a form posted by our own pages."""
    MACHINE = "machine"
    """Back-channel logout: no browser, no cookie; believed for its signature alone."""
    OPEN = "open"
    """Files for everybody: the SPA, client.js, openapi.json."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One API origin. ``base_path`` replaces the route's prefix and ends with "/" when the prefix does.

    ``host`` is what we connect to and name in Host; ``socket_path`` (the agent's) wins over host and port.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    base_path: str = "/"
    socket_path: str = ""
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""

    @property
    def authority(self) -> str:
        """The Host header: the port only where it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one route, seconds and bytes. ``total_s`` does not apply to streams (events, WebSocket)."""

    connect_s: float = 5.0
    head_s: float = 30.0
    idle_s: float = 60.0
    stream_idle_s: float = 900.0
    total_s: float = 300.0
    body_bytes: int = 100 * 1024 * 1024
    concurrent: int = 1024
    concurrent_per_session: int = 256
    websocket_message_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """What the session must have. Empty means no demand. ``claims``: any of the values. ``max_age_s``: age of auth_time."""

    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)
    acr: tuple[str, ...] = ()
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. ``upstream`` None means the agent. ``exact`` routes match their path alone.

    ``by_claim`` is dynamic user routing: claim name and a closed table from its value to an upstream; a user whose
    value isn't in the table goes to ``upstream``.
    """

    name: str
    path: str
    admission: Admission
    methods: frozenset[str]
    upstream: Upstream | None = None
    exact: bool = False
    token: TokenKind = "none"  # noqa: S105 - a kind, not a token
    session: bool = False
    audience: str = ""
    policy: Policy = field(default_factory=Policy)
    claim: str = ""
    by_claim: Mapping[str, Upstream] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    forward_cookies: frozenset[str] = frozenset()
    return_cookies: frozenset[str] = frozenset()
    encoded_slash: bool = False
    activity: bool = True
    navigable: bool = False
    cache: Literal["no-store", "private", "upstream"] = "private"
    session_optional: bool = False
    json_body: bool = False
    redirect_origins: frozenset[str] = frozenset()
    """``session_optional``: the session is looked up, but the route answers for its absence itself (user, logout).
    ``json_body``: one of our own JSON endpoints; bodies of a CORS-safelisted type are refused (CSRF-6).
    ``forward_cookies`` and ``return_cookies`` may hold "*": all but ours. ``redirect_origins``: where an upstream's Location
    may lead besides its own tree (RESP-3)."""
