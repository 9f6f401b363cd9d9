"""Admitted requests and response heads for the tests of what we write."""

from __future__ import annotations

from typing import Any

from bff.policy.facts import Facts
from bff.policy.routes import METHODS, Admission, Route, Upstream
from bff.policy.verdict import Admitted, Target
from bff.proxy.headers import HeaderRules
from bff.proxy.response import ResponseHead, read_response
from bff.session.model import Credential
from tests.proxy.heads import accepted, head

RULES = HeaderRules(own_cookies="__Host-Http-bff", public_origin="https://app.example.com")
UPSTREAM = Upstream("https", "api.internal", 443, "/v1/")
CREDENTIAL = Credential(b"Bearer ours", 2000.0)


def route(**more: Any) -> Route:
    given: dict[str, Any] = {
        "name": "api", "path": "/x/", "admission": Admission.API, "methods": METHODS, "upstream": UPSTREAM, "token": "user",
        "session": True,
    }  # fmt: skip
    return Route(**given | more)


def admitted(facts: Facts | None = None, *, way: Route | None = None, path: str = "/v1/y", **more: Any) -> Admitted:
    given = {"facts": facts or accepted(head()), "route": way or route(), "target": Target(UPSTREAM, path), "credential": CREDENTIAL}
    return Admitted(**given | more)


def answer(*lines: bytes, status: bytes = b"200 OK", method: str = "GET") -> ResponseHead:
    return read_response(b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n", method=method)


def fields(block: bytes) -> list[tuple[str, str]]:
    """Every field of a written head, names lower-case; checks that the head is well-formed."""
    assert block.endswith(b"\r\n\r\n")
    assert block.count(b"\r\n\r\n") == 1
    lines = block[:-4].decode("latin-1").split("\r\n")
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])]


def values(block: bytes, name: str) -> list[str]:
    return [value for given, value in fields(block) if given == name]
