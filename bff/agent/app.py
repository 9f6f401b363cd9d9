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
from typing import TYPE_CHECKING

from quart import Quart, Response, g, request
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
_PARTS = "bff.parts"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

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
) -> Quart:
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
    app = Quart(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = routes.MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = 20
    # A slash fix-up would make a Location out of a request path (R3): the door's path is canonical as it is.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    _add_routes(app, parts, verdicts)
    _add_failures(app, parts)
    app.extensions[_PARTS] = parts
    return app


def adopt(app: Quart, options: AgentOptions) -> None:
    """Take over what the routes imply, as they came anew (SIGHUP): the acr that a login may ask for, the claims that /user tells."""
    parts: Parts = app.extensions[_PARTS]
    parts.options = replace(parts.options, acr_values=options.acr_values, claims=options.claims)


def _add_routes(app: Quart, parts: Parts, verdicts: Verdicts) -> None:
    @app.before_request
    async def take_verdict() -> Response | None:
        handed = verdicts.read(request.headers.get(HANDOFF_FIELD, "").encode("latin-1", "replace"))
        if handed is None:
            return protect(json_answer({"code": "not_from_the_door"}, 403), parts.options)
        g.admitted = handed.admitted
        g.admitted = await verdicts.seat(handed)
        return None

    async def answer(path: str) -> Response:
        admitted: Admitted = g.admitted
        handler = _HANDLERS.get(admitted.route.name)
        if handler is None or admitted.facts.method not in admitted.route.methods:
            return complaint(parts.pages, admitted.facts, NOTHING_HERE)
        return await handler(parts, admitted)

    app.add_url_rule("/", "root", answer, methods=_METHODS, defaults={"path": ""}, provide_automatic_options=False)
    app.add_url_rule("/<path:path>", "any", answer, methods=_METHODS, provide_automatic_options=False)

    @app.after_request
    async def add_fields(response: Response) -> Response:
        return protect(response, parts.options)


def _add_failures(app: Quart, parts: Parts) -> None:
    @app.errorhandler(BffError)
    async def failed(failure: BffError) -> Response:
        return _report(parts, failure.status_hint, failure.code, failure.public, retry_after(failure))

    @app.errorhandler(HTTPException)
    async def refused(failure: HTTPException) -> Response:
        status = failure.code or 500
        return _report(parts, status, _HTTP_CODES.get(status, "request_malformed"), "The request cannot be answered.")

    @app.errorhandler(Exception)
    async def broken(failure: Exception) -> Response:
        # Frames and type only: the text of a foreign exception may quote what it failed on (PRIV-1).
        frames = "".join(traceback.format_tb(failure.__traceback__))
        logging.getLogger(__name__).error("unexpected %s in the agent\n%s", type(failure).__name__, frames)
        return _report(parts, 500, BffError.code, BffError.public)


_HTTP_CODES = {404: "route_unknown", 405: "method_refused", 408: "request_timeout", 413: "body_too_large"}


def _report(parts: Parts, status: int, code: str, public: str, retry_after_s: int | None = None) -> Response:
    admitted: Admitted | None = g.get("admitted")
    if admitted is None:
        return json_answer({"code": code}, status)
    notice = Notice(status, code, "Something went wrong", public, retry_after_s=retry_after_s)
    return complaint(parts.pages, admitted.facts, notice)
