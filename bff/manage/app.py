"""The management listener's app: health, readiness, metrics, sessions. Never on the public port (OPS-4, K5, K6).

It answers by address and by names it was told of (bff/manage/hosts.py), and honours no cookie. Administration needs the key ring's
own token and is closed to browsers altogether, so that no page in an operator's browser can reach it, whatever that browser holds.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable
from typing import Any, Protocol

from quart import Quart, Response, request
from werkzeug.routing import RequestRedirect

from bff.base.errors import BffError, StoreUnavailable
from bff.manage.hosts import names_us
from bff.manage.readiness import Readiness
from bff.manage.rows import BadSearch, Search, describe_row, read_search
from bff.session.model import EndReason, Session
from bff.session.sealing import KeyRing
from bff.session.store.port import Row, SessionStore

PING_TIMEOUT_S = 2.0
_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/sessions"})


class Sessions(Protocol):
    """The part of the Keeper that administration uses."""

    async def end(self, key: bytes, reason: EndReason) -> Session | None: ...
    async def end_where(self, *, issuer: str, subject: str = "", sid: str = "", reason: EndReason) -> list[Session]: ...
    async def find_rows(self, *, issuer: str = "", subject: str = "", sid: str = "", after: bytes = b"", limit: int = 100) -> list[Row]: ...


class Numbers(Protocol):
    """The part of the metrics that is read here."""

    def scrape(self) -> bytes: ...


def build_management(
    *,
    keeper: Sessions,
    store: SessionStore,
    metrics: Numbers,
    ring: KeyRing,
    readiness: Readiness,
    issuer: str = "",
    revoke: Callable[[Session], None] | None = None,
    hosts: frozenset[str] | None = None,
) -> Quart:
    """The app. ``issuer`` is used where a search names none; ``revoke`` gets each ended session that could be opened; ``hosts`` are the
    names that Host may say, None: any, where no browser can connect."""
    app = Quart("bff.manage", static_folder=None)
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    desk = _Desk(keeper=keeper, ring=ring, issuer=issuer, revoke=revoke)

    async def alive() -> Response:
        return _answer(200, {"status": "ok"})

    async def ready() -> Response:
        obstacles = readiness.obstacles(store_answers=await _answers(store))
        notes = list(readiness.degraded())
        status = "unready" if obstacles else "degraded" if notes else "ready"
        return _answer(503 if obstacles else 200, {"status": status, "obstacles": obstacles, "degraded": notes})

    async def numbers() -> Response:
        if request.headers.get("Origin") or request.headers.get("Sec-Fetch-Site", "none") != "none":
            return _refuse(403, "browser_refused", "This is not for pages.")
        return _finish(Response(metrics.scrape(), 200, content_type="text/plain; version=0.0.4; charset=utf-8"))

    async def exact() -> Response | None:
        # The framework forgives spellings such as //sessions and /%2fsessions; an allow-list in front would not see them (K6).
        raw: bytes = request.scope.get("raw_path", b"")
        known = raw.partition(b"?")[0].decode("latin-1") in _PATHS
        return None if known else _refuse(404, "not_found", "There is nothing here.")

    async def named() -> Response | None:
        given = request.headers.getlist("Host")
        ours = hosts is None or not given or (len(given) == 1 and names_us(given[0], hosts))
        return None if ours else _refuse(421, "host_unknown", "This host name is not served here.")

    app.before_request(named)
    app.before_request(exact)
    app.add_url_rule("/healthz", "healthz", alive, methods=["GET"])
    app.add_url_rule("/livez", "livez", alive, methods=["GET"])
    app.add_url_rule("/readyz", "readyz", ready, methods=["GET"])
    app.add_url_rule("/metrics", "metrics", numbers, methods=["GET"])
    app.add_url_rule("/sessions", "show", desk.show, methods=["GET"])
    app.add_url_rule("/sessions", "end", desk.end, methods=["DELETE"])
    _explain_errors(app)
    return app


class _Desk:
    """Session administration: the two calls and the check before them."""

    def __init__(self, *, keeper: Sessions, ring: KeyRing, issuer: str, revoke: Callable[[Session], None] | None) -> None:
        self._keeper = keeper
        self._ring = ring
        self._issuer = issuer
        self._revoke = revoke

    async def show(self) -> Response:
        if refused := self._screen():
            return refused
        search = read_search(request.args.items(multi=True), issuer=self._issuer)
        rows = await self._rows(search)
        return _answer(200, {"sessions": [describe_row(row, self._name) for row in rows]})

    async def end(self) -> Response:
        if refused := self._screen():
            return refused
        search = read_search(request.args.items(multi=True), issuer=self._issuer)
        if search.everything or search.after:
            raise BadSearch(public="Say whose sessions to end: session, subject or sid.")
        return _answer(200, {"ended": await self._end(search)})

    def _screen(self) -> Response | None:
        """No browser, and only who can read the key ring (Caddy CVE-2026-27589: an admin API that pages could call)."""
        if "Origin" in request.headers or any(name.lower().startswith("sec-fetch-") for name, _ in request.headers):
            return _refuse(403, "browser_refused", "Administration is not for browsers.")
        fields = request.headers.getlist("Authorization")
        expected = f"Bearer {self._ring.admin_token()}".encode()
        if len(fields) != 1 or not hmac.compare_digest(fields[0].encode("utf-8", "replace"), expected):
            return _refuse(401, "unauthenticated", "Administration needs the key ring's token.", {"WWW-Authenticate": "Bearer"})
        return None

    def _name(self, key: str) -> str:
        return self._ring.pseudonym("session", key)

    async def _rows(self, search: Search) -> list[Row]:
        if search.key:
            return await find_row(self._keeper, search.key)
        return await self._keeper.find_rows(
            issuer=search.issuer, subject=search.subject, sid=search.sid, after=search.after, limit=search.limit
        )

    async def _end(self, search: Search) -> int:
        if search.key:
            known = await find_row(self._keeper, search.key)
            ended = [await self._keeper.end(search.key, EndReason.ADMINISTRATOR)]
            count = len(known)
        else:
            count = await count_rows(self._keeper, search)
            ended = list(
                await self._keeper.end_where(issuer=search.issuer, subject=search.subject, sid=search.sid, reason=EndReason.ADMINISTRATOR)
            )
        for session in ended:
            if session is not None and self._revoke is not None:
                self._revoke(session)
        return count


async def find_row(keeper: Sessions, key: bytes) -> list[Row]:
    """The one row under ``key``, if there is one: rows are listed in key order."""
    before = (int.from_bytes(key, "big") - 1).to_bytes(32, "big") if any(key) else b""
    return [row for row in await keeper.find_rows(after=before, limit=1) if row.key == key]


async def count_rows(keeper: Sessions, search: Search) -> int:
    """How many rows a search by subject or sid finds."""
    return len(await keeper.find_rows(issuer=search.issuer, subject=search.subject, sid=search.sid, limit=1_000_000))


async def _answers(store: SessionStore) -> bool:
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await store.ping()
    except (StoreUnavailable, TimeoutError):
        return False
    return True


def _explain_errors(app: Quart) -> None:
    """Every failure as small JSON with constant text (K7)."""

    async def known(error: BffError) -> Response:
        return _refuse(error.status_hint, error.code, error.public)

    async def not_found(error: Exception) -> Response:
        return _refuse(404, "not_found", "There is nothing here.")

    async def wrong_method(error: Exception) -> Response:
        return _refuse(405, "method_not_allowed", "Not with this method.")

    async def unknown(error: Exception) -> Response:
        app.logger.error("management call failed", exc_info=error)
        return _refuse(500, "internal_error", "Something went wrong on our side.")

    app.register_error_handler(BffError, known)
    app.register_error_handler(404, not_found)
    app.register_error_handler(RequestRedirect, not_found)
    app.register_error_handler(405, wrong_method)
    app.register_error_handler(Exception, unknown)


def _refuse(status: int, code: str, title: str, headers: dict[str, str] | None = None) -> Response:
    return _answer(status, {"code": code, "title": title, "status": status}, "application/problem+json", headers)


def _answer(status: int, body: dict[str, Any], content_type: str = "application/json", headers: dict[str, str] | None = None) -> Response:
    return _finish(Response(json.dumps(body), status, headers, content_type=content_type))


def _finish(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
