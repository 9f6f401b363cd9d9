"""From settings to plan. ``python -m bff.settings.plan --config FILE`` writes a packed plan to standard output: how SIGHUP re-reads."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bff.agent.options import AgentOptions
from bff.agent.routes import agent_routes
from bff.base.errors import ConfigError
from bff.oauth.types import IdTokenRules
from bff.plan import ForwardAuthPlan, Plan, ProviderPlan, ServerPlan, SessionPlan, pack
from bff.policy.routes import Route, Upstream
from bff.proxy.headers import HeaderRules
from bff.proxy.house import DoorOptions
from bff.session.cookies import CookiePolicy
from bff.settings.fixed import fixed_settings
from bff.settings.identity import build_identity
from bff.settings.load import load_settings
from bff.settings.model import Settings
from bff.settings.routes import build_routes

DEFAULT_PORTS = {"http": 80, "https": 443}
EXIT_CONFIG = 78


def build_plan(settings: Settings) -> Plan:
    """Everything a worker needs. ConfigError if a key file vanished since the settings were checked."""
    cookie = CookiePolicy(
        name=settings.cookie.name,
        same_site=settings.cookie.same_site,
        prefix=settings.cookie.prefix,
        instance=settings.server.public_origin,
    )
    provider = _build_provider(settings)
    return Plan(
        server=_build_server(settings),
        provider=provider,
        session=_build_session(settings),
        cookie=cookie,
        agent=_build_agent_options(settings, cookie),
        door=_build_door_options(settings, cookie),
        rules=HeaderRules(own_cookies=settings.cookie.prefix + settings.cookie.name, public_origin=settings.server.public_origin),
        routes=(*_own_routes(settings), *_api_routes(settings)),
        forward_auth=ForwardAuthPlan(settings.forward_auth.enabled, tuple(settings.forward_auth.identity_headers.items())),
        configured=len(settings.routes),
        fixed=fixed_settings(settings, provider.identity),
    )


def _build_server(settings: Settings) -> ServerPlan:
    server, log = settings.server, settings.log
    return ServerPlan(
        listen=str(server.listen),
        manage_listen=str(server.manage_listen),
        manage_hosts=_manage_hosts(settings),
        public_origin=server.public_origin,
        prefix=server.prefix,
        workers=server.workers,
        drain_delay_s=server.drain_delay,
        grace_s=server.grace,
        head_s=server.head_timeout,
        stuck_s=server.stuck_timeout,
        tls_cert_file=server.tls_cert_file,
        tls_key_file=server.tls_key_file,
        log_format=log.format,
        log_level=log.level,
        log_access=log.access,
    )


def _build_provider(settings: Settings) -> ProviderPlan:
    provider = settings.provider
    try:
        identity = build_identity(settings)
    except OSError as error:
        raise ConfigError(f"provider.private_key_file: cannot be read ({error}); fix: check the path and its permissions") from error
    return ProviderPlan(
        issuer=provider.issuer,
        identity=identity,
        rules=IdTokenRules(
            algorithms=provider.id_token_algs,
            leeway_s=provider.leeway,
            trusted_audiences=provider.trusted_audiences,
            logout_typ=provider.logout_typ,
        ),
        par=provider.par,
        authorize_parameters=dict(provider.authorize_parameters),
        resources=asked_resources(settings),
        own_resource=provider.resources[0] if provider.resources else "",
        userinfo=provider.userinfo,
        ca_file=provider.ca_file,
        client_cert_file=provider.client_cert_file,
        client_key_file=provider.client_key_file,
        danger_plain_http=provider.danger_plain_http_provider,
    )


def _build_session(settings: Settings) -> SessionPlan:
    session = settings.session
    return SessionPlan(
        store=session.store,
        keys_file=session.keys_file,
        idle_s=session.idle,
        max_s=session.max,
        cached=session.cached,
        claims=settings.kept_claims,
        renew_margin_s=session.renew_margin,
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
        optional_scopes=frozenset(settings.provider.optional_scopes),
        post_logout_path=settings.spa.post_logout_path,
        clear_site_data=settings.session.clear_site_data,
        acr_values=settings.known_acr,
        claims=settings.kept_claims,
        spa_directory=Path(settings.spa.directory) if settings.spa.directory else None,
        spa_csp=settings.spa.csp,
        form_targets=(f"{issuer.scheme}://{issuer.netloc}",),
    )


def _own_routes(settings: Settings) -> list[Route]:
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
        connections_per_address=server.max_connections_per_address,
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


def _manage_hosts(settings: Settings) -> frozenset[str] | None:
    listen = settings.server.manage_listen
    if listen.kind == "unix":
        return None
    return frozenset({"localhost", listen.host.lower(), *(host.lower() for host in settings.server.manage_hosts)} - {""})


def main() -> int:
    """Packed plan on standard output, or problems as a JSON list on standard error and exit code 78."""
    parser = argparse.ArgumentParser(prog="python -m bff.settings.plan")
    parser.add_argument("--config", type=Path)
    try:
        sys.stdout.buffer.write(pack(build_plan(load_settings(parser.parse_args().config, os.environ))))
    except ConfigError as error:
        sys.stderr.write(json.dumps(error.problems))
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
