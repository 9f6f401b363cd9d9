"""What must hold for any bytes. Each target takes one input and raises AssertionError when a promise is broken.

The fuzzers call these with ever new inputs; the corpus is replayed through them by ``test_corpus.py``.
"""

from __future__ import annotations

from typing import Final

from bff.base.errors import UpstreamProtocol
from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.policy.verdict import Admitted, Refusal, Target
from bff.proxy.edge import Edge
from bff.proxy.framing import ChunkedReader, FramingError
from bff.proxy.head import HeadReader, check_unfinished
from bff.proxy.headers import HeaderRules, outbound_head, response_head
from bff.proxy.lines import read_cookies
from bff.proxy.response import read_response
from bff.session.cookies import find_cookie
from bff.session.model import Credential
from tests.fuzz.judges import ask_h11, ask_llhttp

EDGE: Final = Edge(peer_ip="192.0.2.7", tls=False, trusted=(), hosts=frozenset({"a.test"}))
OWN: Final = "__Host-Http-bff"
RULES: Final = HeaderRules(own_cookies=OWN, public_origin="https://app.example.com")
UPSTREAM: Final = Upstream("https", "api.internal", 443, "/v1/")
ROUTE: Final = Route(
    name="api", path="/x/", admission=Admission.API, methods=METHODS, upstream=UPSTREAM, token="user", session=True,
    forward_cookies=frozenset({"*"}),
)  # fmt: skip
ANSWERED: Final = ("GET", "HEAD", "POST", "OPTIONS")
MAX_BYTES: Final = 40_000

# One reader sees every input of a run: what its memos remember must never change a verdict.
_READER: Final = HeadReader(entries=64)


def require(holds: bool, what: str, *seen: object) -> None:
    if not holds:
        raise AssertionError(f"{what}: {seen!r}")


def admit(facts: Facts) -> Admitted:
    return Admitted(facts=facts, route=ROUTE, target=Target(UPSTREAM, "/v1/y"), credential=Credential(b"Bearer ours", 2000.0))


# -- request heads ------------------------------------------------------------------------------------------------------


