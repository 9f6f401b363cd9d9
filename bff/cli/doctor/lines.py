"""What the doctor says: one line per finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Line:
    """``what`` was looked at, ``why`` it is so, and the ``fix`` where it isn't ok."""

    level: Level
    what: str
    why: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.level:<5} {self.what}: {self.why}"
        return f"{text}\n      fix: {self.fix}" if self.fix else text


Lines = Iterator[Line]


def ok(what: str, why: str) -> Line:
    return Line("ok", what, why)


def warn(what: str, why: str, fix: str) -> Line:
    return Line("warn", what, why, fix)


def fail(what: str, why: str, fix: str) -> Line:
    return Line("fail", what, why, fix)
