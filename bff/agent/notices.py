"""Every way a sign-in can fail, in words for the person who waits for it (CB-4).

Decided by exception type and field. Nothing that the provider or the address said is ever shown: its codes choose one
of our sentences, its texts choose nothing.
"""

from __future__ import annotations

import math
from urllib.parse import quote

from bff.agent.answers import Notice
from bff.base.errors import (
    BffError,
    GrantRefused,
    LoginFailed,
    LoginReason,
    ProviderUnavailable,
    StoreUnavailable,
    TokenInvalid,
)

SILENT_FAILURES = frozenset({"login_required", "interaction_required", "consent_required", "account_selection_required"})
"""What prompt=none brings back when nobody is signed in at the provider (OIDC Core §3.1.2.6): no failure to a person."""

_DENIED = {
    "access_denied": ("Sign-in was cancelled", "The sign-in service says that access was not granted. Nothing has changed here."),
    "unmet_authentication_requirements": (
        "A stronger sign-in is needed",
        "The sign-in service could not confirm you as strongly as this action asks. Your session is as it was.",
    ),
    "temporarily_unavailable": ("The sign-in service is busy", "It asks for a little patience. Please try again shortly."),
    "server_error": ("The sign-in service has a problem", "It could not complete your sign-in. Please try again shortly."),
}

_REASONS = {
    LoginReason.EXPIRED: ("That took too long", "A sign-in must be completed within a few minutes. Please start again."),
    LoginReason.UNKNOWN: (
        "This sign-in is not known here",
        "It may already be completed, or it began in another browser, or cookies are switched off. Please start again.",
    ),
    LoginReason.DENIED: ("Sign-in was refused", "The sign-in service did not complete your sign-in."),
    LoginReason.MISMATCH: (
        "This sign-in does not fit",
        "What came back is not what was asked for, so it was not used. Please start again.",
    ),
    LoginReason.INCOMPLETE: ("Something is missing", "The sign-in service's answer was not complete. Please start again."),
}


def login_link(prefix: str, return_to: str) -> str:
    """Where a new attempt starts. Only the return path is carried over, never what the failed attempt was told."""
    return f"{prefix}/login?return_to={quote(return_to, safe='/')}"


def login_notice(failure: BffError, *, prefix: str, return_to: str, keep: bool = False) -> Notice:
    """The page for ``failure``. ``keep``: a step-up failed, the person is still signed in and goes back to the app (STEPUP-5)."""
    title, text = _words(failure)
    return Notice(
        status=_status(failure),
        code=_code(failure),
        title=title,
        text=text,
        link=return_to if keep else login_link(prefix, return_to),
        link_text="Back to the app" if keep else "Try again",
        retry_after_s=retry_after(failure),
    )


def retry_after(failure: BffError) -> int | None:
    """Seconds until another try makes sense, None where time alone changes nothing."""
    if isinstance(failure, ProviderUnavailable):
        return max(1, math.ceil(failure.retry_after_s or 5))
    return 2 if isinstance(failure, StoreUnavailable) else None


def _status(failure: BffError) -> int:
    if isinstance(failure, GrantRefused):
        # invalid_grant at the callback: a spliced or worn-out code, the browser's side of the fault (CB-10).
        return 400 if failure.error == "invalid_grant" else 502
    return 502 if isinstance(failure, TokenInvalid) else failure.status_hint


def _code(failure: BffError) -> str:
    return "login_code_refused" if isinstance(failure, GrantRefused) and failure.error == "invalid_grant" else failure.code


def _words(failure: BffError) -> tuple[str, str]:
    if isinstance(failure, LoginFailed):
        return _DENIED.get(failure.oauth_error or "") or _REASONS[failure.reason]
    if isinstance(failure, ProviderUnavailable):
        return "The sign-in service is not reachable", failure.public
    if isinstance(failure, StoreUnavailable):
        return "One moment, please", failure.public
    return "Sign-in could not be completed", failure.public
