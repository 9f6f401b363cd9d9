"""Files for everybody: the SPA with its index fallback, client.js and openapi.json."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote_to_bytes

from quart import Response, request
from quart.helpers import send_file
from werkzeug.security import safe_join

from bff.agent.answers import NOTHING_HERE, complaint, see_other
from bff.agent.logout import STATE_PURPOSE
from bff.agent.options import AgentOptions
from bff.agent.parameters import ParameterError, read_query
from bff.agent.parts import Parts
from bff.base.errors import SealBroken
from bff.policy.return_path import safe_return
from bff.policy.verdict import Admitted

_ASSETS = Path(__file__).parent / "assets"
_HASHED = re.compile(r"[.-][A-Za-z0-9_-]{8,}\.(?:js|css|woff2?|png|jpe?g|svg|webp|avif|ico|wasm)$")
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_STATE_AGE_S = 3600.0
SMALL = 128 * 1024
"""A file that is read at once."""


async def spa(parts: Parts, admitted: Admitted) -> Response:
    """A file of the SPA's directory; its index for navigations to a path without a file extension; else 404."""
    options, facts = parts.options, admitted.facts
    back = _signed_out_target(parts, admitted)
    if back is not None:
        return see_other(back)
    path = _find_file(options, facts.path)
    if path is None and facts.wants_page and "." not in facts.path.rpartition("/")[2]:
        path = _find_file(options, "/")
    if path is None:
        return complaint(parts.pages, facts, NOTHING_HERE)
    return await _send(path, options)


def _find_file(options: AgentOptions, raw_path: str) -> Path | None:
    """The regular file for ``raw_path`` inside the directory, links followed and still inside. Dot files do not exist."""
    root = options.spa_directory
    try:
        name = unquote_to_bytes(raw_path).decode().lstrip("/") or "index.html"
    except UnicodeDecodeError:
        return None
    if root is None or "\0" in name or any(part.startswith(".") for part in name.split("/")):
        return None
    joined = safe_join(str(root), name)
    if joined is None:
        return None
    path = Path(joined)
    try:
        return path if path.is_file() and path.resolve().is_relative_to(root.resolve()) else None
    except OSError:
        return None  # a name longer than any file's, a folder we may not look into


def _forget_odd_range() -> None:
    """One range with a first byte is served; any other Range field is none to us, as RFC 9110 §14.2 allows: Quart answers one that counts
    from the end with a failure."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        request.headers.pop("Range", None)


async def _send(path: Path, options: AgentOptions) -> Response:
    _forget_odd_range()
    answer = await send_file(path, conditional=True, mimetype=_TYPES.get(path.suffix))
    if answer.status_code == 200 and (answer.content_length or SMALL + 1) <= SMALL:
        # Quart would open, read and close it on other threads, one hop each: 0.8 ms of CPU for the page of every app.
        answer.set_data(path.read_bytes())  # noqa: ASYNC240 - as long as a hop to a thread
    fixed = _HASHED.search(path.name) is not None
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if fixed else "no-cache"
    answer.headers["Content-Security-Policy"] = options.spa_csp or build_spa_csp(options)
    # Same-origin calls keep their Referer (CSRF-4 needs it where a browser sends no Origin); nobody else ever gets one.
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
    answer.headers["Vary"] = "Accept, Sec-Fetch-Mode"
    answer.headers.pop("Content-Disposition", None)
    answer.headers.pop("Expires", None)  # twelve hours, from Quart, against our Cache-Control
    return answer


_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".map": "application/json",
}
"""The machine's own table of types is not asked: where it is wrong, ``nosniff`` would break the app."""


def build_spa_csp(options: AgentOptions) -> str:
    """No inline code, no other origin. The WebSocket origin is spelled out for browsers whose 'self' leaves it out."""
    socket = options.public_origin.replace("http", "ws", 1)
    forms = " ".join(("'self'", *options.form_targets))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self' {socket}; manifest-src 'self'; worker-src 'self'; media-src 'self'; "
        f"form-action {forms}; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    )


def _signed_out_target(parts: Parts, admitted: Admitted) -> str | None:
    """Where a browser goes that comes back from the provider's logout with the state we signed, else None (RPLO-3)."""
    facts = admitted.facts
    if facts.query is None or facts.path != parts.options.post_logout_path:
        return None
    try:
        pairs = read_query(facts.query)
    except ParameterError:
        return None
    if [name for name, _ in pairs] != ["state"]:
        return None
    try:
        target = parts.signer.check(STATE_PURPOSE, pairs[0][1], _STATE_AGE_S)
    except SealBroken:
        return None
    return safe_return(target, prefix=parts.options.prefix) if isinstance(target, str) else None


async def client_js(parts: Parts, admitted: Admitted) -> Response:
    return await _asset("client.js", "text/javascript")


async def openapi_json(parts: Parts, admitted: Admitted) -> Response:
    document = load_openapi(parts.options.prefix)
    answer = Response(document, 200, content_type="application/json")
    answer.headers["Cache-Control"] = "no-cache"
    await answer.add_etag()
    await answer.make_conditional(request)
    return answer


async def _asset(name: str, mimetype: str) -> Response:
    _forget_odd_range()
    answer = await send_file(_ASSETS / name, conditional=True, mimetype=mimetype)
    answer.headers["Cache-Control"] = "no-cache"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers.pop("Content-Disposition", None)
    answer.headers.pop("Expires", None)  # twelve hours, from Quart, against our Cache-Control
    return answer


@cache
def load_openapi(prefix: str) -> bytes:
    """The description of these endpoints under ``prefix``: the shipped file is written for /bff."""
    document = json.loads((_ASSETS / "openapi.json").read_text("utf-8"))
    document["paths"] = {prefix + path.removeprefix("/bff"): row for path, row in document["paths"].items()}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
