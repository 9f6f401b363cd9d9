"""How the command line speaks: two lines for an error (what, what to do) and an exit code from a short list."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable

import click

from bff.base.console import problem_lines, two_lines
from bff.base.errors import BffError, ConfigError, ProviderUnavailable, StoreUnavailable

OK, USAGE, UNAVAILABLE, TEMPORARY, CONFIG = 0, 2, 69, 75, 78
_TAKEN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}


def say_error(what: str, fix: str) -> None:
    """The two lines, on standard error."""
    click.echo(two_lines(what, fix), err=True)


def counted(number: int, what: str) -> str:
    """``1 route``, ``2 routes``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def say_problem(line: str) -> None:
    """A ``where: key: what; fix: …`` line as two lines."""
    click.echo(problem_lines(line), err=True)


class Stop(Exception):
    """Ends a command with two lines and an exit code."""

    def __init__(self, code: int, what: str, fix: str) -> None:
        super().__init__(what)
        self.code, self.what, self.fix = code, what, fix


def guarded(command: Callable[[], int | None], *, debug: bool) -> int:
    """Run ``command``; whatever it raises becomes lines and an exit code, never a traceback unless ``debug``."""
    try:
        return command() or OK
    except (KeyboardInterrupt, click.Abort):
        return TEMPORARY
    except Exception as error:
        if debug:
            traceback.print_exc(file=sys.stderr)
        return _explain(error)


def _explain(error: Exception) -> int:
    match error:
        case Stop():
            say_error(error.what, error.fix)
            return error.code
        case ConfigError():
            for line in error.problems:
                say_problem(line)
            return CONFIG
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return USAGE
        case click.ClickException():
            say_error(error.format_message(), _usage_hint(error))
            return USAGE
        case StoreUnavailable():
            say_error(
                f"the session store gives no answer ({error.detail or error.code})",
                "check session.store, its folder and its permissions: bff doctor",
            )
            return UNAVAILABLE
        case ProviderUnavailable():
            say_error("the provider gives no usable answer", "check provider.issuer and the network: bff doctor")
            return UNAVAILABLE
        case BffError():
            say_error(error.public, f"look up the code {error.code} under docs/errors, or run bff doctor")
            return TEMPORARY
        case OSError():
            return _explain_os(error)
        case _:
            say_error(f"stopped by an unexpected {type(error).__name__}", "run it again with --debug and report what it prints")
            return TEMPORARY


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if isinstance(context, click.Context) else "see bff --help"


def _explain_os(error: OSError) -> int:
    name = f" {error.filename}" if error.filename else ""
    if error.errno in _TAKEN:
        say_error("an address to listen on is taken or not ours", "end the other program, or change server.listen and server.manage_listen")
        return UNAVAILABLE
    say_error(
        f"the system refused{name}: {error.strerror or type(error).__name__}",
        "check that path's existence and permissions, or run with --debug",
    )
    return TEMPORARY
