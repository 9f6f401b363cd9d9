"""The agent's process: the agent and the management listener, the provider's client, the credential desk. Its parts, its life and its end.

One of them serves all workers of an instance. Workers serve browsers and APIs and hold no code for the provider; what needs the
provider is asked for here, over two private Unix sockets that the supervisor holds. So a worker stays small, and while this process is
started anew its callers wait in the sockets' queues instead of being refused.

Order at the end (OPS-6): not ready at once → serve until the last worker is gone → finish what runs → close.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart import Quart

from bff.agent.app import AgentApp, build_agent
from bff.agent.app import adopt as adopt_options
from bff.agent.reception import Reception
from bff.agent.server import AgentServer
from bff.assembly import Shared, build_keeper, build_shared, build_table, read_ring
from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.base.listening import BACKLOG, KEEPS_PATH
from bff.board import Board
from bff.manage.app import build_management
from bff.manage.readiness import Readiness
from bff.oauth.client import Wire
from bff.oauth.directory import Directory
from bff.oauth.flows import OAuthClient
from bff.observe.logs import configure_logs
from bff.plan import Plan, PlanBox
from bff.process import Instance, beating, cancel, keep_settled, reach_store, settle_memory, watch_end, watch_signals
from bff.session.credentials import CredentialDesk
from bff.session.desk_server import DeskServer
from bff.session.keeper import Keeper
from bff.session.pending import PendingCookies
from bff.session.signing import Signer

CACHED_SESSIONS = 200
"""Of sessions that the agent was asked about: it sees each of them seldom, and its memory is for other things."""
AGENT_CLOSES_S = 2.0
DESK_CLOSES_S = 5.0
LAG_S = 0.25
"""A process whose loop is later than this says so in /readyz: everybody it serves waits as long."""
HANGING_S = 5.0
"""Longer than this beyond its time no worker ends by itself."""


@dataclass(frozen=True, slots=True)
class Agency:
    """Everything the agent's process owns."""

    shared: Shared
    wire: Wire
    directory: Directory
    client: OAuthClient
    keeper: Keeper
    desk: CredentialDesk
    agent: AgentApp
    management: Quart
    readiness: Readiness
    desk_server: DeskServer


def build_agency(shared: Shared, instance: Instance, slot: int) -> Agency:
    """The parts, wired together. ConfigError names the file and the key that cannot be used."""
    plan, clock, ring, store, probe = shared.plan, shared.clock, shared.ring, shared.store, shared.probe
    wire = _build_wire(plan, clock)
    directory = Directory(
        issuer=plan.provider.issuer, wire=wire, clock=clock, probe=probe, danger_plain_http=plan.provider.danger_plain_http
    )
    client = _build_client(shared, directory, wire)
    keeper = build_keeper(shared, cached=min(CACHED_SESSIONS, plan.session.cached))
    desk = CredentialDesk(
        keeper=keeper,
        client=client,
        store=store,
        clock=clock,
        probe=probe,
        margin_s=plan.session.renew_margin_s,
        holder=instance.holder(slot),
    )
    routes = {route.name: route for route in build_table(plan).routes if route.upstream is None and not route.by_claim}
    reception = Reception(signer=Signer(instance.ring, clock=clock), sessions=keeper, cookie=plan.cookie, routes=routes)
    agent = build_agent(
        options=plan.agent,
        client=client,
        keeper=keeper,
        desk=desk,
        pending=PendingCookies(ring=ring, cookie=plan.cookie, clock=clock),
        signer=Signer(ring, clock=clock),
        verdicts=reception,
        store=store,
        clock=clock,
        probe=probe,
        pseudonym=ring.pseudonym,
    )
    readiness = Readiness(
        keys_loaded=True,
        workers_serve=lambda: any(instance.board.lives(number, clock.monotonic()) for number in range(plan.server.workers)),
        provider_known=lambda: directory.known is not None,
        degraded=lambda: find_impairments(directory, client, instance.board, clock.monotonic()),
    )
    management = build_management(
        keeper=keeper,
        store=store,
        metrics=shared.metrics,
        ring=ring,
        readiness=readiness,
        issuer=plan.provider.issuer,
        revoke=desk.revoke_later,
        hosts=plan.server.manage_hosts,
    )
    return Agency(
        shared=shared,
        wire=wire,
        directory=directory,
        client=client,
        keeper=keeper,
        desk=desk,
        agent=agent,
        management=management,
        readiness=readiness,
        desk_server=DeskServer(keeper=keeper, desk=desk, secret=instance.secret),
    )


def find_impairments(directory: Directory, client: OAuthClient, board: Board, now: float) -> list[str]:
    """Stable words for what is impaired while we serve on."""
    found = {"provider_unavailable": directory.failing or client.failing, "loop_lag": board.late_s(now) > LAG_S}
    return [word for word, holds in found.items() if holds]


