"""GET /user and the person's own list of sessions. Asking is not activity: none of these keeps a session alive (SESS-6)."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response, request

from bff.agent.answers import Notice, json_answer, problem
from bff.agent.parts import Parts
from bff.base.events import EventKind
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Live, Session
from bff.session.store.port import Row

_MAX_ROWS = 500


async def user(parts: Parts, admitted: Admitted) -> Response:
    """200 with the allow-listed claims and how long the session lasts; 401 problem when signed out. Never a token (PRIV-3)."""
    live, session = _require(admitted)
    if live is None or session is None:
        return _signed_out(parts, admitted)
    return json_answer(describe(parts, live, session))


def describe(parts: Parts, live: Live, session: Session) -> dict[str, Any]:
    allowed = parts.options.claims
    claims = {name: value for name, value in session.claims.items() if allowed is None or name in allowed}
    idle_until, absolute = live.idle_until, session.expires_at
    until, because = (idle_until, "idle") if idle_until < absolute else (absolute, "absolute")
    return {
        **claims,
        "sub": session.subject,
        "session": {
            "expires_in": max(0, int(until - parts.clock.now())),
            "expires_because": because,
            "logout_url": f"{parts.options.prefix}/logout",
        },
    }


async def sessions(parts: Parts, admitted: Admitted) -> Response:
    """200 with this person's sessions on all devices (SESS-17). Ids are hashes: none of them opens anything."""
    _, session = _require(admitted)
    if session is None:
        return _signed_out(parts, admitted)
    rows = await _own_rows(parts, session)
    return json_answer({"sessions": [_row(row, session) for row in rows]})


async def end_sessions(parts: Parts, admitted: Admitted) -> Response:
    """End one of one's own sessions by ``{"id": …}``, or all but this one by ``{"others": true}``. 200 ``{"ended": n}``."""
    _, session = _require(admitted)
    if session is None:
        return _signed_out(parts, admitted)
    wish = await _read_wish()
    if wish is None:
        text = 'The body must be {"id": "…"} or {"others": true}.'
        return problem(admitted.facts, Notice(400, "sessions_wish", "Unclear which session to end", text))
    chosen = [row for row in await _own_rows(parts, session) if _wanted(row, wish, session)]
    for row in chosen:
        ended = await parts.keeper.end(row.key, EndReason.LOGOUT)
        if ended is not None:
            parts.desk.revoke_later(ended)
    parts.tell(EventKind.LOGOUT, admitted, session=session, fields={"ended": len(chosen)})
    return json_answer({"ended": len(chosen)})


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    id: str = ""
    others: bool = False


async def _read_wish() -> _Wish | None:
    if request.mimetype != "application/json":
        return None
    try:
        wish = msgspec.json.decode(await request.get_data(), type=_Wish)
    except msgspec.DecodeError:
        return None
    return wish if bool(wish.id) != wish.others else None


def _wanted(row: Row, wish: _Wish, session: Session) -> bool:
    return row.key != session.key if wish.others else row.key.hex() == wish.id


async def _own_rows(parts: Parts, session: Session) -> list[Row]:
    rows: list[Row] = []
    while len(rows) < _MAX_ROWS:
        after = rows[-1].key if rows else b""
        page = await parts.keeper.find_rows(issuer=session.issuer, subject=session.subject, after=after, limit=100)
        rows.extend(page)
        if len(page) < 100:
            break
    return rows


def _row(row: Row, session: Session) -> dict[str, Any]:
    return {
        "id": row.key.hex(),
        "started_at": int(row.created_at),
        "seen_at": int(row.seen_at),
        "expires_at": int(row.expires_at),
        "current": row.key == session.key,
    }


def _require(admitted: Admitted) -> tuple[Live | None, Session | None]:
    live = admitted.live
    return (None, None) if live is None else (live, live.session)


def _signed_out(parts: Parts, admitted: Admitted) -> Response:
    """The gatekeeper answers this before us; a session that ended between its word and ours ends up here."""
    notice = Notice(401, "unauthenticated", "Sign-in required", "You are not signed in.")
    answer = problem(admitted.facts, notice, extra={"login_url": f"{parts.options.prefix}/login"})
    # RFC 9110 §15.5.2 demands a challenge; this scheme makes no browser ask for a password (RESP-4).
    answer.headers["WWW-Authenticate"] = 'Session realm="bff"'
    return answer
