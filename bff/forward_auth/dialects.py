"""How each front proxy asks and what it does with the answer: the one table that endpoint and generated configurations both read.

A front proxy's question is a request of its own to ``<prefix>/forward-auth/<name>``. It carries the browser's header fields and three
things that only the front proxy can say: the method and target it was asked for, the route it would send the request along, and the
secret that tells its questions from a browser's that it merely passed on. Each dialect believes the names written here and no others
(attack P3): a browser's own ``X-Forwarded-Uri`` means nothing to nginx's dialect, and Traefik overwrites it in its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ENDPOINT: Final = "/forward-auth/"
SECRET: Final = "BFF-Forward-Auth"  # noqa: S105 - a header's name
ROUTE: Final = "BFF-Route"
CACHE: Final = "BFF-Cache"
STATUS: Final = "BFF-Status"
PROBLEM: Final = "BFF-Problem"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One front proxy. Empty ``method_header``: its question has the original's own method; empty ``target_header``: the original
    target stands behind the endpoint's path.

    ``relays``: a refusal's status and body reach the browser as we write them. Where not, the question is answered with 401 or 403 and
    the answer meant for the browser rides in ``BFF-Status`` and ``BFF-Problem``.
    ``writes_empty``: a header that is absent from the answer leaves the browser's in place, so each is always sent, empty if need be
    (H4). Where not, absent ones are removed by the front proxy, which would send an empty one on.
    ``removes_families``: it can remove header fields by the start of their names. Where not, a request with one that it could not
    remove is refused.
    """

    name: str
    method_header: str = ""
    target_header: str = ""
    relays: bool = True
    writes_empty: bool = True
    removes_families: bool = True

    @property
    def own_headers(self) -> frozenset[bytes]:
        """Fields of a question that are the front proxy's, lower-case: the original request never had them."""
        names = (SECRET, ROUTE, CACHE, self.method_header, self.target_header)
        return frozenset(name.lower().encode() for name in names if name)


NGINX: Final = Dialect("nginx", "X-Original-Method", "X-Original-URI", relays=False, removes_families=False)
TRAEFIK: Final = Dialect("traefik", "X-Forwarded-Method", "X-Forwarded-Uri", writes_empty=False, removes_families=False)
CADDY: Final = Dialect("caddy", "X-Forwarded-Method", "X-Forwarded-Uri")
HAPROXY: Final = Dialect("haproxy", "X-Original-Method", "X-Original-URI")
ENVOY: Final = Dialect("envoy")

DIALECTS: Final[Mapping[str, Dialect]] = {dialect.name: dialect for dialect in (NGINX, ENVOY, TRAEFIK, CADDY, HAPROXY)}
