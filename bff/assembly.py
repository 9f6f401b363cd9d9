"""Settings become a worker: every collaborator is built here, once, and handed on by name. Nobody imports this but the root.

Construction does no I/O except reading the files that the settings name (keys, secrets, certificates).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quart import Quart

from bff.agent.app import build_agent
from bff.agent.options import AgentOptions
from bff.agent.routes import agent_routes
from bff.base.clock import Clock
from bff.base.errors import ConfigError
from bff.base.events import Probe
from bff.manage.app import build_management
from bff.manage.readiness import Readiness
from bff.oauth.client import Wire
from bff.oauth.directory import Directory
from bff.oauth.flows import OAuthClient
from bff.oauth.types import IdTokenRules
from bff.observe.access import AccessLog
from bff.observe.audit import AuditTrail
from bff.observe.logs import Logger
from bff.observe.metrics import Metrics
from bff.policy.routes import Route, Upstream
from bff.policy.table import RouteTable
from bff.proxy.gatekeeper import Gatekeeper
from bff.proxy.handoff import Handoff
from bff.proxy.headers import HeaderRules
from bff.proxy.house import DoorHouse, DoorOptions
from bff.proxy.upstream import UpstreamPool
from bff.session.cookies import CookiePolicy
from bff.session.credentials import CredentialDesk
from bff.session.keeper import Keeper
from bff.session.pending import PendingCookies
from bff.session.sealing import KeyRing
from bff.session.signing import Signer
from bff.session.store import open_store
from bff.session.store.port import SessionStore
from bff.settings import Settings, build_identity, build_routes
from bff.tally import Tally

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything one worker process owns. ``worker.py`` gives it a life and a death."""

    settings: Settings
    clock: Clock
    log: Logger
    ring: KeyRing
    store: SessionStore
    wire: Wire
    directory: Directory
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


def build_worker(settings: Settings, *, clock: Clock, log: Logger, write: Callable[[bytes], object], agent_socket: str) -> Worker:
    """One worker's parts, wired together. ConfigError names the file and the key that cannot be used."""
    metrics = Metrics()
    probe: Probe = AuditTrail(log=log, metrics=metrics)
    ring = read_ring(settings)
    cookie = CookiePolicy(name=settings.cookie.name, same_site=settings.cookie.same_site, prefix=settings.cookie.prefix)
    store = open_store(settings.session.store.reveal(), clock=clock)
    wire = _build_wire(settings, clock)
    directory = Directory(
        issuer=settings.provider.issuer,
        wire=wire,
        clock=clock,
        probe=probe,
        danger_plain_http=settings.provider.danger_plain_http_provider,
    )
    client = _build_client(settings, directory, wire, clock, probe)
    keeper = Keeper(
        store=store,
        ring=ring,
        cookie=cookie,
        clock=clock,
        idle_s=settings.session.idle,
        max_s=settings.session.max,
        claims=settings.kept_claims,
        probe=probe,
        cached=settings.session.cached,
    )
    desk = CredentialDesk(keeper=keeper, client=client, store=store, clock=clock, probe=probe, margin_s=settings.session.renew_margin)
    handoff = Handoff(clock=clock)
    agent = build_agent(
        options=_build_agent_options(settings, cookie),
        client=client,
        keeper=keeper,
        desk=desk,
        pending=PendingCookies(ring=ring, cookie=cookie, clock=clock),
        signer=Signer(ring, clock=clock),
        handoff=handoff,
        store=store,
        clock=clock,
        probe=probe,
        pseudonym=ring.pseudonym,
    )
    gatekeeper = Gatekeeper(
        table=build_table(settings),
        keeper=keeper,
        desk=desk,
        origin=settings.server.public_origin,
        cookie=cookie,
        clock=clock,
        probe=probe,
        pseudonym=ring.pseudonym,
    )
    pool = UpstreamPool(clock=clock, agent_socket=agent_socket)
    access = AccessLog(write=write, pseudonym=lambda key: ring.pseudonym("session", key.hex()))
    tally = Tally(metrics=metrics, access=access if settings.log.access else None)
    house = DoorHouse(
        gatekeeper=gatekeeper,
        pool=pool,
        handoff=handoff,
        desk=desk,
        rules=HeaderRules(own_cookies=settings.cookie.prefix + settings.cookie.name, public_origin=settings.server.public_origin),
        options=_build_door_options(settings, cookie),
        clock=clock,
        touch=keeper.touch,
        believes=keeper.believes,
        sink=tally.take,
    )
    readiness = Readiness(keys_loaded=True, provider_known=lambda: directory.known is not None)
    tally.count_connections = lambda: (house.active, len(house.doors))
    management = build_management(
        keeper=keeper,
        store=store,
        metrics=metrics,
        ring=ring,
        readiness=readiness,
        issuer=settings.provider.issuer,
        revoke=desk.revoke_later,
    )
    return Worker(
        settings=settings,
        clock=clock,
        log=log,
        ring=ring,
        store=store,
        wire=wire,
        directory=directory,
        keeper=keeper,
        desk=desk,
        gatekeeper=gatekeeper,
        house=house,
        pool=pool,
        agent=agent,
        management=management,
        readiness=readiness,
        access=access,
        tls=build_tls(settings),
    )


