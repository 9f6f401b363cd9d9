"""GET /callback: the end of a login. The straight line: read, take, consume, redeem, check, begin, replace, go.

The state is consumed for all workers before the code leaves for the provider (CB-2), so the same callback fired twice
redeems once. Whatever fails, a session that existed before is untouched: it ends only after the new one has begun.
"""

from __future__ import annotations

import hashlib

from quart import Response

from bff.agent.answers import Notice, add_cookies, complaint, see_other
from bff.agent.login import too_many
from bff.agent.notices import SILENT_FAILURES, login_notice
from bff.agent.parameters import Pairs, ParameterError, find_repeated, read_query
from bff.agent.parts import Parts, find_session, reason
from bff.agent.stepup import check_strength
from bff.base.errors import BffError, LoginFailed, LoginReason, StoreUnavailable
from bff.base.events import EventKind
from bff.oauth.types import Identity, PendingLogin, TokenSet
from bff.policy.handoff import ENDED_HEADER
from bff.policy.return_path import safe_return
from bff.policy.verdict import Admitted
from bff.session.model import EndReason, Live, Session

_FRONT_CHANNEL_TOKENS = frozenset({"access_token", "id_token", "refresh_token"})


async def callback(parts: Parts, admitted: Admitted) -> Response:
    """303 to where the login began, with the new session's cookie; else a page with a code, and no session lost."""
    facts, options = admitted.facts, parts.options
    wait = await parts.callback_gate.knock(facts.client_ip)
    if wait:
        parts.tell(EventKind.REQUEST_REFUSED, admitted, "too_many_requests")
        return complaint(parts.pages, facts, too_many(wait))
    try:
        parameters = _read(facts.query)
        pending = await _take(parts, admitted, parameters)
    except ParameterError as wrong:
        parts.tell(EventKind.LOGIN_FAILED, admitted, "callback_parameters", fields={"what": wrong.name})
        notice = Notice(400, "callback_parameters", "This sign-in answer cannot be used", wrong.reason)
        return complaint(parts.pages, facts, notice)
    except (LoginFailed, StoreUnavailable) as failure:
        return _not_ours(parts, admitted, failure)
    return await _finish(parts, admitted, pending, parameters, options.default_return)


def _read(query: str | None) -> Pairs:
    parameters = read_query(query)
    names = {name for name, _ in parameters}
    if not names.isdisjoint(_FRONT_CHANNEL_TOKENS):
        # RFC 9700 §2.1.2: tokens never come this way; who sends them wants them injected (CB-9).
        raise ParameterError("token", "Tokens are not accepted in an address.")
    if find_repeated(parameters) is not None:
        raise ParameterError("query", "A parameter is given twice.")
    return parameters


async def _take(parts: Parts, admitted: Admitted, parameters: Pairs) -> PendingLogin:
    """The pending login of this browser and this state, consumed for every worker. LoginFailed, StoreUnavailable."""
    state = dict(parameters).get("state", "")
    if not state:
        raise LoginFailed(LoginReason.UNKNOWN, "no state in the callback")
    pending = parts.pending.take(state, admitted.facts.cookies)
    name = b"state:" + hashlib.sha256(state.encode()).digest()
    if not await parts.store.once(name, parts.clock.now() + parts.options.state_s):
        raise LoginFailed(LoginReason.UNKNOWN, "state used before")
    return pending


def _not_ours(parts: Parts, admitted: Admitted, failure: LoginFailed | StoreUnavailable) -> Response:
    """Back button, reload, bookmark or forgery. Who is signed in goes on to the app (F19); nobody gets a token request."""
    options = parts.options
    parts.tell(EventKind.LOGIN_FAILED, admitted, failure.code, fields=reason(failure))
    if isinstance(failure, LoginFailed) and find_session(admitted) is not None:
        return see_other(options.default_return)
    return complaint(parts.pages, admitted.facts, login_notice(failure, prefix=options.prefix, return_to=options.default_return))


async def _finish(parts: Parts, admitted: Admitted, pending: PendingLogin, parameters: Pairs, default: str) -> Response:
    # Judged again at use: the rules may have become stricter since the login began (REDIR-4).
    return_to = safe_return(pending.return_to, prefix=parts.options.prefix) or default
    try:
        tokens, identity = await parts.client.finish_login(pending, parameters)
        check_strength(pending, identity, parts.clock.now())
        live, ticket = await _begin(parts, admitted, pending, identity, tokens)
    except BffError as failure:
        return _failed(parts, admitted, pending, failure, return_to)
    parts.tell(EventKind.LOGIN_SUCCEEDED, admitted, session=live.session)
    answer = see_other(return_to)
    add_cookies(answer, (parts.pending.clear(pending.state), parts.options.cookie.set_session(ticket)))
    if pending.previous:  # its Strict cookie stayed away from this request, so the door has nothing else to know it by
        answer.headers[ENDED_HEADER.decode()] = "1"
    return answer


async def _begin(parts: Parts, admitted: Admitted, pending: PendingLogin, identity: Identity, tokens: TokenSet) -> tuple[Live, str]:
    """A new session, always with a new id (SESS-2); then the end of those it replaces."""
    live, ticket = await parts.keeper.begin(identity, tokens, scopes=pending.scopes)
    try:
        await _replace(parts, _previous(admitted, pending), identity)
    except StoreUnavailable:
        # The old ticket may still work: then the new one must not exist beside it.
        if live.session is not None:
            await parts.keeper.end(live.session.key, EndReason.REPLACED)
        raise
    return live, ticket


def _previous(admitted: Admitted, pending: PendingLogin) -> list[bytes]:
    keys = [bytes.fromhex(pending.previous)] if pending.previous else []
    current = find_session(admitted)
    if current is not None and current.key not in keys:
        keys.append(current.key)
    return keys


async def _replace(parts: Parts, keys: list[bytes], identity: Identity) -> None:
    for key in keys:
        ended = await parts.keeper.end(key, EndReason.REPLACED)
        if ended is not None and not _may_share_grant(ended, identity):
            parts.desk.revoke_later(ended)


def _may_share_grant(old: Session, new: Identity) -> bool:
    """Whether revoking the old tokens could take the new ones with them: many providers keep one grant for a person's
    whole session, and revoke all of it at once (RFC 7009 §2.1). Another person's tokens are always revoked (SESS-3)."""
    if (old.issuer, old.subject) != (new.issuer, new.subject):
        return False
    return not old.sid or not new.sid or old.sid == new.sid


def _failed(parts: Parts, admitted: Admitted, pending: PendingLogin, failure: BffError, return_to: str) -> Response:
    parts.tell(EventKind.LOGIN_FAILED, admitted, failure.code, fields=reason(failure))
    if pending.prompt == "none" and isinstance(failure, LoginFailed) and failure.oauth_error in SILENT_FAILURES:
        answer = see_other(return_to)
    else:
        notice = login_notice(failure, prefix=parts.options.prefix, return_to=return_to, keep=bool(pending.subject))
        answer = complaint(parts.pages, admitted.facts, notice)
    add_cookies(answer, [parts.pending.clear(pending.state)])
    return answer
