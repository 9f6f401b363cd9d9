"""The outcome of a judgement: ``Admitted``, or a ``Refusal`` that each surface renders in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field

from bff.policy.facts import Facts
from bff.policy.quick import build_quickly
from bff.policy.routes import Route, Upstream
from bff.session.model import Credential, Live, Session


@dataclass(frozen=True, slots=True)
class StepUp:
    """What the SPA must send the user to login with (RFC 9470 §3)."""

    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A typed no. ``code`` is stable and has a page under docs/errors; ``detail`` is safe to show.

    ``close`` asks the door to close the connection after the answer; ``clear_cookie`` to expire the session cookie.
    """

    status: int
    code: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    clear_cookie: bool = False
    step_up: StepUp | None = None
    retry_after_s: int | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Where one admitted request goes: an upstream and the exact path and query to ask it for."""

    upstream: Upstream
    path: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """Route, session and credential of a request that may pass. ``judged`` is the very Session that was judged: a hot
    path that kept this verdict compares it by identity with ``live.session`` before using it again.

    ``valid_until`` (epoch seconds) is when time alone could change the verdict: token, session or sign-in age.
    """

    facts: Facts
    route: Route
    target: Target | None
    live: Live | None = None
    judged: Session | None = None
    credential: Credential | None = None
    valid_until: float = float("inf")
    set_cookies: tuple[str, ...] = field(default=())


Verdict = Admitted | Refusal

build_target = build_quickly(Target)
build_admitted = build_quickly(Admitted)
