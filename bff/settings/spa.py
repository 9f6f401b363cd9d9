"""The app's pages and the policy that they are served with: ``spa.csp`` against ``index.html``, as far as both can be read offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bff.settings.findings import Finding
from bff.settings.model import Settings
from bff.settings.page import find_blocked, find_risks
from bff.settings.sources import Place

LONGEST_CSP = 8 * 1024
_MOST_READ = 256 * 1024
_CSP: Place = ("spa", "csp")
_PRINTABLE = re.compile(r"[ -~]*", re.ASCII)


def check(settings: Settings) -> Iterator[Finding]:
    """A policy that cannot be sent as one header field."""
    csp = settings.spa.csp
    if len(csp) > LONGEST_CSP:
        yield Finding(_CSP, "is longer than 8 KiB", "shorten it: clients refuse heads that are too large")
    elif not _PRINTABLE.fullmatch(csp):
        yield Finding(_CSP, "holds a line break or a character that is not ASCII", "write the policy as one line: directives end with ;")
    elif csp and not csp.strip(" ;,"):
        yield Finding(_CSP, "is blank", "write a policy, or remove the key for the built-in one")


def find_warnings(settings: Settings) -> Iterator[Finding]:
    """A policy that protects less than it could, and a page that the built-in one stops from working."""
    spa = settings.spa
    if spa.csp and not spa.directory:
        yield Finding(_CSP, "is not used without spa.directory", "set the policy where the pages come from")
    for risk in find_risks(spa.csp):
        yield Finding(_CSP, risk, "tighten it, or remove the key for the built-in policy")
    blocked = find_blocked(_read_index(spa.directory), settings.server.public_origin) if spa.directory and not spa.csp else []
    if blocked:
        yield Finding(
            ("spa", "directory"),
            f"index.html holds {_joined(blocked)}, which the policy blocks",
            "move them into files of the app, or set spa.csp",
        )


def _read_index(directory: str) -> str:
    try:
        with (Path(directory) / "index.html").open("rb") as file:
            return file.read(_MOST_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def _joined(phrases: list[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last
