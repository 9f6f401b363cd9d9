"""Small helpers of the HTTP half: parameters, answers, headers, cookies."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from quart import Response, jsonify, request

from bff.devkit.refusals import OAuthRefusal
from bff.devkit.state import DevProvider


def query_parameters() -> dict[str, list[str]]:
    return request.args.to_dict(flat=False)


async def form_parameters() -> dict[str, list[str]]:
    """The form body. OAuthRefusal invalid_request for any other content type."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise OAuthRefusal("invalid_request", "the body is not a form")
    return (await request.form).to_dict(flat=False)


def with_parameters(uri: str, parameters: Mapping[str, str]) -> str:
    """``uri`` with parameters added; its own query is kept (RFC 6749 §3.1)."""
    joint = "&" if urlsplit(uri).query else "?"
    return f"{uri}{joint}{urlencode(parameters)}"


def see_other(location: str) -> Response:
    return Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    answer = jsonify(value)
    answer.status_code = status
    answer.headers["Cache-Control"] = "no-store"
    answer.headers.update(headers or {})
    return answer


def refusal_answer(refusal: OAuthRefusal) -> Response:
    body = {"error": refusal.error} | ({"error_description": refusal.description} if refusal.description else {})
    headers = {"WWW-Authenticate": 'Basic realm="devkit"'} if refusal.status == 401 else {}
    return json_answer(body, refusal.status, headers)


def new_nonce() -> str:
    return secrets.token_urlsafe(16)


def html_answer(body: str, *, nonce: str, origins: Iterable[str] = (), status: int = 200) -> Response:
    """A page under a strict CSP. ``origins`` are where our forms may end up: Chromium applies form-action to the redirects after
    a submit too. The referrer policy is same-origin, since no-referrer would turn our own forms' Origin into null."""
    answer = Response(body, status=status, content_type="text/html; charset=utf-8")
    form_action = " ".join(("'self'", *origins))
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    )
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def cookie_name(provider: DevProvider, purpose: str) -> str:
    """Cookies ignore ports: the name carries ours, so that several providers on one host do not overwrite each other."""
    return f"devkit-{urlsplit(provider.issuer).port or 0}-{purpose}"


def set_cookie(answer: Response, provider: DevProvider, purpose: str, value: str) -> None:
    secure = provider.issuer.startswith("https:")
    answer.set_cookie(cookie_name(provider, purpose), value, httponly=True, samesite="Lax", secure=secure, path="/")


def read_cookie(provider: DevProvider, purpose: str) -> str | None:
    return request.cookies.get(cookie_name(provider, purpose))
