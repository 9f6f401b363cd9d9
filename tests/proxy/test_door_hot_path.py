"""The memo: what a remembered head may skip, and everything it may not."""

from __future__ import annotations

import pytest

from bff.policy.routes import Limits
from bff.policy.verdict import Refusal
from bff.session.model import Credential
from tests.proxy.rig import GET, OK, answering, build_session, eventually, field_of, open_rig

COOKIE = b"GET /api/x HTTP/1.1\r\nHost: a.test\r\nCookie: __Host-Http-bff=ticket\r\nX-CSRF: 1\r\n\r\n"


async def test_the_same_bytes_are_judged_once_and_forwarded_every_time() -> None:
    async with open_rig(token=True) as rig:
        client = await rig.client()
        for _ in range(5):
            await client.send(COOKIE)
            assert (await client.answer())[0] == 200
        assert len(rig.guard.asked) == 1
        assert rig.upstream.requests == 5
        assert len(rig.upstream.peers) == 1


async def test_every_request_has_an_id_of_its_own_even_from_the_memo() -> None:
    async with open_rig(token=True) as rig:
        client = await rig.client()
        for _ in range(4):
            await client.send(COOKIE)
            await client.answer()
        rig.house.tick()
        ids = {record[1] for record in rig.records}
        seen = {field_of(b"x\r\n" + line, b"x-request-id") for line in rig.upstream.peers[0].seen.split(b"\r\n")} - {b""}
        assert len(ids) == 4
        assert seen == ids


@pytest.mark.row("ZTA-2", "S3")
async def test_a_session_that_ended_is_refused_on_the_same_connection_and_the_same_bytes() -> None:
    """ZTA-2: the memo never outlives the judgement."""
    async with open_rig(token=True) as rig:
        client = await rig.client()
        await client.send(COOKIE)
        assert (await client.answer())[0] == 200
        rig.end_session()
        rig.guard.refusal = Refusal(401, "unauthenticated", "Sign in.", clear_cookie=True)
        await client.send(COOKIE)
        status, head, _ = await client.answer()
        assert status == 401
        assert b"Set-Cookie: gone=; Max-Age=0" in head
        assert rig.upstream.requests == 1


async def test_a_session_that_changed_is_judged_again() -> None:
    async with open_rig(token=True) as rig:
        await rig.ask(COOKIE)
        assert rig.guard.live is not None
        rig.guard.live.session = build_session(rig.clock)
        rig.guard.credential = Credential(b"Bearer token-2", rig.clock.now() + 600)
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 2
        assert b"Authorization: Bearer token-2" in rig.upstream.peers[-1].seen


async def test_time_alone_sends_a_remembered_request_back_to_the_gatekeeper() -> None:
    async with open_rig(token=True) as rig:
        rig.guard.valid_until = rig.clock.now() + 10
        await rig.ask(COOKIE)
        rig.clock.advance(9)
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 1
        rig.clock.advance(1)
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 2


async def test_the_token_of_an_anonymous_route_expires_in_the_memo_too() -> None:
    async with open_rig() as rig:
        rig.guard.credential = Credential(b"Bearer machine", rig.clock.now() + 10)
        rig.guard.valid_until = rig.clock.now() + 10
        await rig.ask()
        rig.clock.advance(11)
        await rig.ask()
        assert len(rig.guard.asked) == 2


async def test_an_idle_session_is_judged_again_and_an_active_one_stays_alive() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask(COOKIE)
        await rig.ask(COOKIE)
        assert rig.touched == []  # activity may lag by a second
        rig.clock.advance(1)
        await rig.ask(COOKIE)
        assert rig.touched == [rig.guard.live]
        rig.clock.advance(1800)
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 2


async def test_a_background_route_does_not_keep_the_session_alive() -> None:
    async with open_rig(live=True, route={"activity": False}) as rig:
        await rig.ask(COOKIE)
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 1
        assert rig.touched == []


async def test_a_refusal_is_never_remembered() -> None:
    async with open_rig() as rig:
        rig.guard.refusal = Refusal(403, "csrf_refused", "No.")
        assert (await rig.ask())[0] == 403
        rig.guard.refusal = None
        assert (await rig.ask())[0] == 200
        assert len(rig.guard.asked) == 2


async def test_an_answer_with_cookies_of_ours_is_never_remembered() -> None:
    async with open_rig(live=True) as rig:
        rig.guard.set_cookies = ("__Host-Http-bff=fresh; Secure; HttpOnly; Path=/",)
        for _ in range(2):
            _, head, _ = await rig.ask(COOKIE)
            assert b"Set-Cookie: __Host-Http-bff=fresh" in head
        assert len(rig.guard.asked) == 2


async def test_another_address_with_the_same_bytes_is_judged_for_itself() -> None:
    async with open_rig() as rig:
        await rig.ask()
        rig.house._edges.clear()  # the next connection gets an Edge of its own, as from another address
        await rig.ask()
        assert len(rig.guard.asked) == 2


