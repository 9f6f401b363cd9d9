"""POST /backchannel-logout: the provider ends sessions here (OIDC Back-Channel Logout 1.0).

No browser, no cookie, no header of ours: the logout token's signature is all there is to believe.
"""

from __future__ import annotations

import hashlib
import secrets
from urllib.parse import parse_qsl

from quart import Response, request

from bff.agent.answers import json_answer
from bff.agent.parts import Parts
from bff.base.errors import ProviderUnavailable, StoreUnavailable, TokenInvalid
from bff.base.events import EventKind
from bff.oauth.types import LogoutNotice
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Session

_REPLAY_MARGIN_S = 300.0


async def backchannel_logout(parts: Parts, admitted: Admitted) -> Response:
    """200 when done, also when nothing matched; 400 for any token we do not believe; 503 when we can't know or can't do it,
    so that the provider asks again (§2.8). Only junk is counted and held back: whoever shares the provider's address, a front
    proxy's perhaps, could keep every logout out with it otherwise."""
    try:
        notice = await parts.client.check_logout_token(await _read_token())
        ended = await _end(parts, notice)
    except TokenInvalid as wrong:
        wait = await parts.backchannel_gate.knock(admitted.facts.client_ip)
        if wait:
            return _refuse(parts, admitted, 429, "too_many_requests", retry_after_s=wait)
        return _refuse(parts, admitted, 400, "invalid_request", rule=wrong.rule)
    except (ProviderUnavailable, StoreUnavailable) as failure:
        return _refuse(parts, admitted, 503, "temporarily_unavailable", retry_after_s=5, cause=failure.code)
    for session in ended:
        if not _offline(session):
            parts.desk.revoke_later(session)
    parts.tell(EventKind.BACKCHANNEL_LOGOUT, admitted, fields={"opened": len(ended), "kind": "sid" if notice.sid else "sub"})
    return Response(b"", 200)


async def _read_token() -> str:
    """The one logout_token of a urlencoded body; other fields are ignored (BCLO-1). TokenInvalid for anything else."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise TokenInvalid("form")
    try:
        body = str(await request.get_data(as_text=True))
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise TokenInvalid("form") from None
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1 or not tokens[0]:
        raise TokenInvalid("form", "not exactly one logout_token")
    return tokens[0]


async def _end(parts: Parts, notice: LogoutNotice) -> list[Session]:
    """End what the notice names, once for all workers (BCLO-8, BCLO-10). TokenInvalid for a replay.

    The jti is held as a lease and given back if the store fails halfway: consumed for good before the sessions are gone,
    a token that the provider sends again after our 503 would be refused as a replay and its sessions would live on.
    """
    name = b"jti:" + hashlib.sha256(f"{notice.issuer}\0{notice.jti}".encode()).digest()
    holder = secrets.token_bytes(16)
    ttl_s = max(0.0, notice.expires_at - parts.clock.now()) + _REPLAY_MARGIN_S
    if not await parts.store.acquire(name, holder, ttl_s):
        raise TokenInvalid("jti", "this logout token was used before")
    # Both go along where both came: a sid of somebody else ends nothing, and a session whose ID token had no sid still ends.
    try:
        return await parts.keeper.end_where(issuer=notice.issuer, subject=notice.subject, sid=notice.sid, reason=EndReason.BACKCHANNEL)
    except StoreUnavailable:
        await parts.store.release(name, holder)
        raise


def _offline(session: Session) -> bool:
    """Offline access outlives the provider's session by design (§2.7): its refresh token is not ours to revoke."""
    grant = session.grants.get("")
    return grant is not None and "offline_access" in grant.scopes


def _refuse(parts: Parts, admitted: Admitted, status: int, error: str, *, retry_after_s: int | None = None, **fields: str) -> Response:
    parts.tell(EventKind.BACKCHANNEL_LOGOUT_REFUSED, admitted, error, fields=fields)
    answer = json_answer({"error": error}, status)
    if retry_after_s is not None:
        answer.headers["Retry-After"] = str(retry_after_s)
    return answer
