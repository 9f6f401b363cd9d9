"""Facts, routes and sessions for the policy tests."""

from __future__ import annotations

from typing import Any

from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.session.model import Session

ORIGIN = "https://a.test"
UPSTREAM = Upstream("https", "api.internal", 443, "/v1/")


def facts(method: str = "GET", path: str = "/api/x", **more: Any) -> Facts:
    return Facts(**{"method": method, "path": path, "query": None, "host": "a.test", "headers": ()} | more)


def route(**more: Any) -> Route:
    given: dict[str, Any] = {
        "name": "api", "path": "/api/", "admission": Admission.API, "methods": METHODS, "upstream": UPSTREAM, "token": "user",
        "session": True,
    }  # fmt: skip
    return Route(**given | more)


def session(**more: Any) -> Session:
    given: dict[str, Any] = {
        "key": b"k" * 32, "version": 1, "issuer": "https://id.test", "subject": "alice", "created_at": 1000.0, "expires_at": 5000.0,
    }  # fmt: skip
    return Session(**given | more)
