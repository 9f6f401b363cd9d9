"""``bff doctor``: asks everybody we depend on, and says what is wrong before a user finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bff.cli.options import config_option, load
from bff.cli.report import OK, UNAVAILABLE

if TYPE_CHECKING:
    from bff.cli.doctor.lines import Line
    from bff.settings import Settings


@click.command()
@config_option
def doctor(config: Path) -> int:
    """Ask the provider, the store and the upstreams; exit 0 if nothing fails, 69 otherwise."""
    failed = 0
    for line in examine(load(config), config):
        click.echo(_printable(str(line)))
        failed += line.level == "fail"
    return UNAVAILABLE if failed else OK


def examine(settings: Settings, config: Path) -> Iterator[Line]:
    """Every line, in the order in which one would mend things. A check that cannot run because of another stays silent."""
    from bff.cli.doctor import client, provider, surroundings
    from bff.cli.raw import Http

    named = settings.provider
    http = Http(ca_file=named.ca_file, client_cert_file=named.client_cert_file, client_key_file=named.client_key_file)
    found, lines = provider.discover(settings, http)
    yield from lines
    if found is not None:
        yield from provider.check_clock(found.reply, named.leeway)
    if found is not None and found.provider is not None:
        yield from provider.check_keys(found.provider, http, named.id_token_algs)
        yield from provider.check_features(settings, found, found.provider)
        yield from client.check_client(settings, found.provider, http)
    yield from surroundings.check_store(settings)
    yield from surroundings.check_upstreams(settings)
    yield from surroundings.check_origin(settings)
    yield from surroundings.check_switches(settings, config)


def _printable(text: str) -> str:
    """No control character of an outside text reaches the terminal (PRIV-8)."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
