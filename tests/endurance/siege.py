"""``python -m tests.endurance.siege [ATTACK ...]``: one worker under attack, and how long a control user's calls took meanwhile.

Attacker, control user and both upstreams are processes of their own. ``--pin`` gives the worker a core and everything else another, so that
the figures are the worker's and not the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.flow import Peak, Run, flow_routes, running
from bench.memory import raise_file_limit
from tests.endurance.attackers import ATTACKS
from tests.harness.http import head_bytes
from tests.harness.programs import PYTHON, ROOT, free_port

MAX_CONNECTIONS = 3000
TLS_ATTACKS = ("handshakes", "stalled handshakes", "unfinished handshakes")
TOGETHER = ("storm + tiny frames + never reading + pipelining refused + bombs", "hold + tiny pings + slow reading + logins")
SERVER = {"workers": 1, "head_timeout": "3s", "keep_alive": "5s", "max_connections": MAX_CONNECTIONS}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds of each of the control user's calls by path, calls that failed, what the attacker counted, and the worker's growth."""

    took: Mapping[str, list[float]]
    failed: list[str]
    done: Mapping[str, Mapping[str, int]]
    grown_mib: float

    def worst(self, path: str) -> float:
        return max(self.took[path], default=99.0)

    def at(self, path: str, share: float) -> float:
        found = sorted(self.took[path]) or [99.0]
        return found[min(int(len(found) * share), len(found) - 1)]


