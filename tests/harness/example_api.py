"""The example API as a process."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.harness.programs import PYTHON, Program, free_port

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ExampleApi:
    def __init__(self, *, folder: Path, issuer: str, audience: str, tick_s: float = 0.05) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = [PYTHON, "-m", "spa_example.api", "--port", str(self.port), "--issuer", issuer, "--audience", audience]
        self.program = Program([*arguments, "--tick", str(tick_s), "--keys-max-age", "1"], log_file=folder / f"api-{self.port}.log")
        self.program.wait_ready(self._healthy)

    def _healthy(self) -> bool:
        with _OPENER.open(f"{self.url}/health", timeout=5) as answer:
            return bool(answer.status == 200)

    def stop(self) -> None:
        self.program.stop()
