"""Security events: what the audit trail and the metrics are told. Values only; no secrets, no identities in clear.

``subject`` and ``session`` are keyed pseudonyms (bff.session.sealing.KeyRing.pseudonym), never the real ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class EventKind(Enum):
    LOGIN_STARTED = "login_started"
    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    BACKCHANNEL_LOGOUT = "backchannel_logout"
    BACKCHANNEL_LOGOUT_REFUSED = "backchannel_logout_refused"
    SESSION_ENDED = "session_ended"
    TOKEN_REFRESHED = "token_refreshed"
    TOKEN_REFRESH_FAILED = "token_refresh_failed"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_REVOCATION_FAILED = "token_revocation_failed"
    REQUEST_REFUSED = "request_refused"
    ID_TOKEN_REFUSED = "id_token_refused"
    KEY_SET_FETCHED = "key_set_fetched"
    KEY_MISS = "key_miss"
    STORE_FAILED = "store_failed"
    CLIENT_CREDENTIAL_REFUSED = "client_credential_refused"
    KEYS_RELOADED = "keys_reloaded"
    CONFIG_RELOADED = "config_reloaded"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``outcome`` is ``ok`` or a stable error code; ``fields`` are short and harmless."""

    kind: EventKind
    outcome: str = "ok"
    request_id: str = ""
    session: str = ""
    subject: str = ""
    route: str = ""
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)


Probe = Callable[[Event], None]
"""Where events go. Called inline: must be quick and must never raise."""


def no_probe(event: Event) -> None:
    """The probe for those who do not listen."""