@contextmanager
def upstream(priority: int = 0) -> Iterator[int]:
    """The port of an upstream process."""
    command = [PYTHON, "-m", "tests.endurance.upstream", str(priority)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


@contextmanager
def stage(*, tls: bool = False, server: Mapping[str, Any] | None = None) -> Iterator[Run]:
    """A worker with its access log on, before one upstream that the attacker uses and one for the control user."""
    raise_file_limit()
    with ExitStack() as stack:
        prey, calm = stack.enter_context(upstream()), stack.enter_context(upstream(-15))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bff-siege-")))
        config: dict[str, Any] = {"server": {**SERVER, **(server or {})}, "log": {"level": "warning", "access": True}}
        if tls:
            port = free_port()
            config["server"] |= {"listen": f"127.0.0.1:{port}", "public_origin": f"https://localhost:{port}", **certificate(folder)}
        near = {"idle_timeout": "60s", "max_body": "1GiB", "total_timeout": "5m"}
        routes = [
            {"path": "/prey/", "upstream": f"http://127.0.0.1:{prey}/", "token": "none", **near},
            {"path": "/calm/", "upstream": f"http://127.0.0.1:{calm}/", **near},
        ]
        run = stack.enter_context(running(config=config, routes=lambda flow: [*flow_routes(flow), *routes], sign_in=not tls))
        if tls:
            run.world.product.port, run.world.product.origin = port, f"https://localhost:{port}"
        yield run


def certificate(folder: Path) -> dict[str, str]:
    import trustme

    cert = trustme.CA().issue_cert("localhost", not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
    names = {"tls_cert_file": folder / "door.pem", "tls_key_file": folder / "door.key"}
    names["tls_cert_file"].write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    cert.private_key_pem.write_to_path(str(names["tls_key_file"]))
    return {key: str(path) for key, path in names.items()}


def attack_heads(run: Run) -> dict[str, str]:
    """What a stranger may send: no cookie, the fixed header."""

    def head(path: str, *more: tuple[str, str], method: str = "GET") -> str:
        return head_bytes(method, f"{run.world.app}{path}", [("X-CSRF", "1"), *more]).decode("latin-1")

    handshake = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"))
    own = ("Origin", run.world.app)
    return {
        "json": head("/prey/json"),
        "big": head(f"/prey/big?{100 * 1024 * 1024}"),
        "refused": head("/calm/json"),
        "page": head("/no/such/page", ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")),
        "body": head("/prey/sink", ("Content-Length", "1048576"), own, method="POST"),
        "chunked": head("/prey/sink", ("Transfer-Encoding", "chunked"), own, method="POST"),
        "websocket": head("/prey/ws", *handshake, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), own),
        "login": head("/bff/login", ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")),
    }


def control_heads(run: Run) -> dict[str, str]:
    close = ("Connection", "close")
    if not run.cookie:
        return {"/": head_bytes("GET", f"{run.world.app}/prey/json", [("X-CSRF", "1"), close]).decode("latin-1")}
    return {path: run.head(path, close).decode("latin-1") for path in ("/bff/user", "/calm/json")}


@contextlib.asynccontextmanager
async def controlled(run: Run, *, tls: bool = False) -> AsyncIterator[list[Outcome]]:
    """The control user calls from shortly before until shortly after the block; the list then holds how that went."""
    control = await _start("control")
    await _tell(control, {"port": run.world.product.port, "heads": control_heads(run), "tls": tls})
    found: list[Outcome] = []
    await asyncio.sleep(0.3)
    try:
        yield found
        await asyncio.sleep(0.3)
    finally:
        said = await _result(control)
        found.append(Outcome(said["took"], said["failed"], {}, 0.0))


async def besiege(run: Run, name: str, *, seconds: float = 6.0, tls: bool = False) -> Outcome:
    """One attack, or several joined by " + ", under the eyes of the control user."""
    attackers = {part: await _start("attackers") for part in name.split(" + ")}
    with Peak(run.worker) as peak:
        async with controlled(run, tls=tls) as found:
            for part, attacker in attackers.items():
                told = {"attack": part, "port": run.world.product.port, "seconds": seconds, "heads": attack_heads(run)}
                await _tell(attacker, told)
            done = {part: await _result(attacker) for part, attacker in attackers.items()}
    return replace(found[0], done=done, grown_mib=peak.grown_mib)


async def _start(program: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        PYTHON, "-m", f"tests.endurance.{program}", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


async def _tell(process: asyncio.subprocess.Process, what: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what).encode() + b"\n")
    await process.stdin.drain()


async def _result(process: asyncio.subprocess.Process) -> Any:
    said, complaint = await process.communicate(b"")
    assert process.returncode == 0, complaint[-800:]
    return json.loads(said)


def run_delay_s(pid: int) -> float:
    """How long the process was ready to run and had no core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def report(name: str, outcome: Outcome, delayed_s: float) -> str:
    rows = []
    for path, took in outcome.took.items():
        figures = " | ".join(f"{seconds * 1e3:.0f}" for seconds in (outcome.at(path, 0.5), outcome.at(path, 0.99), outcome.worst(path)))
        rows.append(f"| {name} | {path} | {len(took)} | {figures} | {len(outcome.failed)} | +{outcome.grown_mib:.0f} | {delayed_s:.1f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("attacks", nargs="*", metavar="ATTACK")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pin", action="store_true")
    told = parser.parse_args()
    names = told.attacks or [*ATTACKS, *TOGETHER]
    cores = sorted(os.sched_getaffinity(0))
    print("| attack | path | calls | p50 ms | p99 ms | worst ms | failed | MiB | s without a core |\n|" + " --- |" * 9)
    if told.pin:
        os.sched_setaffinity(0, cores[1:2])
    for tls in (False, True):
        chosen = [name for name in names if (name in TLS_ATTACKS) is tls]
        if chosen:
            with stage(tls=tls) as run:
                if told.pin:
                    os.sched_setaffinity(run.worker, cores[:1])
                for name in chosen:
                    _run_one(run, name, told.seconds, tls)


def _run_one(run: Run, name: str, seconds: float, tls: bool) -> None:
    before = run_delay_s(run.worker)
    outcome = asyncio.run(besiege(run, name, seconds=seconds, tls=tls))
    print(report(name, outcome, run_delay_s(run.worker) - before), flush=True)
    for failure in outcome.failed[:3]:
        print("    ", failure[:300], flush=True)
    time.sleep(2.0)


if __name__ == "__main__":
    main()
