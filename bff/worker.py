"""A worker's life: open, serve, reload on SIGHUP, drain on SIGTERM, close in the reverse order.

Order at the end (OPS-6): not ready (the agent's process says so) → wait ``drain_delay`` so that load balancers notice → stop accepting →
finish what runs, at most ``grace`` → sockets, sessions' last activity, store. Nothing is waited for once the board says to hurry.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from bff.assembly import Worker, build_shared, build_table, build_worker, load_certificate, read_ring
from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.base.listening import BACKLOG, KEEPS_PATH
from bff.board import Board
from bff.observe.logs import configure_logs
from bff.observe.outlet import Outlet
from bff.plan import PlanBox
from bff.process import Instance, beating, cancel, keep_settled, reach_store, settle_memory, watch_end, watch_signals
from bff.proxy.threshold import Threshold

DESK_CLOSES_S = 5.0
UNSENT_BYTES = 128 * 1024
ACCEPTS_IN_A_TURN = 16
HANDSHAKE_S = 0.5
LOOKS_EVERY_S = 0.05
"""In a drain: at what ends by itself, and for a word that nobody shall be waited for."""


async def run_worker(box: PlanBox, instance: Instance, *, slot: int, door: socket.socket, lifeline: int, clock: Clock) -> int:
    """Serve until SIGTERM or until the supervisor is gone; 0. ConfigError, StoreUnavailable at start."""
    plan = box.read()
    log = configure_logs(format=plan.server.log_format, level=plan.server.log_level)
    shared = build_shared(plan, clock=clock, log=log, memory_file=instance.store_path)
    out = Outlet(sys.stdout.fileno())
    worker = build_worker(
        shared,
        write=out,
        agent_socket=instance.agent_path,
        notes=instance.ring,
        connect=lambda: asyncio.open_unix_connection(instance.desk_path),
        secret=instance.secret,
    )
    stop = asyncio.Event()
    watch_signals(stop.set, lambda: _reload(worker, box))
    watch_end(lifeline, stop.set)
    async with beating(instance.board, slot, clock=clock, observe=partial(shared.metrics.observe_turn, "worker")):
        await reach_store(shared, stop)
        if stop.is_set():
            return 0
        await _serve(worker, door, stop, instance.board)
    shared.metrics.hand_on()
    out.close()
    return 0


async def _serve(worker: Worker, door: socket.socket, stop: asyncio.Event, board: Board) -> None:
    log, server = worker.shared.log, worker.shared.plan.server
    async with _serving(worker, door) as stop_accepting:
        settle_memory()
        # The hot path makes no cycles; looking for them cost 8 % on never-seen heads. The agent makes some: with this it grew by 6 MiB in a
        # soak, by 1 without.
        gc.set_threshold(50_000, 20, 100)
        log.info("serving", pid=os.getpid(), listen=server.listen, open=server.public_origin)
        await stop.wait()
        log.info("draining", pid=os.getpid(), connections=len(worker.house.crowd))
        await _drain(worker, board, stop_accepting)
    log.info("drained", pid=os.getpid())


@contextlib.asynccontextmanager
async def _serving(worker: Worker, door_socket: socket.socket) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Everything running; yields what stops the door from accepting."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(worker.shared.store.close)
        stack.push_async_callback(worker.desk.close, DESK_CLOSES_S)
        stack.push_async_callback(worker.keeper.settle)
        for work in (worker.keeper.run, keep_settled):
            stack.push_async_callback(cancel, asyncio.ensure_future(work()))
        stack.callback(worker.house.stop)
        threshold = None
        if worker.tls is not None:
            threshold = Threshold(house=worker.house, tls=worker.tls, patience_s=worker.shared.plan.server.head_s)
            stack.callback(threshold.stop)
        close_door = await _open_door(worker, door_socket, threshold)
        worker.house.start()
        stack.callback(close_door)
        yield lambda: _stop_accepting(worker, close_door, door_socket, threshold)


async def _open_door(worker: Worker, sock: socket.socket, threshold: Threshold | None) -> Callable[[], None]:
    """Accept from ``sock``; returns what ends that.

    libuv takes one connection in a turn of its loop from each listening descriptor, however many wait: behind a burst of 200 somebody
    waited for 200 turns, a second when they were long (measured). So there are several descriptors.
    """
    if sock.family != socket.AF_UNIX:
        _bound_unsent(sock)
    if threshold is not None:
        threshold.open(sock.dup())
        return threshold.close
    servers = [await _listen(worker, sock.dup()) for _ in range(ACCEPTS_IN_A_TURN)]

    def close() -> None:
        for server in servers:
            server.close()

    return close


async def _listen(worker: Worker, sock: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(worker.house, sock=sock, backlog=BACKLOG, **KEEPS_PATH)
    return await loop.create_server(worker.house, sock=sock, backlog=BACKLOG)


def _bound_unsent(sock: socket.socket) -> None:
    """Let the kernel take at most this much that it cannot send yet; connections inherit it. Without it each of those who ask for much
    and do not read takes megabytes of copying and of kernel memory at once (F55)."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


async def _stop_accepting(worker: Worker, close_door: Callable[[], None], sock: socket.socket, threshold: Threshold | None) -> None:
    """Take in who waits in the accept queue, then close: the kernel resets whoever is left there when nobody listens any more.

    ``sock`` is this process's other descriptor of the listener: as long as it is open the kernel goes on queueing for nobody.
    """
    close_door()
    welcomes = []
    for _ in range(BACKLOG):
        try:
            connection, peer = sock.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            break
        connection.setblocking(False)
        if threshold is not None:
            threshold.welcome(connection, peer)
        else:
            welcomes.append(asyncio.ensure_future(_welcome(worker, connection)))
    sock.close()
    if threshold is not None:
        await threshold.settle(HANDSHAKE_S)
    elif welcomes:
        await asyncio.wait(welcomes, timeout=HANDSHAKE_S)


async def _welcome(worker: Worker, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().connect_accepted_socket(worker.house, connection)


async def _drain(worker: Worker, board: Board, stop_accepting: Callable[[], Awaitable[None]]) -> None:
    server, clock = worker.shared.plan.server, worker.shared.clock
    await _wait(server.drain_delay_s, clock, lambda: board.hurrying)
    await stop_accepting()
    worker.house.begin_drain()
    await _wait(server.grace_s, clock, lambda: board.hurrying or not worker.house.drain())


async def _wait(at_most_s: float, clock: Clock, over: Callable[[], bool]) -> None:
    deadline = clock.monotonic() + at_most_s
    while not over() and (left_s := deadline - clock.monotonic()) > 0:  # noqa: ASYNC110 - what ends by itself, in other processes too
        await asyncio.sleep(min(LOOKS_EVERY_S, left_s))


def _reload(worker: Worker, box: PlanBox) -> None:
    """Keys, certificates, routes and what routes imply anew, from the plan that the supervisor has renewed; anything wrong leaves all of
    them as they were."""
    plan, log = box.read(), worker.shared.log
    try:
        ring, table = read_ring(plan), build_table(plan)
        if worker.tls is not None:
            load_certificate(worker.tls, plan)
    except ConfigError as error:
        log.error("config_refused", problems=list(error.problems))
        return
    worker.shared.ring.adopt(ring)
    worker.gatekeeper.adopt(table)
    worker.keeper.adopt(plan.session.claims)
    worker.keeper.forget_all()
    worker.access.forget()
    worker.house.forget()
    log.info("config_reloaded", routes=plan.configured, keys=len(ring.kids))
