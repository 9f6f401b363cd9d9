"""Which route a path belongs to. Only what is in the table goes anywhere (ROUTE-1)."""

from __future__ import annotations

from collections.abc import Sequence

from bff.base.errors import ConfigError
from bff.policy.routes import Route


class RouteTable:
    """Exact routes first, then the longest prefix of whole segments; case-sensitive; the query is never seen (ROUTE-7, ROUTE-8).

    A prefix with a final slash (``/api/``) covers ``/api/`` and all below it, not ``/api``. One without (``/api``) covers ``/api``
    as well. Neither covers ``/apix`` or ``/api;x``.

    ``reserved`` is where the agent's paths start. Below it only the agent's exact routes match: no configured route can shadow
    one, and what is unknown there is a 404 and never the SPA's (CACHE-4). ConfigError for a table that would break this.
    """

    __slots__ = ("_exact", "_lengths", "_prefixes", "_reserved", "_reserved_below", "routes")

    def __init__(self, routes: Sequence[Route], *, reserved: str = "/bff") -> None:
        self.routes = tuple(routes)
        self._reserved = reserved
        self._reserved_below = reserved + "/"
        self._exact: dict[str, Route] = {}
        self._prefixes: dict[str, Route] = {}
        problems = [problem for route in self.routes if (problem := self._add(route))]
        if problems:
            raise ConfigError(*problems)
        for route in self.routes:
            if not route.exact and not route.path.endswith("/"):
                self._exact.setdefault(route.path, route)
        self._lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}, reverse=True))

    def match(self, path: str) -> Route | None:
        """The route of a canonical path (``Facts.path``), or None."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        if path.startswith(self._reserved_below) or path == self._reserved:
            return None
        size = len(path)
        for length in self._lengths:
            if length <= size:
                route = self._prefixes.get(path[:length])
                if route is not None:
                    return route
        return None

    def _add(self, route: Route) -> str:
        """File one route; a sentence about what is wrong with it, or ""."""
        if not route.path.startswith("/"):
            return f'route "{route.name}": path must start with "/".'
        inside = route.path == self._reserved or route.path.startswith(self._reserved_below)
        if inside and (route.upstream is not None or route.by_claim or not route.exact):
            return f'route "{route.name}": {route.path} lies below {self._reserved}, which belongs to the sign-in endpoints.'
        table = self._exact if route.exact else self._prefixes
        key = route.path if route.exact or route.path.endswith("/") else route.path + "/"
        if key in table:
            return f'route "{route.name}": {route.path} is already taken by "{table[key].name}".'
        table[key] = route
        return ""
