"""A configuration for each front proxy, and the words above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bff.forward_auth.front import Front
from bff.forward_auth.nginx import build_nginx


@dataclass(frozen=True, slots=True)
class Part:
    """One file. ``hint`` says how to use it."""

    build: Callable[[Front], str]
    hint: str
    comment: str = "#"


PROGRAMS: Final[Mapping[str, Mapping[str, Part]]] = {
    "nginx": {"config": Part(build_nginx, "nginx -t -c FILE, then nginx -c FILE; or take over its http section")},
}


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
