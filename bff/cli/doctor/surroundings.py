"""What is around us: the store, the upstreams, what the browser sees, the switches that are on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from bff.base.clock import SystemClock
from bff.base.errors import StoreUnavailable
from bff.cli.doctor.lines import Line, Lines, fail, ok, warn
from bff.cli.raw import TIMEOUT_S, build_tls, explain
from bff.session.store import open_store
from bff.settings import Settings, find_dangers, find_warnings
from bff.settings.files import find_config_warnings
from bff.settings.routes import RouteSettings
from bff.settings.values import Url


def check_store(settings: Settings) -> Lines:
    """Read and write it once."""

    async def ping() -> None:
        store = open_store(settings.session.store.reveal(), clock=SystemClock())
        try:
            await store.ping()
        finally:
            await store.close()

    kind = settings.session.store.reveal().partition(":")[0]
    try:
        asyncio.run(ping())
    except (StoreUnavailable, OSError) as error:
        detail = error.detail if isinstance(error, StoreUnavailable) else error.strerror
        yield fail("store", f"{kind} cannot be read and written: {detail}", "check session.store, its folder, its owner and free space")
    else:
        yield ok("store", f"{kind} can be read and written")


def check_upstreams(settings: Settings) -> Lines:
    """Connect to each; nothing is sent."""
    seen: set[tuple[str, str]] = set()
    for route in settings.routes:
        for url in route.upstreams:
            if (url.origin, route.ca_file) not in seen:
                seen.add((url.origin, route.ca_file))
                yield _connect(route, url)
    if not settings.routes:
        yield warn("upstreams", "no route is configured: nothing but sign-in will work", "add a [[routes]] table for each API")


def _connect(route: RouteSettings, url: Url) -> Line:
    what = f"upstream {url.origin}"
    try:
        with socket.create_connection((url.host, url.port), timeout=TIMEOUT_S) as plain:
            if url.scheme == "https":
                context = build_tls(route.ca_file, route.client_cert_file, route.client_key_file)
                with context.wrap_socket(plain, server_hostname=url.host):
                    pass
    except OSError as error:
        why = explain(error, url.host)
        upstream = f"the upstream of route {route.path}"
        return fail(
            what, f"cannot be reached: {why}", f"{upstream}: {why.fix}" if why.fix else f"check {upstream}, DNS, firewall and ca_file"
        )
    return ok(what, "accepts connections")


def check_origin(settings: Settings) -> Lines:
    """The cookie's prefix needs https, or http on loopback."""
    origin = settings.server.origin
    name = f"{settings.cookie.prefix}{settings.cookie.name}"
    if origin.plain_and_remote:
        yield fail("cookie", f"browsers do not keep {name} on plain http at {origin.host}", "use https in server.public_origin")
    else:
        yield ok("cookie", f"{name} works on {origin}")
    door_is_plain = not settings.server.tls_cert_file
    if origin.scheme == "https" and door_is_plain and not settings.server.trusted_proxies:
        yield warn(
            "front proxy",
            "public_origin is https, the door has no certificate, no proxy is trusted",
            "set server.trusted_proxies or tls_cert_file",
        )


def check_switches(settings: Settings, config: Path) -> Lines:
    """Dangerous switches, and what a start would warn of."""
    dangers = find_dangers(settings)
    for name in dangers:
        yield warn("danger", f"{name} is on", "switch it off before real users come")
    for line in (*find_warnings(settings), *find_config_warnings(config)):
        text, _, fix = line.rpartition("; fix: ")
        key, _, why = text.partition(": ")
        if key not in dangers:
            yield warn(key, why, fix)
