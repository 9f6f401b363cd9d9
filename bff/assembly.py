"""The plan becomes a process's parts: every collaborator is built once, here or in bff.agency, and handed on by name.

Nobody imports this but the root. Construction does no I/O except reading the files that the plan names (keys, certificates).
"""

from __future__ import annotations

import resource
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.base.events import Probe
from bff.forward_auth.answer import Rendering
from bff.forward_auth.inquiry import ForwardAuth
from bff.observe.access import AccessLog
from bff.observe.audit import AuditTrail
from bff.observe.logs import Logger, is_text, line_as_text
from bff.observe.metrics import Metrics
from bff.plan import Plan
from bff.policy.handoff import Handoff
from bff.policy.table import RouteTable
from bff.proxy.gatekeeper import Gatekeeper
from bff.proxy.house import DoorHouse
from bff.proxy.upstream import UpstreamPool
from bff.session.desk_client import Connect, RemoteDesk
from bff.session.keeper import Keeper
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from bff.session.store import open_store
from bff.session.store.port import SessionStore
from bff.session.store.timed import TimedStore
from bff.tally import Tally

FILES_RESERVED = 256


@dataclass(frozen=True, slots=True)
class Shared:
    """What workers and the agent's process have in common. Each builds its own."""

    plan: Plan
    clock: Clock
    log: Logger
    metrics: Metrics
    probe: Probe
    ring: KeyRing
    store: SessionStore


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything one worker process owns. ``worker.py`` gives it a life and a death."""

    shared: Shared
    keeper: Keeper
    desk: RemoteDesk
    gatekeeper: Gatekeeper
    house: DoorHouse
    pool: UpstreamPool
    access: AccessLog
    tls: ssl.SSLContext | None


def build_shared(plan: Plan, *, clock: Clock, log: Logger, memory_file: Path) -> Shared:
    """``memory_file`` is where the processes of an instance share sessions that nobody wants to keep (``memory:``).
    ConfigError names the file and the key that cannot be used."""
    metrics = Metrics()
    store = open_store(plan.session.store.reveal(), clock=clock, memory_file=memory_file)
    timed = TimedStore(store, observe=metrics.observe_store, monotonic=clock.monotonic)
    return Shared(plan, clock, log, metrics, AuditTrail(log=log, metrics=metrics), read_ring(plan), timed)


def build_keeper(shared: Shared, *, cached: int, only_sends: bool = False) -> Keeper:
    plan = shared.plan
    return Keeper(
        store=shared.store,
        ring=shared.ring,
        cookie=plan.cookie,
        clock=shared.clock,
        idle_s=plan.session.idle_s,
        max_s=plan.session.max_s,
        claims=plan.session.claims,
        probe=shared.probe,
        cached=cached,
        only_sends=only_sends,
    )


def build_worker(
    shared: Shared, *, write: Callable[[bytes], object], agent_socket: str, notes: KeyRing, connect: Connect, secret: bytes
) -> Worker:
    """One worker's parts. ``notes`` signs what goes to the agent at ``agent_socket``; ``connect`` and ``secret`` reach its desk."""
    plan, clock, ring = shared.plan, shared.clock, shared.ring
    keeper = build_keeper(shared, cached=plan.session.cached, only_sends=True)
    desk = RemoteDesk(keeper=keeper, connect=connect, secret=secret, clock=clock, margin_s=plan.session.renew_margin_s)
    gatekeeper = Gatekeeper(
        table=build_table(plan),
        keeper=keeper,
        desk=desk,
        origin=plan.server.public_origin,
        cookie=plan.cookie,
        clock=clock,
        probe=shared.probe,
        pseudonym=ring.pseudonym,
    )
    pool = UpstreamPool(clock=clock, agent_socket=agent_socket)
    render = line_as_text if is_text(plan.server.log_format, sys.stdout) else None
    access = AccessLog(write=write, pseudonym=lambda key: ring.pseudonym("session", key.hex()), render=render)
    tally = Tally(metrics=shared.metrics, access=access if plan.server.log_access else None)
    house = DoorHouse(
        gatekeeper=gatekeeper,
        pool=pool,
        handoff=Handoff(signer=Signer(notes, clock=clock)),
        desk=desk,
        rules=plan.rules,
        options=replace(plan.door, connections=fit_connections(plan.door.connections, files=_files_allowed())),
        clock=clock,
        touch=keeper.touch,
        believes=keeper.believes,
        hear=keeper.hear,
        sink=tally.take,
        asked=build_forward_auth(plan, ring) if plan.forward_auth.enabled else None,
    )
    tally.count_connections = lambda: (house.active, len(house.crowd))
    return Worker(shared, keeper, desk, gatekeeper, house, pool, access, build_tls(plan))


def fit_connections(wanted: int, *, files: int) -> int:
    """As many browser connections as leave files for upstreams and the store: who comes too many is then told so (F52).
    ``files`` is the limit of open files."""
    return min(wanted, files - min(FILES_RESERVED, files // 2))


def _files_allowed() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def read_ring(plan: Plan) -> KeyRing:
    """The key ring file. ConfigError."""
    return KeyRing.from_json(_read("session.keys_file", plan.session.keys_file))


def build_table(plan: Plan) -> RouteTable:
    """The agent's routes and the configured ones. ConfigError where they contradict each other."""
    return RouteTable(plan.routes, reserved=plan.server.prefix)


def build_forward_auth(plan: Plan, ring: KeyRing) -> ForwardAuth:
    """The endpoint that front proxies ask. Reads the ring anew for each question: rotated keys hold at once."""
    rendering = Rendering(rules=plan.rules, prefix=plan.server.prefix, https=plan.door.https, clear_cookies=plan.door.clear_cookies)
    return ForwardAuth(secrets=lambda: forward_auth_secrets(ring), rendering=rendering, identity=plan.forward_auth.identity)


def forward_auth_secrets(ring: KeyRing) -> list[str]:
    """What a front proxy proves itself with, newest first: one for each key, so that a configuration outlives a rotation."""
    return [index.hex() for index in ring.indexes("forward-auth")]


def build_tls(plan: Plan) -> ssl.SSLContext | None:
    """TLS for the door, 1.2 at least; None without a certificate. ConfigError."""
    server = plan.server
    if not server.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, plan)
    return context


def load_certificate(context: ssl.SSLContext, plan: Plan) -> None:
    """Put the configured certificate into ``context``: new handshakes use it at once. ConfigError."""
    try:
        context.load_cert_chain(plan.server.tls_cert_file, plan.server.tls_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"server.tls_cert_file: cannot be used with server.tls_key_file ({error}); fix: check both files") from error


def _read(key: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {name} ({error}); fix: check the path and its permissions") from error
