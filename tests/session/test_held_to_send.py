"""A worker's sessions: the access token as it is sent, and nothing that only the agent has use for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bff.base.secret import WITHHELD, Secret
from bff.session.model import Grant, Live, Session
from bff.session.record import find_session
from bff.session.renewal import build_credential, find_credential
from bff.session.sealing import KeyRing
from bff.session.shelf import Shelf
from bff.session.store.sqlite_schema import CACHE_KIB, open_connection
from tests.session.world import World


@pytest.fixture
def world() -> World:
    return World()


async def held_by_a_worker(world: World) -> tuple[Live, Session, str]:
    """As a worker holds it, as the agent does, and the cookie."""
    mine, value = await world.sign_in()
    live = await world.new_keeper(only_sends=True).find(value)
    assert live is not None and mine.session is not None
    return live, mine.session, value


async def test_a_worker_sends_the_same_token_as_the_agent_and_holds_no_other(world: World) -> None:
    live, whole, _ = await held_by_a_worker(world)
    assert live.session is not None
    now = world.clock.now()
    assert find_credential(live.session, "", now=now, margin_s=30.0) == find_credential(whole, "", now=now, margin_s=30.0)
    assert whole.refresh_token.reveal() and whole.id_token.reveal() and whole.grants[""].access_token.reveal()
    for secret in (live.session.refresh_token, live.session.id_token, live.session.grants[""].access_token):
        assert secret
        with pytest.raises(RuntimeError):
            secret.reveal()


async def test_whether_there_is_a_refresh_token_is_known_where_it_is_not_held(world: World) -> None:
    """What decides how long before its end a token is renewed."""
    _, whole, _ = await held_by_a_worker(world)
    assert not replace(whole, refresh_token=Secret("")).held_to_send().refresh_token
    assert whole.held_to_send().refresh_token


@pytest.mark.parametrize(("kind", "value"), [("bearer", b"Bearer t"), ("DPoP", b"DPoP t")])
def test_the_scheme_of_a_token_is_the_same_however_it_is_held(kind: str, value: bytes) -> None:
    grant = Grant(Secret("t"), 9.0, frozenset(), kind)
    assert build_credential(grant, "", until=1.0).authorization == value
    assert build_credential(grant.held_to_send(), "", until=1.0).authorization == value


def test_a_token_held_to_send_is_in_no_representation() -> None:
    assert "canary" not in repr(Grant(Secret("canary"), 9.0, frozenset()).held_to_send())
    assert "withheld" not in repr(WITHHELD)
    assert Secret("withheld") != WITHHELD


async def test_a_worker_cannot_write_down_a_session_that_it_does_not_hold_whole(world: World) -> None:
    live, whole, value = await held_by_a_worker(world)
    worker = world.new_keeper(only_sends=True)
    mine = await worker.find(value)
    assert mine is not None
    with pytest.raises(RuntimeError):
        await worker.update(mine, lambda session: session)
    row = await world.store.get(live.key)
    assert row is not None and find_session(row, live.half, ring=world.ring) == whole


@pytest.mark.row("COOKIE-20", "F46")
async def test_a_worker_that_seals_a_record_under_a_new_key_loses_none_of_its_tokens(world: World) -> None:
    live, whole, value = await held_by_a_worker(world)
    world.ring.adopt(world.ring.rotated(now=time.time()))
    found = await world.new_keeper(only_sends=True).find(value)
    assert found is not None and found.session is not None and found.session.version == 2
    assert found.session.refresh_token is WITHHELD
    row = await world.store.get(live.key)
    assert row is not None
    assert find_session(row, live.half, ring=KeyRing(world.ring._keys[:1])) == replace(whole, version=2)


async def test_what_the_agent_renewed_is_held_to_send_as_well(world: World) -> None:
    mine, value = await world.sign_in()
    worker = world.new_keeper(only_sends=True)
    live = await worker.find(value)
    assert live is not None
    grant = Grant(Secret("h.newer.s"), world.clock.now() + 300, frozenset(), issued_at=world.clock.now())
    await world.keeper.update(mine, lambda session: replace(session, grants={"": grant}))
    held = await worker.reread(live)
    assert held.grants[""].ending == b"\r\nAuthorization: Bearer h.newer.s\r\n\r\n"
    assert held.grants[""].access_token is WITHHELD


def test_a_cookies_value_that_is_asked_for_again_and_again_is_held_once() -> None:
    shelf = Shelf(cached=4)
    for number in range(4):
        shelf.put(f"value-{number}", Live(None, 0.0, 1.0, key=b"%d" % number))
    known = shelf.find("value-0")
    assert known is not None
    assert next(value for value in shelf._recent if value == "value-0") is known.cookie
    assert shelf.find("value-4") is None


def test_of_the_session_file_each_connection_holds_little(tmp_path: Path) -> None:
    """SQLite's own default, 2 MiB for each connection of each process, is more than a thousand sessions weigh."""
    connection = open_connection(tmp_path / "s.db", busy_ms=100)
    assert connection.execute("PRAGMA cache_size").fetchone()[0] == -CACHE_KIB
    connection.close()
