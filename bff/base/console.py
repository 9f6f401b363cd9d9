"""How a failure reads on a terminal: two lines, what is wrong and what to do."""

from __future__ import annotations

LONGEST = 600


def two_lines(what: str, fix: str) -> str:
    """Both lines, without the last line's end. No control character of an outside text reaches the terminal (PRIV-8)."""
    return f"bff: {_printable(what)}\n     fix: {_printable(fix)}"


def problem_lines(problem: str) -> str:
    """A ``where: key: what; fix: …`` line of a ConfigError as two lines."""
    what, _, fix = problem.rpartition("; fix: ")
    return two_lines(what or fix, fix if what else "see docs/settings.md")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)[:LONGEST]