async def run_agency(box: PlanBox, instance: Instance, *, slot: int, manage: socket.socket, lifeline: int, clock: Clock) -> int:
    """Serve until SIGTERM has come or the supervisor has gone, and then until the last worker has: 0. ConfigError, StoreUnavailable at
    start."""
    plan = box.read()
    log = configure_logs(format=plan.server.log_format, level=plan.server.log_level)
    agency = build_agency(build_shared(plan, clock=clock, log=log, memory_file=instance.store_path), instance, slot)
    draining = asyncio.Event()
    watch_signals(draining.set, lambda: _reload(agency, box))
    watch_end(lifeline, draining.set)
    async with beating(instance.board, slot, clock=clock, observe=partial(agency.shared.metrics.observe_turn, "agent")):
        await reach_store(agency.shared, draining)
        if draining.is_set():
            return 0
        if instance.board.draining:  # the one before us died in the middle of it, and nobody signals us
            draining.set()
        await _serve(agency, instance, manage, draining)
    agency.shared.metrics.hand_on()
    return 0


async def _serve(agency: Agency, instance: Instance, manage: socket.socket, draining: asyncio.Event) -> None:
    server, alone = agency.shared.plan.server, asyncio.Event()
    async with _serving(agency, instance, manage):
        settle_memory()
        agency.shared.log.info("agent_serving", pid=os.getpid())
        await draining.wait()
        agency.readiness.draining = True
        # The pipe ends with the last process that serves browsers: they need us until then. One that hangs is not waited for.
        watch_end(instance.workers_alive, alone.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(server.drain_delay_s + server.grace_s + HANGING_S):
                await alone.wait()


@contextlib.asynccontextmanager
async def _serving(agency: Agency, instance: Instance, manage: socket.socket) -> AsyncIterator[None]:
    ended = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(agency.shared.store.close)
        stack.push_async_callback(agency.wire.close)
        stack.push_async_callback(agency.directory.close)
        stack.push_async_callback(agency.desk.close, DESK_CLOSES_S)
        stack.push_async_callback(agency.keeper.settle)
        for work in (agency.keeper.run, agency.directory.run, keep_settled):
            stack.push_async_callback(cancel, asyncio.ensure_future(work()))
        desk = await asyncio.start_unix_server(agency.desk_server.serve, sock=instance.desk_socket.dup(), backlog=BACKLOG, **KEEPS_PATH)
        stack.callback(desk.close)
        stack.push_async_callback(_finish, asyncio.ensure_future(_hypercorn(agency.management, manage.dup(), ended)))
        stack.callback(ended.set)
        agent = AgentServer(agency.agent)
        await agent.start(instance.agent_socket.dup())
        stack.push_async_callback(agent.stop, AGENT_CLOSES_S)
        yield


def _reload(agency: Agency, box: PlanBox) -> None:
    """Keys, and what routes imply, anew from the plan that the supervisor has renewed; anything wrong leaves all as it was."""
    plan = box.read()
    try:
        ring = read_ring(plan)
        build_table(plan)  # what the workers refuse must not be half in force here: a cookie sealed with a key they do not know
    except ConfigError as error:
        agency.shared.log.error("config_refused", problems=list(error.problems))
        return
    agency.shared.ring.adopt(ring)
    agency.keeper.adopt(plan.session.claims)
    agency.client.adopt(plan.provider.resources)
    adopt_options(agency.agent, plan.agent)
    agency.keeper.forget_all()
    agency.shared.log.info("agent_reloaded", keys=len(ring.kids))


async def _hypercorn(app: object, sock: socket.socket, ended: asyncio.Event) -> None:
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # our root handler writes it; "-" would print beside it
    config.graceful_timeout = 1.0
    config.keep_alive_timeout = 120.0
    config.include_server_header = False
    config.backlog = BACKLOG
    await serve(cast(ASGIFramework, app), config, shutdown_trigger=ended.wait)


async def _finish(task: asyncio.Future[None]) -> None:
    """Give a server that was asked to end its moment."""
    await asyncio.wait([task], timeout=2.0)
    await cancel(task)


def _build_wire(plan: Plan, clock: Clock) -> Wire:
    provider = plan.provider
    return Wire(ca_file=provider.ca_file, client_cert_file=provider.client_cert_file, client_key_file=provider.client_key_file, clock=clock)


def _build_client(shared: Shared, directory: Directory, wire: Wire) -> OAuthClient:
    provider = shared.plan.provider
    return OAuthClient(
        issuer=provider.issuer,
        identity=provider.identity,
        rules=provider.rules,
        directory=directory,
        wire=wire,
        clock=shared.clock,
        probe=shared.probe,
        use_par=provider.par,
        more=provider.authorize_parameters,
        resources=provider.resources,
        own_resource=provider.own_resource,
        userinfo=provider.userinfo,
    )
