"""POST /logout: the session here ends first, whatever the provider says afterwards (RPLO-1)."""

from __future__ import annotations

import asyncio

from quart import Response

from bff.agent.answers import add_cookies, json_answer, see_other
from bff.agent.parts import Parts, find_session
from bff.base.errors import ProviderError
from bff.base.events import EventKind
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Session

STATE_PURPOSE = "logout-state"
_PROVIDER_WAIT_S = 5.0


async def logout(parts: Parts, admitted: Admitted) -> Response:
    """200 ``{"logout_url": …}`` to a script, 303 to a form; idempotent. StoreUnavailable: nothing ended, cookies kept,
    for a logout that only looks like one is worse than an error."""
    session = find_session(admitted)
    if session is not None:
        ended = await parts.keeper.end(session.key, EndReason.LOGOUT)
        if parts.options.revoke_on_logout:
            # As last stored: a refresh that raced this logout may have rotated what was judged (F10).
            parts.desk.revoke_later(ended or session)
        parts.tell(EventKind.LOGOUT, admitted, session=session)
    url = await _next_url(parts, session)
    answer = see_other(url) if admitted.facts.wants_page else json_answer({"logout_url": url})
    return _clear(parts, admitted, answer)


async def _next_url(parts: Parts, session: Session | None) -> str:
    """The provider's end_session (OIDC RP-Initiated Logout §2), or our own page when there is no session or no provider."""
    options = parts.options
    if session is None or not session.id_token:
        return options.post_logout_path
    try:
        async with asyncio.timeout(_PROVIDER_WAIT_S):
            url = await parts.client.end_session_url(
                id_token_hint=session.id_token,
                post_logout_redirect_uri=options.post_logout_redirect_uri,
                state=parts.signer.sign(STATE_PURPOSE, options.default_return),
            )
    except (ProviderError, TimeoutError):
        return options.post_logout_path
    return url or options.post_logout_path


def _clear(parts: Parts, admitted: Admitted, answer: Response) -> Response:
    options = parts.options
    add_cookies(answer, [options.cookie.clear_session(), *parts.pending.clear_all(admitted.facts.cookies)])
    if options.clear_site_data:
        answer.headers["Clear-Site-Data"] = ", ".join(f'"{kind}"' for kind in options.clear_site_data)
    return answer
