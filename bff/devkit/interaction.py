"""The browser's half: authorization endpoint, login page, consent page (OpenID Connect Core §3.1.2)."""

from __future__ import annotations

import hmac

from quart import Blueprint, Response
from quart import request as http

from bff.devkit.model import ACR_VALUES, MFA, PWD, AuthorizationRequest, Interaction, SignIn
from bff.devkit.pages import consent_page, login_page
from bff.devkit.reading import Parameters, read_authorization_request, single
from bff.devkit.refusals import PageRefusal, RedirectRefusal
from bff.devkit.state import DevProvider
from bff.devkit.web import form_parameters, html_answer, new_nonce, query_parameters, read_cookie, see_other, set_cookie, with_parameters

WRONG_ISSUER = "https://another-provider.example"


def build_interaction(provider: DevProvider) -> Blueprint:
    pages = Blueprint("interaction", __name__)

    @pages.route("/authorize", methods=["GET", "POST"])
    async def authorize() -> Response:
        parameters = query_parameters() if http.method == "GET" else await form_parameters()
        return _authorize(provider, read_authorization_request(provider, _unpack(provider, parameters)))

    @pages.get("/login")
    async def show_login() -> Response:
        key, interaction = _find_interaction(provider, query_parameters())
        return _show_login(provider, key, interaction)

    @pages.post("/login")
    async def login() -> Response:
        form = await form_parameters()
        key, interaction = _find_interaction(provider, form)
        return _log_in(provider, key, interaction, single(form, "person"), single(form, "otp"))

    @pages.get("/consent")
    async def show_consent() -> Response:
        key, interaction = _find_interaction(provider, query_parameters())
        if interaction.sign_in is None:
            raise PageRefusal("Please sign in first.")
        nonce = new_nonce()
        body = consent_page(key, interaction, interaction.sign_in, nonce=nonce)
        return html_answer(body, nonce=nonce, origins=interaction.request.client.origins)

    @pages.post("/consent")
    async def consent() -> Response:
        form = await form_parameters()
        key, interaction = _find_interaction(provider, form)
        return _consent(provider, key, interaction, single(form, "decision"))

    return pages


def _unpack(provider: DevProvider, parameters: Parameters) -> Parameters:
    """A pushed request by its request_uri (RFC 9126 §4); one use, for the client that pushed it."""
    request_uri = parameters.get("request_uri", [""])[0]
    client = provider.clients.get(parameters.get("client_id", [""])[0])
    if not request_uri:
        if provider.knobs.require_par or (client and client.require_par):
            raise PageRefusal("This client must push its authorization requests.")
        return parameters
    pushed, client_id, expires_at = provider.pushed.pop(request_uri, ({}, "", 0.0))
    if client is None or client_id != client.client_id or expires_at <= provider.now():
        raise PageRefusal("This sign-in link is no longer valid. Please go back to the app and start again.")
    return pushed


def _authorize(provider: DevProvider, request: AuthorizationRequest) -> Response:
    knobs = provider.knobs
    if knobs.authorize_error:
        raise RedirectRefusal(request.redirect_uri, request.state, knobs.authorize_error, knobs.authorize_error_description)
    acr = _wanted_acr(request)
    if knobs.auto_login:
        person = provider.people.get(request.login_hint) or provider.people[knobs.auto_login]
        return _finish(provider, request, provider.sign_in(person, acr=acr))
    sign_in = provider.find_sign_in(read_cookie(provider, "session"))
    if sign_in is None or _must_sign_in_again(provider, request, sign_in):
        if "none" in request.prompt:
            raise RedirectRefusal(request.redirect_uri, request.state, "login_required")
        return _send_to(provider, "/login", request, acr=acr, sign_in=sign_in)
    return _after_login(provider, request, sign_in)


def _wanted_acr(request: AuthorizationRequest) -> str:
    if not request.acr_values:
        return PWD
    known = [acr for acr in request.acr_values if acr in ACR_VALUES]
    if not known:  # OpenID Connect Unmet Authentication Requirements §2
        raise RedirectRefusal(request.redirect_uri, request.state, "unmet_authentication_requirements")
    return known[0]


def _must_sign_in_again(provider: DevProvider, request: AuthorizationRequest, sign_in: SignIn) -> bool:
    too_old = request.max_age is not None and provider.now() - sign_in.auth_time > request.max_age
    too_weak = bool(request.acr_values) and sign_in.acr not in request.acr_values
    return too_old or too_weak or bool({"login", "select_account"} & request.prompt) or request.max_age == 0


