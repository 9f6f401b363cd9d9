"""``bff sessions`` over a SQLite store, and over the management listener for memory; ``bff healthcheck`` beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bff.base.clock import SystemClock
from bff.base.secret import Secret
from bff.oauth.types import Identity, TokenSet
from bff.session.cookies import CookiePolicy
from bff.session.keeper import Keeper
from bff.session.sealing import KeyRing
from bff.session.store import open_store
from tests.cli.conftest import Outcome

Bff = Callable[..., Outcome]


@pytest.fixture
def signed_in(config: Path) -> list[str]:
    """Keys of three sessions: two of alice (sid s1, s2), one of bob."""

    async def begin() -> list[str]:
        clock = SystemClock()
        store = open_store(f"sqlite://{config.parent}/sessions.db", clock=clock)
        ring = KeyRing.from_json((config.parent / "keys.json").read_text())
        keeper = Keeper(store=store, ring=ring, cookie=CookiePolicy(), clock=clock, idle_s=1800, max_s=43200, claims=frozenset())
        keys = []
        for subject, sid in (("alice", "s1"), ("alice", "s2"), ("bob", "")):
            tokens = TokenSet(Secret("x"), "Bearer", clock.now() + 300)
            live, _ = await keeper.begin(Identity("https://id.example.com", subject, sid=sid), tokens)
            keys.append(live.key.hex())
        await store.close()
        return keys

    return asyncio.run(begin())


def listed(bff: Bff, *arguments: str) -> set[str]:
    outcome = bff("sessions", "list", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    return {row["session"] for row in json.loads(outcome.out)["sessions"]}


@pytest.mark.row("SESS-11")
def test_sessions_are_found_by_person_provider_session_key_and_log_name(bff: Bff, config: Path, signed_in: list[str]) -> None:
    """SESS-11: straight from the store, workers running or not."""
    assert listed(bff) == set(signed_in)
    assert listed(bff, "--subject", "alice") == set(signed_in[:2])
    assert listed(bff, "--sid", "s2") == {signed_in[1]}
    assert listed(bff, "--session", signed_in[2]) == {signed_in[2]}
    assert listed(bff, "--subject", "alice", "--issuer", "https://other.example") == set()
    name = KeyRing.from_json((config.parent / "keys.json").read_text()).pseudonym("session", signed_in[0])
    assert listed(bff, "--session", name) == {signed_in[0]}
    text = bff("sessions", "list").out
    assert all(key in text for key in signed_in)
    assert "alice" not in text


@pytest.mark.row("SESS-11")
def test_sessions_end_for_one_person_and_no_other(bff: Bff, signed_in: list[str]) -> None:
    """SESS-11: and by one key."""
    assert bff("sessions", "end", "--subject", "alice").out == "ended 2 sessions\n"
    assert listed(bff) == {signed_in[2]}
    assert bff("sessions", "end", "--session", signed_in[2]).out == "ended 1 session\n"
    assert bff("sessions", "end", "--session", signed_in[2]).out == "ended 0 sessions\n"
    assert listed(bff) == set()


@pytest.mark.parametrize(("session", "code"), [("short", 2), ("0123456789abcdef", 75)])
def test_a_session_that_is_none_is_told(bff: Bff, signed_in: list[str], session: str, code: int) -> None:
    """Neither a key nor a name in the logs."""
    outcome = bff("sessions", "end", "--session", session)
    assert outcome.code == code
    assert outcome.err.startswith("bff: ")


class _Manager(BaseHTTPRequestHandler):
    asked: list[tuple[str, str, str]] = []

    def _answer(self) -> None:
        self.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, body = (200, {"sessions": [], "ended": 4, "status": "ready"}) if "none" not in self.path else (400, {"title": "no"})
        data = json.dumps(body).encode()
        self.send_response(503 if self.path == "/readyz" and type(self).__name__ == "Unready" else status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=["Ready", "Unready"])
def manager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Manager]]:
    """A stand-in for the management listener of a running instance."""
    handler = type(request.param, (_Manager,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("BFF_SERVER__MANAGE_LISTEN", f"127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.row("K6", "SESS-11")
def test_a_memory_store_is_administered_through_the_listener(
    bff: Bff, config: Path, manager: type[_Manager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """K6: with the token that only a reader of the key ring can make."""
    monkeypatch.setenv("BFF_SESSION__STORE", "memory:")
    assert bff("sessions", "end", "--subject", "alice").out == "ended 4 sessions\n"
    assert listed(bff, "--sid", "s1") == set()
    token = KeyRing.from_json((config.parent / "keys.json").read_text()).admin_token()
    assert manager.asked == [
        ("DELETE", "/sessions?subject=alice", f"Bearer {token}"),
        ("GET", "/sessions?sid=s1&limit=100", f"Bearer {token}"),
    ]
    assert bff("sessions", "list", "--subject", "none").code == 75


def test_a_listener_that_is_not_there_is_told(bff: Bff, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 69: a dependency is unavailable."""
    monkeypatch.setenv("BFF_SESSION__STORE", "memory:")
    monkeypatch.setenv("BFF_SERVER__MANAGE_LISTEN", "127.0.0.1:1")
    assert bff("sessions", "list").code == 69


def test_a_health_check_follows_readiness(bff: Bff, manager: type[_Manager]) -> None:
    """0 when ready, 69 when not; alive is another question."""
    assert bff("healthcheck").code == (69 if manager.__name__ == "Unready" else 0)
    assert bff("healthcheck", "--live").code == 0
    assert [path for _, path, _ in manager.asked] == ["/readyz", "/livez"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[server]\nmanage_listen = 'fd://3'", 78),
        ("[server]\nmanage_listen = 'unix:/nonexistent'", 69),
        ("[server]\nmanage_listen = '0.0.0.0:1'\nworkers = 'x'", 69),
    ],
)
def test_a_health_check_reads_only_the_address(bff: Bff, tmp_path: Path, text: str, code: int) -> None:
    """A broken rest of the file is not its business."""
    (tmp_path / "bff.toml").write_text(text)
    assert bff("healthcheck").code == code
