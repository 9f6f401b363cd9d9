"""GET /login: remember what this browser is about to do, and send it to the provider."""

from __future__ import annotations

from quart import Response

from bff.agent.answers import Notice, add_cookies, complaint, see_other
from bff.agent.notices import login_notice
from bff.agent.parameters import LoginWish, ParameterError, read_login
from bff.agent.parts import Parts, find_session, reason
from bff.base.errors import ProviderError
from bff.base.events import EventKind
from bff.policy.verdict import Admitted
from bff.session.model import Session


async def login(parts: Parts, admitted: Admitted) -> Response:
    """302 to the provider with this login's own sealed cookie; 400 for a query outside the allow-list; 429; 503."""
    facts, options = admitted.facts, parts.options
    wait = await parts.login_gate.knock(facts.client_ip)
    if wait:
        return _refuse(parts, admitted, too_many(wait))
    try:
        wish = read_login(
            facts.query,
            prefix=options.prefix,
            default_return=options.default_return,
            acr_values=options.acr_values,
            optional_scopes=options.optional_scopes,
        )
    except ParameterError as wrong:
        return _refuse(parts, admitted, _unusable(wrong.reason), what=wrong.name)
    try:
        if not await _is_known(parts, wish.prompt):
            return _refuse(parts, admitted, _unusable("The sign-in service does not know this prompt."), what="prompt")
        return await _begin(parts, admitted, wish, find_session(admitted))
    except ProviderError as failure:
        parts.tell(EventKind.LOGIN_FAILED, admitted, failure.code, fields=reason(failure))
        return complaint(parts.pages, facts, login_notice(failure, prefix=options.prefix, return_to=wish.return_to))


async def _is_known(parts: Parts, prompt: str) -> bool:
    """Whether the provider has this prompt, if it says which ones it has (OIDC Prompt Create 1.0 §4.1)."""
    if not prompt:
        return True
    known = (await parts.client.provider()).prompt_values_supported
    return not known or set(known).issuperset(prompt.split(" "))


def _unusable(reason: str) -> Notice:
    return Notice(400, "login_parameters", "This sign-in link cannot be used", reason)


async def _begin(parts: Parts, admitted: Admitted, wish: LoginWish, current: Session | None) -> Response:
    options = parts.options
    pending, url = await parts.client.begin_login(
        redirect_uri=options.redirect_uri,
        scopes=(*options.scopes, *(scope for scope in wish.scopes if scope not in options.scopes)),
        return_to=wish.return_to,
        acr_values=wish.acr_values,
        max_age=wish.max_age,
        prompt=wish.prompt,
        login_hint=wish.login_hint,
        ui_locales=wish.ui_locales,
        # A step-up strengthens this person's session and nobody else's (STEPUP-4).
        subject=current.subject if current is not None and wish.step_up else "",
        # The Strict session cookie will be absent at the callback: the sealed pending login carries what to replace.
        previous=current.key.hex() if current is not None else "",
    )
    answer = see_other(url, 302)
    add_cookies(answer, parts.pending.keep(pending, admitted.facts.cookies))
    parts.tell(EventKind.LOGIN_STARTED, admitted, session=current, fields={"step_up": int(wish.step_up)})
    return answer


def too_many(wait_s: int) -> Notice:
    text = "Too many attempts came from your network. Please wait a moment."
    return Notice(429, "too_many_requests", "Please wait a moment", text, retry_after_s=wait_s)


def _refuse(parts: Parts, admitted: Admitted, notice: Notice, **fields: str) -> Response:
    parts.tell(EventKind.REQUEST_REFUSED, admitted, notice.code, fields=fields)
    return complaint(parts.pages, admitted.facts, notice)