def check_head(data: bytes) -> None:
    """P13, M1, M5, M10: one verdict however it arrives, the same meaning for everybody, one clean head towards the API."""
    block = (data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")[:MAX_BYTES]
    if not block.endswith(b"\r\n\r\n"):
        block += b"\r\n\r\n"
    fresh = HeadReader(entries=64).read(block, EDGE)
    again = _READER.read(block, EDGE)
    require(type(fresh) is type(again), "the memo changed a verdict", fresh, again)
    if isinstance(fresh, Refusal):
        require(400 <= fresh.status < 600 and fresh.close, "a refused head must end its connection", fresh)
        return
    _check_splits(block)
    _check_meaning(block, fresh)
    _check_outbound(fresh)


def _check_splits(block: bytes) -> None:
    """Nothing that is accepted whole is refused for coming in pieces (the blank line comes last)."""
    for end in {1, len(block) // 3, len(block) // 2, len(block) - 3, len(block) - 2, len(block) - 1}:
        require(check_unfinished(block[:end]) is None, "refused in pieces, accepted whole", block[:end])


def _check_meaning(block: bytes, facts: Facts) -> None:
    ours = [(name.lower(), value) for name, value in facts.headers]
    for heard in (ask_h11(block), ask_llhttp(block)):
        require(not heard.error, "another parser refuses it", heard.error)
        require(heard.method == facts.method.encode(), "method", heard.method, facts.method)
        require(heard.target == facts.target.encode(), "target", heard.target, facts.target)
        require(heard.http_10 is facts.http_10, "version", heard.http_10)
        require(_fold(heard.fields) == _fold(ours), "fields", heard.fields, ours)
        require(heard.complete is (facts.body_length == 0), "framing", heard.complete, facts.body_length)


def _fold(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """h11 lowers the value of Transfer-Encoding."""
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]


def _check_outbound(facts: Facts) -> None:
    if facts.websocket:
        return
    sent = outbound_head(admit(facts), rules=RULES)
    require(sent.count(b"\r\n\r\n") == 1 and sent.endswith(b"\r\n\r\n"), "more than one head went up", sent)
    for heard in (ask_h11(sent), ask_llhttp(sent)):
        require(not heard.error, "the head we write is malformed", heard.error, sent)
        require(heard.complete is (facts.body_length == 0), "framing changed on the way up", sent)
        names = [name for name, _ in heard.fields]
        require(names.count(b"authorization") == 1, "authorization", sent)
        require(names.count(b"host") == 1 and (b"host", b"api.internal") in heard.fields, "host", sent)
        require(not (b"content-length" in names and b"transfer-encoding" in names), "two framings", sent)
        require(b"connection" not in names and b"upgrade" not in names, "hop-by-hop", sent)
        named = [name.lower() for key, value in heard.fields if key == b"cookie" for name, _ in read_cookies(value)]
        require(not any(name.startswith(OWN.lower()) for name in named), "our cookie left", sent)


# -- chunked ------------------------------------------------------------------------------------------------------------

_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def _decode(data: bytes, step: int) -> tuple[bytes, bool, bytes, bool]:
    """(payload, done, rest, broken) of ``data`` fed ``step`` bytes at a time."""
    reader = ChunkedReader()
    payload = b""
    for at in range(0, len(data), step):
        try:
            payload += reader.feed(data[at : at + step])
        except FramingError:
            return payload, False, b"", True
        if reader.done:
            return payload, True, reader.rest + data[at + step :], False
    return payload, False, b"", False


def check_chunked(data: bytes) -> None:
    """M4, M14: one meaning however it arrives, and the same as h11's and llhttp's."""
    data = data[:4096]
    whole, single, odd = _decode(data, len(data) or 1), _decode(data, 1), _decode(data, 7)
    require(whole[1:] == single[1:] == odd[1:], "the verdict depends on the pieces", whole, single, odd)
    require(single[0].startswith(whole[0]) and odd[0].startswith(whole[0]), "the payload depends on the pieces", whole, single, odd)
    if not whole[1]:
        return
    require(whole[0] == single[0] == odd[0], "the payload depends on the pieces", whole, single, odd)
    for heard in (ask_h11(_CHUNKED_HEAD + data), ask_llhttp(_CHUNKED_HEAD + data)):
        require(not heard.error, "another parser refuses it", heard.error)
        require(heard.complete, "another parser waits for more", data)
        require(heard.body == whole[0], "payload", heard.body, whole[0])
    require(ask_h11(_CHUNKED_HEAD + data).rest == whole[2], "the end lies elsewhere", whole[2])


# -- answers ------------------------------------------------------------------------------------------------------------


def check_response(data: bytes) -> None:
    """M11, M8, FRAME-8: strict or refused; framed as h11 and llhttp frame it; what goes to the browser is one clean head."""
    method = ANSWERED[data[0] % len(ANSWERED)] if data else "GET"
    block = data[1:].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        head = read_response(block, method=method)
    except UpstreamProtocol:
        return
    require(sum((head.length is not None, head.chunked, head.until_close)) == 1, "one framing exactly", head)
    if head.status == 101 or not 100 <= head.status < 600:
        return
    _check_answer_meaning(block, method, head)
    if head.status < 200:
        return
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        _check_returned(block, method, version, head)


def _check_answer_meaning(block: bytes, method: str, head: object) -> None:
    heard = ask_h11(block, answer_to=method.encode())
    require(not heard.error, "h11 refuses it", heard.error, block)
    require(heard.status == getattr(head, "status", 0), "status", heard.status)
    ends_here = getattr(head, "length", None) == 0 and heard.status >= 200
    require(heard.complete is ends_here, "framing", heard.complete, head)
    if method == "HEAD":
        return
    told = ask_llhttp(block, answer=True)
    require(not told.error, "llhttp refuses it", told.error, block)
    require(told.status == heard.status, "status for llhttp", told.status)
    if heard.status >= 200:
        require(told.complete is ends_here, "framing for llhttp", told.complete, head)


def _check_returned(block: bytes, method: str, version: bytes, head: object) -> None:
    request = HeadReader(entries=8).read(f"{method} /x ".encode() + version + b"\r\nHost: a.test\r\n\r\n", EDGE)
    require(isinstance(request, Facts), "the request of the test", request)
    try:
        sent = response_head(head, admit(request), rules=RULES, keep_alive=False)  # type: ignore[arg-type]
    except UpstreamProtocol:
        return
    require(sent.count(b"\r\n\r\n") == 1 and sent.endswith(b"\r\n\r\n"), "more than one head went down", sent)
    heard = ask_h11(sent, answer_to=method.encode())
    require(not heard.error, "the head we write is malformed", heard.error, sent)
    named = [value.partition(b"=")[0].strip(b" \t").lower() for name, value in heard.fields if name == b"set-cookie"]
    require(not any(name.startswith(OWN.lower().encode()) for name in named), "an API set our cookie", sent)


# -- cookies ------------------------------------------------------------------------------------------------------------


def check_cookies(data: bytes) -> None:
    """COOKIE-4, COOKIE-21, S6, H15: two of a name are nobody's; ours never leaves; the others arrive as they were."""
    lines = data[:8000].split(b"\n")
    block = b"GET /x HTTP/1.1\r\nHost: a.test\r\n" + b"".join(b"Cookie: " + line.rstrip(b"\r") + b"\r\n" for line in lines) + b"\r\n"
    facts = HeadReader(entries=8).read(block, EDGE)
    if isinstance(facts, Refusal):
        return
    _check_found(facts)
    sent = outbound_head(admit(facts), rules=RULES)
    passed = [value for name, value in ask_h11(sent).fields if name == b"cookie"]
    require(len(passed) <= 1, "cookies in two lines", sent)
    pairs = read_cookies(passed[0]) if passed else ()
    expected = tuple((name, value) for name, value in facts.cookies if name and not name.lower().startswith(OWN.lower()))
    require(pairs == expected, "cookies changed on the way", pairs, expected)


def _check_found(facts: Facts) -> None:
    named = [value for name, value in facts.cookies if name == OWN]
    found = find_cookie(facts.cookies, OWN)
    require(found == (named[0] if len(named) == 1 else None), "which cookie is ours", found, named)
    for name, value in facts.cookies:
        require(";" not in name and ";" not in value and "=" not in name, "a pair holds a separator", name, value)
        require(name == name.strip(" \t") and value == value.strip(" \t"), "a pair holds outer white space", name, value)


TARGETS: Final = {"head": check_head, "chunked": check_chunked, "response": check_response, "cookies": check_cookies}
