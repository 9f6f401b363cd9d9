"""Set-up and run in one step: ``python3 dev.py demo`` or ``python3 dev.py test``.

    demo [--once] [--port N]   the example app, its API, a provider and the BFF on loopback; opens nothing to the network
    test [pytest arguments]    the test suite
    bff COMMAND ...            the product's own command line (init, check, doctor, serve, ...), in your current folder
    check                      ruff, mypy --strict and the import rules
    lock [--upgrade]           writes requirements/*.txt again from pyproject.toml

Needs Python 3.11+ with pip (or uv) and nothing else: no root, no Node.js, no make.
Everything it installs stays in .venv/ and .tools/ beside this file, from hash-locked lists.
Windows branches exist but nobody has run them.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

# Annotations are quoted and the syntax is old on purpose: an old Python must get as far as the sentence in main().

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements"
BOOTSTRAP = REQUIREMENTS / "bootstrap.txt"
TOOLS = ROOT / ".tools"
WINDOWS = os.name == "nt"
OLDEST, NEWEST_TRIED = (3, 11), (3, 13)

TASKS = {
    "demo": ["-m", "bff", "demo"],
    "test": ["-m", "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"],  # the long files come early in the alphabet
    "bff": ["-m", "bff"],
}
CHECKS = [
    ["ruff", "check", "."],
    ["mypy"],
    ["lint-imports"],
]


def say(text: str) -> None:
    print("- " + text, file=sys.stderr, flush=True)


def environment() -> "dict[str, str]":
    """The caller's environment, with the installers' caches kept in this folder unless the caller chose a place."""
    here = {"UV_CACHE_DIR": str(TOOLS / "cache" / "uv"), "PIP_CACHE_DIR": str(TOOLS / "cache" / "pip")}
    return {**here, **os.environ}


def run(*command: "str | Path", quiet: bool = False) -> bool:
    sink = subprocess.DEVNULL if quiet else None
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment(), stdout=sink, stderr=sink)
    return done.returncode == 0


def python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if WINDOWS else "bin/python")


def find_uv() -> "str | None":
    """Our pinned uv, else a recent one from PATH, else one that pip may add even where PEP 668 guards the system."""
    if os.environ.get("DEV_INSTALLER") == "pip":
        return None
    ours = TOOLS / "bin" / ("uv.exe" if WINDOWS else "uv")
    if ours.exists():
        return str(ours)
    found = shutil.which("uv")
    if found:
        said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.split()
        if len(said) > 1 and tuple(int(part) for part in said[1].split(".")[:2] if part.isdigit()) >= (0, 8):
            return found
    if not run(sys.executable, "-m", "pip", "--version", quiet=True):
        sys.exit("Neither uv nor pip is here. Install pip (on Debian: apt-get install python3-pip) and try again.")
    say("fetching the installer (uv) into .tools/, once")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check", "--no-warn-script-location",
        "--target", TOOLS, "--upgrade", "--require-hashes", "--only-binary", ":all:", "-r", BOOTSTRAP)  # fmt: skip
    return str(ours) if ours.exists() else None


@contextmanager
def one_at_a_time():
    """Two starts at once (demo in one terminal, test in the other) must not build the same folder twice."""
    try:
        TOOLS.mkdir(exist_ok=True)
        handle = (TOOLS / "lock").open("w")
    except OSError as error:
        sys.exit("Set-up writes into {}, and that cannot be done ({}). Use a clone that is yours.".format(ROOT, error.strerror))
    with handle:
        if not WINDOWS:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sync(venv: Path, lock: Path) -> Path:
    """Make ``venv`` hold exactly what ``lock`` lists; a stamp of lock and interpreter makes the next start free."""
    python, stamp = python_in(venv), venv / ".stamp"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode() + str(venv).encode()).hexdigest()

    def ready() -> bool:
        return python.exists() and stamp.exists() and stamp.read_text() == wanted

    if ready():
        return python
    with one_at_a_time():
        if not ready():
            install(venv, lock)
            stamp.write_text(wanted)
    return python


def install(venv: Path, lock: Path) -> None:
    python, uv = python_in(venv), find_uv()
    say("installing locked dependencies into {}/ with {}, once".format(venv.relative_to(ROOT), "uv" if uv else "pip"))
    if uv:
        done = run(uv, "venv", "-q", "--clear", "--no-python-downloads", "--python", sys.executable, venv)
        done = done and run(uv, "pip", "sync", "-q", "--python", python, "--require-hashes", lock)
    else:
        done = run(sys.executable, "-m", "venv", "--clear", venv)
        done = done and run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", lock)
    if not done:
        sys.exit("Set-up failed; the lines above say why, docs/troubleshooting.md (Set-up) says what to do.")


def check() -> int:
    """The quality tools, in an environment of their own so that the first start stays small."""
    venv = TOOLS / "quality"
    python = sync(venv, REQUIREMENTS / "quality.txt")
    failed = [tool[0] for tool in CHECKS if not run(python.parent / tool[0], *tool[1:])]
    print("check: " + ("failed: " + ", ".join(failed) if failed else "all passed"), flush=True)
    return 1 if failed else 0


def relock(rest: "list[str]") -> int:
    uv = find_uv()
    if not uv:
        sys.exit("Locking needs uv.")
    switches = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-config", "-q"]
    lists = {
        "bootstrap.txt": [str(REQUIREMENTS / "bootstrap.in")],
        "build.txt": [str(REQUIREMENTS / "build.in")],
        "runtime.txt": ["pyproject.toml"],
        "dev.txt": ["pyproject.toml", "--all-extras", "--group", "test"],
        "ci.txt": [str(REQUIREMENTS / "ci.in")],
        "quality.txt": ["pyproject.toml", "--all-extras", "--group", "test", "--group", "quality"],
    }
    for name, sources in lists.items():
        if not run(uv, "pip", "compile", *sources, *switches, "-o", REQUIREMENTS / name, *rest, quiet=False):
            return 1
        text = (REQUIREMENTS / name).read_text()
        if "://" in text:
            sys.exit(name + " names an address; a lock without addresses works behind any mirror")
    return 0


def main() -> int:
    if sys.version_info < OLDEST:
        sys.exit("Python 3.11 or newer is needed, this is {}.".format(sys.version.split()[0]))
    task, *rest = sys.argv[1:] or ["--help"]
    if task in ("check", "lock"):
        return check() if task == "check" else relock(rest)
    if task not in TASKS:
        print(__doc__)
        return 0 if task in ("-h", "--help") else 2
    if sys.version_info[:2] > NEWEST_TRIED:
        say("this is Python {}; 3.11 to 3.13 have been tried".format(sys.version.split()[0]))
    python = sync(ROOT / ".venv", REQUIREMENTS / "dev.txt")
    where = None if task == "bff" else ROOT
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {"PYTHONPATH": path, "DEV_STARTED_AS": "python3 {} bff".format(shlex.quote(sys.argv[0]))}
    return hand_over([str(python), *TASKS[task], *rest], where=where, env={**os.environ, **told})


def hand_over(command: "list[str]", *, where: "Path | None", env: "dict[str, str]") -> int:
    """Become ``command``: a signal sent to us must reach it (SIGTERM ended us alone and left servers on their ports, SIGHUP likewise)."""
    if not WINDOWS:
        os.chdir(where or ".")
        os.execve(command[0], command, env)  # noqa: S606 - our own interpreter, no shell
    try:
        return subprocess.run(command, cwd=where, env=env).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
