"""A worker's life: open, serve, reload on SIGHUP, drain on SIGTERM, close in the reverse order.

Order at the end (OPS-6): not ready → wait ``drain_delay`` so that load balancers notice → stop accepting → finish what runs, at most
``grace`` → sockets, agent, sessions' last activity, store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from bff.agent.app import adopt as adopt_options
from bff.assembly import Worker, build_table, build_worker, load_certificate, read_ring
from bff.base.clock import SystemClock
from bff.base.errors import ConfigError, StoreUnavailable
from bff.observe.logs import configure_logs
from bff.observe.outlet import Outlet
from bff.plan import PlanBox

BACKLOG = 4096
STORE_PATIENCE_S = 5.0
HANDSHAKE_S = 0.5


async def run_worker(box: PlanBox, door_socket: socket.socket, manage_socket: socket.socket, *, folder: Path, lifeline: int) -> int:
    """Serve until SIGTERM or until the supervisor is gone; 0. ConfigError, StoreUnavailable at start."""
    plan = box.read()
    log = configure_logs(format=plan.server.log_format, level=plan.server.log_level)
    folder.mkdir(mode=0o700, exist_ok=True)  # noqa: ASYNC240 - before anything is served
    agent_socket = folder / "agent.sock"
    out = Outlet(sys.stdout.fileno())
    worker = build_worker(plan, clock=SystemClock(), log=log, write=out, agent_socket=str(agent_socket))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal's Ctrl-C reaches the supervisor, which sends SIGTERM
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(worker, box))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    loop.add_reader(lifeline, stop.set)
    await _reach_store(worker, stop)
    if stop.is_set():
        return 0
    async with _serving(worker, door_socket, manage_socket, agent_socket) as stop_accepting:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # the hot path makes no cycles; looking for them cost 8 % on never-seen heads
        log.info("serving", pid=os.getpid(), listen=plan.server.listen)
        await stop.wait()
        await _drain(worker, stop_accepting)
    out.close()
    return 0


async def _reach_store(worker: Worker, stop: asyncio.Event) -> None:
    """A store that is busy just now (a backup, an instance that is ending) costs the start a moment. StoreUnavailable for the others."""
    deadline = worker.clock.monotonic() + STORE_PATIENCE_S
    while not stop.is_set():
        try:
            return await worker.store.ping()
        except StoreUnavailable:
            if worker.clock.monotonic() >= deadline:
                raise
        await asyncio.sleep(0.25)


@contextlib.asynccontextmanager
async def _serving(
    worker: Worker, door_socket: socket.socket, manage_socket: socket.socket, agent_socket: Path
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Everything running; yields what stops the door from accepting."""
    ended = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(worker.store.close)
        stack.push_async_callback(worker.wire.close)
        stack.push_async_callback(worker.directory.close)
        stack.push_async_callback(worker.desk.close, 5.0)
        stack.push_async_callback(worker.keeper.settle)
        for work in (worker.keeper.run, worker.directory.run):
            stack.push_async_callback(_cancel, asyncio.ensure_future(work()))
        private = _private_socket(agent_socket)
        servers = [_hypercorn(worker.agent, private, ended), _hypercorn(worker.management, manage_socket.dup(), ended)]
        for server in servers:
            stack.push_async_callback(_finish, asyncio.ensure_future(server))
        stack.callback(ended.set)
        stack.callback(worker.house.stop)
        door = await _open_door(worker, door_socket.dup())
        worker.house.start()
        stack.callback(door.close)
        yield lambda: _stop_accepting(worker, door, door_socket)


async def _open_door(worker: Worker, sock: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(worker.house, sock=sock, ssl=worker.tls, backlog=BACKLOG)
    handshake_s, shutdown_s = _tls_patience(worker)
    return await loop.create_server(
        worker.house, sock=sock, ssl=worker.tls, backlog=BACKLOG, ssl_handshake_timeout=handshake_s, ssl_shutdown_timeout=shutdown_s
    )


def _tls_patience(worker: Worker) -> tuple[float | None, float | None]:
    """A stalled TLS handshake is dropped like a stalled head (attack D9)."""
    return (None, None) if worker.tls is None else (worker.plan.server.head_s, 5.0)


async def _stop_accepting(worker: Worker, door: asyncio.Server, sock: socket.socket) -> None:
    """Take in who waits in the accept queue, then close: the kernel resets whoever is left there when nobody listens any more.

    ``sock`` is this process's other descriptor of the listener: as long as it is open the kernel goes on queueing for nobody.
    """
    door.close()
    welcomes = []
    for _ in range(BACKLOG):
        try:
            connection, _ = sock.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            break
        connection.setblocking(False)
        welcomes.append(asyncio.ensure_future(_welcome(worker, connection)))
    sock.close()
    if worker.tls is not None:
        await asyncio.sleep(HANDSHAKE_S)  # a connection in its handshake is no door of the house yet
    elif welcomes:
        await asyncio.wait(welcomes, timeout=HANDSHAKE_S)


async def _welcome(worker: Worker, connection: socket.socket) -> None:
    handshake_s, shutdown_s = _tls_patience(worker)
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().connect_accepted_socket(
            worker.house, connection, ssl=worker.tls, ssl_handshake_timeout=handshake_s, ssl_shutdown_timeout=shutdown_s
        )


async def _drain(worker: Worker, stop_accepting: Callable[[], Awaitable[None]]) -> None:
    server = worker.plan.server
    worker.readiness.draining = True
    await asyncio.sleep(server.drain_delay_s)
    await stop_accepting()
    worker.house.begin_drain()
    deadline = worker.clock.monotonic() + server.grace_s
    while worker.house.drain() and worker.clock.monotonic() < deadline:  # noqa: ASYNC110 - a drain polls what ends by itself
        await asyncio.sleep(0.05)


def _reload(worker: Worker, box: PlanBox) -> None:
    """Keys, certificates, routes and what routes imply anew, from the plan that the supervisor has renewed; anything wrong leaves all of
    them as they were."""
    plan = box.read()
    try:
        ring, table = read_ring(plan), build_table(plan)
        if worker.tls is not None:
            load_certificate(worker.tls, plan)
    except ConfigError as error:
        worker.log.error("config_refused", problems=list(error.problems))
        return
    worker.ring.adopt(ring)
    worker.gatekeeper.adopt(table)
    worker.keeper.adopt(plan.session.claims)
    worker.client.adopt(plan.provider.resources)
    adopt_options(worker.agent, plan.agent)
    worker.keeper.forget_all()
    worker.access.forget()
    worker.house.forget()
    worker.log.info("config_reloaded", routes=len(table.routes), keys=len(ring.kids))


def _private_socket(path: Path) -> socket.socket:
    """The agent's socket: mode 0600 in a folder of mode 0700, for this worker's door alone."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


async def _hypercorn(app: object, sock: socket.socket, ended: asyncio.Event) -> None:
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # our root handler writes it; "-" would print beside it
    config.graceful_timeout = 1.0
    config.keep_alive_timeout = 120.0
    config.include_server_header = False
    await serve(cast(ASGIFramework, app), config, shutdown_trigger=ended.wait)


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _finish(task: asyncio.Future[None]) -> None:
    """Give a server that was asked to end its moment."""
    await asyncio.wait([task], timeout=2.0)
    await _cancel(task)
