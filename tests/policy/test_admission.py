"""The truth table of ``screen``, cell by cell over the whole product of what a browser may say."""

from __future__ import annotations

from itertools import product

import pytest

from bff.policy.admission import PASSIVE_DESTINATIONS, SAFE_METHODS, is_foreign, screen
from bff.policy.facts import Facts
from bff.policy.routes import Admission, Route
from tests.policy.asked import ORIGIN, facts, route

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
SITES = (None, "same-origin", "same-site", "cross-site", "none", "Same-Origin")
MODES = (None, "cors", "no-cors", "navigate", "websocket")
DESTINATIONS = (None, "empty", "document", "iframe", "image", "script", "serviceworker")
ORIGINS = (None, ORIGIN, "https://evil.test", "null")
HEADERS = (None, "1", "", "2")
REFERERS = (None, ORIGIN + "/page", "https://evil.test/")

API = route()
NAVIGABLE = route(navigable=True)
ANONYMOUS = route(token="none", session=False)
LOGIN = route(admission=Admission.NAVIGATION, upstream=None, token="none")
CALLBACK = route(admission=Admission.RETURN_NAVIGATION, upstream=None, token="none")
LOGOUT = route(admission=Admission.FORM, upstream=None, token="none")
MACHINE = route(admission=Admission.MACHINE, upstream=None, token="none")
OPEN = route(admission=Admission.OPEN, upstream=None, token="none")


def everything() -> list[Facts]:
    return [
        facts(method, fetch_site=site, fetch_mode=mode, fetch_dest=dest, origin=origin, csrf_header=header, referer=referer)
        for method, site, mode, dest, origin, header, referer in product(METHODS, SITES, MODES, DESTINATIONS, ORIGINS, HEADERS, REFERERS)
    ]


EVERYTHING = everything()


def passes(asked: Facts, way: Route) -> bool:
    return screen(asked, way, origin=ORIGIN) is None


# The table once more, written the other way round: not as a ladder of refusals but as the set of what may pass.


def speaks_for_us(asked: Facts) -> bool:
    """No word of a foreign page: the three voices in the order in which they are believed."""
    if asked.fetch_site is not None:
        return asked.fetch_site == "same-origin" and asked.origin in (None, ORIGIN)
    if asked.origin is not None:
        return asked.origin == ORIGIN
    return asked.referer is None or asked.referer.startswith(ORIGIN + "/")


def expected_api(asked: Facts) -> bool:
    return asked.fetch_dest in (None, "empty") and asked.fetch_mode != "navigate" and speaks_for_us(asked) and asked.csrf_header == "1"


def expected_anonymous(asked: Facts) -> bool:
    looked_at = asked.fetch_dest if asked.fetch_dest is not None else ("document" if asked.fetch_mode == "navigate" else "empty")
    return looked_at in {"empty", "image"} and (asked.method in ("GET", "HEAD", "OPTIONS") or speaks_for_us(asked))


def expected_login(asked: Facts) -> bool:
    if asked.csrf_header is not None or asked.fetch_mode not in (None, "navigate") or asked.fetch_dest not in (None, "document"):
        return False
    if asked.origin not in (None, ORIGIN):
        return False
    if (asked.fetch_site, asked.fetch_mode, asked.fetch_dest) == (None, None, None):
        return speaks_for_us(asked)
    return asked.fetch_site in (None, "same-origin", "none")


def expected_callback(asked: Facts) -> bool:
    return asked.fetch_mode in (None, "navigate") and asked.fetch_dest in (None, "document")


def expected_logout(asked: Facts) -> bool:
    form = asked.fetch_mode in (None, "navigate") and asked.fetch_dest in (None, "document")
    proven = asked.origin == ORIGIN or asked.fetch_site == "same-origin"
    return speaks_for_us(asked) and (asked.csrf_header == "1" or (form and proven))


