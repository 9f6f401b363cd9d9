"""The upstream says that a token is no good before its time: one renewal, one replay (TOKEN-10, F13)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from bff.base.errors import BffError, GrantRevoked, SessionGone
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.response import ResponseHead
from bff.session.model import Credential, Live

if TYPE_CHECKING:
    from bff.proxy.exchange import Exchange

SIGNED_OUT = Refusal(401, "unauthenticated", "Sign in to use this.", clear_cookie=True)


class Renewer(Protocol):
    """The part of the credential desk that the door needs. A call goes on for the others if its caller is cancelled."""

    async def renew(self, live: Live | None, *, audience: str, stale: Credential) -> Credential: ...


async def renew(exchange: Exchange, block: bytes, head: ResponseHead, rest: bytes) -> None:
    """Get a newer credential and send the request again on another connection; else the upstream's 401 stands."""
    admitted = await _renewed(exchange)
    if admitted is None:
        exchange.resume_original(block, head, rest)
    elif isinstance(admitted, Refusal):
        exchange.refuse(admitted)
    else:
        await exchange.replay(admitted)


async def _renewed(exchange: Exchange) -> Admitted | Refusal | None:
    admitted = exchange.whole()
    live, stale = admitted.live, admitted.credential
    holder = None if admitted.route.token == "client" else live  # noqa: S105 - a kind of token: a user's never stands in for ours
    if live is None or stale is None:
        return None
    try:
        fresh = await exchange.door.house.desk.renew(holder, audience=stale.audience, stale=stale)
    except (SessionGone, GrantRevoked):
        return SIGNED_OUT
    except BffError:
        return None
    if fresh.authorization == stale.authorization:
        return None
    return replace(admitted, credential=fresh, judged=live.session)
