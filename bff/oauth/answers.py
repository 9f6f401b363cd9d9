"""One answer of a provider, and what it means (RFC 6749 §5). Pure: the wire that fetched it is in client.py.

Table of outcomes: 5xx, 408, 429 and the errors that say "later" are ProviderUnavailable; ``invalid_grant`` is GrantRevoked, the
only one that ends a session; ``invalid_client`` is the operator's fault, not the user's; every other OAuth error is
GrantRefused; what is not JSON at all is ProviderMisbehaved.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

from bff.base.errors import GrantRefused, GrantRevoked, ProviderMisbehaved, ProviderUnavailable
from bff.oauth.jsontext import JsonObject, JsonRefused, read_json_object

_ERROR_CODE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")  # RFC 6749 §5.2 grammar without the space, and bounded
_LATER: Final = frozenset({"temporarily_unavailable", "server_error"})
_MAX_RETRY_AFTER_S: Final = 3600.0


class ClientRefused(ProviderUnavailable):
    """The provider does not accept *our* credential (RFC 6749 §5.2 invalid_client). Users keep their sessions (CAUTH-6)."""

    code = "client_credential_refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the body is whole and within the wire's size bound. ``retry_after_s`` is the provider's wish."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    retry_after_s: float | None = None


def read_retry_after(value: str, now: float) -> float | None:
    """Seconds to wait from a Retry-After field in either form (RFC 9110 §10.2.3), at most an hour; None if unreadable."""
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return min(float(value), _MAX_RETRY_AFTER_S)
    try:
        wait = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait, 0.0), _MAX_RETRY_AFTER_S)


def read_document(answer: Answer, what: str) -> JsonObject:
    """The object of a plain GET (metadata, key set, user info). ProviderUnavailable or ProviderMisbehaved."""
    check_reachable(answer, what)
    if answer.status != 200:
        raise ProviderMisbehaved(f"{what}: status {answer.status}")
    return _read_object(answer, what)


def read_form_answer(answer: Answer, what: str, *, good: Collection[int] = (200,)) -> JsonObject:
    """The object of a form endpoint's success answer; each failure as its own error (table above)."""
    check_reachable(answer, what)
    if answer.status not in good and not 400 <= answer.status < 500:
        raise ProviderMisbehaved(f"{what}: status {answer.status}")
    document = _read_object(answer, what)
    if "error" in document:  # some providers send it with status 200
        raise read_oauth_error(document, what)
    if answer.status not in good:
        raise ProviderMisbehaved(f"{what}: status {answer.status} without an error code")
    return document


def read_oauth_error(document: JsonObject, what: str) -> ProviderUnavailable | ProviderMisbehaved | GrantRefused:
    """The failure that an OAuth error document stands for. ``error_description`` is never kept: it may hold anything."""
    error = document.get("error")
    if not isinstance(error, str) or _ERROR_CODE.fullmatch(error) is None:
        return ProviderMisbehaved(f"{what}: unreadable error code")
    if error == "invalid_grant":
        return GrantRevoked(error, f"{what}: {error}")
    if error == "invalid_client":
        return ClientRefused(f"{what}: {error}")
    if error in _LATER:
        return ProviderUnavailable(f"{what}: {error}")
    return GrantRefused(error, f"{what}: {error}")


def check_reachable(answer: Answer, what: str) -> None:
    """Nothing if the provider is there; ProviderUnavailable if it said "not now"; ProviderMisbehaved for a redirect (K3)."""
    if answer.status >= 500 or answer.status in (408, 429):
        raise ProviderUnavailable(f"{what}: status {answer.status}", retry_after_s=answer.retry_after_s)
    if answer.status < 200 or 300 <= answer.status < 400:
        raise ProviderMisbehaved(f"{what}: status {answer.status}")


def _read_object(answer: Answer, what: str) -> JsonObject:
    if answer.content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        raise ProviderMisbehaved(f"{what}: an HTML page, status {answer.status}")
    try:
        return read_json_object(answer.body)
    except JsonRefused as refused:
        raise ProviderMisbehaved(f"{what}: {refused}, status {answer.status}") from None
