"""Which answers of the agent's wait until the worker has heard of a change, and which have no reason to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.rig import OK, eventually, turns
from tests.proxy.test_agent_hop import BEGINS_LOGIN, LOGOUT, SETS_COOKIE, USER, Agent, beside, sent

CLEARS_COOKIE = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: __Host-Http-bff=; Max-Age=0\r\n\r\n")
LOWER = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: __Host-Http-bff=v\r\n\r\n")
SECOND = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: __Host-Http-bff-login-1=; Max-Age=0\r\nSet-Cookie: __Host-Http-bff=v\r\n\r\n")


@pytest.mark.row("SESS-9")
@pytest.mark.parametrize("answer", [SETS_COOKIE, SECOND])
async def test_a_first_sign_in_waits_for_nothing_since_nobody_knows_of_what_it_began(tmp_path: Path, answer: bytes) -> None:
    async with beside(tmp_path, Agent([answer])) as (rig, ear):
        client = await sent(rig, USER)
        assert (await client.answer())[::2] == (200, b"{}")
        assert ear.asked == []


@pytest.mark.row("SESS-9", "S6")
@pytest.mark.parametrize("answer", [CLEARS_COOKIE, LOWER, SECOND])
async def test_an_answer_that_replaces_or_ends_the_session_it_came_with_waits(tmp_path: Path, answer: bytes) -> None:
    async with beside(tmp_path, Agent([answer]), live=True) as (rig, ear):
        client = await sent(rig, USER)
        await eventually(lambda: ear.asked)
        await turns(20)
        assert client.reader._buffer == b""  # type: ignore[attr-defined]
        ear.gate.set()
        assert (await client.answer())[::2] == (200, b"{}")
        assert ear.asked == [rig.guard.live]


@pytest.mark.row("SESS-11", "SESS-9")
async def test_what_comes_without_a_session_and_may_end_those_of_others_waits(tmp_path: Path) -> None:
    """A back-channel logout has no cookie; nor has a logout whose session ended elsewhere a session."""
    async with beside(tmp_path, Agent([OK])) as (rig, ear):
        client = await sent(rig, LOGOUT)
        await eventually(lambda: ear.asked)
        assert client.reader._buffer == b""  # type: ignore[attr-defined]
        ear.gate.set()
        assert (await client.answer())[0] == 200
        assert ear.asked == [None]


async def test_a_login_that_begins_in_a_session_waits_for_nothing(tmp_path: Path) -> None:
    """Its own cookie's name only begins like the session's."""
    async with beside(tmp_path, Agent([BEGINS_LOGIN]), live=True) as (rig, ear):
        assert (await (await sent(rig, USER)).answer())[0] == 200
        assert ear.asked == []


@pytest.mark.row("SESS-9", "SESS-3")
async def test_a_sign_in_that_ends_the_session_it_began_in_waits_though_the_cookie_stayed_away(tmp_path: Path) -> None:
    """Strict: the callback comes from the provider without it. The agent says what it ended, to the door and to nobody else."""
    answer = SETS_COOKIE.replace(b"\r\n\r\n", b"\r\nBFF-Ended: 1\r\n\r\n")
    async with beside(tmp_path, Agent([answer])) as (rig, ear):
        client = await sent(rig, USER)
        await eventually(lambda: ear.asked)
        assert client.reader._buffer == b""  # type: ignore[attr-defined]
        ear.gate.set()
        status, head, body = await client.answer()
        assert (status, body) == (200, b"{}") and b"bff-ended" not in head.lower()
