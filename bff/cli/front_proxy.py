"""``bff front-proxy``: a configuration that makes a front proxy ask us and go to the APIs itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from bff.cli.options import config_option, load
from bff.cli.report import CONFIG, OK, USAGE, Stop

if TYPE_CHECKING:
    from bff.forward_auth.front import Address, Front
    from bff.settings import Settings

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_CERTIFICATE, _KEY = "/etc/ssl/private/front-proxy.crt", "/etc/ssl/private/front-proxy.key"
_MAX_CACHE_S = 60


@click.command("front-proxy")
@click.argument("program", type=click.Choice(["nginx", "envoy", "traefik", "caddy", "haproxy"]))
@config_option
@click.option(
    "--cache", default="0s", metavar="DURATION", help="nginx: repeat an answer for this long, at most 60s; a sign-out is that much later."
)
@click.option("--part", default="", help="traefik: dynamic (default) or static; haproxy: config (default) or script.")
@click.option(
    "--cache-folder", default="/run/bff-forward-auth", show_default=True, help="nginx: where answers are kept; a folder in memory."
)
@click.option(
    "--door",
    "doors",
    multiple=True,
    metavar="HOST:PORT",
    help="Where we are reached; once for each of several instances that share sessions.",
)
def front_proxy(program: str, config: Path, cache: str, part: str, cache_folder: str, doors: tuple[str, ...]) -> int:
    """Print a working configuration for a front proxy that asks us about each request."""
    from bff.forward_auth.generate import ASKS_ONE_ADDRESS, PROGRAMS, build_part

    settings = load(config)
    cache_s = _read_cache(program, cache)
    if part and part not in PROGRAMS[program]:
        raise Stop(USAGE, f"{program} has no part {part}", f"use one of: {', '.join(PROGRAMS[program])}")
    if len(doors) > 1 and program in ASKS_ONE_ADDRESS:
        raise Stop(USAGE, f"{program} asks at one address alone", "give one --door, a name that stands for all instances")
    front = build_front(settings, program, doors, cache_s=cache_s, cache_folder=cache_folder)
    for what, fix in _warnings(settings):
        click.echo(f"warn  {what}\n      fix: {fix}", err=True)
    click.echo(build_part(front, program, part), nl=False)
    return OK


def build_front(settings: Settings, program: str, given: tuple[str, ...] = (), *, cache_s: int = 0, cache_folder: str = "") -> Front:
    """What the generators need. Stop where the settings leave a front proxy no way to us."""
    from bff.assembly import forward_auth_secrets, read_ring
    from bff.forward_auth.front import Front, read_ways
    from bff.forward_auth.generate import CHECKS_NAMES_ALONE
    from bff.settings.plan import build_plan

    plan = build_plan(settings)
    asked = settings.forward_auth
    doors, listen = _doors(settings, given), _listen(settings)
    if any(door.port == listen.port and (door.host == listen.host or listen.host in _ANY) for door in doors):
        raise Stop(
            CONFIG,
            f"the front proxy would listen at {listen}, where the door is",
            "give server.listen another port than server.public_origin, or set forward_auth.listen",
        )
    ways, others = read_ways(plan.routes, checks_addresses=program not in CHECKS_NAMES_ALONE)
    return Front(
        origin=settings.server.public_origin,
        listen=listen,
        doors=doors,
        prefix=settings.server.prefix,
        secret=forward_auth_secrets(read_ring(plan))[0],
        cookie=plan.cookie.session_name,
        ways=ways,
        others=others,
        identity=tuple(asked.identity_headers),
        pass_headers=asked.pass_headers,
        tls_cert_file=asked.tls_cert_file or _CERTIFICATE,
        tls_key_file=asked.tls_key_file or _KEY,
        cache_s=cache_s,
        cache_folder=cache_folder,
    )


def _doors(settings: Settings, given: tuple[str, ...]) -> tuple[Address, ...]:
    from bff.forward_auth.front import Address
    from bff.settings.values import Unusable, read_listen

    if settings.server.tls_cert_file:
        raise Stop(
            CONFIG, "the door speaks TLS, and a front proxy asks in plain http", "remove server.tls_cert_file: TLS ends at the front proxy"
        )
    try:
        found = [read_listen(one) for one in given] or [settings.forward_auth.door or settings.server.listen]
    except Unusable as error:
        raise Stop(USAGE, f"--door {error.what}", error.fix) from None
    for one in found:
        if one.kind != "tcp":
            raise Stop(CONFIG, f"a front proxy cannot ask at {one}", 'set forward_auth.door = "host:port"')
    return tuple(Address("127.0.0.1" if one.host in _ANY else one.host, one.port) for one in found)


def _listen(settings: Settings) -> Address:
    from bff.forward_auth.front import Address
    from bff.settings.values import is_loopback

    given = settings.forward_auth.listen
    if given is not None:
        return Address(given.host, given.port)
    origin = urlsplit(settings.server.public_origin)
    port = origin.port or (443 if origin.scheme == "https" else 80)
    return Address("127.0.0.1" if is_loopback(origin.hostname or "") else "0.0.0.0", port)  # noqa: S104 - a front proxy serves the world


def _read_cache(program: str, text: str) -> int:
    from bff.settings.values import Unusable, read_duration

    try:
        seconds = read_duration(text)
    except Unusable as error:
        raise Stop(USAGE, f"--cache {error.what}", error.fix) from None
    if seconds and program != "nginx":
        raise Stop(USAGE, f"{program} cannot repeat answers", "leave --cache out; only nginx has it")
    if seconds != int(seconds) or seconds > _MAX_CACHE_S:
        raise Stop(USAGE, "--cache takes whole seconds, at most 60", "a sign-out is that much later: choose a few seconds, such as 5s")
    return int(seconds)


def _warnings(settings: Settings) -> Iterator[tuple[str, str]]:
    if not settings.forward_auth.enabled:
        yield "forward_auth.enabled is false: every question is answered with 404", "set it to true"
    if not settings.server.trusted_proxies:
        yield (
            "server.trusted_proxies is empty: every question is answered with 404",
            'name the front proxy\'s address there, such as ["127.0.0.1/32"]',
        )
    if settings.server.public_origin.startswith("https://") and not settings.forward_auth.tls_cert_file:
        yield "forward_auth.tls_cert_file is empty: the configuration names a placeholder", "name the certificate and its key"