def read_ring(settings: Settings) -> KeyRing:
    """The key ring file. ConfigError."""
    return KeyRing.from_json(_read("session.keys_file", settings.session.keys_file))


def build_table(settings: Settings) -> RouteTable:
    """The agent's routes and the configured ones. ConfigError where they contradict each other."""
    return RouteTable([*_own_routes(settings), *_api_routes(settings)], reserved=settings.server.prefix)


def build_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the door, 1.2 at least; None without a certificate. ConfigError."""
    server = settings.server
    if not server.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Put the configured certificate into ``context``: new handshakes use it at once. ConfigError."""
    try:
        context.load_cert_chain(settings.server.tls_cert_file, settings.server.tls_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"server.tls_cert_file: cannot be used with server.tls_key_file ({error}); fix: check both files") from error


def _read(key: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {name} ({error}); fix: check the path and its permissions") from error


def _build_wire(settings: Settings, clock: Clock) -> Wire:
    provider = settings.provider
    return Wire(ca_file=provider.ca_file, client_cert_file=provider.client_cert_file, client_key_file=provider.client_key_file, clock=clock)


def _build_client(settings: Settings, directory: Directory, wire: Wire, clock: Clock, probe: Probe) -> OAuthClient:
    provider = settings.provider
    return OAuthClient(
        issuer=provider.issuer,
        identity=build_identity(settings),
        rules=IdTokenRules(algorithms=provider.id_token_algs, leeway_s=provider.leeway, trusted_audiences=provider.trusted_audiences),
        directory=directory,
        wire=wire,
        clock=clock,
        probe=probe,
        use_par=provider.par,
        resources=asked_resources(settings),
        userinfo=provider.userinfo,
    )


def asked_resources(settings: Settings) -> tuple[str, ...]:
    """Every audience that a route may want a token for must be asked for at login (RFC 8707 §2.2)."""
    wanted = [route.audience for route in settings.routes if route.audience]
    return tuple(dict.fromkeys([*settings.provider.resources, *wanted]))


def _build_agent_options(settings: Settings, cookie: CookiePolicy) -> AgentOptions:
    issuer = urlsplit(settings.provider.issuer)
    return AgentOptions(
        public_origin=settings.server.public_origin,
        cookie=cookie,
        prefix=settings.server.prefix,
        scopes=settings.provider.scopes,
        acr_values=settings.known_acr,
        claims=settings.kept_claims,
        spa_directory=Path(settings.spa.directory) if settings.spa.directory else None,
        form_targets=(f"{issuer.scheme}://{issuer.netloc}",),
    )


def _own_routes(settings: Settings) -> Sequence[Route]:
    dev = settings.spa.upstream
    upstream = Upstream(scheme=dev.scheme, host=dev.host, port=dev.port, base_path=dev.path.rstrip("/") + "/") if dev else None
    return agent_routes(settings.server.prefix, spa=bool(settings.spa.directory), spa_upstream=upstream)


def _api_routes(settings: Settings) -> list[Route]:
    return [row for route in settings.routes for row in build_routes(route, default_body_bytes=settings.limits.max_body)]


def _build_door_options(settings: Settings, cookie: CookiePolicy) -> DoorOptions:
    server = settings.server
    return DoorOptions(
        hosts=_hosts(settings),
        tls=bool(server.tls_cert_file),
        trusted=tuple(server.trusted_proxies),
        https=server.public_origin.startswith("https://"),
        prefix=server.prefix,
        clear_cookies=(cookie.clear_session(),),
        connections=server.max_connections,
        head_s=server.head_timeout,
        idle_s=server.keep_alive,
    )


def _hosts(settings: Settings) -> frozenset[str]:
    """Every Host value that is ours: the public origin's (its default port said or not), the listen address, extra ones."""
    origin = urlsplit(settings.server.public_origin)
    port = origin.port or DEFAULT_PORTS[origin.scheme]
    hosts = {origin.netloc.lower(), *(host.lower() for host in settings.server.hosts)}
    if port == DEFAULT_PORTS[origin.scheme]:
        hosts |= {(origin.hostname or "").lower(), f"{origin.hostname}:{port}".lower()}
    authority = settings.server.listen.authority
    return frozenset(hosts | ({authority} if authority else set()))