def expected_navigable(asked: Facts) -> bool:
    if asked.fetch_dest in (None, "empty") and asked.fetch_mode != "navigate":
        bare = (asked.fetch_site, asked.fetch_mode, asked.fetch_dest) == (None, None, None) and asked.method in ("GET", "HEAD")
        return speaks_for_us(asked) and (asked.csrf_header == "1" or bare)
    if asked.method not in ("GET", "HEAD") or asked.origin not in (None, ORIGIN):
        return False
    if asked.fetch_dest in (None, "document"):
        return asked.fetch_mode in (None, "navigate") and asked.fetch_site in ("same-origin", "none")
    return asked.fetch_dest == "image" and asked.fetch_site == "same-origin" and asked.fetch_mode != "navigate"


@pytest.mark.row("CSRF-1", "CSRF-3", "CSRF-4", "CSRF-5", "CSRF-8", "CSRF-9", "CSRF-11", "RESP-7", "M12", "E9")
@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (API, expected_api), (ANONYMOUS, expected_anonymous), (LOGIN, expected_login), (CALLBACK, expected_callback),
        (LOGOUT, expected_logout), (NAVIGABLE, expected_navigable), (MACHINE, lambda asked: True), (OPEN, lambda asked: True),
    ],
    ids=["api", "anonymous", "login", "callback", "logout", "navigable", "machine", "open"],
)  # fmt: skip
def test_exactly_the_documented_cells_pass(way: Route, expected: object) -> None:
    wrong = [asked for asked in EVERYTHING if passes(asked, way) is not expected(asked)]  # type: ignore[operator]
    assert wrong == []
    assert any(passes(asked, way) for asked in EVERYTHING)


@pytest.mark.row("CSRF-1", "CSRF-2", "M12")
def test_no_call_with_a_session_passes_if_any_voice_is_foreign() -> None:
    foreign = [
        asked for asked in EVERYTHING if asked.fetch_site in ("same-site", "cross-site") or asked.origin in ("null", "https://evil.test")
    ]
    for way in (API, NAVIGABLE, LOGOUT):
        assert not any(passes(asked, way) for asked in foreign)


@pytest.mark.row("CSRF-7")
def test_every_refusal_is_a_403_with_a_code_of_its_own() -> None:
    codes = {
        refusal.code for way in (API, LOGIN, CALLBACK, LOGOUT) for asked in EVERYTHING if (refusal := screen(asked, way, origin=ORIGIN))
    }
    assert codes == {"cross_origin", "destination_refused", "csrf_header_missing", "login_needs_navigation", "navigation_refused"}


@pytest.mark.row("CSRF-5")
@pytest.mark.parametrize(
    "origin",
    [
        "https://a.test.evil",
        "https://xa.test",
        "http://a.test",
        "https://a.test:444",
        "https://A.test",
        "https://a.test/",
        "null",
        "",
        "a.test",
        "https://a.test, https://a.test",
    ],
)
def test_an_origin_that_is_only_like_ours_is_foreign(origin: str) -> None:
    assert is_foreign(facts(origin=origin), ORIGIN)
    assert not passes(facts("POST", origin=origin, csrf_header="1"), API)
    assert passes(facts("POST", origin=ORIGIN, csrf_header="1"), API)


@pytest.mark.row("CSRF-4")
@pytest.mark.parametrize(
    ("referer", "foreign"),
    [
        (ORIGIN, False), (ORIGIN + "/x?y#z", False), ("https://a.test.evil/", True), ("https://a.test@evil.test/", True),
        ("https://a.test:444/", True),
        ("http://a.test/", True), ("about:blank", True), ("https://[::1", True), ("", True),
    ],
)  # fmt: skip
def test_the_referer_speaks_where_nothing_better_does(referer: str, foreign: bool) -> None:
    assert is_foreign(facts(referer=referer), ORIGIN) is foreign
    assert not is_foreign(facts(referer=referer, origin=ORIGIN), ORIGIN)
    assert not is_foreign(facts(referer=referer, fetch_site="same-origin"), ORIGIN)


@pytest.mark.row("CSRF-4")
def test_a_client_that_is_no_browser_passes_with_the_header_alone() -> None:
    assert passes(facts("POST", csrf_header="1"), API)
    assert not passes(facts("POST"), API)
    assert not passes(facts("GET"), API)


