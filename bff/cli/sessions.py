"""``bff sessions``: who is signed in, and ending it. Reads the store directly; a memory store through the management listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import click

from bff.cli.options import config_option, load
from bff.cli.report import OK, TEMPORARY, UNAVAILABLE, USAGE, Stop, counted

if TYPE_CHECKING:
    from bff.manage.rows import Search
    from bff.session.keeper import Keeper
    from bff.session.sealing import KeyRing
    from bff.settings import Settings

T = TypeVar("T")


def _search_options(command: Callable[..., int]) -> Callable[..., int]:
    for name, text in (
        ("--issuer", "Issuer of --subject or --sid; default: the configured one."),
        ("--sid", "The provider's session id."),
        ("--subject", "The user's sub at the provider."),
        ("--session", "Key of one session, or its name in the logs."),
    ):
        command = click.option(name, default="", help=text)(command)
    return command


@click.group()
def sessions() -> None:
    """Signed-in browsers: list and end."""


@sessions.command("list")
@config_option
@_search_options
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="At most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(config: Path, session: str, subject: str, sid: str, issuer: str, limit: int, as_json: bool) -> int:
    """List sessions. Who they belong to is sealed; search by subject or sid to find a person's."""
    settings = load(config)
    terms = _terms(session=session, subject=subject, sid=sid, issuer=issuer)
    rows = _list_remote(settings, terms, limit) if _is_memory(settings) else _run(settings, lambda desk: desk.list(terms, limit))
    if as_json:
        click.echo(json.dumps({"sessions": rows}, indent=2))
        return OK
    for row in rows:
        times = "  ".join(f"{name} {_when(row[f'{name}_at'])}" for name in ("created", "seen", "expires"))
        click.echo(f"{row['session']}  log={row['log_name']}  {times}")
    click.echo(counted(len(rows), "session"), err=True)
    return OK


@sessions.command("end")
@config_option
@_search_options
def end_sessions(config: Path, session: str, subject: str, sid: str, issuer: str) -> int:
    """End one session, or all of a person or provider session. Every worker knows within a second."""
    terms = _terms(session=session, subject=subject, sid=sid, issuer=issuer)
    if not {"session", "subject", "sid"} & set(terms):
        raise Stop(USAGE, "nothing says whose sessions to end", "add --session, --subject or --sid")
    settings = load(config)
    count = _end_remote(settings, terms) if _is_memory(settings) else _run(settings, lambda desk: desk.end(terms))
    click.echo(f"ended {counted(count, 'session')}")
    return OK


def _terms(**given: str) -> dict[str, str]:
    terms = {name: value for name, value in given.items() if value}
    if "session" in terms and len(terms) > 1:
        raise Stop(USAGE, "--session stands alone", "drop the other search options")
    return terms


def _is_memory(settings: Settings) -> bool:
    return settings.session.store.reveal() == "memory:"


def _read_ring(settings: Settings) -> KeyRing:
    from bff.session.sealing import KeyRing

    return KeyRing.from_json(Path(settings.session.keys_file).read_text(encoding="utf-8"))


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- the store, opened here ----------------------------------------------------------------------------------------


