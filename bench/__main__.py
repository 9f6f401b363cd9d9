"""``python -m bench``: start everything, load it in turn, print the table; ``--check`` exits 1 when a goal is missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import goals, load, report
from bench.goals import OURS
from bench.peers import nginx
from bench.processes import free_port
from bench.values import LARGE, Absent, Place, Running, Scenario, Series, Variant

SCENARIOS = [
    Scenario("small", "219-byte JSON, 32 keep-alive connections, one session, one worker pinned to core 0, wrk and upstream on core 1"),
    Scenario("browser", "the same with the header lines of Chromium and 1000 sessions in turn", script="browser.lua", sessions=1000),
    Scenario("unseen", "a header line never seen before on every request: the memo of head blocks always misses", script="unseen.lua"),
    Scenario("large", "100 KiB answers", path=LARGE),
    Scenario("128 connections", "219-byte JSON over 128 connections", connections=128),
    Scenario("sqlite", "as small, sessions in SQLite", store="sqlite", only_ours=True),
    Scenario("two workers", "two workers, nothing pinned, sessions in SQLite", workers=2, pinned=False, store="sqlite"),
]


def variants() -> list[Variant]:
    from bench.peers import apache, envoy, node, oauth2_proxy, ours

    return [*ours.VARIANTS, *nginx.VARIANTS, *envoy.VARIANTS, *apache.VARIANTS, *oauth2_proxy.VARIANTS, *node.VARIANTS]


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    chosen = [one for one in variants() if not options.only or any(word in one.name for word in options.only)]
    wanted = [one for one in SCENARIOS if not options.scenario or one.name in options.scenario]
    results: dict[str, list[Series]] = {}
    for setup in dict.fromkeys((one.workers, one.pinned, one.store, one.only_ours) for one in wanted):
        together = [one for one in wanted if (one.workers, one.pinned, one.store, one.only_ours) == setup]
        results |= _run([one for one in chosen if one.name == OURS or not together[0].only_ours], together, options)
    measured = {one.name for series in results.values() for one in series}
    ordered = {one.name: results[one.name] for one in wanted if one.name in results}
    return _finish(ordered, wanted, [one for one in chosen if one.name in measured], options)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", metavar="WORD", help="variants whose name contains WORD (again for more)")
    parser.add_argument("--scenario", action="append", choices=[one.name for one in SCENARIOS])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sessions", type=int, default=1000, help="real logins for the scenario 'browser'")
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds, 50 sessions, nginx peers only")
    parser.add_argument("--check", action="store_true", help="exit 1 if a must is missed by more than the slack")
    parser.add_argument("--slack", type=float, default=0.2)
    parser.add_argument("--out", type=Path, help="folder for results.md, results.json and plot.svg")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder (configurations and logs)")
    options = parser.parse_args(words)
    if options.quick:
        options.rounds, options.seconds, options.sessions = 2, 2.0, 50
        options.only = options.only or [OURS, "nginx"]
    return options


def _run(chosen: list[Variant], scenarios: list[Scenario], options: argparse.Namespace) -> dict[str, list[Series]]:
    first = scenarios[0]
    sessions = min(options.sessions, max(one.sessions for one in scenarios))
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="bff-bench-"))
        if not options.keep:
            stack.callback(_remove, directory)
        directory.chmod(0o755)
        ours, theirs = ("0", "1") if first.pinned else (None, None)
        place = Place(directory, free_port(), ours, theirs, workers=first.workers, sessions=sessions, store=first.store)
        stack.callback(nginx.start_upstream(place, place.upstream_port).stop)
        running = dict(_start(chosen, place, stack))
        return {one.name: _measure(one, running, place, options) for one in scenarios}


def _start(chosen: list[Variant], place: Place, stack: ExitStack) -> list[tuple[str, Running]]:
    up = []
    for variant in chosen:
        try:
            running = variant.start(place)
        except Absent as reason:
            _say(f"{variant.name}: left out, {reason}")
            continue
        stack.callback(running.group.stop)
        if running.helper:
            stack.callback(running.helper.stop)
        broken = load.check_echo(running)
        if broken:
            raise SystemExit(f"{variant.name}: {'; '.join(broken)} (see {place.directory})")
        flaws = f" (known: {', '.join(running.flaws)})" if running.flaws else ""
        _say(f"{variant.name}: up, echo as promised{flaws}")
        up.append((variant.name, running))
    return up


def _measure(scenario: Scenario, running: dict[str, Running], place: Place, options: argparse.Namespace) -> list[Series]:
    """Forwards in even rounds, backwards in odd ones: whoever comes after a heavy neighbour changes."""
    series = {name: Series(name) for name in running}
    for name, one in running.items():
        load.measure(one, scenario, place, 1)
        _say(f"{scenario.name}: {name} warm")
    for number in range(options.rounds):
        for name in list(running)[:: -1 if number % 2 else 1]:
            sample = load.measure(running[name], scenario, place, options.seconds)
            series[name].samples.append(sample)
            _say(f"{scenario.name}, round {number + 1}: {name} {sample.cpu_ms:.4f} CPU-ms, {sample.rps:,.0f}/s, p99 {sample.p99_ms:.1f} ms")
    return list(series.values())


def _finish(results: dict[str, list[Series]], scenarios: list[Scenario], measured: list[Variant], options: argparse.Namespace) -> int:
    tables = "\n".join(report.table(one, results[one.name], OURS) for one in scenarios if one.name in results)
    verdicts = goals.judge(results, options.slack)
    lines = [f"- {'held' if one.held else '**missed**'}: {one.text}" for one in verdicts]
    print(tables, *lines, sep="\n", flush=True)
    if options.out:
        head = report.preamble(f"python -m bench --rounds {options.rounds} --seconds {options.seconds:g}", measured)
        goals_text = "## Goals\n\n" + "\n".join(lines) + "\n"
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text("\n".join([head, tables.replace("### ", "## "), goals_text]))
        (options.out / "results.json").write_text(report.as_json(results))
        for one in scenarios[:1]:
            title = f"CPU per request in ms, {one.name}, best round, logarithmic scale"
            (options.out / "plot.svg").write_text(report.plot(results[one.name], title, OURS))
    if options.check and not any(OURS in one.name for series in results.values() for one in series):
        print("bench: ours was not measured")
        return 1
    missed = [one for one in verdicts if not one.held]
    print(f"bench: {len(verdicts) - len(missed)} goals held, {len(missed)} missed", flush=True)
    return 1 if options.check and any(one.binding for one in missed) else 0


def _remove(directory: Path) -> None:
    from shutil import rmtree

    rmtree(directory, ignore_errors=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
