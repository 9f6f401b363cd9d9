"""A Refusal as bytes: RFC 9457 problem JSON, or a small page where a person is looking (RESP-8, SECH-1 to 4, H14).

Both carry the marker ``BFF-Error: <code>``, which no upstream can set (bff.proxy.headers removes it), so that an SPA never takes our
refusal for its API's. Nothing here names a host, a path of ours or the reason a library gave.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from bff.policy.codes import CODES
from bff.policy.facts import Facts
from bff.policy.verdict import Refusal, StepUp

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem;color:#1c2430;background:#fff}"
    "h1{font-size:1.4rem}small{color:#5b6573}a{color:#0b57d0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14181d}small{color:#9aa4b2}a{color:#8ab4f8}}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_COMMON: Final = (
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)
_JSON_POLICY: Final = "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
_PAGE_POLICY: Final = (
    f"Content-Security-Policy: default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'\r\nCross-Origin-Opener-Policy: same-origin\r\n"
)
_HSTS: Final = "Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n"
_BODILESS: Final = frozenset({204, 304})


class Calendar:
    """Seconds since the epoch as the Date field has them, worked out once a second (measured: 6 us). Owner: whoever asks."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def date(self, now: float) -> str:
        if int(now) != self._second:
            self._second = int(now)
            self._text = formatdate(self._second, usegmt=True)
        return self._text


def refusal_bytes(
    refusal: Refusal,
    facts: Facts | None,
    *,
    request_id: str,
    keep_alive: bool,
    clear_cookies: Sequence[str] = (),
    https: bool = False,
    prefix: str = "/bff",
    date: str = "",
) -> bytes:
    """The whole answer. ``facts`` is None where the head could not be read. ``clear_cookies`` are full Set-Cookie values, sent only
    if the refusal asks for it; ``https`` says that the public origin is https; ``prefix`` is where the agent's paths start;
    ``date`` is for the Date field (RFC 9110 §6.6.1), "" where somebody else writes that.

    The connection is closed if the refusal says so or ``keep_alive`` is False: the caller must then close it.
    """
    page = facts is not None and facts.wants_page
    body = _page(refusal, facts, request_id, prefix) if page and facts is not None else _problem(refusal, request_id, prefix)
    if refusal.status in _BODILESS:
        body = b""
    lines = [f"HTTP/1.1 {refusal.status} {_phrase(refusal.status)}\r\n"]
    if refusal.status not in _BODILESS:
        media = "text/html; charset=utf-8" if page else "application/problem+json; charset=utf-8"
        lines.append(f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n")
    if date:
        lines.append(f"Date: {date}\r\n")
    lines.append(f"BFF-Error: {refusal.code}\r\n{_COMMON}{_PAGE_POLICY if page else _JSON_POLICY}{_HSTS if https else ''}")
    lines.extend(_own_lines(refusal))
    if refusal.clear_cookie:
        lines.extend(f"Set-Cookie: {value}\r\n" for value in clear_cookies)
    lines.append(_connection(refusal, facts, keep_alive))
    head = "".join(lines).encode("ascii", "replace") + b"\r\n"
    return head if facts is not None and facts.method == "HEAD" else head + body


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


def _own_lines(refusal: Refusal) -> list[str]:
    lines = [f"{name}: {value}\r\n" for name, value in refusal.headers]
    if refusal.status == 401:
        lines.append(_challenge(refusal.step_up))
    if refusal.retry_after_s is not None:
        lines.append(f"Retry-After: {max(refusal.retry_after_s, 0)}\r\n")
    if refusal.allow or refusal.status == 405:
        lines.append(f"Allow: {', '.join(refusal.allow)}\r\n")
    return lines


def _challenge(step_up: StepUp | None) -> str:
    """RFC 9110 §15.5.2 demands a challenge with every 401. Our scheme is one that makes no browser ask for a password (RESP-4)."""
    if step_up is None:
        return 'WWW-Authenticate: Session realm="bff"\r\n'
    parts = ['Session realm="bff"', 'error="insufficient_user_authentication"']
    if step_up.acr_values:
        parts.append(f'acr_values="{_quotable(" ".join(step_up.acr_values))}"')
    if step_up.max_age is not None:
        parts.append(f'max_age="{step_up.max_age}"')
    if step_up.scopes:
        parts.append(f'scope="{_quotable(" ".join(step_up.scopes))}"')
    return f"WWW-Authenticate: {', '.join(parts)}\r\n"


def _quotable(text: str) -> str:
    return "".join(character for character in text if " " <= character <= "~" and character not in '"\\')


def _connection(refusal: Refusal, facts: Facts | None, keep_alive: bool) -> str:
    upgrade = any(name == "Upgrade" for name, _ in refusal.headers)
    if refusal.close or not keep_alive:
        return "Connection: Upgrade, close\r\n" if upgrade else "Connection: close\r\n"
    if facts is not None and facts.http_10:
        return "Connection: keep-alive\r\n"
    return "Connection: Upgrade\r\n" if upgrade else ""


def login_url(prefix: str, *, step_up: StepUp | None = None, return_to: str = "") -> str:
    """Where a navigation can start the login that this refusal asks for."""
    query: dict[str, str] = {}
    if return_to:
        query["return_to"] = return_to
    if step_up is not None and step_up.acr_values:
        query["acr_values"] = " ".join(step_up.acr_values)
    if step_up is not None and step_up.max_age is not None:
        query["max_age"] = str(step_up.max_age)
    if step_up is not None and step_up.scopes:
        query["scope"] = " ".join(step_up.scopes)
    return f"{prefix}/login?{urlencode(query, quote_via=quote)}" if query else f"{prefix}/login"


def _problem(refusal: Refusal, request_id: str, prefix: str) -> bytes:
    members: dict[str, Any] = {
        "type": f"urn:bff:error:{refusal.code}",
        "title": CODES.get(refusal.code, _phrase(refusal.status)),
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "request_id": request_id,
    }
    if refusal.status == 401:
        members["login_url"] = login_url(prefix, step_up=refusal.step_up)
    if refusal.step_up is not None:
        members["step_up"] = {
            "acr_values": list(refusal.step_up.acr_values),
            "max_age": refusal.step_up.max_age,
            "scope": " ".join(refusal.step_up.scopes),
        }
    return msgspec.json.encode(members)


def _page(refusal: Refusal, facts: Facts, request_id: str, prefix: str) -> bytes:
    title = html.escape(CODES.get(refusal.code, _phrase(refusal.status)))
    link = ""
    if refusal.status == 401:
        # A refused GET can be asked for again after the login; the result of anything else can't be promised (STEPUP-6).
        return_to = facts.target if facts.method == "GET" else ""
        link = f'<p><a href="{html.escape(login_url(prefix, step_up=refusal.step_up, return_to=return_to))}">Sign in</a></p>'
    elif refusal.code == "navigation_refused":
        # A bookmark or a portal's tile led to the login itself; from the app, where this leads, a person can begin it (CSRF-8).
        link = '<p><a href="/">Open the application</a></p>'
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>{html.escape(refusal.detail)}</p>{link}"
        f"<p><small>{html.escape(refusal.code)} · {html.escape(request_id)}</small></p></body></html>"
    )
    return text.encode()
