"""``bff demo``: the whole thing on one machine, in one command."""

from __future__ import annotations

import signal
import sys
import webbrowser

from bff.demo.journey import Journey
from bff.demo.world import APP_PORT, World, running_world

EXIT_OK, EXIT_FAILED = 0, 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*, port: int = APP_PORT, once: bool = False, open_browser: bool = False, workers: int = 1, verbose: bool = False) -> int:
    """Serve the demo until Ctrl-C, or with ``once`` walk through it; the exit code. SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_world(port=port, workers=workers, quiet=not verbose) as world:
            for line in world.moved:
                say(f"- {line}")
            return _walk(world) if once else _stay(world, open_browser=open_browser)
    except KeyboardInterrupt:
        return EXIT_OK
    except RuntimeError as error:
        sys.stderr.write(f"{error}\nfix: run `bff demo --verbose`, and see docs/troubleshooting.md\n")
        return EXIT_FAILED


def _walk(world: World) -> int:
    held = Journey(world, say).run()
    say("every step held" if held else "a step did not hold")
    return EXIT_OK if held else EXIT_FAILED


def _stay(world: World, *, open_browser: bool) -> int:
    say(f"- the app:       {world.app}   <- open this and click \"Sign in\" (Ada, Ben or Chloe; no password)")
    say(f"- the provider:  {world.provider}/admin")
    say(f"- health:        {world.manage}/readyz and {world.manage}/metrics")
    say("- Ctrl-C ends everything; nothing is left behind")
    if open_browser:
        webbrowser.open(world.app)
    while True:
        signal.pause()
