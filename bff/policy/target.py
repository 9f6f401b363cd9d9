"""Where an admitted request goes: a fixed upstream or one from the route's closed table, never anything the request says (ROUTE-2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bff.policy.facts import Facts
from bff.policy.routes import Route, Upstream
from bff.policy.verdict import Refusal, Target, build_target
from bff.session.model import Session

_UNMAPPED = Refusal(403, "upstream_unmapped", "No destination is configured for this account.")
_OUTSIDE = Refusal(400, "target_refused", "The address leaves the part of the API that this route covers.", close=True)


def aim(route: Route, session: Session | None, facts: Facts) -> Target | Refusal:
    """The upstream, and the path and query to ask it for: the route's prefix replaced by ``base_path``, the rest byte for byte.

    With ``by_claim`` the first value of the session's claim that is in the table wins; without one the route's own upstream.
    """
    upstream = _find_upstream(route, session)
    if upstream is None:
        return _UNMAPPED
    rest = facts.path[len(route.path) :]
    # The head reader leaves nothing that could climb out; this holds for facts from anywhere (P7).
    if not facts.path.startswith(route.path) or (rest and route.exact) or (upstream.base_path[-1:] == "/" and rest[:1] == "/"):
        return _OUTSIDE
    path = upstream.base_path + rest
    return build_target(upstream, path if facts.query is None else f"{path}?{facts.query}")


def _find_upstream(route: Route, session: Session | None) -> Upstream | None:
    if not route.by_claim:
        return route.upstream
    if session is not None:
        for value in claim_values(session.claims.get(route.claim)):
            upstream = route.by_claim.get(value)
            if upstream is not None:
                return upstream
    return route.upstream


def claim_values(claim: Any) -> Iterator[str]:
    """The values of a claim as configuration spells them: text as it is, numbers and booleans as JSON writes them, lists one by one.
    Objects have no spelling and match nothing."""
    for value in claim if isinstance(claim, list | tuple) else (claim,):
        if isinstance(value, str):
            yield value
        elif isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, int | float):
            yield str(value)
