"""What the API sees."""

from __future__ import annotations

import base64

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.policy.facts import Facts
from bff.policy.verdict import Refusal
from bff.proxy.head import HeadReader, read_facts
from bff.proxy.headers import agent_head, outbound_head
from bff.proxy.lines import may_pass
from tests.proxy.given import RULES, admitted, fields, route, values
from tests.proxy.heads import BEHIND, EDGE, HOST, POST, accepted, accepted_by, head


def sent(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", **more: object) -> bytes:
    return outbound_head(admitted(accepted(head(*lines, start=start)), **more), rules=RULES)  # type: ignore[arg-type]


@pytest.mark.row("REQH-5", "REQH-8", "REQH-9", "REQH-12", "REQH-7", "H8")
def test_a_minimal_request_gets_our_fields_and_nothing_invented() -> None:
    block = sent(b"Authorization: Basic theirs")
    assert block.startswith(b"GET /v1/y HTTP/1.1\r\nHost: api.internal\r\n")
    request_id = values(block, "x-request-id")[0]
    assert fields(block) == [
        ("host", "api.internal"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example.com"),
        ("via", "1.1 bff"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-request-id", request_id),
        ("authorization", "Bearer ours"),
    ]


@pytest.mark.row("REQH-1", "REQH-2", "H3", "M10")
@pytest.mark.parametrize("listed", [b"Authorization, X-Forwarded-For, via, HOST, X-Foo", b"authorization,x-forwarded-for,via,host,x-foo"])
def test_connection_removes_what_it_names_but_nothing_of_ours(listed: bytes) -> None:
    block = sent(b"Connection: close", b"connection: " + listed, b"X-Foo: 1", b"x-foo: 2", b"X-Bar: 3")
    names = [name for name, _ in fields(block)]
    assert "x-foo" not in names
    assert "connection" not in names
    assert values(block, "x-bar") == ["3"]
    for ours in ("authorization", "x-forwarded-for", "via", "host"):
        assert names.count(ours) == 1


@pytest.mark.row("REQH-3", "REQH-6", "REQH-13", "H1", "H2", "H7")
def test_hops_identities_and_origin_data_of_the_browser_are_gone() -> None:
    block = sent(
        b"Keep-Alive: 5", b"TE: trailers", b"Trailer: X", b"Upgrade: h2c", b"Proxy-Authorization: x", b"X-User: admin", b"X.User: admin",
        b"X-Forwarded-User: admin", b"Forwarded: for=1.2.3.4", b"Origin: https://app.example.com", b"Referer: https://app.example.com/",
        b"Sec-Fetch-Site: same-origin", b"X-CSRF: 1", b"Expect: 100-continue",
    )  # fmt: skip
    assert "admin" not in block.decode()
    kept = {"host", "authorization", "x-forwarded-proto", "x-forwarded-host", "via", "x-forwarded-for", "x-request-id"}
    assert {name for name, _ in fields(block)} == kept


@pytest.mark.row("REQH-4", "H15", "S6")
@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (frozenset(), []),
        (frozenset({"theme"}), ["theme=dark"]),
        (frozenset({"*"}), ["theme=dark; other=1"]),
        (frozenset({"__Host-Http-bff", "theme"}), ["theme=dark"]),
    ],
)
def test_our_cookies_never_reach_an_api_and_others_only_by_list(allowed: frozenset[str], seen: list[str]) -> None:
    line = b"Cookie: __Host-Http-bff=secret; theme=dark; __Host-Http-bff-login-abc=s; __HOST-HTTP-BFF=s; =__Host-Http-bff=s; other=1"
    block = sent(line, b"Cookie: nameless", way=route(forward_cookies=allowed))
    assert values(block, "cookie") == seen
    assert b"secret" not in block


@pytest.mark.row("FRAME-6", "M10", "FRAME-12")
@pytest.mark.parametrize(
    ("start", "lines", "framing"),
    [
        (POST, [b"Content-Length: 7"], [("content-length", "7")]),
        (POST, [b"Transfer-Encoding: Chunked"], [("transfer-encoding", "chunked")]),
        (POST, [], [("content-length", "0")]),
        (b"GET /x HTTP/1.1", [], []),
        (b"GET /x HTTP/1.1", [b"Content-Length: 0"], []),
        (b"GET /x HTTP/1.1", [b"Content-Length: 3"], [("content-length", "3")]),
        (b"DELETE /x HTTP/1.1", [], []),
        (b"POST /x HTTP/1.0", [b"Content-Length: 007"], [("content-length", "7")]),
    ],
)
def test_framing_is_written_anew(start: bytes, lines: list[bytes], framing: list[tuple[str, str]]) -> None:
    block = sent(*lines, start=start)
    assert [field for field in fields(block) if field[0] in ("content-length", "transfer-encoding")] == framing


@pytest.mark.row("ROUTE-12")
def test_an_anonymous_route_sends_no_token() -> None:
    assert values(sent(b"Authorization: Bearer theirs", credential=None), "authorization") == []


@pytest.mark.row("REQH-7")
def test_the_client_address_is_the_one_we_found() -> None:
    facts = accepted(head(b"X-Forwarded-For: 6.6.6.6, 203.0.113.9"), BEHIND)
    assert values(outbound_head(admitted(facts), rules=RULES), "x-forwarded-for") == ["203.0.113.9"]
    facts = Facts(method="GET", path="/x", query=None, host="a.test", headers=())
    assert values(outbound_head(admitted(facts), rules=RULES), "x-forwarded-for") == ["unknown"]


def test_facts_that_nobody_classified_are_classified_late() -> None:
    facts = Facts("GET", "/x", None, "a.test", headers=((b"X-User", b"admin"), (b"Accept", b"*/*"), (b"Cookie", b"a=b")))
    block = outbound_head(admitted(facts), rules=RULES)
    assert values(block, "accept") == ["*/*"]
    assert b"admin" not in block
    assert b"a=b" not in block


@pytest.mark.row("REQH-9", "REQH-11")
def test_earlier_via_entries_and_repeated_fields_keep_their_order() -> None:
    block = sent(b"Via: 1.1 cdn", b"Accept-Language: de", b"Accept-Language: en")
    assert values(block, "via") == ["1.1 cdn", "1.1 bff"]
    assert values(block, "accept-language") == ["de", "en"]


@pytest.mark.row("REQH-15")
def test_max_forwards_of_options_goes_down_by_one() -> None:
    assert values(sent(b"Max-Forwards: 2", start=b"OPTIONS /x HTTP/1.1"), "max-forwards") == ["1"]
    assert values(sent(b"Max-Forwards: 2"), "max-forwards") == []
    assert values(sent(b"Max-Forwards: junk", start=b"OPTIONS /x HTTP/1.1"), "max-forwards") == []


KEY = base64.b64encode(b"0123456789abcdef")


@pytest.mark.row("WS-4", "WS-5", "REQH-5")
def test_the_upstream_handshake_is_our_own() -> None:
    facts = accepted(
        head(
            b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: chat, v2", b"Sec-WebSocket-Extensions: permessage-deflate", b"Cookie: a=b",
            b"Authorization: Bearer theirs",
            b"Origin: https://app.example.com",
        )
    )  # fmt: skip
    block = outbound_head(admitted(facts), rules=RULES, websocket_key=KEY)
    assert values(block, "sec-websocket-key") == [KEY.decode()]
    assert values(block, "authorization") == ["Bearer ours"]
    assert values(block, "sec-websocket-protocol") == ["chat, v2"]
    assert values(block, "sec-websocket-extensions") == ["permessage-deflate"]
    assert values(block, "connection") == ["Upgrade"]
    assert values(block, "cookie") == values(block, "origin") == []


def test_the_agent_sees_the_host_and_the_note_but_neither_cookies_nor_identity() -> None:
    facts = accepted(
        head(b"Cookie: __Host-Http-bff=s", b"Cookie: a=b", b"X-User: admin", b"bff-handoff: forged", b"Accept: */*", b"Content-Length: 4",
             start=b"POST /bff/logout?x=1 HTTP/1.1")
    )  # fmt: skip
    block = agent_head(admitted(facts, target=None, credential=None), handoff=b"token")
    assert block.startswith(b"POST /bff/logout?x=1 HTTP/1.1\r\n")
    assert fields(block) == [
        ("host", "a.test"), ("accept", "*/*"), ("bff-handoff", "token"), ("content-length", "4"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="target"):
        outbound_head(admitted(facts, target=None), rules=RULES)


@pytest.mark.row("H1", "REQH-6")
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["x-forwarded-user", "x-user", "remote-user", "client-cert", "x-original-url", "authorization"]),
    st.randoms(use_true_random=False),
)
def test_no_spelling_of_an_identity_header_passes(name: str, random: object) -> None:
    spelled = "".join(
        random.choice([c.lower(), c.upper()]) if c != "-" else random.choice("-.-_")
        for c in name  # type: ignore[attr-defined]
    )
    assert not may_pass(spelled.lower().encode())


NAMES = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-."), min_size=1, max_size=12).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20).map(
    lambda t: t.encode("latin-1")
)


@pytest.mark.row("M8", "M9", "M10", "REQH-16")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_the_upstream_always_gets_exactly_one_well_formed_request(lines: list[tuple[bytes, bytes]]) -> None:
    reader = HeadReader()
    facts = read_facts(head(*[name + b": " + value for name, value in lines]), edge=EDGE)
    if isinstance(facts, Refusal):
        return
    block = outbound_head(admitted(facts), rules=RULES)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    connection.receive_data(block + b"x" * (facts.body_length or 0))
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert request.target == b"/v1/y"
    assert isinstance(reader.read(head(), EDGE), Facts)
    assert accepted_by(reader, head(host=HOST)).path == "/x"
