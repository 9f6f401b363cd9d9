"""``python -m bff.devkit --port 9400 --client '{"client_id": "spa", ...}'``: the provider as a program of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from bff.base.errors import ConfigError
from bff.devkit.knobs import Knobs
from bff.devkit.loopback import listen_loopback
from bff.devkit.model import DevClient, read_client
from bff.devkit.serve import serve_provider
from bff.devkit.state import DevProvider


def read_json(text: str) -> Any:
    """JSON itself, or ``@file`` holding it."""
    return json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bff.devkit", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one; the issuer is printed")
    parser.add_argument("--issuer", default="", help="default: http://HOST:PORT")
    parser.add_argument("--audience", default="https://api.example.com", help="of access tokens without a resource")
    parser.add_argument("--client", action="append", default=[], help="a client as JSON, or @file; repeatable")
    parser.add_argument("--knobs", default="{}", help="fault knobs as JSON, or @file")
    parser.add_argument("--remember-secrets", action="store_true", help="keep every token in clear at /admin/secrets, for leak tests")
    parser.add_argument("--cert-file", type=Path)
    parser.add_argument("--key-file", type=Path)
    return parser


async def run(options: argparse.Namespace) -> None:
    sock = listen_loopback(options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "https" if options.cert_file else "http"
    issuer = options.issuer or f"{scheme}://{host}:{sock.getsockname()[1]}"
    clients: list[DevClient] = [read_client(read_json(text)) for text in options.client]
    knobs = Knobs()
    knobs.turn(read_json(options.knobs))
    provider = DevProvider(
        issuer=issuer, clients=clients, audience=options.audience, knobs=knobs, remember_secrets=options.remember_secrets
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(json.dumps({"issuer": issuer, "clients": sorted(provider.clients)}), flush=True)
    await serve_provider(provider, sock=sock, stop=stop, cert_file=options.cert_file, key_file=options.key_file)


def main() -> int:
    options = build_parser().parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 78
    except OSError as error:
        print(f"error: cannot listen: {error.strerror}", file=sys.stderr)
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
