"""The three people of the demo. They differ in everything a route may ask for: claims, scopes, second factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in. ``denied_scopes`` are never granted to them; without ``second_factor`` they reach acr "pwd" only."""

    key: str
    sub: str
    name: str
    email: str
    department: str
    region: str
    roles: tuple[str, ...]
    second_factor: bool = True
    denied_scopes: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def claims(self, scopes: frozenset[str]) -> dict[str, Any]:
        """What the given scopes reveal (OpenID Connect Core §5.4), the demo's own claims under ``profile``."""
        shown: dict[str, Any] = {}
        if "profile" in scopes:
            shown |= {"name": self.name, "preferred_username": self.key, **self.work(), **self.extra}
        if "email" in scopes:
            shown |= {"email": self.email, "email_verified": True}
        return shown

    def work(self) -> dict[str, Any]:
        """What an API needs to decide and to route by."""
        return {"department": self.department, "region": self.region, "roles": list(self.roles)}


DEMO_PEOPLE: tuple[Person, ...] = (
    Person("ada", "ada-7c1f04", "Ada Lindqvist", "ada@example.com", "sales", "eu", ("manager", "approver")),
    Person("ben", "ben-58e2b9", "Ben Okafor", "ben@example.com", "engineering", "us", ("developer",)),
    Person(
        "chloe", "chloe-93d6aa", "Chloe Tanaka", "chloe@example.com", "support", "eu", ("agent",),
        second_factor=False, denied_scopes=frozenset({"orders:write", "payments"}),
    ),
)
