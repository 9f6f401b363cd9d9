"""What the relay itself refuses, after a request was admitted or before it could be judged. Codes have pages under docs/errors."""

from __future__ import annotations

from bff.base.errors import BffError, ProviderUnavailable
from bff.policy.verdict import Refusal

BODY_TOO_LARGE = Refusal(413, "body_too_large", "The request body is larger than this route allows.", close=True)
ROUTE_BUSY = Refusal(503, "route_busy", "Too many requests to this API are in progress.", retry_after_s=1)
SESSION_BUSY = Refusal(503, "session_busy", "Too many requests of this session are in progress.", retry_after_s=1)
BODY_MALFORMED = Refusal(400, "body_malformed", "The request body is not properly framed.", close=True)
BODY_LATE = Refusal(408, "body_timeout", "The request body did not arrive in time.", close=True)
BAD_ANSWER = Refusal(502, "upstream_protocol", "The API behind us did not give a usable answer.")
NO_ANSWER = Refusal(502, "upstream_unreachable", "The API behind us did not give a usable answer.")
LATE_ANSWER = Refusal(504, "upstream_timeout", "The API behind us took too long.")
HEAD_LATE = Refusal(408, "head_timeout", "The request did not arrive in time.", close=True)
DOOR_FULL = Refusal(503, "too_many_connections", "Too many connections.", close=True, retry_after_s=1)
INTERNAL = Refusal(500, "internal_error", "Something went wrong on our side.", close=True)


def refusal_of(error: BffError) -> Refusal:
    """A failure as an answer: its public words only."""
    wait = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
    retry = int(wait or 1) if error.status_hint == 503 else None
    return Refusal(error.status_hint, error.code, error.public, retry_after_s=retry)
