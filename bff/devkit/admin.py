"""The buttons and the tests' side door: state and ledger as JSON, knobs, key rotation, expiry, sign-out everywhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from quart import Blueprint, Response, request

from bff.devkit.knobs import Knobs
from bff.devkit.loopback import is_loopback_host
from bff.devkit.pages import admin_page
from bff.devkit.reading import single
from bff.devkit.refusals import OAuthRefusal
from bff.devkit.state import DevProvider
from bff.devkit.web import form_parameters, html_answer, json_answer, new_nonce, see_other


def build_admin(provider: DevProvider) -> Blueprint:
    admin = Blueprint("admin", __name__)

    @admin.get("/")
    async def home() -> Response:
        return see_other(provider.url("/admin"))

    @admin.get("/admin")
    async def show() -> Response:
        nonce = new_nonce()
        entries = provider.ledger.to_json()["entries"][:-21:-1]
        body = admin_page(
            issuer=provider.issuer, people=provider.people.values(), signed_in=list(provider.sign_ins.values()),
            entries=entries, clients=provider.clients.values(), nonce=nonce,
        )
        return html_answer(body, nonce=nonce)

    @admin.get("/admin/state")
    async def state() -> Response:
        return json_answer(describe(provider))

    @admin.get("/admin/secrets")
    async def secrets() -> Response:
        return json_answer(sorted(provider.secrets or ()))

    @admin.post("/admin/knobs")
    async def turn() -> Response:
        changes = await request.get_json(force=True)
        try:
            provider.knobs.turn(changes)
        except ValueError as error:
            raise OAuthRefusal("invalid_request", str(error)) from error
        return json_answer(asdict(provider.knobs))

    @admin.post("/admin/reset")
    async def reset() -> Response:
        provider.knobs = Knobs()
        provider.ledger.clear()
        return json_answer({"ok": True})

    @admin.post("/admin/rotate-keys")
    async def rotate() -> Response:
        provider.rotate_keys(withdraw=request.args.get("withdraw") == "1")
        return _done({"kids": [key["kid"] for key in provider.keys.published()]})

    @admin.post("/admin/expire-tokens")
    async def expire() -> Response:
        return _done({"expired": provider.expire_access_tokens()})

    @admin.post("/admin/sign-out")
    async def sign_out() -> Response:
        sub = single(await form_parameters(), "sub")
        return _done({"clients_told": await provider.sign_out_everywhere(sub)})

    @admin.post("/admin/logout-token")
    async def logout_token() -> Response:
        """A logout token for a test to deliver itself: as often, and to whichever worker, as it likes."""
        wish = await request.get_json(force=True)
        client = provider.clients[wish["client_id"]]
        return json_answer({"logout_token": provider.logout_token(client, sub=wish.get("sub", ""), sid=wish.get("sid", ""))})

    return admin


def _done(result: dict[str, Any]) -> Response:
    """Buttons return to the page, programs get JSON."""
    return see_other("/admin") if "text/html" in request.headers.get("Accept", "") else json_answer(result)


def describe(provider: DevProvider) -> dict[str, Any]:
    """What tests may count. Token values appear as fingerprints only."""
    return {
        **provider.ledger.to_json(),
        "issuer": provider.issuer,
        "kids": [key["kid"] for key in provider.keys.published()],
        "sign_ins": [{"sid": s.sid, "sub": s.person.sub, "acr": s.acr, "clients": sorted(s.clients)} for s in provider.sign_ins.values()],
        "families": [
            {"family": f.family_id, "sub": f.person.sub, "sid": f.sid, "alive": f.alive, "rotations": len(f.used)}
            for f in provider.families.values()
        ],
        "knobs": asdict(provider.knobs),
    }


def refuse_strangers(provider: DevProvider) -> str | None:
    """Why this request must not be served, or None. Strangers: a page elsewhere whose name was rebound to loopback, or
    that posts a form to us."""
    host = urlsplit(f"//{request.host}").hostname or ""
    own = urlsplit(provider.issuer)
    if not is_loopback_host(host) and host != own.hostname:
        return "unknown host"
    if request.method in ("GET", "HEAD") or (request.path not in BROWSER_POSTS and not request.path.startswith("/admin/")):
        return None
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site not in (None, "same-origin", "none") or origin not in (None, f"{own.scheme}://{own.netloc}", f"{own.scheme}://{request.host}"):
        return "another site's form"
    return None


BROWSER_POSTS = frozenset({"/login", "/consent", "/end-session/confirm"})
