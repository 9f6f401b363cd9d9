"""Which route a path belongs to. Only what is in the table goes anywhere (ROUTE-1)."""

from __future__ import annotations

from collections.abc import Sequence

from bff.base.errors import ConfigError
from bff.policy.path import fold_path, is_plain
from bff.policy.routes import Route


class RouteTable:
    """Exact routes first, then the longest prefix of whole segments; case-sensitive; the query is never seen (ROUTE-7, ROUTE-8).

    A prefix with a final slash (``/api/``) covers ``/api/`` and all below it, not ``/api``. One without (``/api``) covers ``/api``
    as well. Neither covers ``/apix`` or ``/api;x``.

    An API may read more loosely than we do: decode ``%70``, drop ``;x``, take ``Payments`` for ``payments``. A path that leads to
    one row as it stands and to a stricter one below it as such an API may read it belongs to none (P1, P6, P8).

    ``reserved`` is where the agent's paths start. Below it only the agent's exact routes match: no configured route can shadow
    one, and what is unknown there is a 404 and never the SPA's (CACHE-4). ConfigError for a table that would break this.
    """

    __slots__ = ("_covering", "_exact", "_folded", "_lengths", "_plain", "_prefixes", "_reserved", "_reserved_below", "routes")

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
        self._folded: dict[str, list[Route]] = {}
        self._plain = True
        for path, route in (*self._exact.items(), *self._prefixes.items()):
            if _is_proxied(route):
                self._plain = self._plain and is_plain(path)
                self._folded.setdefault(fold_path(path), []).append(route)
        self._covering = frozenset(path for path, route in self._prefixes.items() if _is_proxied(route) and self._covers(path))

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
                prefix = path[:length]
                route = self._prefixes.get(prefix)
                if route is not None:
                    return None if prefix in self._covering and self._is_another(path, route) else route
        return None

    def _covers(self, prefix: str) -> bool:
        """True if another proxied row lies below ``prefix`` or beside it in another case."""
        folded = fold_path(prefix)
        return any(path.startswith(folded) and rows != [self._prefixes[prefix]] for path, rows in self._folded.items())

    def _is_another(self, path: str, route: Route) -> bool:
        """True if the path in its plainest reading belongs to a row that is not ``route``."""
        if self._plain and is_plain(path):
            return False
        folded = fold_path(path)
        rows = self._folded.get(folded)
        end = len(folded)
        while rows is None and end > 0:
            end = folded.rfind("/", 0, end)
            rows = self._folded.get(folded[: end + 1])
        return rows is not None and not any(row is route for row in rows)

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


def _is_proxied(route: Route) -> bool:
    return route.upstream is not None or bool(route.by_claim)
