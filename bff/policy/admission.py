"""Who may knock: CSRF, Origin and Fetch Metadata in one truth table, before session, token, body or upstream are touched (CSRF-7).

Words of the table
    site     Sec-Fetch-Site: ``own`` = same-origin, ``typed`` = none, ``other`` = anything else, ``-`` = absent
    foreign  site is ``typed`` or ``other``; or Origin is present and not exactly ours ("null" never is ours: CSRF-5); or there is
             neither site nor Origin, and a Referer that is not ours (CSRF-4)
    header   the CSRF header is present and "1"
    bare     no Sec-Fetch-* at all

    admission          passes when (top to bottom, first that applies)                                       else
    ─────────────────  ────────────────────────────────────────────────────────────────────────────────────  ─────────────────────
    any                a trusted peer says the browser came by plain http, and we are https                   403 https_required
    API, websocket     Origin exactly ours, not foreign                                                       403 cross_origin
    API, anonymous     destination passive; safe method, or not foreign                                       403 destination/cross
    API                destination "empty" or absent, mode not navigate; not foreign; header                  403 destination/cross/
                                                                                                                 csrf_header_missing
    … EventSource      instead of the header: GET, Accept text/event-stream, and site own or (site - and
                       Origin exactly ours)
    … navigable route  instead of destination and header: GET or HEAD, destination document or passive, and
                       site own; typed only for a document; or bare and not foreign
    NAVIGATION         not prefetch; site own or typed, mode navigate, destination document                   403 navigation_refused
                       bare: no Origin but ours, no foreign Referer, no header, Accept is not JSON alone      403 login_needs_…
    RETURN_NAVIGATION  not prefetch; mode navigate or absent, destination document or absent                  403 navigation_refused
    FORM               header and not foreign; or mode navigate or absent, not foreign,
                       and (Origin exactly ours or site own)                                                  403 cross/csrf_header
    MACHINE            always: believed for a signature, no cookie is read
    OPEN               always; a websocket (development server) only if not foreign                           403 cross_origin

Two decisions where the sources disagree. *Unsafe methods from clients that send no Fetch Metadata, no Origin and no Referer*: the header
alone decides. No browser can send a custom header across origins without a preflight, which we never answer (CORS-1), so the header
proves a caller that is not a cross-site page; CSRF-4's refusal is kept for requests that lack the header too. *Cross-site
navigations to the login*: refused (CSRF-8), although links from elsewhere then need our page first; a login that another site can start
is login CSRF's first half.

Anonymous routes (no session, no token) carry no authority, so only unsafe methods from foreign pages are refused, and whatever would
make an API's bytes run or frame on our origin (RESP-7). CSRF-6 (safelisted content types) applies to ``json_body`` routes: our own
endpoints. On proxied routes the custom header already forces the preflight that the content type would.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from bff.policy.facts import Facts
from bff.policy.routes import Admission, Route
from bff.policy.verdict import Refusal

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
PASSIVE_DESTINATIONS: Final = frozenset({"empty", "image", "audio", "video", "track", "font"})

_HTTPS_REQUIRED: Final = Refusal(403, "https_required", "This address is served over HTTPS only.")
_CROSS_ORIGIN: Final = Refusal(403, "cross_origin", "This request does not come from a page of this application.")
_HEADER_MISSING: Final = Refusal(403, "csrf_header_missing", "This request needs the CSRF header.")
_DESTINATION: Final = Refusal(403, "destination_refused", "An API answer cannot be opened as a page, frame or script.")
_NAVIGATION: Final = Refusal(403, "navigation_refused", "Only a link on this application's own pages, or a typed address, leads here.")
_NEEDS_NAVIGATION: Final = Refusal(403, "login_needs_navigation", "Signing in starts with a navigation of the page, not with a fetch.")
_CONTENT_TYPE: Final = Refusal(415, "content_type_refused", "The body must be application/json.")


def screen(facts: Facts, route: Route, *, origin: str, csrf_header: str = "x-csrf") -> Refusal | None:
    """None if the request may be judged further. ``origin`` is the public origin, compared exactly; never Host (CSRF-5).

    ``csrf_header`` names the header in the refusal; its value was read into ``facts.csrf_header``.
    """
    if facts.insecure and origin.startswith("https://"):
        return _HTTPS_REQUIRED
    admission = route.admission
    if admission is Admission.API:
        refusal = _screen_call(facts, route, origin)
        return _name_header(csrf_header) if refusal is _HEADER_MISSING else refusal
    if admission is Admission.OPEN:
        return _CROSS_ORIGIN if facts.websocket and is_foreign(facts, origin) else None
    if admission is Admission.NAVIGATION:
        return _screen_login(facts, origin)
    if admission is Admission.RETURN_NAVIGATION:
        return _NAVIGATION if facts.prefetch or not _may_navigate(facts) else None
    if admission is Admission.FORM:
        refusal = _screen_form(facts, origin)
        return _name_header(csrf_header) if refusal is _HEADER_MISSING else refusal
    return None


def is_foreign(facts: Facts, origin: str) -> bool:
    """True if anything the browser says points to a page that is not ours. Silence is not foreign: see the table."""
    if facts.fetch_site is not None and facts.fetch_site != "same-origin":
        return True
    if facts.origin is not None:
        return facts.origin != origin
    return facts.fetch_site is None and facts.referer is not None and _origin_of(facts.referer) != origin


def _screen_call(facts: Facts, route: Route, origin: str) -> Refusal | None:
    if facts.websocket:
        return None if facts.origin == origin and not is_foreign(facts, origin) else _CROSS_ORIGIN
    if route.token == "none" and not route.session:  # noqa: S105
        return _screen_anonymous(facts, route, origin)
    if facts.fetch_dest not in (None, "empty") or facts.fetch_mode == "navigate":
        return None if route.navigable and _is_own_navigation(facts, origin) else _DESTINATION
    if is_foreign(facts, origin):
        return _CROSS_ORIGIN
    if facts.csrf_header == "1":
        return _CONTENT_TYPE if route.json_body and not _has_json_body(facts) else None
    if _is_event_source(facts, origin) or (route.navigable and facts.method in ("GET", "HEAD") and _is_bare(facts)):
        return None
    return _HEADER_MISSING


def _screen_anonymous(facts: Facts, route: Route, origin: str) -> Refusal | None:
    destination = facts.fetch_dest or ("document" if facts.fetch_mode == "navigate" else "empty")
    if destination not in PASSIVE_DESTINATIONS and not (route.navigable and destination == "document"):
        return _DESTINATION
    return None if facts.method in SAFE_METHODS or not is_foreign(facts, origin) else _CROSS_ORIGIN


def _screen_login(facts: Facts, origin: str) -> Refusal | None:
    if facts.prefetch or facts.websocket:
        return _NAVIGATION
    if facts.csrf_header is not None or facts.fetch_mode not in (None, "navigate"):
        return _NEEDS_NAVIGATION
    if not _is_bare(facts):
        from_here = facts.fetch_site in (None, "same-origin", "none") and _is_ours(facts, origin)
        return None if from_here and _may_navigate(facts) else _NAVIGATION
    if facts.origin is not None and facts.origin != origin:
        return _NEEDS_NAVIGATION
    if facts.accept is not None and "json" in facts.accept and "text/html" not in facts.accept:
        return _NEEDS_NAVIGATION
    return _NAVIGATION if is_foreign(facts, origin) else None


def _screen_form(facts: Facts, origin: str) -> Refusal | None:
    if is_foreign(facts, origin):
        return _CROSS_ORIGIN
    if facts.csrf_header == "1":
        return None
    proven = facts.origin == origin or facts.fetch_site == "same-origin"
    return None if proven and _may_navigate(facts) else _HEADER_MISSING


def _is_own_navigation(facts: Facts, origin: str) -> bool:
    """A download or a passive sub-resource on a route that opted in (CSRF-11)."""
    if facts.method not in ("GET", "HEAD") or facts.prefetch or not _is_ours(facts, origin):
        return False
    if facts.fetch_dest in (None, "document"):
        return facts.fetch_site in ("same-origin", "none") and facts.fetch_mode in (None, "navigate")
    return facts.fetch_site == "same-origin" and facts.fetch_dest in PASSIVE_DESTINATIONS and facts.fetch_mode != "navigate"


def _is_event_source(facts: Facts, origin: str) -> bool:
    if facts.method != "GET" or facts.accept is None or "text/event-stream" not in facts.accept:
        return False
    return facts.fetch_site == "same-origin" or (facts.fetch_site is None and facts.origin == origin)


def _may_navigate(facts: Facts) -> bool:
    return facts.fetch_mode in (None, "navigate") and facts.fetch_dest in (None, "document") and not facts.websocket


def _is_ours(facts: Facts, origin: str) -> bool:
    return facts.origin is None or facts.origin == origin


def _is_bare(facts: Facts) -> bool:
    return facts.fetch_site is None and facts.fetch_mode is None and facts.fetch_dest is None


def _has_json_body(facts: Facts) -> bool:
    if facts.body_length == 0:
        return True
    essence = (facts.content_type or "").partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))


def _origin_of(referer: str) -> str:
    """The origin of a Referer, or "" if it can't be read. Only ever compared with our own."""
    try:
        parts = urlsplit(referer)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def _name_header(name: str) -> Refusal:
    return Refusal(403, "csrf_header_missing", f"This request needs the header {name}: 1.")