async def test_forgetting_drops_every_judgement() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask(COOKIE)
        rig.house.forget()
        await rig.ask(COOKIE)
        assert len(rig.guard.asked) == 2


@pytest.mark.row("ZTA-2")
@pytest.mark.parametrize("reloaded", [True, False])
async def test_a_judgement_that_waited_while_keys_or_routes_were_replaced_holds_for_its_own_request_alone(reloaded: bool) -> None:
    async with open_rig(live=True) as rig:
        rig.guard.waits = True
        client = await rig.client()
        await client.send(COOKIE)
        await eventually(lambda: rig.guard.asked)
        if reloaded:
            rig.house.forget()
        rig.guard.gate.set()
        assert (await client.answer())[0] == 200
        rig.guard.refusal = Refusal(403, "claim_required", "by the new rules")
        await client.send(COOKIE)
        assert (await client.answer())[0] == (403 if reloaded else 200)


@pytest.mark.row("F36")
async def test_a_session_nobody_vouches_for_leaves_the_memo_with_the_next_tick() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask(COOKIE)
        rig.house._believes = lambda live: False
        rig.house.tick()
        assert len(rig.house.memo) == 0


async def test_nothing_of_an_ended_session_stays_in_memory() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask(COOKIE)
        rig.end_session()
        rig.house.tick()
        assert len(rig.house.memo) == 0


async def test_a_known_answer_still_ends_the_connection_of_a_browser_that_asked_for_it() -> None:
    async with open_rig(live=True) as rig:
        client = await rig.client()
        await client.send(COOKIE)
        await client.answer()
        for _ in range(2):
            client = await rig.client()
            await client.send(COOKIE.replace(b"X-CSRF", b"Connection: close\r\nX-CSRF"))
            _, head, _ = await client.answer()
            assert b"Connection: close" in head
            assert await client.rest() == b""


async def test_known_and_unknown_answers_look_the_same() -> None:
    async with open_rig(answering(OK, OK, OK.replace(b"Content-Length: 2", b"Content-Length: 4") + b"[]")) as rig:
        client = await rig.client()
        answers = []
        for _ in range(3):
            await client.send(GET)
            answers.append(await client.answer())
        assert answers[0] == answers[1]
        assert answers[2][2] == b"{}[]"


@pytest.mark.row("BODY-9")
async def test_the_route_bound_holds_on_the_hot_path() -> None:
    """BODY-9: a fast 503, and room again afterwards."""

    async def hold_then_answer(peer: object) -> None:
        await peer.head()  # type: ignore[attr-defined]
        await gate.wait()
        await peer.send(OK)  # type: ignore[attr-defined]
        await peer.head()  # type: ignore[attr-defined]
        await peer.send(OK)  # type: ignore[attr-defined]

    import asyncio

    gate = asyncio.Event()
    async with open_rig(hold_then_answer, limits=Limits(concurrent=1), live=True) as rig:
        first = await rig.client()
        await first.send(COOKIE)
        await eventually(lambda: rig.house.active == 1)
        status, head, body = await rig.ask(COOKIE)
        assert (status, field_of(head, b"retry-after")) == (503, b"1")
        assert b"route_busy" in body
        gate.set()
        assert (await first.answer())[0] == 200
        assert (await rig.ask(COOKIE))[0] == 200


@pytest.mark.row("BODY-9")
async def test_one_session_cannot_take_all_the_room() -> None:
    import asyncio

    gate = asyncio.Event()

    async def hold(peer: object) -> None:
        await peer.head()  # type: ignore[attr-defined]
        await gate.wait()
        await peer.send(OK)  # type: ignore[attr-defined]

    async with open_rig(hold, limits=Limits(concurrent_per_session=1), live=True) as rig:
        first = await rig.client()
        await first.send(COOKIE)
        await eventually(lambda: rig.house.active == 1)
        status, _, body = await rig.ask(COOKIE)
        assert status == 503
        assert b"session_busy" in body
        gate.set()
        assert (await first.answer())[0] == 200


async def test_metrics_and_access_records_tell_what_happened() -> None:
    async with open_rig(live=True) as rig:
        await rig.ask(COOKIE)
        await rig.ask(COOKIE)
        rig.guard.refusal = Refusal(403, "csrf_refused", "No.")
        await rig.ask(GET)
        rig.house.tick()
        lane = rig.house.lanes["api"]
        assert lane.by_class[2] == 2
        assert sum(lane.buckets) == 2
        assert lane.sent == 4
        assert lane.active == 0
        assert [record[5] for record in rig.records] == [200, 200, 403]
        assert [record[9] for record in rig.records] == ["ok", "ok", "csrf_refused"]
        assert rig.records[0][4] == rig.guard.live.session.key  # type: ignore[union-attr]
