"""A wrapper that keeps secret text out of logs, tracebacks and ``repr``."""

from __future__ import annotations

import hmac
from typing import Final


class Secret:
    """Secret text. Only ``reveal()`` gives it up, so that every place that does can be found by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


class Withheld(Secret):
    """In place of a secret that there is but that this process has no use for. True, equal to nothing, and never revealed: whoever
    would write it down or send it gets a RuntimeError."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("withheld")

    def reveal(self) -> str:
        raise RuntimeError("a secret that this process does not hold")

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = Secret.__hash__


WITHHELD: Final = Withheld()
