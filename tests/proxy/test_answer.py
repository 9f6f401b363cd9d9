"""Refusals as the SPA and the person see them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import h11
import pytest

from bff.policy.codes import CODES
from bff.policy.facts import Facts
from bff.policy.verdict import Refusal, StepUp
from bff.proxy.answer import login_url, refusal_bytes
from tests.proxy.given import values
from tests.proxy.heads import accepted, head

NO = Refusal(403, "cross_origin", "Not from here.")
FETCH = accepted(head(b"Sec-Fetch-Mode: cors"))
PAGE = accepted(head(b"Sec-Fetch-Mode: navigate", start=b"GET /orders?a=<script>&b=%22 HTTP/1.1"))


def written(refusal: Refusal = NO, facts: Facts | None = FETCH, **more: Any) -> tuple[bytes, bytes]:
    given: dict[str, Any] = {"request_id": "r-1", "keep_alive": True}
    block, _, body = refusal_bytes(refusal, facts, **given | more).partition(b"\r\n\r\n")
    return block + b"\r\n\r\n", body


def problem(refusal: Refusal, **more: Any) -> dict[str, Any]:
    return dict(json.loads(written(refusal, **more)[1]))


@pytest.mark.row("RESP-8")
def test_a_fetch_gets_problem_json_with_a_stable_code_and_a_marker() -> None:
    block, body = written()
    assert block.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert values(block, "content-type") == ["application/problem+json; charset=utf-8"]
    assert values(block, "content-length") == [str(len(body))]
    assert values(block, "bff-error") == ["cross_origin"]
    assert json.loads(body) == {
        "type": "urn:bff:error:cross_origin", "title": CODES["cross_origin"], "status": 403, "detail": "Not from here.",
        "code": "cross_origin",
        "request_id": "r-1",
    }  # fmt: skip


@pytest.mark.row("SECH-1", "SECH-2", "SECH-3", "SECH-4", "CACHE-3", "H14", "CORS-1", "CORS-4")
@pytest.mark.parametrize("facts", [None, FETCH, PAGE, accepted(head(start=b"HEAD /x HTTP/1.1"))])
@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 405, 413, 421, 426, 431, 500, 502, 503, 504, 508])
def test_every_answer_of_ours_carries_the_whole_policy_set(facts: Facts | None, status: int) -> None:
    block, _ = written(Refusal(status, "x", "y"), facts, https=True)
    assert values(block, "cache-control") == ["no-store"]
    assert values(block, "x-content-type-options") == ["nosniff"]
    assert values(block, "referrer-policy") == ["no-referrer"]
    assert values(block, "cross-origin-resource-policy") == ["same-origin"]
    assert values(block, "strict-transport-security") == ["max-age=31536000; includeSubDomains"]
    policy = values(block, "content-security-policy")[0]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert b"access-control" not in block.lower()
    assert (values(block, "cross-origin-opener-policy") == ["same-origin"]) is (facts is PAGE)


def test_no_hsts_on_plain_http() -> None:
    assert values(written()[0], "strict-transport-security") == []


@pytest.mark.row("RESP-4")
def test_a_401_names_a_scheme_that_no_browser_asks_a_password_for() -> None:
    block, body = written(Refusal(401, "unauthenticated", "No session."))
    assert values(block, "www-authenticate") == ['Session realm="bff"']
    assert json.loads(body)["login_url"] == "/bff/login"
    assert values(written(NO)[0], "www-authenticate") == []


@pytest.mark.row("STEPUP-2")
def test_a_step_up_tells_the_spa_what_to_sign_in_with() -> None:
    refusal = Refusal(401, "step_up_required", "Stronger.", step_up=StepUp(("gold", "urn:x y&z"), 300, ("pay",)))
    block, _ = written(refusal)
    assert values(block, "www-authenticate") == [
        'Session realm="bff", error="insufficient_user_authentication", acr_values="gold urn:x y&z", max_age="300", scope="pay"'
    ]
    told = problem(refusal, prefix="/auth")
    assert told["step_up"] == {"acr_values": ["gold", "urn:x y&z"], "max_age": 300, "scope": "pay"}
    assert told["login_url"] == "/auth/login?acr_values=gold%20urn%3Ax%20y%26z&max_age=300&scope=pay"


@pytest.mark.row("STEPUP-7")
def test_a_missing_scope_is_data_and_not_a_login() -> None:
    told = problem(Refusal(403, "insufficient_scope", "x", step_up=StepUp(scopes=("a",))))
    assert told["step_up"]["scope"] == "a"
    assert "login_url" not in told


@pytest.mark.row("M8")
def test_an_upstream_s_odd_acr_can_not_break_the_header() -> None:
    refusal = Refusal(401, "step_up_required", "x", step_up=StepUp(('a"b\\c\r\nX: y', "\u00e9")))
    block, _ = written(refusal)
    assert values(block, "www-authenticate") == ['Session realm="bff", error="insufficient_user_authentication", acr_values="abcX: y "']
    assert values(block, "x") == []


@pytest.mark.parametrize(
    ("refusal", "name", "value"),
    [
        (Refusal(503, "store_unavailable", "x", retry_after_s=1), "retry-after", ["1"]),
        (Refusal(503, "store_unavailable", "x", retry_after_s=-4), "retry-after", ["0"]),
        (Refusal(405, "method_refused", "x", allow=("GET", "HEAD")), "allow", ["GET, HEAD"]),
        (Refusal(405, "method_refused", "x"), "allow", [""]),
        (Refusal(426, "websocket_version", "x", headers=(("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")), close=True),
        "connection", ["Upgrade, close"]),
        (Refusal(426, "websocket_version", "x", headers=(("Upgrade", "websocket"),)), "connection", ["Upgrade"]),
        (Refusal(400, "request_malformed", "x", close=True), "connection", ["close"]),
        (NO, "connection", []),
    ],
)  # fmt: skip
def test_the_fields_that_belong_to_a_status_are_there(refusal: Refusal, name: str, value: list[str]) -> None:
    assert values(written(refusal)[0], name) == value


def test_the_connection_closes_when_the_caller_says_so() -> None:
    assert values(written(keep_alive=False)[0], "connection") == ["close"]
    old = accepted(head(b"Connection: keep-alive", start=b"GET /x HTTP/1.0"))
    assert values(written(facts=old)[0], "connection") == ["keep-alive"]


@pytest.mark.row("COOKIE-16", "F34")
def test_cookies_are_cleared_only_when_the_refusal_asks_for_it() -> None:
    clear = ("__Host-Http-bff=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict",)
    assert values(written(clear_cookies=clear)[0], "set-cookie") == []
    assert values(written(Refusal(401, "unauthenticated", "x", clear_cookie=True), clear_cookies=clear)[0], "set-cookie") == list(clear)


def test_head_and_204_have_no_body_and_stay_in_sync() -> None:
    block, body = written(facts=accepted(head(start=b"HEAD /x HTTP/1.1")))
    assert body == b""
    assert int(values(block, "content-length")[0]) > 0
    block, body = written(Refusal(204, "forwards_exhausted", "", allow=("GET",)))
    assert body == b""
    assert values(block, "content-length") == values(block, "content-type") == []
    assert values(block, "allow") == ["GET"]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links.extend(value for name, value in attrs if name == "href" and value)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.row("L6", "RESP-8")
def test_a_person_gets_a_small_page_with_everything_escaped() -> None:
    block, body = written(Refusal(401, "unauthenticated", 'Say <script>alert("x")</script> & more'), PAGE)
    assert values(block, "content-type") == ["text/html; charset=utf-8"]
    page = Page(body.decode())
    assert "script" not in page.tags
    assert 'Say <script>alert("x")</script> & more' in page.text
    assert page.links == ["/bff/login?return_to=%2Forders%3Fa%3D%3Cscript%3E%26b%3D%2522"]
    assert "r-1" in page.text


def test_the_page_s_only_style_is_the_one_its_policy_names() -> None:
    import base64
    import hashlib

    block, body = written(Refusal(403, "cross_origin", "x"), PAGE)
    style = re.findall(r"<style>(.*?)</style>", body.decode())[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in values(block, "content-security-policy")[0]
    assert "href" not in body.decode()


@pytest.mark.row("CSRF-8")
def test_a_person_who_came_to_the_sign_in_from_elsewhere_is_shown_the_way_to_the_app() -> None:
    assert Page(written(Refusal(403, "navigation_refused", "x"), PAGE)[1].decode()).links == ["/"]


@pytest.mark.row("STEPUP-6")
def test_only_a_get_is_offered_again_after_the_sign_in() -> None:
    posted = accepted(head(b"Sec-Fetch-Mode: navigate", start=b"POST /orders HTTP/1.1"))
    assert Page(written(Refusal(401, "unauthenticated", "x"), posted)[1].decode()).links == ["/bff/login"]


def test_login_urls_hold_what_was_asked_for() -> None:
    assert login_url("/bff") == "/bff/login"
    assert login_url("/bff", step_up=StepUp(max_age=0), return_to="/a?b=c&d") == "/bff/login?return_to=%2Fa%3Fb%3Dc%26d&max_age=0"


@pytest.mark.row("M8", "FRAME-6")
@pytest.mark.parametrize("code", ["unauthenticated", "unknown_code"])
@pytest.mark.parametrize("facts", [None, FETCH, PAGE])
def test_every_answer_is_one_well_formed_message(code: str, facts: Facts | None) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refusal_bytes(Refusal(401, code, "\u00e9\r\n"), facts, request_id="r", keep_alive=True))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    while isinstance(client.next_event(), h11.Data):
        pass
    assert client.trailing_data == (b"", False)


def test_a_status_that_python_does_not_know_is_written_all_the_same() -> None:
    assert written(Refusal(599, "x", "y"))[0].startswith(b"HTTP/1.1 599 \r\n")
