"""POST /logout: the session here ends first, whatever the provider says afterwards (RPLO-1)."""

from __future__ import annotations

import asyncio

from quart import Response

from bff.agent.answers import add_cookies, json_answer, see_other
from bff.agent.parameters import MAX_RETURN_CHARS, ParameterError, find_repeated, read_query
from bff.agent.parts import Parts, find_session
from bff.base.errors import ProviderError
from bff.base.events import EventKind
from bff.policy.return_path import safe_return
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Session

STATE_PURPOSE = "logout-state"
_PROVIDER_WAIT_S = 5.0


async def logout(parts: Parts, admitted: Admitted) -> Response:
    """200 ``{"logout_url": …}`` to a script, 303 to a form; idempotent. ``?return_to=`` names our page to land on afterwards.
    StoreUnavailable: nothing ended, cookies kept, for a logout that only looks like one is worse than an error."""
    session = find_session(admitted)
    if session is not None:
        ended = await parts.keeper.end(session.key, EndReason.LOGOUT)
        if parts.options.revoke_on_logout:
            # As last stored: a refresh that raced this logout may have rotated what was judged (F10).
            parts.desk.revoke_later(ended or session)
        parts.tell(EventKind.LOGOUT, admitted, session=session)
    url = await _next_url(parts, session, _find_return(parts, admitted.facts.query))
    answer = see_other(url) if admitted.facts.wants_page else json_answer({"logout_url": url})
    return _clear(parts, admitted, answer)


def _find_return(parts: Parts, query: str | None) -> str | None:
    """The safe ``return_to`` of a query, else None: a wish that cannot be granted never stands in the way of a logout."""
    try:
        pairs = read_query(query)
    except ParameterError:
        return None
    wish = dict(pairs).get("return_to", "")
    if find_repeated(pairs) is not None or len(wish) > MAX_RETURN_CHARS:
        return None
    return safe_return(wish, prefix=parts.options.prefix)


async def _next_url(parts: Parts, session: Session | None, return_to: str | None) -> str:
    """The provider's end_session (OIDC RP-Initiated Logout §2), or our own page when there is no session or no provider.

    The provider hears of the one registered address only (RPLO-2); ``return_to`` travels in the state that we sign (RPLO-3).
    """
    options = parts.options
    ours = return_to or options.post_logout_path
    if session is None or not session.id_token:
        return ours
    try:
        async with asyncio.timeout(_PROVIDER_WAIT_S):
            url = await parts.client.end_session_url(
                id_token_hint=session.id_token,
                post_logout_redirect_uri=options.post_logout_redirect_uri,
                state=parts.signer.sign(STATE_PURPOSE, return_to or options.default_return),
            )
    except (ProviderError, TimeoutError):
        return ours
    return url or ours


def _clear(parts: Parts, admitted: Admitted, answer: Response) -> Response:
    options = parts.options
    add_cookies(answer, [options.cookie.clear_session(), *parts.pending.clear_all(admitted.facts.cookies)])
    if options.clear_site_data:
        answer.headers["Clear-Site-Data"] = ", ".join(f'"{kind}"' for kind in options.clear_site_data)
    return answer
