"""A provider for those who have a real session, and a visitor who signs in there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.processes import Group, free_port, wait_for_port
from bench.values import Place
from bff.demo.visitor import Answer, Visitor, read_forms

ROOT = Path(__file__).resolve().parents[1]
PERSON = "ada"
CLIENT_ID, CLIENT_SECRET = "bench", "bench-secret-of-some-length-0123456789"


def our_environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def start_provider(place: Place, name: str, redirect_uri: str, *, client: Mapping[str, Any] | None = None) -> tuple[str, Group]:
    """(issuer, its processes). Tokens live for a day: renewal is not what is measured. Runs on the load's CPU and is charged to nobody."""
    group, port, log = Group(), free_port(), place.directory / f"provider-{name}.log"
    described = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [redirect_uri], **(client or {})}
    command = [sys.executable, "-m", "bff.devkit", "--port", str(port), "--client", json.dumps(described)]
    command += ["--knobs", json.dumps({"access_token_s": 86_400})]
    group.start(command, log=log, cpus=place.load_cpus, env=our_environment())
    wait_for_port(port, group, log)
    return f"http://127.0.0.1:{port}", group


class BenchVisitor(Visitor):
    """A visitor with an address of its own, as X-Forwarded-For tells it: a thousand sign-ins are a thousand people, not one flood."""

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self._address = f"10.1.{number // 250}.{number % 250 + 1}"

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
        return super().ask(method, url, {"X-Forwarded-For": self._address, **(headers or {})}, body)


def sign_in(visitor: Visitor, start: str, issuer: str) -> Answer:
    """From ``start`` through the provider's forms and back; RuntimeError when it does not end away from the provider."""
    page = visitor.visit(start)
    for _ in range(3):
        if not page.url.startswith(issuer):
            return page
        forms = read_forms(page.body)
        if not forms:
            break
        names = {*forms[0].fields, *(name for name, _ in forms[0].buttons)}
        page = visitor.submit(page, forms[0], {"person": PERSON} if "person" in names else {"decision": "allow"})
    if page.url.startswith(issuer):
        raise RuntimeError(f"sign-in stuck at {page.url.split('?')[0]}: {page.status}")
    return page


def cookies_of(visitor: Visitor, url: str) -> dict[str, str]:
    return visitor.jar.get(urlsplit(url).hostname or "", {})