class _Desk:
    """Administration over an open store."""

    def __init__(self, *, keeper: Keeper, ring: KeyRing, issuer: str) -> None:
        self._keeper = keeper
        self._ring = ring
        self._issuer = issuer

    async def list(self, terms: Mapping[str, str], limit: int) -> Sequence[Mapping[str, Any]]:
        from bff.manage.rows import describe_row

        search = await self._search(terms)
        if search.key:
            rows = [row for row in await self._every_row() if row.key == search.key]
        else:
            rows = await self._keeper.find_rows(issuer=search.issuer, subject=search.subject, sid=search.sid, limit=limit)
        return [describe_row(row, self._name) for row in rows]

    async def end(self, terms: Mapping[str, str]) -> int:
        from bff.session.model import EndReason

        search = await self._search(terms)
        if search.key:
            known = any(row.key == search.key for row in await self._every_row())
            await self._keeper.end(search.key, EndReason.ADMINISTRATOR)
            return int(known)
        found = await self._keeper.find_rows(issuer=search.issuer, subject=search.subject, sid=search.sid, limit=1_000_000)
        await self._keeper.end_where(issuer=search.issuer, subject=search.subject, sid=search.sid, reason=EndReason.ADMINISTRATOR)
        return len(found)

    async def _search(self, terms: Mapping[str, str]) -> Search:
        from bff.manage.rows import BadSearch, read_search

        session = terms.get("session", "")
        if len(session) == 16:
            named = [row.key.hex() for row in await self._every_row() if self._name(row.key.hex()) == session]
            if not named:
                raise Stop(TEMPORARY, "no session has that name in the logs under the newest key", "list them with: bff sessions list")
            terms = {"session": named[0]}
        try:
            return read_search(terms.items(), issuer=self._issuer)
        except BadSearch as error:
            raise Stop(USAGE, error.public, "take it from bff sessions list, or from session= in the logs") from None

    def _name(self, key: str) -> str:
        return self._ring.pseudonym("session", key)

    async def _every_row(self) -> Sequence[Any]:
        rows: list[Any] = []
        while page := await self._keeper.find_rows(after=rows[-1].key if rows else b"", limit=1000):
            rows += page
        return rows


def _run(settings: Settings, work: Callable[[_Desk], Awaitable[T]]) -> T:
    ring = _read_ring(settings)

    async def whole() -> T:
        from bff.base.clock import SystemClock
        from bff.session.cookies import CookiePolicy
        from bff.session.keeper import Keeper
        from bff.session.store import open_store

        clock = SystemClock()
        store = open_store(settings.session.store.reveal(), clock=clock)
        cookie = CookiePolicy(name=settings.cookie.name, same_site=settings.cookie.same_site, prefix=settings.cookie.prefix)
        session = settings.session
        keeper = Keeper(store=store, ring=ring, cookie=cookie, clock=clock, idle_s=session.idle, max_s=session.max, claims=frozenset())
        try:
            return await work(_Desk(keeper=keeper, ring=ring, issuer=settings.provider.issuer))
        finally:
            await store.close()

    return asyncio.run(whole())


# --- the management listener ---------------------------------------------------------------------------------------


def _list_remote(settings: Settings, terms: Mapping[str, str], limit: int) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = _ask(settings, "GET", {**terms, "limit": str(limit)} if "session" not in terms else terms)[
        "sessions"
    ]
    return rows


def _end_remote(settings: Settings, terms: Mapping[str, str]) -> int:
    return int(_ask(settings, "DELETE", terms)["ended"])


def _ask(settings: Settings, method: str, terms: Mapping[str, str]) -> Mapping[str, Any]:
    """The management listener's answer, with the token that only a reader of the key ring can make."""
    from bff.cli.raw import Http, Unreachable, ask_unix

    headers = {"Authorization": f"Bearer {_read_ring(settings).admin_token()}"}
    listen, target = settings.server.manage_listen, f"/sessions?{urlencode(terms)}"
    try:
        if listen.kind == "unix":
            reply = ask_unix(listen.path, target, headers, method)
        else:
            reply = Http().get(f"http://{listen.authority}{target}", headers, method)
    except Unreachable as error:
        raise Stop(
            UNAVAILABLE, f"the management listener at {listen} gives no answer: {error}", "start bff serve, or check server.manage_listen"
        ) from None
    body: Mapping[str, Any] = json.loads(reply.body)
    if reply.status != 200:
        raise Stop(
            UNAVAILABLE if reply.status >= 500 else TEMPORARY,
            f"the management listener refused: {body.get('title', reply.status)}",
            "bff sessions --help",
        )
    return body
