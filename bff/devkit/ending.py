"""RP-initiated logout (OpenID Connect RP-Initiated Logout §2 to 4) with back-channel messages to every client of the sign-in."""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from quart import Blueprint, Response, request

from bff.devkit.keys import ALGORITHMS
from bff.devkit.model import SignIn
from bff.devkit.pages import message_page, sign_out_page
from bff.devkit.reading import Parameters, single
from bff.devkit.refusals import PageRefusal
from bff.devkit.state import DevProvider
from bff.devkit.web import cookie_name, form_parameters, html_answer, new_nonce, query_parameters, read_cookie, see_other, with_parameters

CARRIED = ("id_token_hint", "post_logout_redirect_uri", "state", "client_id")


def build_ending(provider: DevProvider) -> Blueprint:
    ending = Blueprint("ending", __name__)

    @ending.route("/end-session", methods=["GET", "POST"])
    async def end_session() -> Response:
        parameters = query_parameters() if request.method == "GET" else await form_parameters()
        sign_in = _find_sign_in(provider, parameters)
        if sign_in is not None and not single(parameters, "id_token_hint"):
            return _ask(provider, parameters)
        return await _end(provider, sign_in, parameters)

    @ending.post("/end-session/confirm")
    async def confirm() -> Response:
        parameters = await form_parameters()
        return await _end(provider, provider.find_sign_in(read_cookie(provider, "session")), parameters)

    return ending


def _read_hint(provider: DevProvider, hint: str) -> dict[str, Any]:
    """The hint's claims; expired is fine, a signature that is not ours is not (RP-Initiated Logout §4)."""
    if not hint:
        return {}
    try:
        token = jwt.decode(hint, lambda guest: _key_of(provider, guest.headers().get("kid")), list(ALGORITHMS))
    except (JoseError, ValueError) as error:
        raise PageRefusal("This sign-out link is not one of ours.") from error
    if token.claims.get("iss") != provider.issuer:
        raise PageRefusal("This sign-out link is not one of ours.")
    return token.claims


def _key_of(provider: DevProvider, kid: object) -> Any:
    key = provider.keys.find(kid)
    if key is None:
        raise ValueError("unknown key")
    return key


def _find_sign_in(provider: DevProvider, parameters: Parameters) -> SignIn | None:
    """By the hint's sid, else by this browser's cookie."""
    sid = _read_hint(provider, single(parameters, "id_token_hint")).get("sid")
    by_sid = next((one for one in provider.sign_ins.values() if one.sid == sid), None)
    return by_sid or provider.find_sign_in(read_cookie(provider, "session"))


def _origins(provider: DevProvider) -> list[str]:
    return sorted({origin for client in provider.clients.values() for origin in client.origins})


def _ask(provider: DevProvider, parameters: Parameters) -> Response:
    nonce = new_nonce()
    hidden = [(name, single(parameters, name)) for name in CARRIED if single(parameters, name)]
    return html_answer(sign_out_page(hidden, nonce=nonce), nonce=nonce, origins=_origins(provider))


async def _end(provider: DevProvider, sign_in: SignIn | None, parameters: Parameters) -> Response:
    target = _check_target(provider, parameters)
    if sign_in is not None:
        provider.ledger.note("end_session", at=provider.now(), sub=sign_in.person.sub, sid=sign_in.sid)
        await provider.end_sign_in(sign_in)
    answer = see_other(target) if target else _signed_out()
    answer.delete_cookie(cookie_name(provider, "session"), path="/")
    return answer


def _signed_out() -> Response:
    nonce = new_nonce()
    return html_answer(message_page("Signed out", "You are signed out. You can close this page.", nonce=nonce), nonce=nonce)


def _check_target(provider: DevProvider, parameters: Parameters) -> str:
    """Where to go afterwards: an exact registered URI of the client that the hint or client_id names, with state; "" without one."""
    wanted = single(parameters, "post_logout_redirect_uri")
    if not wanted:
        return ""
    claims = _read_hint(provider, single(parameters, "id_token_hint"))
    client = provider.clients.get(str(claims.get("aud") or single(parameters, "client_id")))
    if client is None or wanted not in client.post_logout_redirect_uris:
        raise PageRefusal("The return address is not one that this client registered.")
    state = single(parameters, "state")
    return with_parameters(wanted, {"state": state}) if state else wanted
