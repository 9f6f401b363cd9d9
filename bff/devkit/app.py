"""The provider as a Quart app: blueprints, faults, refusals."""

from __future__ import annotations

from quart import Quart, Response

from bff.devkit.admin import build_admin, refuse_strangers
from bff.devkit.ending import build_ending
from bff.devkit.faults import install_faults
from bff.devkit.interaction import build_interaction, show_refusal
from bff.devkit.machine import build_machine
from bff.devkit.pages import message_page
from bff.devkit.refusals import OAuthRefusal, PageRefusal, RedirectRefusal
from bff.devkit.state import DevProvider
from bff.devkit.web import html_answer, new_nonce, refusal_answer

MAX_BODY_BYTES = 16 * 1024 * 1024


def build_provider(provider: DevProvider) -> Quart:
    """The app for one provider. Serve it with ``serve_provider``, which refuses any address but loopback."""
    app = Quart("bff.devkit", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, RESPONSE_TIMEOUT=None, PROPAGATE_EXCEPTIONS=False)
    _install_guard(app, provider)
    install_faults(app, provider)
    for blueprint in (build_machine(provider), build_interaction(provider), build_ending(provider), build_admin(provider)):
        app.register_blueprint(blueprint)
    _install_refusals(app, provider)
    return app


def _install_guard(app: Quart, provider: DevProvider) -> None:
    @app.before_request
    async def guard() -> Response | None:
        reason = refuse_strangers(provider)
        return None if reason is None else Response(reason, status=403, content_type="text/plain")


def _install_refusals(app: Quart, provider: DevProvider) -> None:
    @app.errorhandler(OAuthRefusal)
    async def machine_refused(refusal: OAuthRefusal) -> Response:
        return refusal_answer(refusal)

    @app.errorhandler(RedirectRefusal)
    async def redirect_refused(refusal: RedirectRefusal) -> Response:
        provider.ledger.note("authorize_refused", at=provider.now(), outcome=refusal.error)
        return show_refusal(provider, refusal)

    @app.errorhandler(PageRefusal)
    async def page_refused(refusal: PageRefusal) -> Response:
        nonce = new_nonce()
        return html_answer(message_page("This did not work", str(refusal), nonce=nonce), nonce=nonce, status=400)
