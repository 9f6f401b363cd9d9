"""The values of a measurement: what runs, what is asked of it, what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.processes import Group

SMALL, LARGE, ECHO = "/api/small", "/api/large", "/api/echo"
LARGE_BYTES = 100 * 1024
OTHER_COOKIES = "theme=dark; lang=en"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one bench run lives: scratch folder, the upstream's port, CPU sets, worker processes of each variant, sessions to make."""

    directory: Path
    upstream_port: int
    variant_cpus: str | None
    load_cpus: str | None
    workers: int = 1
    sessions: int = 1
    store: str = "memory"


@dataclass(slots=True)
class Running:
    """A started variant. ``cookies`` are Cookie header values, one per session; ``headers`` go with every request.

    ``token`` says that the upstream must see a bearer token and must not see the session cookie ``cookie_name``;
    ``flaws`` name the parts of that promise a peer is known to break. ``helper`` (a provider) is stopped with it and charged to nobody.
    """

    port: int
    group: Group
    cookies: list[str]
    helper: Group | None = None
    headers: dict[str, str] = field(default_factory=dict)
    token: bool = True
    cookie_name: str = ""
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """``start`` brings it up (and logs in, where there is a session) or raises ``Absent`` with the reason."""

    name: str
    start: Callable[[Place], Running]
    about: str


class Absent(Exception):
    """This peer can't run here; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    about: str
    path: str = SMALL
    connections: int = 32
    script: str = "plain.lua"
    sessions: int = 1
    workers: int = 1
    pinned: bool = True
    store: str = "memory"
    only_ours: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One load of one variant. CPU of all its processes; latencies in ms."""

    requests: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    rss_mib: float
    agent_mib: float = 0.0

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / max(1, self.requests)

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


@dataclass(slots=True)
class Series:
    """The samples of one variant in one scenario, by round."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(sample.cpu_ms for sample in self.samples)

    @property
    def middle(self) -> float:
        return median(sample.cpu_ms for sample in self.samples)

    @property
    def p99_ms(self) -> float:
        return min(sample.p99_ms for sample in self.samples)

    @property
    def rss_mib(self) -> float:
        return max(sample.rss_mib for sample in self.samples)

    @property
    def agent_mib(self) -> float:
        return max(sample.agent_mib for sample in self.samples)


def ratio_best(peer: Series, ours: Series) -> float:
    """Above 1: ``ours`` is cheaper than ``peer``."""
    return peer.best / ours.best


def ratio_middle(peer: Series, ours: Series) -> float:
    """Median of the ratios formed inside each round: what disturbs one round disturbs both sides of it."""
    return median(p.cpu_ms / o.cpu_ms for p, o in zip(peer.samples, ours.samples, strict=True))
