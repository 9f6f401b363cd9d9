"""The agent's Quart app. It is served on a private socket behind the door and believes nothing but the door's verdict.

Which handler runs, for which session, with which cookies and query: all of it comes from the verdict that the door
signed (bff.policy.handoff), never from the bytes that Quart parsed again. Two parsers that see two requests are how the worst
advisories of this field came to be; here the second one decides nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from quart import Quart, Request, Response
from werkzeug.exceptions import HTTPException

from bff.agent import routes
from bff.agent.answers import NOTHING_HERE, Notice, Pages, complaint, json_answer, protect
from bff.agent.backchannel import backchannel_logout
from bff.agent.callback import callback
from bff.agent.files import client_js, openapi_json, spa
from bff.agent.login import login
from bff.agent.logout import logout
from bff.agent.notices import retry_after
from bff.agent.options import AgentOptions
from bff.agent.parts import Handler, Parts, Verdicts
from bff.agent.rates import RateGate
from bff.agent.user import end_sessions, sessions, user
from bff.base.clock import Clock
from bff.base.errors import BffError
from bff.base.events import Probe, no_probe
from bff.policy.handoff import HANDOFF_HEADER
from bff.policy.verdict import Admitted

if TYPE_CHECKING:
    from bff.oauth.flows import OAuthClient
    from bff.session.credentials import CredentialDesk
    from bff.session.keeper import Keeper
    from bff.session.pending import PendingCookies
    from bff.session.signing import Signer
    from bff.session.store.port import SessionStore

HANDOFF_FIELD = HANDOFF_HEADER.decode()
log = logging.getLogger(__name__)

_HANDLERS: Mapping[str, Handler] = {
    routes.LOGIN: login,
    routes.CALLBACK: callback,
    routes.USER: user,
    routes.SESSIONS: sessions,
    routes.SESSIONS_END: end_sessions,
    routes.LOGOUT: logout,
    routes.BACKCHANNEL: backchannel_logout,
    routes.CLIENT_JS: client_js,
    routes.OPENAPI: openapi_json,
    routes.SPA: spa,
}
_READ_THE_REQUEST: Final = frozenset({routes.SESSIONS_END, routes.BACKCHANNEL, routes.CLIENT_JS, routes.OPENAPI, routes.SPA})
"""Whose handlers look at Quart's request: for a body, or for what a file's answer depends on. The others know all from the verdict."""


def build_agent(
    *,
    options: AgentOptions,
    client: OAuthClient,
    keeper: Keeper,
    desk: CredentialDesk,
    pending: PendingCookies,
    signer: Signer,
    verdicts: Verdicts,
    store: SessionStore,
    clock: Clock,
    probe: Probe = no_probe,
    pseudonym: Callable[..., str] = lambda *parts: "",
) -> AgentApp:
    """Pure construction: no I/O but reading the agent's own two page files."""
    parts = Parts(
        options=options,
        client=client,
        keeper=keeper,
        desk=desk,
        pending=pending,
        signer=signer,
        store=store,
        clock=clock,
        probe=probe,
        pseudonym=pseudonym,
        pages=Pages(),
        login_gate=RateGate("login", options.rates.login),
        callback_gate=RateGate("callback", options.rates.callback),
        backchannel_gate=RateGate("backchannel", options.rates.backchannel),
    )
    return AgentApp(parts, verdicts)


def adopt(app: AgentApp, options: AgentOptions) -> None:
    """Take over what the routes imply, as they came anew (SIGHUP): the acr that a login may ask for, the claims that /user tells."""
    parts = app.parts
    parts.options = replace(parts.options, acr_values=options.acr_values, claims=options.claims)


class AgentApp(Quart):
    """Quart's requests, answers and files, without what it does between a request and its handler: the verdict names the handler, so
    there is nothing to route and nothing to hook in (the CPU of /login fell by 15 %, measured side by side)."""

    def __init__(self, parts: Parts, verdicts: Verdicts) -> None:
        super().__init__(__name__, static_folder=None, template_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = routes.MAX_BODY_BYTES
        self.config["BODY_TIMEOUT"] = 20
        self.parts = parts
        self._verdicts = verdicts

    async def handle_request(self, request: Request) -> Response:
        """Read the verdict, find its session, answer. Every failure is an answer too; a cancelled call has none."""
        admitted: Admitted | None = None
        try:
            handed = self._verdicts.read(request.headers.get(HANDOFF_FIELD, "").encode("latin-1", "replace"))
            if handed is None:
                answer = json_answer({"code": "not_from_the_door"}, 403)
            else:
                admitted = handed.admitted
                admitted = await self._verdicts.seat(handed)
                answer = await self._handle(request, admitted)
        except BffError as failure:
            answer = self._report(admitted, failure.status_hint, failure.code, failure.public, retry_after(failure))
        except HTTPException as refused:
            status = refused.code or 500
            answer = self._report(admitted, status, _HTTP_CODES.get(status, "request_malformed"), "The request cannot be answered.")
        except Exception as error:
            # Frames and type only: the text of a foreign exception may quote what it failed on (PRIV-1).
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("unexpected %s in the agent\n%s", type(error).__name__, frames)
            answer = self._report(admitted, 500, BffError.code, BffError.public)
        return protect(answer, self.parts.options)

    async def _handle(self, request: Request, admitted: Admitted) -> Response:
        name = admitted.route.name
        handler = _HANDLERS.get(name)
        if handler is None or admitted.facts.method not in admitted.route.methods:
            return complaint(self.parts.pages, admitted.facts, NOTHING_HERE)
        if name not in _READ_THE_REQUEST:
            return await handler(self.parts, admitted)
        async with self.request_context(request):
            return await handler(self.parts, admitted)

    def _report(self, admitted: Admitted | None, status: int, code: str, public: str, retry_after_s: int | None = None) -> Response:
        if admitted is None:
            return json_answer({"code": code}, status)
        notice = Notice(status, code, "Something went wrong", public, retry_after_s=retry_after_s)
        return complaint(self.parts.pages, admitted.facts, notice)


_HTTP_CODES = {404: "route_unknown", 405: "method_refused", 408: "request_timeout", 413: "body_too_large"}
