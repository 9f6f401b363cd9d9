"""Installing the independent providers where the tests look for them: ``python tests/interop/installing.py``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
NANOIDP = "nanoidp==3.4.0"


class CannotInstall(Exception):
    """What was missing, for a skip or a failure."""


def oidc_provider() -> Path:
    """The script that serves npm's oidc-provider, its packages installed. CannotInstall."""
    if not (FOLDER / "node_modules" / "oidc-provider").exists():
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise CannotInstall("node and npm are not here")
        _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"])
    return FOLDER / "oidc_provider.mjs"


def nanoidp() -> Path:
    """The nanoidp program, in an environment of its own. CannotInstall."""
    program = FOLDER / ".venv" / "bin" / "nanoidp"
    if not program.exists():
        uv = next((path for path in (ROOT / ".tools" / "bin" / "uv", shutil.which("uv")) if path and Path(path).exists()), None)
        if uv:
            _run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, ".venv"])
            _run([str(uv), "pip", "install", "--quiet", "--python", ".venv/bin/python", NANOIDP])
        else:
            _run([sys.executable, "-m", "venv", "--clear", ".venv"])
            _run([".venv/bin/python", "-m", "pip", "install", "--quiet", NANOIDP])
    return program


def _run(arguments: list[str]) -> None:
    done = subprocess.run(arguments, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise CannotInstall(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}")


if __name__ == "__main__":
    print(oidc_provider())
    print(nanoidp())
