"""The plan: what settings come down to, in the program's own plain values. All that a worker is told.

Settings are pydantic models, and pydantic is a third of a worker's weight although it is used once, at start. So whoever runs
``bff serve`` makes the plan and then *becomes* the supervisor by exec; supervisor and workers never import the settings. On SIGHUP the
supervisor asks a short-lived process for a new plan.

The plan holds secrets, so it never touches a disk: it travels in anonymous memory (memfd) that workers inherit.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bff.agent.options import AgentOptions
from bff.base.secret import Secret
from bff.oauth.types import ClientIdentity, IdTokenRules
from bff.policy.routes import Route
from bff.proxy.headers import HeaderRules
from bff.proxy.house import DoorOptions
from bff.session.cookies import CookiePolicy


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """Who the provider is, who we are there, and how we reach it."""

    issuer: str
    identity: ClientIdentity
    rules: IdTokenRules
    par: Literal["auto", "always", "never"]
    authorize_parameters: Mapping[str, str]
    resources: tuple[str, ...]
    own_resource: str
    userinfo: bool
    ca_file: str
    client_cert_file: str
    client_key_file: str
    danger_plain_http: bool


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """Where sessions are kept and how long they live, in seconds. ``store`` may hold a password."""

    store: Secret
    keys_file: str
    idle_s: float
    max_s: float
    cached: int
    claims: frozenset[str]
    renew_margin_s: float


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The process itself, durations in seconds. ``listen`` and ``manage_listen`` are for the log: the sockets are bound already.
    ``manage_hosts`` is what Host may say there besides an address; None: anything, on a Unix socket."""

    listen: str
    manage_listen: str
    manage_hosts: frozenset[str] | None
    public_origin: str
    prefix: str
    workers: int
    drain_delay_s: float
    grace_s: float
    head_s: float
    stuck_s: float
    tls_cert_file: str
    tls_key_file: str
    log_format: Literal["auto", "json", "text"]
    log_level: str
    log_access: bool


@dataclass(frozen=True, slots=True)
class ForwardAuthPlan:
    """Whether front proxies may ask, and what they tell APIs of a user besides the token: (header, claim)."""

    enabled: bool = True
    identity: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    server: ServerPlan
    provider: ProviderPlan
    session: SessionPlan
    cookie: CookiePolicy
    agent: AgentOptions
    door: DoorOptions
    rules: HeaderRules
    routes: tuple[Route, ...]
    forward_auth: ForwardAuthPlan = field(default_factory=ForwardAuthPlan)
    configured: int = 0
    """How many of the routes the file has; the others are our own."""
    fixed: Mapping[str, bytes] = field(default_factory=dict)
    """Fingerprints of the settings that only a start takes, by their full key."""

    def find_fixed_changes(self, newer: Plan) -> list[str]:
        """The settings of ``newer`` that a process with this plan does not take, by their full key."""
        names = {**self.fixed, **newer.fixed}
        return [name for name in names if self.fixed.get(name) != newer.fixed.get(name)]


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # A Secret refuses to be pickled by accident; this is on purpose, into memory that only our own workers see.
        return (Secret, (value.reveal(),)) if isinstance(value, Secret) else NotImplemented


def pack(plan: Plan) -> bytes:
    """The plan as bytes for ``unpack`` in a process of the same version."""
    out = io.BytesIO()
    _Packer(out).dump(plan)
    return out.getvalue()


def unpack(data: bytes) -> Plan:
    """The plan that ``pack`` made. Only ever fed from a descriptor that this program created."""
    plan = pickle.loads(data)  # noqa: S301 - our own bytes from our own memory
    if not isinstance(plan, Plan):
        raise TypeError("not a plan")
    return plan


class PlanBox:
    """The plan in force, in anonymous memory shared by supervisor (writes) and workers (read). ``fd`` is inheritable."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, plan: Plan) -> PlanBox:
        box = cls(os.memfd_create("bff-plan", 0))
        box.write(pack(plan))
        return box

    def write(self, packed: bytes) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, packed, 0)

    def read(self) -> Plan:
        return unpack(os.pread(self.fd, os.fstat(self.fd).st_size, 0))