@pytest.mark.row("WS-1", "M12", "CSRF-11")
@pytest.mark.parametrize(
    ("origin", "site", "passing"),
    [
        (ORIGIN, None, True), (ORIGIN, "same-origin", True), (ORIGIN, "same-site", False), (None, None, False), (None, "same-origin",
        False),
        ("null", None, False), ("https://sub.a.test", None, False), ("http://a.test", None, False),
    ],
)  # fmt: skip
def test_a_websocket_needs_exactly_our_origin_and_no_header(origin: str | None, site: str | None, passing: bool) -> None:
    for way in (API, ANONYMOUS, NAVIGABLE):
        for header in (None, "1"):
            assert passes(facts(websocket=True, origin=origin, fetch_site=site, csrf_header=header), way) is passing


def test_a_development_server_gets_websockets_of_our_pages_only() -> None:
    assert passes(facts(websocket=True, origin=ORIGIN), OPEN)
    assert not passes(facts(websocket=True, origin="https://evil.test"), OPEN)
    assert not passes(facts(websocket=True, origin=ORIGIN), LOGIN)
    assert not passes(facts(websocket=True, origin=ORIGIN), CALLBACK)


@pytest.mark.row("CSRF-11", "M12", "SSE-1")
@pytest.mark.parametrize(
    ("more", "passing"),
    [
        ({"fetch_site": "same-origin"}, True),
        ({"fetch_site": "same-origin", "fetch_mode": "cors", "fetch_dest": "empty"}, True),
        ({"origin": ORIGIN}, True),
        ({}, False),
        ({"fetch_site": "same-site"}, False),
        ({"fetch_site": "cross-site", "origin": "https://evil.test"}, False),
        ({"origin": "null"}, False),
        ({"fetch_site": "same-origin", "accept": "application/json"}, False),
        ({"fetch_site": "same-origin", "accept": None}, False),
        ({"fetch_site": "same-origin", "method": "POST"}, False),
    ],
)
def test_an_event_source_needs_no_header_but_our_page(more: dict[str, str], passing: bool) -> None:
    assert passes(facts(**{"accept": "text/event-stream"} | more), API) is passing


@pytest.mark.row("CSRF-8")
@pytest.mark.parametrize("way", [LOGIN, CALLBACK])
def test_a_prefetch_starts_and_ends_no_login(way: Route) -> None:
    seen = {"fetch_mode": "navigate", "fetch_dest": "document", "fetch_site": "same-origin"}
    assert passes(facts(**seen), way)
    assert not passes(facts(prefetch=True, **seen), way)


@pytest.mark.row("CSRF-8")
@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, None),
        ({"accept": "*/*"}, None),
        ({"accept": "text/html,application/xhtml+xml,application/json;q=0.1"}, None),
        ({"accept": "application/json"}, "login_needs_navigation"),
        ({"csrf_header": "1"}, "login_needs_navigation"),
        ({"origin": "https://evil.test"}, "login_needs_navigation"),
        ({"referer": "https://evil.test/"}, "navigation_refused"),
        ({"fetch_mode": "cors", "fetch_site": "same-origin", "fetch_dest": "empty"}, "login_needs_navigation"),
        ({"fetch_mode": "no-cors", "fetch_site": "cross-site", "fetch_dest": "image"}, "login_needs_navigation"),
        ({"fetch_mode": "navigate", "fetch_site": "same-origin", "fetch_dest": "iframe"}, "navigation_refused"),
        ({"fetch_mode": "navigate", "fetch_site": "cross-site", "fetch_dest": "document"}, "navigation_refused"),
        ({"fetch_mode": "navigate", "fetch_site": "same-site", "fetch_dest": "document"}, "navigation_refused"),
        ({"fetch_mode": "navigate", "fetch_site": "none", "fetch_dest": "document"}, None),
    ],
)
def test_only_a_top_level_navigation_of_ours_starts_a_login(more: dict[str, str], code: str | None) -> None:
    refusal = screen(facts(path="/bff/login", **more), LOGIN, origin=ORIGIN)
    assert (None if refusal is None else refusal.code) == code


