"""The product as a process: a configuration file in, sockets out."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.programs import PYTHON, Program, children_of, environment, free_port, name_of, wait_until
from tests.harness.toml import to_toml

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run_bff(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A ``bff`` command run in ``folder``."""
    arguments = [PYTHON, "-m", "bff", *words]
    return subprocess.run(arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def make_keys(folder: Path) -> Path:
    """A key ring file, made by the product's own command."""
    path = folder / "keys.json"
    made = run_bff(folder, "keys", "new")
    if made.returncode != 0:
        raise AssertionError(f"bff keys new: {made.returncode} {made.stderr[-800:]}")
    return path


class Product:
    """``bff serve`` in a folder of its own. ``config`` is the file's content as a dict; changes take effect with ``restart``."""

    def __init__(self, *, folder: Path, config: Mapping[str, Any], env: Mapping[str, str] | None = None, start: bool = True) -> None:
        self.folder = folder
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.port = free_port()
        self.manage_port = free_port()
        self.origin = f"http://localhost:{self.port}"
        self._env = dict(env or {})
        self._runs = 0
        self.program: Program | None = None
        if start:
            self.start()

    @property
    def config_file(self) -> Path:
        return self.folder / "bff.toml"

    def write_config(self) -> None:
        server = {
            "listen": f"127.0.0.1:{self.port}",
            "public_origin": self.origin,
            "manage_listen": f"127.0.0.1:{self.manage_port}",
            "drain_delay": "0s",
            **self.config.get("server", {}),
        }
        self.config_file.touch(mode=0o600)  # it holds the client's secret
        self.config_file.write_text(to_toml({**self.config, "server": server}), encoding="utf-8")

    def start(self, *, wait: bool = True) -> Program:
        self.write_config()
        self._runs += 1
        log = self.folder / f"bff-{self._runs}.log"
        arguments = [PYTHON, "-m", "bff", "--debug", "serve", "--config", str(self.config_file)]
        listen = str(self.config.get("server", {}).get("listen", ""))
        inherited = [int(listen.removeprefix("fd://"))] if listen.startswith("fd://") else []
        self.program = Program(arguments, log_file=log, env=self._env, cwd=self.folder, inherited=inherited)
        if wait:
            self.program.wait_ready(self.is_ready)
        return self.program

    def is_ready(self) -> bool:
        return self.manage("/readyz")[0] == 200

    def manage(self, path: str) -> tuple[int, str]:
        """GET on the management listener. OSError while nothing listens."""
        try:
            with _OPENER.open(f"http://127.0.0.1:{self.manage_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def run_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A ``bff`` command in this folder."""
        return run_bff(self.folder, *words)

    def processes(self) -> list[int]:
        """Workers and agents, oldest first."""
        assert self.program is not None
        return children_of(self.program.pid)

    def workers(self) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid) == "bff-worker"]

    def agents(self) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid) == "bff-agent"]

    def reload(self) -> None:
        assert self.program is not None
        self.program.signal(signal.SIGHUP)

    def stop(self, timeout_s: float = 15.0) -> int:
        assert self.program is not None
        return self.program.stop(timeout_s)

    def crash(self) -> None:
        """SIGKILL for all of it at once."""
        assert self.program is not None
        self.program.kill()
        self.program.wait(5)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def logs(self) -> str:
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(self.folder.glob("bff-*.log")))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event, read as JSON."""
        found = []
        for line in self.logs.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and name in (entry.get("event"), entry.get("kind")):
                found.append(entry)
        return found

    def wait_workers(self, count: int, timeout_s: float = 10.0) -> None:
        wait_until(lambda: len(self.workers()) >= count, timeout_s=timeout_s, what=f"{count} workers")
