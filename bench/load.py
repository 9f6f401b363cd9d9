"""One load: wrk against a running variant, and the CPU its processes used meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bench.values import ECHO, OTHER_COOKIES, Absent, Place, Running, Sample, Scenario

LOADS = Path(__file__).parent / "loads"


def measure(running: Running, scenario: Scenario, place: Place, seconds: float) -> Sample:
    """CPU is read around wrk, so it holds the few connects at the start as well. RuntimeError if any answer was not a 2xx."""
    cookies = place.directory / f"cookies-{running.port}.txt"
    cookies.write_text("\n".join(running.cookies[: scenario.sessions]) + "\n")
    before = running.group.cpu_s()
    said = _wrk(running, scenario, place, seconds, cookies)
    used = running.group.cpu_s() - before
    sample = Sample(
        requests=said["requests"],
        seconds=said["duration_us"] / 1e6,
        cpu_s=used,
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        failed=said["status"] + said["connect"] + said["read"] + said["write"] + said["timeout"],
        rss_mib=running.group.rss_mib(),
        agent_mib=running.group.agent_mib(),
    )
    if sample.failed or not sample.requests:
        raise RuntimeError(f"{sample.failed} of {sample.requests} requests failed: {said}")
    return sample


def _wrk(running: Running, scenario: Scenario, place: Place, seconds: float, cookies: Path) -> dict[str, int]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Absent("wrk is missing (Debian: apt-get install wrk)")
    url = f"http://127.0.0.1:{running.port}{scenario.path}"
    shape = ["-t1", f"-c{scenario.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command = [wrk, *shape, "-s", str(LOADS / scenario.script)]
    command += [word for name, value in running.headers.items() for word in ("-H", f"{name}: {value}")]
    command += [url, "--", str(cookies)]
    if place.load_cpus is not None:
        command = ["taskset", "-c", place.load_cpus, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, cwd=LOADS)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk said nothing usable:\n{done.stdout}{done.stderr}")
    result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return result


def check_echo(running: Running) -> list[str]:
    """What the upstream saw, against the promise: a list of broken parts, empty when all held."""
    from bff.demo.visitor import Visitor

    base = f"http://127.0.0.1:{running.port}"
    answer = Visitor().ask("GET", base + ECHO, {**running.headers, "Cookie": running.cookies[0]})
    if answer.status != 200:
        return [f"answered {answer.status} with a session"]
    if not running.token:
        return []
    seen = answer.json()
    wrong = []
    if not seen["authorization"].startswith("Bearer ey") or len(seen["authorization"]) < 300:
        wrong.append("no JWT arrived")
    if running.cookie_name in seen["cookie"]:
        wrong.append("the session cookie reached the upstream")
    if any(pair not in seen["cookie"] for pair in OTHER_COOKIES.split("; ")):
        wrong.append("other cookies were lost")
    if Visitor().ask("GET", base + ECHO, {**running.headers, "Cookie": OTHER_COOKIES}).status == 200:
        wrong.append("answered 200 without a session")
    return [item for item in wrong if item not in running.flaws]
