"""What must hold, as ratios inside one run (CPU per request; above 1 means ours is cheaper than the peer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.values import Series, ratio_best, ratio_middle

OURS = "bff"
CHECKED = ("nginx plain", "nginx + Lua")
WORKER_MIB = 60


@dataclass(frozen=True, slots=True)
class Goal:
    scenario: str
    peer: str
    must: float
    aim: float


GOALS = [
    Goal("small", "nginx plain", 0.60, 0.85),
    Goal("small", "nginx + Lua", 1.15, 1.5),
    Goal("small", "nginx + auth_request", 1.4, 1.9),
    Goal("small", "Envoy oauth2", 2.7, 3.8),
    Goal("small", "mod_auth_openidc", 4.5, 6.5),
    Goal("small", "oauth2-proxy", 3.0, 5.0),
    Goal("small", "express-openid-connect", 25, 35),
    Goal("browser", "nginx plain", 0.55, 0.85),
    Goal("unseen", "nginx plain", 0.50, 0.70),
    Goal("large", "nginx plain", 0.55, 0.70),
    Goal("two workers", "nginx plain", 0.60, 0.85),
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``binding``: CI fails when it is missed. Latency is not: on a shared machine it tells about the neighbours."""

    text: str
    held: bool
    binding: bool = True


def judge(results: Mapping[str, Sequence[Series]], slack: float) -> list[Verdict]:
    """Each goal whose two sides were measured. Best of best and median of rounds: the better one counts, noise only ever adds cost."""
    return [*_ratios(results, slack), *_own(results, slack)]


def _find(results: Mapping[str, Sequence[Series]], scenario: str, name: str) -> Series | None:
    return next((one for one in results.get(scenario, ()) if one.name == name and one.samples), None)


def _ratios(results: Mapping[str, Sequence[Series]], slack: float) -> list[Verdict]:
    verdicts = []
    for goal in GOALS:
        peer, mine = _find(results, goal.scenario, goal.peer), _find(results, goal.scenario, OURS)
        if peer and mine:
            reached = max(ratio_best(peer, mine), ratio_middle(peer, mine))
            needed = goal.must * (1 - slack)
            text = f"{goal.scenario}, against {goal.peer}: {reached:.2f} (must {goal.must:g}, aim {goal.aim:g}, held to {needed:.2f})"
            verdicts.append(Verdict(text, reached >= needed, binding=goal.peer in CHECKED))
    return verdicts


def _memory(scenario: str, ours: Series, slack: float) -> Verdict:
    text = f"{scenario}, worker memory: {ours.rss_mib:.0f} MiB (at most {WORKER_MIB}); the agent's process {ours.agent_mib:.0f}"
    return Verdict(text, ours.rss_mib <= WORKER_MIB * (1 + slack))


def _own(results: Mapping[str, Sequence[Series]], slack: float) -> list[Verdict]:
    verdicts = [_memory(scenario, one, slack) for scenario in results if (one := _find(results, scenario, OURS))]
    small, many = _find(results, "small", OURS), _find(results, "128 connections", OURS)
    plain, stored = _find(results, "small", "nginx plain"), _find(results, "sqlite", OURS)
    if small and many:
        grown = many.best / small.best
        verdicts.append(Verdict(f"128 connections against own cost at 32: {grown:.2f} (at most 1.5)", grown <= 1.5 * (1 + slack)))
    if small and plain:
        times = small.p99_ms / plain.p99_ms
        verdicts.append(Verdict(f"p99 against nginx plain: {times:.2f} (at most 2)", times <= 2 * (1 + slack), binding=False))
    if small and stored:
        change = min(stored.best / small.best, stored.middle / small.middle)
        verdicts.append(Verdict(f"SQLite against memory store: {change:.2f} (at most 1.05)", change <= 1.05 * (1 + slack)))
    return verdicts
