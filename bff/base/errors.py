"""The one error tree. Failures are exceptions; a user who may not do something is a ``Refusal`` (bff.policy.verdict).

    BffError
    ├─ ConfigError
    ├─ LoginFailed            reason: EXPIRED | UNKNOWN | DENIED | MISMATCH | INCOMPLETE
    ├─ ProviderError
    │  ├─ ProviderUnavailable     no usable answer: refused, timed out, 5xx, 429
    │  ├─ ProviderMisbehaved      an answer that breaks its specification
    │  ├─ GrantRefused            an OAuth error answer
    │  │  └─ GrantRevoked         invalid_grant: the only answer that ends a session
    │  └─ TokenInvalid            a JWT that must not be believed
    ├─ SessionError
    │  ├─ SealBroken              a value we did not seal, or sealed for something else
    │  ├─ SessionGone             ended, expired or never there
    │  └─ StoreUnavailable        the store gave no answer: 503, never 401
    └─ UpstreamError
       ├─ UpstreamUnreachable
       ├─ UpstreamTimeout         phase: connect | head | idle | total
       └─ UpstreamProtocol        bytes that are not strict HTTP/1.1

``public`` may be shown to anybody; ``detail`` goes to the log only. Neither ever holds a token, code, cookie or key.
Decisions look at types and fields, never at text.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal


class BffError(Exception):
    """A failure with a stable ``code`` for machines, a ``public`` sentence for people and a ``detail`` for the log."""

    code = "internal_error"
    status_hint = 500
    public = "Something went wrong on our side."

    def __init__(self, detail: str = "", *, public: str | None = None, code: str | None = None) -> None:
        super().__init__(detail or self.public)
        self.detail = detail
        if public is not None:
            self.public = public
        if code is not None:
            self.code = code


class ConfigError(BffError):
    """One or more configuration problems, all collected: ``problems`` are ready-to-print lines."""

    code = "config_invalid"

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class LoginReason(Enum):
    EXPIRED = "login_expired"
    UNKNOWN = "login_unknown"
    DENIED = "login_denied"
    MISMATCH = "login_mismatch"
    INCOMPLETE = "login_incomplete"


class LoginFailed(BffError):
    """A login that must not become a session. ``oauth_error`` is a known OAuth error code, never the provider's text."""

    status_hint = 400
    public = "The sign-in could not be completed."

    def __init__(self, reason: LoginReason, detail: str = "", *, oauth_error: str | None = None) -> None:
        super().__init__(detail, code=reason.value)
        self.reason = reason
        self.oauth_error = oauth_error


class ProviderError(BffError):
    code = "provider_error"
    status_hint = 502
    public = "The sign-in service answered in a way we cannot use."


class ProviderUnavailable(ProviderError):
    """No usable answer. ``retry_after_s`` is the provider's own wish, when it named one."""

    code = "provider_unavailable"
    status_hint = 503
    public = "The sign-in service is not reachable right now. Please try again shortly."

    def __init__(self, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ProviderMisbehaved(ProviderError):
    code = "provider_misbehaved"


_PERSON_NEEDED = frozenset({"interaction_required", "login_required", "consent_required", "mfa_required"})


class GrantRefused(ProviderError):
    """An OAuth error answer (RFC 6749 §5.2). ``error`` is the code the provider sent, checked against its grammar."""

    code = "grant_refused"

    def __init__(self, error: str, detail: str = "") -> None:
        super().__init__(detail or error)
        self.error = error

    @property
    def needs_person(self) -> bool:
        """True if only the person can help, at the provider: OIDC Core §3.1.2.6, which some providers answer at a refresh too."""
        return self.error in _PERSON_NEEDED


class GrantRevoked(GrantRefused):
    """invalid_grant: the provider says these tokens are over."""

    code = "grant_revoked"
    status_hint = 401


class TokenInvalid(ProviderError):
    """A JWT that must not be believed. ``rule`` is a stable short name such as ``iss`` or ``alg``."""

    code = "token_invalid"

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(detail or rule)
        self.rule = rule


class SessionError(BffError):
    code = "session_error"


class SealBroken(SessionError):
    code = "seal_broken"
    status_hint = 401


class SessionGone(SessionError):
    code = "session_gone"
    status_hint = 401


class StoreUnavailable(SessionError):
    code = "store_unavailable"
    status_hint = 503
    public = "The service is briefly unavailable. Please try again shortly."


class UpstreamError(BffError):
    code = "upstream_error"
    status_hint = 502
    public = "The API behind us did not give a usable answer."


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"
    status_hint = 504
    public = "The API behind us took too long."

    def __init__(self, phase: Literal["connect", "head", "idle", "total"], detail: str = "") -> None:
        super().__init__(detail or phase)
        self.phase = phase


class UpstreamProtocol(UpstreamError):
    code = "upstream_protocol"
