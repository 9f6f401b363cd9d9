"""Failures as refusals: the one place where an exception of ours becomes an answer."""

from __future__ import annotations

from bff.base.errors import (
    BffError,
    GrantRefused,
    GrantRevoked,
    ProviderError,
    ProviderUnavailable,
    SealBroken,
    SessionGone,
    StoreUnavailable,
    UpstreamError,
)
from bff.policy.verdict import Refusal, StepUp

_ENDED = Refusal(401, "unauthenticated", "The session has ended.", clear_cookie=True)
_SEE_PROVIDER = Refusal(401, "step_up_required", "The sign-in service asks for you again.", step_up=StepUp())


def refuse_failure(error: BffError) -> Refusal:
    """The answer to ``error``. Shows its ``code`` and ``public`` only.

    A session that ended looks like one that never was (K8). A store or provider that does not answer is a 503 and touches no
    cookie (SESS-14, TOKEN-9): nobody is logged out because something behind us is down.
    """
    if isinstance(error, GrantRevoked | SessionGone | SealBroken):
        return _ENDED
    if isinstance(error, StoreUnavailable):
        return Refusal(503, error.code, error.public, retry_after_s=1)
    if isinstance(error, ProviderUnavailable):
        wish = error.retry_after_s
        return Refusal(503, error.code, error.public, retry_after_s=5 if wish is None else min(max(int(wish), 1), 300))
    if isinstance(error, GrantRefused) and error.needs_person:
        return _SEE_PROVIDER
    if isinstance(error, GrantRefused):
        return Refusal(502, error.code, "The sign-in service gave no token for this route.")
    if isinstance(error, ProviderError | UpstreamError):
        return Refusal(error.status_hint, error.code, error.public)
    return Refusal(500, "internal_error", BffError.public)
