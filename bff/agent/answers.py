"""The agent's answers: problem JSON for scripts, small pages for people, and the fields that every one of them carries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from quart import Response

from bff.agent.options import AgentOptions
from bff.policy.facts import Facts

_ASSETS = Path(__file__).parent / "assets"
_NO_CONTENT_CSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"


@dataclass(frozen=True, slots=True)
class Notice:
    """A page for a person. ``link`` is a path of ours; ``code`` is stable and has a page under docs/errors."""

    status: int
    code: str
    title: str
    text: str
    link: str = "/"
    link_text: str = "Back to the app"
    retry_after_s: int | None = None


NOTHING_HERE = Notice(404, "route_unknown", "There is nothing here", "This page does not exist.")


class Pages:
    """Renders notices. No script, autoescape, and a style that the policy allows by its hash alone (SECH-2, L6)."""

    def __init__(self) -> None:
        templates = Environment(loader=FileSystemLoader(_ASSETS), autoescape=True, undefined=StrictUndefined)
        self._template = templates.get_template("notice.html")
        self._style = (_ASSETS / "notice.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._csp = _NO_CONTENT_CSP.replace("default-src 'none';", f"default-src 'none'; style-src 'sha256-{digest}';", 1)

    def render(self, notice: Notice, request_id: str) -> Response:
        html = self._template.render(notice=notice, request_id=request_id, style=self._style)
        answer = Response(html, notice.status, content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = self._csp
        _mark(answer, notice)
        return answer


def problem(facts: Facts, notice: Notice, *, extra: Mapping[str, Any] | None = None) -> Response:
    """The notice as an RFC 9457 problem, in the shape that the door's own refusals have (RESP-8)."""
    body = {
        "type": f"urn:bff:error:{notice.code}",
        "title": notice.title,
        "status": notice.status,
        "detail": notice.text,
        "code": notice.code,
        "request_id": facts.request_id,
        **(extra or {}),
    }
    answer = json_answer(body, notice.status)
    answer.headers["Content-Type"] = "application/problem+json; charset=utf-8"
    _mark(answer, notice)
    return answer


def json_answer(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, content_type="application/json")


def see_other(location: str, status: Literal[302, 303] = 303) -> Response:
    """302 or 303, never 307 or 308: the browser must not repeat a POST or its body at the new place (AUTHZ-13)."""
    return Response(b"", status, headers={"Location": location})


def complaint(pages: Pages, facts: Facts, notice: Notice, *, extra: Mapping[str, Any] | None = None) -> Response:
    """The same refusal as a page or as a problem, whichever this request can show."""
    if facts.wants_page:
        return pages.render(notice, facts.request_id)
    return problem(facts, notice, extra=extra)


def add_cookies(answer: Response, values: Iterable[str]) -> None:
    """Append Set-Cookie values, the last one of each name alone (COOKIE-16)."""
    by_name = {value.partition("=")[0]: value for value in (*answer.headers.getlist("Set-Cookie"), *values)}
    answer.headers.remove("Set-Cookie")
    for value in by_name.values():
        answer.headers.add("Set-Cookie", value)


def protect(answer: Response, options: AgentOptions) -> Response:
    """The fields of every answer. What a handler set itself stays."""
    own = {name.lower() for name in answer.headers.keys()}  # noqa: SIM118 - without it: pairs
    for name, value in _DEFAULTS:
        if name.lower() not in own:
            answer.headers.add(name, value)
    if options.https and "strict-transport-security" not in own:
        answer.headers.add("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
    return answer


_DEFAULTS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _NO_CONTENT_CSP),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Vary", "Cookie, Accept, Sec-Fetch-Mode"),
)


def _mark(answer: Response, notice: Notice) -> None:
    """``BFF-Error`` tells our refusals from an API's own: no upstream can set it."""
    answer.headers["BFF-Error"] = notice.code
    if notice.retry_after_s is not None:
        answer.headers["Retry-After"] = str(notice.retry_after_s)
