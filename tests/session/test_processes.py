"""Real worker processes on one session file, and a provider that forgives no refresh token used twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from bff.base.clock import SystemClock
from bff.base.secret import Secret
from bff.oauth.types import Identity, TokenSet
from bff.session.cookies import CookiePolicy
from bff.session.keeper import Keeper
from bff.session.model import EndReason
from bff.session.sealing import KeyRing
from bff.session.store import SqliteStore

LIFE_S = 1.2

WORKER = """
import asyncio, json, sys
from pathlib import Path
from bff.base.clock import SystemClock
from bff.base.errors import BffError, GrantRevoked, ProviderUnavailable
from bff.base.secret import Secret
from bff.oauth.types import TokenSet
from bff.session.cookies import CookiePolicy
from bff.session.credentials import CredentialDesk
from bff.session.keeper import Keeper
from bff.session.sealing import KeyRing
from bff.session.store import SqliteStore

path, keys, endpoint, value = sys.argv[1:]
clock = SystemClock()

class Client:
    async def refresh(self, *, refresh_token, audience="", **rest):
        try:
            reader, writer = await asyncio.open_unix_connection(endpoint)
            writer.write(refresh_token.reveal().encode() + b"\\n")
            answer = json.loads(await reader.readline())
            writer.close()
        except (OSError, ValueError) as error:
            raise ProviderUnavailable(type(error).__name__) from None
        if "error" in answer:
            raise GrantRevoked(answer["error"])
        return TokenSet(Secret(answer["access"]), "Bearer", clock.now() + answer["life"], refresh_token=Secret(answer["refresh"])), None

async def main():
    store = SqliteStore(Path(path), clock=clock)
    ring = KeyRing.from_json(Path(keys).read_text())
    keeper = Keeper(store=store, ring=ring, cookie=CookiePolicy(), clock=clock, idle_s=600, max_s=900, claims=None)
    desk = CredentialDesk(keeper=keeper, client=Client(), store=store, clock=clock, margin_s=0.1, lease_s=2.0)
    running = asyncio.ensure_future(keeper.run())
    print("ready", flush=True)
    async def call():
        live = await keeper.find(value)
        if live is None:
            return "gone"
        return (await desk.issue(live, token="user", audience="")).authorization.decode()
    while (line := await asyncio.to_thread(sys.stdin.readline)):
        answers = await asyncio.gather(*(call() for _ in range(int(line))), return_exceptions=True)
        print(json.dumps([answer if isinstance(answer, str) else repr(answer) for answer in answers]), flush=True)
    running.cancel()
    await store.close()

asyncio.run(main())
"""


class Endpoint:
    """A token endpoint on a Unix socket: strict rotation, the family dies on reuse. ``hold`` delays answers after the commit."""

    def __init__(self) -> None:
        self.good = "rt-0"
        self.used: list[str] = []
        self.reused = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.committed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        token = (await reader.readline()).decode().strip()
        self.used.append(token)
        if token != self.good:
            self.reused += 1
            self.good = ""
            answer: dict[str, Any] = {"error": "invalid_grant"}
        else:
            self.good = f"rt-{len(self.used)}"
            answer = {"access": f"at-{len(self.used)}", "refresh": self.good, "life": LIFE_S}
        self.committed.set()
        await asyncio.sleep(0.03)
        await self.hold.wait()
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


class Stage:
    """A session file, a key file, the endpoint, and the workers that were started."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.path = folder / "sessions.db"
        self.keys = folder / "keys.json"
        self.socket = str(folder / "s")
        self.endpoint = endpoint
        self.ring = KeyRing.generate()
        self.keys.write_text(self.ring.to_json())
        self.store = SqliteStore(self.path, clock=SystemClock())
        self.keeper = Keeper(
            store=self.store, ring=self.ring, cookie=CookiePolicy(), clock=SystemClock(), idle_s=600, max_s=900, claims=None
        )

    async def sign_in(self) -> tuple[bytes, str]:
        tokens = TokenSet(Secret("at-0"), "Bearer", SystemClock().now() + LIFE_S, refresh_token=Secret("rt-0"))
        live, value = await self.keeper.begin(Identity("i", "s"), tokens)
        return live.key, value

    async def worker(self, value: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            str(self.path),
            str(self.keys),
            self.socket,
            value,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process


async def ask(process: asyncio.subprocess.Process, calls: int) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{calls}\n".encode())
    answers: list[str] = json.loads(await process.stdout.readline())
    return answers


async def stop(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


@pytest.mark.row("TOKEN-6", "F1", "F3", "T9", "SESS-10", "S3")
async def test_three_processes_share_each_refresh_and_hear_of_the_logout(tmp_path: Path) -> None:
    endpoint = Endpoint()
    stage = Stage(tmp_path, endpoint)
    server = await asyncio.start_unix_server(endpoint.serve, stage.socket)
    key, value = await stage.sign_in()
    workers = await asyncio.gather(*(stage.worker(value) for _ in range(3)))
    for _ in range(3):
        await asyncio.sleep(LIFE_S + 0.1)
        before = len(endpoint.used)
        answers = [answer for group in await asyncio.gather(*(ask(each, 20) for each in workers)) for answer in group]
        assert all(answer.startswith("Bearer at-") for answer in answers), answers
        assert 1 <= len(endpoint.used) - before <= 3, "one; more only where a busy machine lets the storm outlast the token"
    assert endpoint.reused == 0
    assert len(endpoint.used) == len(set(endpoint.used))
    await stage.keeper.end(key, EndReason.LOGOUT)
    await asyncio.sleep(1.0)
    for each in workers:
        assert await ask(each, 1) == ["gone"]
    await stop(*workers)
    await stage.store.close()
    server.close()


@pytest.mark.row("F7", "F48", "TOKEN-7", "F6")
async def test_a_worker_killed_between_answer_and_write_costs_at_most_its_own_session(tmp_path: Path) -> None:
    endpoint = Endpoint()
    stage = Stage(tmp_path, endpoint)
    server = await asyncio.start_unix_server(endpoint.serve, stage.socket)
    _, value = await stage.sign_in()
    _, bystander = await stage.keeper.begin(
        Identity("i", "other"), TokenSet(Secret("theirs"), "Bearer", SystemClock().now() + 60, refresh_token=Secret("rt-x"))
    )
    doomed, heir, other = await asyncio.gather(stage.worker(value), stage.worker(value), stage.worker(bystander))
    await asyncio.sleep(LIFE_S)
    endpoint.hold.clear()
    assert doomed.stdin is not None
    doomed.stdin.write(b"1\n")
    await endpoint.committed.wait()
    doomed.send_signal(signal.SIGKILL)
    await doomed.wait()
    endpoint.hold.set()
    (answer,) = await ask(heir, 1)
    assert "GrantRevoked" in answer, "the rotated token died with its worker: one clean sign-in, not a loop"
    assert await ask(heir, 1) == ["gone"]
    assert await ask(other, 1) == ["Bearer theirs"]
    assert len(endpoint.used) == 2
    await stop(heir, other)
    await stage.store.close()
    server.close()