@pytest.mark.row("CSRF-9", "L11")
@pytest.mark.parametrize(
    ("more", "passing"),
    [
        ({"csrf_header": "1"}, True),
        ({"origin": ORIGIN, "fetch_site": "same-origin", "fetch_mode": "navigate", "fetch_dest": "document"}, True),
        ({"fetch_site": "same-origin", "fetch_mode": "navigate", "fetch_dest": "document"}, True),
        ({"origin": ORIGIN}, True),
        ({}, False),
        ({"referer": ORIGIN + "/"}, False),
        ({"origin": "null", "fetch_site": "same-origin", "fetch_mode": "navigate"}, False),
        ({"fetch_site": "same-origin", "fetch_mode": "navigate", "fetch_dest": "iframe"}, False),
        ({"fetch_site": "none", "fetch_mode": "navigate"}, False),
        ({"fetch_site": "cross-site", "fetch_mode": "navigate", "origin": "https://evil.test"}, False),
        ({"csrf_header": "1", "origin": "https://evil.test"}, False),
    ],
)
def test_a_logout_needs_the_header_or_a_form_of_ours(more: dict[str, str], passing: bool) -> None:
    assert passes(facts("POST", **more), LOGOUT) is passing


@pytest.mark.row("CSRF-6")
@pytest.mark.parametrize(
    ("content_type", "length", "passing"),
    [
        ("application/json", 5, True), ("application/json; charset=utf-8", 5, True), ("Application/Problem+JSON", 5, True), (None, 0, True),
        ("text/plain", 5, False), ("application/x-www-form-urlencoded", 5, False), ("multipart/form-data; boundary=x", 5, False),
        (None, 5, False),
        (None, None, False), ("text/json+json", 5, False), ("", 5, False),
    ],
)  # fmt: skip
def test_our_json_endpoints_refuse_what_a_form_could_send(content_type: str | None, length: int | None, passing: bool) -> None:
    asked = facts("POST", csrf_header="1", content_type=content_type, body_length=length, chunked=length is None)
    refusal = screen(asked, route(json_body=True, upstream=None), origin=ORIGIN)
    assert (refusal is None) is passing
    assert refusal is None or refusal.status == 415
    assert passes(asked, API)


@pytest.mark.row("ROUTE-13")
@pytest.mark.parametrize("way", [API, LOGIN, CALLBACK, LOGOUT, OPEN, ANONYMOUS, MACHINE])
def test_what_came_in_clear_is_refused_where_we_are_https(way: Route) -> None:
    asked = facts("GET", csrf_header="1", insecure=True)
    refusal = screen(asked, way, origin=ORIGIN)
    assert refusal is not None
    assert refusal.code == "https_required"
    assert screen(facts(csrf_header="1", insecure=True), API, origin="http://localhost:8080") is None


@pytest.mark.row("RESP-7")
@pytest.mark.parametrize(
    "destination",
    [
        "script",
        "worker",
        "sharedworker",
        "serviceworker",
        "audioworklet",
        "style",
        "manifest",
        "object",
        "embed",
        "iframe",
        "frame",
        "fencedframe",
        "document",
        "report",
        "xslt",
        "json",
    ],
)
def test_active_destinations_are_refused_on_every_kind_of_api_route(destination: str) -> None:
    for way in (API, ANONYMOUS):
        assert not passes(facts(fetch_dest=destination, fetch_site="same-origin", csrf_header="1"), way)
    if destination != "document":
        assert not passes(facts(fetch_dest=destination, fetch_site="same-origin", fetch_mode="no-cors"), NAVIGABLE)


def test_the_refusal_names_the_configured_header() -> None:
    for way in (API, LOGOUT):
        refusal = screen(facts("POST"), way, origin=ORIGIN, csrf_header="X-Shop")
        assert refusal is not None
        assert "X-Shop: 1" in refusal.detail


def test_the_words_of_the_table_are_the_ones_tested_here() -> None:
    assert set(METHODS) - SAFE_METHODS == {"POST", "DELETE"}
    assert set(DESTINATIONS) & PASSIVE_DESTINATIONS == {"empty", "image"}
