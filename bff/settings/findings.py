"""The value that every cross-check yields."""

from __future__ import annotations

from dataclasses import dataclass

from bff.settings.sources import Place


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction: where, what is wrong, how to mend it."""

    place: Place
    what: str
    fix: str
