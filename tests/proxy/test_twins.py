"""A product that remembers and one that doesn't, told the same thousands of odd things: nobody can tell them apart.

Compared is all that leaves the door: every byte to the browser and to the upstream, and what becomes of the connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from random import Random

import pytest
import pytest_asyncio

from bff.policy.routes import Policy
from tests.proxy.gate import SCOPES
from tests.proxy.mutants import HONEST, LINES, OWN, TRACE, mutants, write
from tests.proxy.twin import FAR, NEAR, ROUTES, Product, Twins

AFTER = write(b"GET /api/after HTTP/1.1", [b"Host: a.test", b"X-CSRF: 1", b"Cookie: " + OWN + b"=bob"])
PATHS = [route.path.rstrip("/").encode() + b"/x" for route in ROUTES]
MUTANTS_OF_EACH = 300
_CHUNKS = re.compile(rb"(?:[0-9a-f]+\r\n([^\r]*)\r\n)(?=[0-9a-f])")


@pytest_asyncio.fixture
async def twins() -> AsyncIterator[Twins]:
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(repr(context)))
    both = Twins()
    yield both
    assert problems == []
    for product in both:
        assert all(lane.active == 0 for lane in product.house.lanes.values()), "a seat was not given back"


async def warm(product: Product, block: bytes, peer: str) -> None:
    for each in (block, block.replace(b"X-Free: 1", b"X-Free: 9"), block.replace(b"=alice", b"=bob"), AFTER):
        for _ in range(4):
            await product.tell(each, peer=peer)


@pytest.mark.row("M1", "M10", "ZTA-2", "REQH-2")
@pytest.mark.parametrize("name", HONEST)
async def test_no_small_change_of_an_honest_request_is_lost_on_what_remembers_the_honest_one(twins: Twins, name: str) -> None:
    start, lines, body = HONEST[name]
    peer = NEAR if name == "behind" else FAR
    block = write(start, lines, body)
    await warm(twins.remembering, block, peer)
    rng = Random(name)
    for mutant in rng.sample(list(mutants(start, lines, body)), MUTANTS_OF_EACH):
        cut = rng.randrange(1, len(mutant))
        pieces = rng.choice([[mutant], [mutant + AFTER], [block, mutant, AFTER], [mutant[:cut], mutant[cut:] + AFTER]])
        await twins.tell(*pieces, peer=peer, times=3)


def invent(rng: Random) -> bytes:
    """A request of one of two users, of a forger or of nobody."""
    lines = [b"Host: a.test", b"X-CSRF: 1"]
    who = rng.choice([b"alice", b"bob", b"alice", b"bob", b"mallory", b"", b"alice; " + OWN + b"=bob"])
    if who:
        lines.append(b"Cookie: " + rng.choice([b"", b"theme=dark; "]) + OWN + b"=" + who)
    if rng.random() < 0.3:
        lines.append(rng.choice(LINES))
    if rng.random() < 0.4:
        lines.append(b"traceparent: " + TRACE[:30] + b"%d" % rng.randrange(10) + TRACE[31:])
    method, body = rng.choice([b"GET", b"GET", b"HEAD", b"DELETE", b"POST", b"POST"]), b""
    if method == b"POST":
        body = b"b" * rng.choice([0, 3, 40, 41])
        if rng.random() < 0.4:
            lines.append(b"Transfer-Encoding: chunked")
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        else:
            lines.append(b"Content-Length: %d" % len(body))
    return write(b"%b %b HTTP/1.1" % (method, rng.choice(PATHS)), lines, body)


def happen(rng: Random) -> Callable[[Product], None]:
    """Something that may happen between two requests."""
    who, which = rng.choice(["alice", "bob"]), rng.sample(range(len(ROUTES)), 7)
    seconds = rng.choice([1, 50, 250, 1000])
    claims = rng.choice([{"department": "legal", "region": "us"}, {"department": "sales", "region": "eu"}, {}])
    acr = rng.choice(["", "high"])
    demands = [Policy(claims={"department": frozenset({"legal"})}), Policy(), Policy(acr=("never",)), Policy(scopes=SCOPES)]
    policy = rng.choice(demands)
    return rng.choice(
        [
            lambda product: product.end(who),
            lambda product: product.begin(who),
            lambda product: product.renew(who),
            lambda product: product.renew(who, claims=claims),
            lambda product: product.renew(who, acr=acr),
            lambda product: product.clock.advance(seconds),
            lambda product: product.house.tick(),
            lambda product: product.demand(which, policy),
        ]
    )


@pytest.mark.row("ZTA-2", "S3", "M1")
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_ends_changes_or_is_configured_anew_between_two_requests_the_later_is_judged_by_it(twins: Twins, seed: int) -> None:
    rng = Random(seed)
    pool = [invent(rng) for _ in range(12)]
    for _ in range(150):
        if rng.random() < 0.08:
            twins.happen(happen(rng))
            continue
        whole = b"".join(rng.choices(pool, k=rng.choice([1, 1, 2, 3])))
        cuts = [0, *sorted(rng.choices(range(1, len(whole)), k=rng.choice([0, 0, 1, 3]))), len(whole)]
        pieces = [whole[start:end] for start, end in pairwise(cuts) if start < end]
        await twins.tell(*pieces, peer=rng.choice([FAR, FAR, NEAR]), ends=rng.random() < 0.5)
    assert twins.remembering.judged < twins.forgetting.judged, "nothing was remembered"


@pytest.mark.row("M1", "D3")
@pytest.mark.parametrize("name", HONEST)
async def test_wherever_a_remembered_request_and_the_next_are_split_they_go_as_in_one_piece(twins: Twins, name: str) -> None:
    peer = NEAR if name == "behind" else FAR
    whole = write(*HONEST[name]) + AFTER
    product = twins.remembering
    for _ in range(3):
        expected = await product.tell(whole, peer=peer)
    for at in range(1, len(whole), 2):
        told = await product.tell(whole[:at], whole[at : at + 1], whole[at + 1 :], peer=peer)
        assert (told.out, told.closed) == (expected.out, expected.closed), at
        assert [_CHUNKS.sub(rb"\1", each) for each in told.seen] == [_CHUNKS.sub(rb"\1", each) for each in expected.seen], at
    for at in range(1, len(whole), 7):
        await twins.tell(whole[:at], peer=peer)
