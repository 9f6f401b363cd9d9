"""The management listener: what it tells whom, and whom it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart

from bff.base.clock import FakeClock
from bff.base.errors import StoreUnavailable
from bff.base.secret import Secret
from bff.manage import Readiness, build_management
from bff.manage.hosts import names_us
from bff.oauth.types import Identity, TokenSet
from bff.observe.metrics import Metrics
from bff.session.cookies import CookiePolicy
from bff.session.keeper import Keeper
from bff.session.model import Session
from bff.session.sealing import KeyRing
from bff.session.store import MemoryStore

ISSUER = "https://id.example.com"


class World:
    """A keeper over a memory store behind the app."""

    def __init__(self, hosts: frozenset[str] | None = None) -> None:
        self.clock = FakeClock()
        self.ring = KeyRing.generate()
        self.store = MemoryStore(clock=self.clock)
        self.keeper = Keeper(
            store=self.store, ring=self.ring, cookie=CookiePolicy(), clock=self.clock, idle_s=1800, max_s=43200, claims=frozenset()
        )
        self.readiness = Readiness(keys_loaded=True)
        self.revoked: list[Session] = []
        self.metrics = Metrics()
        self.app: Quart = build_management(
            keeper=self.keeper,
            store=self.store,
            metrics=self.metrics,
            ring=self.ring,
            readiness=self.readiness,
            issuer=ISSUER,
            revoke=self.revoked.append,
            hosts=hosts,
        )

    async def sign_in(self, subject: str, sid: str = "") -> str:
        """A session; its cookie value."""
        tokens = TokenSet(Secret("access-canary"), "Bearer", self.clock.now() + 300)
        _, cookie = await self.keeper.begin(Identity(ISSUER, subject, sid=sid), tokens)
        return cookie

    async def ask(self, path: str, method: str = "GET", *, admin: bool = True, **headers: str) -> tuple[int, Any, Any]:
        sent = {"Authorization": f"Bearer {self.ring.admin_token()}"} if admin else {}
        answer = await self.app.test_client().open(
            path, method=method, headers={**sent, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        is_json = "json" in (answer.content_type or "")
        return answer.status_code, await answer.get_json() if is_json else await answer.get_data(), answer.headers


@pytest.fixture
async def world() -> AsyncIterator[World]:
    yield World()


@pytest.mark.row("OPS-4")
@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_alive_is_always_true(world: World, path: str) -> None:
    """OPS-4: also while draining, so that an orchestrator does not kill what is finishing."""
    world.readiness.draining = True
    status, body, headers = await world.ask(path, admin=False)
    assert (status, body) == (200, {"status": "ok"})
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


@pytest.mark.row("META-5", "F24")
async def test_ready_needs_keys_store_a_worker_and_a_provider_once_reached(world: World) -> None:
    """META-5: never fetched: not ready; F24: reached before and down now: ready, and said to be degraded."""
    assert (await world.ask("/readyz", admin=False))[:2] == (200, {"status": "ready", "obstacles": [], "degraded": []})
    world.readiness.degraded = lambda: ["provider_unavailable"]
    assert (await world.ask("/readyz", admin=False))[:2] == (
        200,
        {"status": "degraded", "obstacles": [], "degraded": ["provider_unavailable"]},
    )
    world.readiness.provider_known = lambda: False
    world.readiness.workers_serve = lambda: False
    world.readiness.keys_loaded = False
    world.readiness.draining = True
    status, body, _ = await world.ask("/readyz", admin=False)
    assert (status, body["status"]) == (503, "unready")
    assert body["obstacles"] == ["draining", "keys_not_loaded", "no_worker", "provider_never_reached"]


@pytest.mark.row("OPS-7")
@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_store_without_an_answer_makes_us_unready(world: World, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """OPS-7: within a bound, whether it fails or hangs."""

    async def ping() -> None:
        if fault == "fails":
            raise StoreUnavailable
        await asyncio.Event().wait()

    monkeypatch.setattr("bff.manage.app.PING_TIMEOUT_S", 0.02)
    monkeypatch.setattr(world.store, "ping", ping)
    status, body, _ = await world.ask("/readyz", admin=False)
    assert (status, body["obstacles"]) == (503, ["store_unavailable"])


async def test_metrics_are_prometheus_text_and_not_for_pages(world: World) -> None:
    """K5: no token needed on the private listener, but no page of another site reads them."""
    status, body, headers = await world.ask("/metrics", admin=False)
    assert status == 200
    assert b"bff_build_info{" in body
    assert headers["Content-Type"].startswith("text/plain")
    assert (await world.ask("/metrics", admin=False, Sec_Fetch_Site="none"))[0] == 200
    assert (await world.ask("/metrics", admin=False, Sec_Fetch_Site="cross-site"))[0] == 403
    assert (await world.ask("/metrics", admin=False, Origin="https://evil.example"))[0] == 403


@pytest.mark.row("K5", "OPS-4")
@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics", "/sessions"])
@pytest.mark.parametrize(
    ("host", "answered"),
    [
        *(
            (host, True)
            for host in ("localhost", "LocalHost:9464", "bff.internal:9464", "127.0.0.1:9464", "10.1.2.3", "[::1]:9464", "[::1]")
        ),
        *((host, False) for host in ("evil.example", "evil.example:9464", "127.0.0.1.nip.io", "localhost.evil.example", "localhost.", "")),
        *((host, False) for host in ("127.0.0.1@evil.example", "127.0.0.1:9464:1", "::1", "2130706433", "evil.example/localhost")),
    ],
)
async def test_a_page_whose_name_points_here_is_not_answered(path: str, host: str, answered: bool) -> None:
    """K5: DNS rebinding makes it same-origin, without Origin or Sec-Fetch headers: only Host gives it away."""
    world = World(frozenset({"localhost", "bff.internal"}))
    status, _, headers = await world.ask(path, Host=host)
    assert (status == 200) is answered
    if not answered:
        assert status == 421 and headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["[evil.example]", "[localhost]", "[127.0.0.1", "bff.internal:", "bff.internal:99999999", "bff.internal\u00a0"]
)
def test_a_host_that_is_written_oddly_is_nobodys(host: str) -> None:
    assert not names_us(host, frozenset({"localhost", "bff.internal"}))


@pytest.mark.row("K6", "OPS-4")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic {token}"}, 401),
        ({"Authorization": "bearer {token}"}, 401),
        ({"Authorization": "Bearer {token} "}, 401),
        ({"Cookie": "__Host-Http-bff={cookie}"}, 401),
        ({"Authorization": "Bearer {token}", "Origin": "http://127.0.0.1:9464"}, 403),
        ({"Authorization": "Bearer {token}", "Origin": "null"}, 403),
        ({"Authorization": "Bearer {token}", "Origin": ""}, 403),
        ({"Authorization": "Bearer {token}", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Authorization": "Bearer {token}", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Authorization": "Bearer {token}"}, 200),
    ],
)
async def test_administration_needs_the_token_and_no_browser(world: World, method: str, headers: dict[str, str], expected: int) -> None:
    """K6: the browser check comes first; a session cookie opens nothing here."""
    cookie = await world.sign_in("alice")
    sent = {name: value.format(token=world.ring.admin_token(), cookie=cookie) for name, value in headers.items()}
    answer = await world.app.test_client().open("/sessions?subject=alice", method=method, headers=sent)
    assert answer.status_code == expected
    survivors = await world.store.count()
    assert survivors == (0 if method == "DELETE" and expected == 200 else 1)


@pytest.mark.row("K6", "K5")
@pytest.mark.parametrize(
    "path",
    [
        "/sessions/",
        "/%2fsessions",
        "/Sessions",
        "/sessions/x",
        "/",
        "/admin",
        "/metrics/",
        "/readyz/x",
        "/bff/user",
        "/static/x",
    ],
)
async def test_only_exact_paths_exist(world: World, path: str) -> None:
    """K6: no prefix, no redirect to the right spelling."""
    status, body, headers = await world.ask(path)
    assert (status, body["code"]) == (404, "not_found")
    assert "Location" not in headers


@pytest.mark.row("K6")
@pytest.mark.parametrize("raw", [b"//sessions", b"/%73essions", b"/./sessions", b"/sessions%00", b"", b"/\xff"])
async def test_a_path_is_judged_as_it_was_sent(world: World, raw: bytes) -> None:
    """K6: the framework would normalise these to the real thing."""
    headers = {"Authorization": f"Bearer {world.ring.admin_token()}"}
    answer = await world.app.test_client().open("/sessions", headers=headers, scope_base={"raw_path": raw})
    assert answer.status_code == 404


async def test_other_methods_are_refused(world: World) -> None:
    """K6: with a small answer."""
    assert (await world.ask("/sessions", "POST"))[:2][0] == 405
    assert (await world.ask("/healthz", "DELETE"))[1]["code"] == "method_not_allowed"


@pytest.mark.row("SESS-11", "PRIV-5")
async def test_all_sessions_of_a_person_end_and_others_stay(world: World) -> None:
    """SESS-11: three browsers, one call; tokens are handed on for revocation."""
    cookies = [await world.sign_in("alice") for _ in range(3)]
    other = await world.sign_in("bob")
    _, listed, _ = await world.ask("/sessions?subject=alice")
    assert len(listed["sessions"]) == 3
    assert (await world.ask("/sessions?subject=alice", "DELETE"))[:2] == (200, {"ended": 3})
    assert [await world.keeper.find(cookie) for cookie in cookies] == [None, None, None]
    assert await world.keeper.find(other) is not None
    assert len(world.revoked) == 3
    assert (await world.ask("/sessions?subject=alice", "DELETE"))[1] == {"ended": 0}


@pytest.mark.row("SESS-11")
async def test_one_session_ends_by_key_and_all_of_a_provider_session_by_sid(world: World) -> None:
    """SESS-11: as listed."""
    cookie = await world.sign_in("alice", sid="s1")
    stays = await world.sign_in("alice", sid="s2")
    (row,) = (await world.ask("/sessions?sid=s1"))[1]["sessions"]
    assert (await world.ask(f"/sessions?session={row['session']}"))[1]["sessions"] == [row]
    assert (await world.ask(f"/sessions?session={row['session']}", "DELETE"))[1] == {"ended": 1}
    assert await world.keeper.find(cookie) is None
    assert (await world.ask("/sessions?sid=s2&issuer=https://other.example", "DELETE"))[1] == {"ended": 0}
    assert await world.keeper.find(stays) is not None
    assert (await world.ask("/sessions?sid=s2", "DELETE"))[1] == {"ended": 1}
    assert (await world.ask(f"/sessions?session={'ab' * 32}", "DELETE"))[1] == {"ended": 0}


@pytest.mark.row("PRIV-6", "PRIV-1")
async def test_a_listing_says_when_but_never_who(world: World) -> None:
    """PRIV-6: key, its name in the logs, times. No subject, no cookie, no token."""
    cookie = await world.sign_in("alice@example.com")
    answer = await world.app.test_client().get("/sessions", headers={"Authorization": f"Bearer {world.ring.admin_token()}"})
    text = await answer.get_data(as_text=True)
    (row,) = (await answer.get_json())["sessions"]
    assert set(row) == {"session", "log_name", "created_at", "seen_at", "expires_at", "version"}
    assert row["log_name"] == world.ring.pseudonym("session", row["session"])
    assert not any(secret in text for secret in ("alice", cookie, "access-canary"))


async def test_a_long_listing_comes_in_pages(world: World) -> None:
    """Rows in key order behind ``after``."""
    for number in range(5):
        await world.sign_in(f"user{number}")
    first = (await world.ask("/sessions?limit=3"))[1]["sessions"]
    rest = (await world.ask(f"/sessions?limit=3&after={first[-1]['session']}"))[1]["sessions"]
    assert (len(first), len(rest)) == (3, 2)
    assert len({row["session"] for row in first + rest}) == 5


@pytest.mark.row("K6")
@pytest.mark.parametrize(
    "query",
    [
        "",
        "issuer=https://id.example.com",
        "subject=",
        "subject=a&subject=b",
        "user=a",
        "session=short",
        f"session={'AB' * 32}",
        f"session={'ab' * 32}&subject=a",
        "limit=5",
    ],
)
async def test_a_search_that_means_nothing_ends_nobody(world: World, query: str) -> None:
    """K6: an empty or misspelt search must not mean everybody."""
    await world.sign_in("a")
    status, body, _ = await world.ask(f"/sessions?{query}", "DELETE")
    assert (status, body["code"]) == (400, "bad_search")
    assert await world.store.count() == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=zz"])
async def test_listing_bounds_are_kept(world: World, query: str) -> None:
    """C4: strict numbers here too."""
    assert (await world.ask(f"/sessions?{query}"))[0] == 400


@pytest.mark.row("K7")
@pytest.mark.parametrize(("error", "expected"), [(StoreUnavailable("secret-detail"), 503), (RuntimeError("secret-detail"), 500)])
async def test_failures_are_constant_text(world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: int) -> None:
    """K7: no detail, no traceback."""

    async def broken(**_: object) -> None:
        raise error

    monkeypatch.setattr(world.keeper, "find_rows", broken)
    status, body, _ = await world.ask("/sessions")
    assert status == expected
    assert "secret-detail" not in str(body)


async def test_a_rotated_ring_changes_the_token(world: World) -> None:
    """OPS-2: SIGHUP adopts keys in place; the old token is worth nothing then."""
    old = world.ring.admin_token()
    world.ring.adopt(world.ring.rotated())
    answer = await world.app.test_client().get("/sessions", headers={"Authorization": f"Bearer {old}"})
    assert answer.status_code == 401
    assert (await world.ask("/sessions"))[0] == 200
