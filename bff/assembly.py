"""The plan becomes a worker: every collaborator is built here, once, and handed on by name. Nobody imports this but the root.

Construction does no I/O except reading the files that the plan names (keys, certificates).
"""

from __future__ import annotations

import resource
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from quart import Quart

from bff.agent.app import build_agent
from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.base.events import Probe
from bff.forward_auth.answer import Rendering
from bff.forward_auth.inquiry import ForwardAuth
from bff.manage.app import build_management
from bff.manage.readiness import Readiness
from bff.manage.timed import TimedStore
from bff.oauth.client import Wire
from bff.oauth.directory import Directory
from bff.oauth.flows import OAuthClient
from bff.observe.access import AccessLog
from bff.observe.audit import AuditTrail
from bff.observe.logs import Logger
from bff.observe.metrics import Metrics
from bff.plan import Plan
from bff.policy.table import RouteTable
from bff.proxy.gatekeeper import Gatekeeper
from bff.proxy.handoff import Handoff
from bff.proxy.house import DoorHouse
from bff.proxy.upstream import UpstreamPool
from bff.session.credentials import CredentialDesk
from bff.session.keeper import Keeper
from bff.session.pending import PendingCookies
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from bff.session.store import open_store
from bff.session.store.port import SessionStore
from bff.tally import Tally

FILES_RESERVED = 256


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything one worker process owns. ``worker.py`` gives it a life and a death."""

    plan: Plan
    clock: Clock
    log: Logger
    ring: KeyRing
    store: SessionStore
    wire: Wire
    directory: Directory
    client: OAuthClient
    keeper: Keeper
    desk: CredentialDesk
    gatekeeper: Gatekeeper
    house: DoorHouse
    pool: UpstreamPool
    agent: Quart
    management: Quart
    readiness: Readiness
    access: AccessLog
    tls: ssl.SSLContext | None


def build_worker(plan: Plan, *, clock: Clock, log: Logger, write: Callable[[bytes], object], agent_socket: str) -> Worker:
    """One worker's parts, wired together. ConfigError names the file and the key that cannot be used."""
    metrics = Metrics()
    probe: Probe = AuditTrail(log=log, metrics=metrics)
    ring = read_ring(plan)
    store = TimedStore(open_store(plan.session.store.reveal(), clock=clock), observe=metrics.observe_store, monotonic=clock.monotonic)
    wire = _build_wire(plan, clock)
    directory = Directory(
        issuer=plan.provider.issuer,
        wire=wire,
        clock=clock,
        probe=probe,
        danger_plain_http=plan.provider.danger_plain_http,
    )
    client = _build_client(plan, directory, wire, clock, probe)
    keeper = Keeper(
        store=store,
        ring=ring,
        cookie=plan.cookie,
        clock=clock,
        idle_s=plan.session.idle_s,
        max_s=plan.session.max_s,
        claims=plan.session.claims,
        probe=probe,
        cached=plan.session.cached,
    )
    desk = CredentialDesk(keeper=keeper, client=client, store=store, clock=clock, probe=probe, margin_s=plan.session.renew_margin_s)
    handoff = Handoff(clock=clock)
    agent = build_agent(
        options=plan.agent,
        client=client,
        keeper=keeper,
        desk=desk,
        pending=PendingCookies(ring=ring, cookie=plan.cookie, clock=clock),
        signer=Signer(ring, clock=clock),
        handoff=handoff,
        store=store,
        clock=clock,
        probe=probe,
        pseudonym=ring.pseudonym,
    )
    gatekeeper = Gatekeeper(
        table=build_table(plan),
        keeper=keeper,
        desk=desk,
        origin=plan.server.public_origin,
        cookie=plan.cookie,
        clock=clock,
        probe=probe,
        pseudonym=ring.pseudonym,
    )
    pool = UpstreamPool(clock=clock, agent_socket=agent_socket)
    access = AccessLog(write=write, pseudonym=lambda key: ring.pseudonym("session", key.hex()))
    tally = Tally(metrics=metrics, access=access if plan.server.log_access else None)
    house = DoorHouse(
        gatekeeper=gatekeeper,
        pool=pool,
        handoff=handoff,
        desk=desk,
        rules=plan.rules,
        options=replace(plan.door, connections=fit_connections(plan.door.connections, files=_files_allowed())),
        clock=clock,
        touch=keeper.touch,
        believes=keeper.believes,
        sink=tally.take,
        asked=build_forward_auth(plan, ring) if plan.forward_auth.enabled else None,
    )
    readiness = Readiness(keys_loaded=True, provider_known=lambda: directory.known is not None)
    tally.count_connections = lambda: (house.active, len(house.doors))
    management = build_management(
        keeper=keeper,
        store=store,
        metrics=metrics,
        ring=ring,
        readiness=readiness,
        issuer=plan.provider.issuer,
        revoke=desk.revoke_later,
    )
    return Worker(
        plan=plan,
        clock=clock,
        log=log,
        ring=ring,
        store=store,
        wire=wire,
        directory=directory,
        client=client,
        keeper=keeper,
        desk=desk,
        gatekeeper=gatekeeper,
        house=house,
        pool=pool,
        agent=agent,
        management=management,
        readiness=readiness,
        access=access,
        tls=build_tls(plan),
    )


def fit_connections(wanted: int, *, files: int) -> int:
    """As many browser connections as leave files for upstreams, store and management: who comes too many is then told so, and
    health still answers (F52). ``files`` is the limit of open files."""
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


def _build_wire(plan: Plan, clock: Clock) -> Wire:
    provider = plan.provider
    return Wire(ca_file=provider.ca_file, client_cert_file=provider.client_cert_file, client_key_file=provider.client_key_file, clock=clock)


def _build_client(plan: Plan, directory: Directory, wire: Wire, clock: Clock, probe: Probe) -> OAuthClient:
    provider = plan.provider
    return OAuthClient(
        issuer=provider.issuer,
        identity=provider.identity,
        rules=provider.rules,
        directory=directory,
        wire=wire,
        clock=clock,
        probe=probe,
        use_par=provider.par,
        resources=provider.resources,
        own_resource=provider.own_resource,
        userinfo=provider.userinfo,
    )
