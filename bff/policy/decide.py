"""What the session must have for a route. Pure: the same four values give the same answer (ZTA-2, ZTA-3)."""

from __future__ import annotations

from bff.policy.routes import Policy, Route
from bff.policy.target import claim_values
from bff.policy.verdict import Refusal, StepUp
from bff.session.model import Session

UNAUTHENTICATED = Refusal(401, "unauthenticated", "There is no signed-in session.")


def demands_session(route: Route) -> bool:
    """True if a request without a session is refused whatever else holds."""
    if route.session_optional:
        return False
    policy = route.policy
    return route.session or route.token == "user" or bool(policy.claims or policy.acr) or policy.max_age_s is not None  # noqa: S105


def decide(route: Route, session: Session | None, now: float, *, scopes: frozenset[str]) -> Refusal | None:
    """None if the session satisfies the route's policy at ``now`` (epoch seconds); ``scopes`` are those of the token to be used.

    The order is fixed: session, claims, scopes, strength and age of the sign-in, so that nobody is asked to sign in again for
    something that the account can never do. The answer to a missing acr or a stale auth_time is a step-up (RFC 9470 §3).
    """
    if session is None or now >= session.expires_at:
        return UNAUTHENTICATED if demands_session(route) else None
    policy = route.policy
    for claim, allowed in policy.claims.items():
        if allowed.isdisjoint(claim_values(session.claims.get(claim))):
            return Refusal(403, "claim_required", f"This account's {claim} does not permit this.")
    missing = policy.scopes - scopes
    if missing:
        names = tuple(sorted(missing))
        return Refusal(403, "insufficient_scope", f"The scope {' '.join(names)} is missing.", step_up=StepUp(scopes=names))
    if policy.acr and session.acr not in policy.acr:
        return _step_up(policy, "This needs a stronger sign-in.")
    if policy.max_age_s is not None and (session.auth_time is None or now - session.auth_time > policy.max_age_s):
        return _step_up(policy, "This needs a more recent sign-in.")
    return None


def valid_until(route: Route, session: Session) -> float:
    """Epoch seconds at which time alone can turn ``decide``'s yes into a no. Idleness is the keeper's to watch."""
    if route.policy.max_age_s is None or session.auth_time is None:
        return session.expires_at
    return min(session.expires_at, float(session.auth_time + route.policy.max_age_s))


def _step_up(policy: Policy, detail: str) -> Refusal:
    return Refusal(401, "step_up_required", detail, step_up=StepUp(acr_values=policy.acr, max_age=policy.max_age_s))
