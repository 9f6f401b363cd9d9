"""Samples as a table (Markdown), as JSON, and as a plot (SVG, no library)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from bench.values import Scenario, Series, Variant, ratio_best, ratio_middle


def preamble(command: str, variants: Sequence[Variant]) -> str:
    """When, where and with what: the facts without which a table says nothing."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    lines = [
        "# Bench results",
        "",
        f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {os.cpu_count()} cores, {cpu}; {platform.system()} "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}; load average at the end {load}. "
        "Compare ratios inside one table; other work on the machine moves the rest.",
        "",
        *(f"- **{one.name}**: {one.about}" for one in variants),
    ]
    return "\n".join(lines) + "\n"


def table(scenario: Scenario, series: Sequence[Series], ours: str) -> str:
    """One row per variant, cheapest first; the ratios say how many times cheaper ours is than that row."""
    mine = next((one for one in series if one.name == ours), None)
    lines = [
        f"### {scenario.name}",
        "",
        f"{scenario.about}.",
        "",
        "| variant | CPU-ms/request, best | median | req/s, best | p50 ms | p99 ms | RSS MiB | ours is cheaper by: best | median |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted(series, key=lambda item: item.best):
        ratios = f"{ratio_best(one, mine):.2f} | {ratio_middle(one, mine):.2f}" if mine else "– | –"
        rps, p50 = max(s.rps for s in one.samples), min(s.p50_ms for s in one.samples)
        name = f"**{one.name}**" if one is mine else one.name
        lines.append(
            f"| {name} | {one.best:.4f} | {one.middle:.4f} | {rps:,.0f} | {p50:.2f} | {one.p99_ms:.1f} | {one.rss_mib:.0f} | {ratios} |"
        )
    return "\n".join(lines) + "\n"


def as_json(results: Mapping[str, Sequence[Series]]) -> str:
    plain = {name: {one.name: [asdict(sample) for sample in one.samples] for one in series} for name, series in results.items()}
    return json.dumps(plain, indent=1)


def plot(series: Sequence[Series], title: str, ours: str) -> str:
    """Horizontal bars of CPU per request, best round, on a logarithmic scale: the range is two orders of magnitude."""
    from math import log10

    rows = sorted(series, key=lambda one: one.best)
    low, high = log10(rows[0].best * 0.8), log10(rows[-1].best * 1.05)
    width, left, line = 520, 210, 26
    height = 44 + line * len(rows)
    box = f'viewBox="0 0 {left + width + 90} {height}" font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<text x="8" y="20" font-weight="600">{escape(title)}</text>',
    ]
    for index, one in enumerate(rows):
        top = 36 + index * line
        long = max(2.0, width * (log10(one.best) - low) / max(1e-9, high - low))
        fill = "#0f766e" if one.name == ours else "#94a3b8"
        parts.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{escape(one.name)}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{long:.1f}" height="{line - 8}" rx="3" fill="{fill}"/>')
        parts.append(f'<text x="{left + long + 6:.1f}" y="{top + 14}">{one.best:.4f} ms</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
