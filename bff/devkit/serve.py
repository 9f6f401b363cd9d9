"""Serving the provider with Hypercorn on a loopback socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from bff.base.errors import ConfigError
from bff.devkit.app import build_provider
from bff.devkit.loopback import is_loopback_host, listen_loopback
from bff.devkit.state import DevProvider


async def serve_provider(
    provider: DevProvider,
    *,
    sock: socket.socket | None = None,
    port: int = 0,
    stop: asyncio.Event | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> None:
    """Serve until ``stop`` is set or the task is cancelled. ``sock`` must be bound to loopback (ConfigError); without it
    127.0.0.1:``port`` is bound here. Takes the socket over and closes it."""
    listening = sock or listen_loopback(port=port)
    if not is_loopback_host(str(listening.getsockname()[0])):
        raise ConfigError("the development provider listens on loopback only")
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 0.2
    config.keep_alive_timeout = 60
    if cert_file is not None:
        config.certfile, config.keyfile = str(cert_file), str(key_file) if key_file else None
    ended = stop or asyncio.Event()
    app = cast(ASGIFramework, build_provider(provider))
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=ended.wait))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:  # Hypercorn prints a traceback for each connection that is cancelled: let it shut down
        ended.set()
        await serving
        raise