def _send_to(provider: DevProvider, path: str, request: AuthorizationRequest, *, acr: str, sign_in: SignIn | None) -> Response:
    key, interaction = provider.interact(request, acr=acr, fresh=False, sign_in=sign_in)
    answer = see_other(with_parameters(provider.url(path), {"interaction": key}))
    set_cookie(answer, provider, f"interaction-{key[:8]}", interaction.handle)
    return answer


def _find_interaction(provider: DevProvider, parameters: Parameters) -> tuple[str, Interaction]:
    """The interaction of this very browser: the page's key alone is not enough (login CSRF)."""
    key = single(parameters, "interaction")
    interaction = provider.interactions.get(key)
    handle = read_cookie(provider, f"interaction-{key[:8]}") or ""
    ours = interaction is not None and hmac.compare_digest(interaction.handle.encode(), handle.encode())
    if interaction is None or not ours or interaction.expires_at <= provider.now():
        raise PageRefusal("This page is no longer valid. Please go back to the app and sign in again.")
    return key, interaction


def _show_login(provider: DevProvider, key: str, interaction: Interaction, *, note: str = "") -> Response:
    nonce = new_nonce()
    body = login_page(provider.people.values(), key, interaction, nonce=nonce, note=note)
    return html_answer(body, nonce=nonce, origins=interaction.request.client.origins)


def _log_in(provider: DevProvider, key: str, interaction: Interaction, name: str, otp: str) -> Response:
    person = provider.people.get(name)
    if person is None:
        return _show_login(provider, key, interaction, note="Please choose who you are.")
    if interaction.acr == MFA and not person.second_factor:
        return _show_login(provider, key, interaction, note=f"{person.name} has no second factor.")
    if interaction.acr == MFA and not (len(otp) == 6 and otp.isascii() and otp.isdigit()):
        return _show_login(provider, key, interaction, note="The code has six digits.")
    old = interaction.sign_in
    sign_in = provider.sign_in(person, acr=interaction.acr)
    if old is not None:
        provider.sign_ins.pop(old.handle, None)
        if old.person == person:  # the same session, stronger or younger: it keeps its sid
            sign_in.sid, sign_in.clients = old.sid, old.clients
    interaction.sign_in, interaction.fresh = sign_in, True
    answer = _after_login(provider, interaction.request, sign_in, key=key)
    set_cookie(answer, provider, "session", sign_in.handle)
    return answer


def _after_login(provider: DevProvider, request: AuthorizationRequest, sign_in: SignIn, *, key: str = "") -> Response:
    agreed = (request.client.client_id, sign_in.person.sub, frozenset(request.scopes)) in provider.consents
    if provider.knobs.skip_consent or (agreed and "consent" not in request.prompt):
        provider.interactions.pop(key, None)
        return _finish(provider, request, sign_in)
    if "none" in request.prompt:
        raise RedirectRefusal(request.redirect_uri, request.state, "consent_required")
    if key:
        return see_other(with_parameters(provider.url("/consent"), {"interaction": key}))
    return _send_to(provider, "/consent", request, acr=sign_in.acr, sign_in=sign_in)


def _consent(provider: DevProvider, key: str, interaction: Interaction, decision: str) -> Response:
    request, sign_in = interaction.request, interaction.sign_in
    if sign_in is None:
        raise PageRefusal("Please sign in first.")
    del provider.interactions[key]
    if decision != "allow":
        raise RedirectRefusal(request.redirect_uri, request.state, "access_denied")
    provider.consents.add((request.client.client_id, sign_in.person.sub, frozenset(request.scopes)))
    return _finish(provider, request, sign_in)


def _finish(provider: DevProvider, request: AuthorizationRequest, sign_in: SignIn) -> Response:
    parameters = {"code": provider.issue_code(request, sign_in)}
    return redirect_back(provider, request.redirect_uri, request.state, parameters)


def redirect_back(provider: DevProvider, redirect_uri: str, state: str, parameters: dict[str, str]) -> Response:
    """303 to the client with state and, unless a knob says otherwise, our issuer (RFC 9207 §2)."""
    parameters = {**parameters, **({"state": state} if state else {})}
    match provider.knobs.iss_parameter:
        case "on":
            parameters["iss"] = provider.issuer
        case "wrong":
            parameters["iss"] = WRONG_ISSUER
        case "off":
            pass
    answer = see_other(with_parameters(redirect_uri, parameters))
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def show_refusal(provider: DevProvider, refusal: RedirectRefusal) -> Response:
    parameters = {"error": refusal.error} | ({"error_description": refusal.description} if refusal.description else {})
    return redirect_back(provider, refusal.redirect_uri, refusal.state, parameters)

