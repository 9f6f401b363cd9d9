"""A configuration for each front proxy, and the words above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bff.forward_auth.caddy import build_caddy
from bff.forward_auth.envoy import build_envoy
from bff.forward_auth.front import Front
from bff.forward_auth.haproxy import build_haproxy, build_haproxy_script
from bff.forward_auth.nginx import build_nginx
from bff.forward_auth.traefik import DYNAMIC_FILE, build_traefik, build_traefik_static


@dataclass(frozen=True, slots=True)
class Part:
    """One file. ``hint`` says how to use it."""

    build: Callable[[Front], str]
    hint: str
    comment: str = "#"


PROGRAMS: Final[Mapping[str, Mapping[str, Part]]] = {
    "nginx": {"config": Part(build_nginx, "nginx -t -c FILE, then nginx -c FILE; or take over its http section")},
    "envoy": {"config": Part(build_envoy, "envoy --mode validate -c FILE, then envoy -c FILE")},
    "haproxy": {
        "config": Part(build_haproxy, "haproxy -c -f FILE, then haproxy -f FILE; it loads a script that this package brings"),
        "script": Part(build_haproxy_script, "the script, for a machine without this package: name it in lua-load", "--"),
    },
    "traefik": {
        "dynamic": Part(build_traefik, f"put it at {DYNAMIC_FILE}; the static part comes from: bff front-proxy traefik --part static"),
        "static": Part(build_traefik_static, "traefik --configFile=FILE"),
    },
    "caddy": {"config": Part(build_caddy, "caddy run --config FILE --adapter caddyfile")},
}

CHECKS_NAMES_ALONE: Final = frozenset({"nginx", "haproxy"})
"""They compare a certificate with names, never with an address: an API named by its address could only be reached unchecked."""

ASKS_ONE_ADDRESS: Final = frozenset({"traefik"})


def build_part(front: Front, program: str, part: str = "") -> str:
    """The text of one part; "" is the main one."""
    parts = PROGRAMS[program]
    chosen = parts[part or next(iter(parts))]
    return "\n".join([*(f"{chosen.comment} {line}".rstrip() for line in _heading(front, program, chosen)), "", chosen.build(front)])


def _heading(front: Front, program: str, part: Part) -> Iterable[str]:
    yield f"{program} in front of the bff of {front.origin}, written by: bff front-proxy {program}"
    yield f"Use: {part.hint}"
    yield "Holds a secret: readable by the front proxy alone (mode 0600). Write it anew when routes change and before old keys are removed."
    for path, reason in front.others:
        yield f"{path} passes through the door: {reason}."
    if front.cache_s:
        yield f"Answers are repeated for up to {front.cache_s} s: a sign-out reaches API calls with the old cookie that much later."
