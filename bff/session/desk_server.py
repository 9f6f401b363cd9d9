"""The agent's credential desk, opened to the workers of this instance over a private Unix socket.

The workers serve the browsers and know no provider; whoever needs a token that is not at hand asks here. So all renewals of an
instance meet at one desk, and one turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging

import msgspec

from bff.base.errors import BffError
from bff.session.credentials import CredentialDesk
from bff.session.desk_wire import Answer, Hello, Told, Wish, failure_of, frame, read_frame
from bff.session.keeper import Keeper
from bff.session.model import Credential, Live

log = logging.getLogger("bff.session")

MAX_WISHES = 4096
"""Wishes under way on one connection. A worker that asks for more waits: its frames are not read meanwhile."""


class DeskServer:
    """Serves every connection that ``asyncio.start_unix_server`` hands to ``serve``. Owner: the agent's process.

    ``secret`` is known to this instance's processes alone; a connection that does not begin with it is closed.
    """

    def __init__(self, *, keeper: Keeper, desk: CredentialDesk, secret: bytes) -> None:
        self._keeper = keeper
        self._desk = desk
        self._secret = secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's connection, until it ends. What was begun for it goes on for the session's sake (TOKEN-8)."""
        try:
            hello = msgspec.msgpack.decode(await read_frame(reader), type=Hello)
            if hmac.compare_digest(hello.secret, self._secret):
                await self._serve(reader, writer)
        except (EOFError, ValueError, OSError, msgspec.DecodeError) as error:
            log.debug("a worker's connection ended: %s", type(error).__name__)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = asyncio.Semaphore(MAX_WISHES)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                wish = msgspec.msgpack.decode(await read_frame(reader), type=Wish)
                await room.acquire()
                task = asyncio.ensure_future(self._grant(wish, writer))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda done: room.release())
        finally:
            for task in running:
                task.cancel()

    async def _grant(self, wish: Wish, writer: asyncio.StreamWriter) -> None:
        try:
            answer = Answer(wish.number, Told.of(await self._find(wish)))
        except BffError as error:
            answer = Answer(wish.number, failure=failure_of(error))
        except Exception as error:
            log.error("unexpected %s at the desk", type(error).__name__, exc_info=True)
            answer = Answer(wish.number, failure=failure_of(BffError()))
        if not writer.is_closing():  # a worker that has gone has nobody left to tell
            with contextlib.suppress(OSError):
                writer.write(frame(answer))
                await writer.drain()

    async def _find(self, wish: Wish) -> Credential:
        live: Live | None = None
        if wish.holder is not None:
            live = await self._keeper.hold(wish.holder.key, wish.holder.half, seen_at=wish.holder.seen_at)
        if wish.stale is not None:
            return await self._desk.renew(live, audience=wish.audience, stale=wish.stale.credential())
        return await self._desk.issue(live, token=wish.token, audience=wish.audience, scopes=frozenset(wish.scopes))
