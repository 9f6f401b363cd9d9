"""What is remembered of questions: their reading, never their verdict."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.forward_auth.answer import Rendering
from bff.forward_auth.dialects import DIALECTS, NGINX, TRAEFIK, Dialect
from bff.forward_auth.inquiry import ForwardAuth
from bff.forward_auth.readings import MAX_KEPT_BYTES, Reading, Readings, split_id
from bff.policy.facts import Facts
from bff.policy.routes import Admission, Route, Upstream
from bff.policy.verdict import Admitted, Refusal, Target
from bff.proxy.edge import Edge
from bff.proxy.head import HeadReader
from bff.proxy.headers import HeaderRules
from bff.session.model import Credential

SECRETS = ["0123456789abcdef" * 4]
RULES = HeaderRules(own_cookies="__Host-Http-bff", public_origin="https://app.example.com")
RENDERING = Rendering(rules=RULES, prefix="/bff", https=True, clear_cookies=("__Host-Http-bff=; Max-Age=0",))
EDGE = Edge(peer_ip="10.0.0.7", tls=False, trusted=(ipaddress.ip_network("10.0.0.0/8"),), hosts=frozenset({"app.example.com"}))
API = Upstream("http", "api", 80, "/v1/")
ROUTE = Route("api", "/api/", Admission.API, frozenset({"GET"}), upstream=API)


@dataclass
class FakeDoor:
    """Enough of a door and its house; ``judge`` is the gatekeeper."""

    verdicts: list[Any]
    edge: Edge = EDGE
    judged: list[Facts] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    reads: int = 0
    eof_at = 0.0
    mode = 0
    exchange: Any = None

    def __post_init__(self) -> None:
        reader = HeadReader()

        def read(block: bytes, edge: Edge) -> Facts | Refusal:
            self.reads += 1
            return reader.read(block, edge)

        self.house = SimpleNamespace(
            reader=SimpleNamespace(read=read), gatekeeper=SimpleNamespace(judge_now=self._judge), keeps_alive=True, ended=[],
            next_id=lambda: b"own-1", monotonic=lambda: 1.0, now=lambda: 1.0, account=lambda verdict, edge: SimpleNamespace(),
        )  # fmt: skip

    def _judge(self, facts: Facts) -> Any:
        self.judged.append(facts)
        verdict = self.verdicts.pop(0)
        return replace(verdict, facts=facts) if isinstance(verdict, Admitted) else verdict

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def done(self, keep_alive: bool, now: float) -> None:
        return None

    @property
    def statuses(self) -> list[bytes]:
        return [answer[9:12] for answer in self.written]


def question(*lines: str, dialect: Dialect = NGINX, request_id: str = "r1", secret: str = SECRETS[0], target: str = "/api/x") -> bytes:
    own = [f"BFF-Forward-Auth: {secret}", "BFF-Route: /api/", *([f"X-Request-Id: {request_id}"] if request_id else [])]
    own += [f"{dialect.method_header}: GET", f"{dialect.target_header}: {target}"] if dialect.method_header else []
    where = f"/bff/forward-auth/{dialect.name}" + ("" if dialect.target_header else target)
    return "\r\n".join([f"GET {where} HTTP/1.1", "Host: app.example.com", *own, *lines, "", ""]).encode("latin-1")


def yes() -> Admitted:
    facts = Facts("GET", "/api/x", None, "app.example.com", ())
    return Admitted(facts, ROUTE, Target(API, "/v1/x"), credential=Credential(b"Bearer t", 10.0))


def asked(secrets: list[str] = SECRETS) -> ForwardAuth:
    return ForwardAuth(secrets=lambda: list(secrets), rendering=RENDERING)


def take(auth: ForwardAuth, door: FakeDoor, block: bytes) -> bool:
    return auth.take(cast(Any, door), block)


NO = Refusal(401, "unauthenticated", "no", clear_cookie=True)


@pytest.mark.row("ZTA-2", "SESS-10")
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_question_that_came_before_is_judged_anew_each_time(dialect: Dialect) -> None:
    auth, door = asked(), FakeDoor([yes(), yes(), yes(), NO, yes()])
    for number in range(5):
        assert take(auth, door, question("Cookie: a=b", dialect=dialect, request_id=f"r{number}"))
    assert door.reads == 4 and len(door.judged) == 5  # each reading takes two: the question and the original
    assert door.statuses == [b"200", b"200", b"200", b"401", b"200"]
    assert door.written[2] == door.written[0] and b"r3" in door.written[3] and b"set-cookie" in door.written[3].lower()
    assert [facts.request_id for facts in door.judged] == [f"r{number}" for number in range(5)]
    assert len({replace(facts, request_id="", headers=()) for facts in door.judged}) == 1


def test_without_an_id_each_gets_one_of_ours() -> None:
    auth, door = asked(), FakeDoor([yes(), yes(), yes()])
    for _ in range(3):
        assert take(auth, door, question(dialect=TRAEFIK, request_id=""))
    assert door.reads == 4 and door.judged[2].request_id == "own-1"


@pytest.mark.row("P3", "H5")
def test_whatever_differs_in_a_byte_is_read_again() -> None:
    auth, door = asked(), FakeDoor([yes() for _ in range(20)])
    for _ in range(3):
        take(auth, door, question())
    before = door.reads
    assert not take(auth, door, question(secret="f" * 64)) and door.reads == before
    for other in (question("Cookie: a=b"), question(target="/api/y"), question("X-Forwarded-For: 10.9.9.9"), question("Origin: null")):
        assert take(auth, door, other)
        assert door.reads == before + 2
        before = door.reads
    assert take(auth, door, question("X-Request-Id: r2")) and door.statuses[-1] == b"403" and door.reads == before + 1  # twice
    elsewhere = FakeDoor([yes()], edge=replace(EDGE, trusted=()))
    assert not take(auth, elsewhere, question()) and not elsewhere.written


@pytest.mark.row("COOKIE-20", "OPS-2")
def test_after_the_keys_were_replaced_an_old_secret_is_nobodys() -> None:
    secrets = list(SECRETS)
    auth, door = asked(secrets), FakeDoor([yes() for _ in range(4)])
    for _ in range(3):
        assert take(auth, door, question())
    secrets[:] = ["f" * 64]
    auth.forget()
    assert not take(auth, door, question())
    assert take(auth, door, question(secret="f" * 64))


def test_the_memory_is_bounded_and_what_came_once_takes_none_of_it() -> None:
    facts = Facts("GET", "/api/x", None, "app.example.com", ())
    kept = Readings(entries=3, total_bytes=10_000)
    assert not kept.is_worth(b"once") and kept.is_worth(b"once")
    huge = b"x" * (MAX_KEPT_BYTES + 1)
    assert not kept.is_worth(huge) and not kept.is_worth(huge)
    for number in range(9):
        kept.keep(b"%d" % number, Reading(NGINX, EDGE, facts, facts))
    assert len(kept) == 3 and kept.find(b"8", EDGE) is not None and kept.find(b"5", EDGE) is None
    for number in range(9):
        kept.keep(b"%d" % number + b"x" * 1500, Reading(NGINX, EDGE, facts, facts))
    assert len(kept) == 1
    kept.forget()
    assert len(kept) == 0
    kept.keep(b"1", Reading(NGINX, EDGE, facts, facts))
    assert kept.find(b"1", EDGE) is not None and kept.find(b"1", replace(EDGE, peer_ip="10.0.0.8")) is None


@given(
    st.lists(
        st.sampled_from([b"X-Request-Id: a", b"x-request-id:b", b"X-Request-Id: ", b"X-Request-Id: a b", b"Cookie: X-Request-Id: z"]),
        max_size=3,
    )
)
def test_nothing_but_one_line_of_an_id_is_taken_out(lines: list[bytes]) -> None:
    block = b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])
    key, request_id = split_id(block)
    left, remaining = block.split(b"\r\n"), key.split(b"\r\n")
    if not request_id:
        assert key == block
    else:
        assert len(left) == len(remaining) + 1 and request_id in (b"a", b"b")
        removed = next(index for index, line in enumerate(left) if index >= len(remaining) or remaining[index] != line)
        assert left[:removed] + left[removed + 1 :] == remaining and left[removed].lower().startswith(b"x-request-id:")
