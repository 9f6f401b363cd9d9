"""A worker's desk: hands out what is at hand, and asks the agent's desk, in another process, for the rest.

Nothing here knows the provider. What the agent's desk decides is in the store before it answers (TOKEN-7), so after each answer the
session is read again and the next request finds its token at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from bff.base.clock import Clock
from bff.base.errors import BffError, GrantRevoked, ProviderUnavailable, SessionGone, StoreUnavailable
from bff.base.flight import Flights
from bff.session.desk_wire import Answer, Hello, Holder, Told, Wish, error_of, frame, read_frame
from bff.session.keeper import Keeper
from bff.session.model import Credential, Live, Session, TokenKind
from bff.session.renewal import find_credential

MAX_HELD = 1000
ATTEMPTS = 3

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
_Flight = tuple[bytes, TokenKind, str, frozenset[str], bytes]


class RemoteDesk:
    """The same calls as ``CredentialDesk``. ``wait_s`` bounds one call, an agent that is just starting again included.

    Mutable state, all owned here: one connection, the wishes under way on it, the client's own tokens (1000).
    """

    def __init__(
        self, *, keeper: Keeper, connect: Connect, secret: bytes, clock: Clock, margin_s: float = 30.0, wait_s: float = 15.0
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._margin_s = margin_s
        self._wait_s = wait_s
        self._line = _Line(connect, secret)
        self._flights: Flights[_Flight, Credential] = Flights()
        self._held: dict[tuple[str, frozenset[str]], Credential] = {}

    def at_hand(
        self, session: Session | None, *, token: TokenKind, audience: str, scopes: frozenset[str] = frozenset()
    ) -> Credential | None:
        """The credential, if a fresh one is here: the hot path. None means await ``issue``."""
        if token == "none":  # noqa: S105 - a kind of token
            return Credential(b"", float("inf"))
        if session is None or token == "client":  # noqa: S105
            held = None if token == "user" else self._held.get((audience, scopes))  # noqa: S105
            return held if held is not None and self._clock.now() < held.fresh_until else None
        return find_credential(session, audience, now=self._clock.now(), margin_s=self._margin_s)

    async def issue(self, live: Live | None, *, token: TokenKind, audience: str, scopes: frozenset[str] = frozenset()) -> Credential:
        """A credential for one call. Errors as for ``CredentialDesk.issue``; ProviderUnavailable also while the agent is down."""
        ready = self.at_hand(None if live is None else live.session, token=token, audience=audience, scopes=scopes)
        if ready is not None:
            return ready
        asked = live if token != "client" else None  # noqa: S105
        fresh = await self._ask(asked, token, audience, scopes, None)
        if asked is None:
            self._hold(audience, scopes, fresh)
        return fresh

    async def renew(self, live: Live | None, *, audience: str, stale: Credential) -> Credential:
        """Another credential than ``stale``, which an API refused (TOKEN-10), or ``stale`` itself. Errors as for ``issue``."""
        slot = next((slot for slot, held in self._held.items() if held.authorization == stale.authorization), None)
        if slot is None and live is None:
            return await self._ask(None, "client", audience, stale.scopes, stale)
        if slot is None:
            return await self._ask(live, "user", audience, frozenset(), stale)
        fresh = await self._ask(None, "client", audience, slot[1], stale)
        self._hold(*slot, fresh)
        return fresh

    async def close(self, timeout_s: float) -> None:
        """Let the calls under way end, at most ``timeout_s``."""
        await self._flights.drain(timeout_s)
        self._line.close()

    async def _ask(
        self, live: Live | None, token: TokenKind, audience: str, scopes: frozenset[str], stale: Credential | None
    ) -> Credential:
        """One flight for all who want the same."""
        if live is not None and live.session is None:
            raise SessionGone("ended")
        key = b"" if live is None else live.key
        refused = b"" if stale is None else stale.authorization
        return await self._flights.join((key, token, audience, scopes, refused), lambda: self._send(live, token, audience, scopes, stale))

    async def _send(
        self, live: Live | None, token: TokenKind, audience: str, scopes: frozenset[str], stale: Credential | None
    ) -> Credential:
        holder = None if live is None else Holder(live.key, live.half, live.seen_at)
        wish = Wish(0, holder, token, audience, sorted(scopes), None if stale is None else Told.of(stale))
        try:
            async with asyncio.timeout(self._wait_s):
                fresh = await self._line.ask(wish)
        except TimeoutError:
            raise ProviderUnavailable("the agent does not answer", retry_after_s=1.0) from None
        except (GrantRevoked, SessionGone):
            # Over in the store, and so over here at once.
            if live is not None:
                with contextlib.suppress(BffError):
                    await self._keeper.reread(live)
            raise
        if live is not None:
            with contextlib.suppress(StoreUnavailable):  # the token is good all the same
                await self._keeper.reread(live)
        return fresh

    def _hold(self, audience: str, scopes: frozenset[str], credential: Credential) -> None:
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[audience, scopes] = credential


class _Line:
    """One connection to the agent's desk, made when needed and made again when it breaks."""

    def __init__(self, connect: Connect, secret: bytes) -> None:
        self._connect = connect
        self._hello = frame(Hello(secret))
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._opening: Flights[str, asyncio.StreamWriter] = Flights()
        self._listener: asyncio.Future[None] | None = None

    async def ask(self, wish: Wish) -> Credential:
        """The answer to ``wish``; asked again if the connection breaks, for asking twice does no harm. ProviderUnavailable."""
        for _ in range(ATTEMPTS):
            try:
                return _read(await self._ask_once(wish))
            except OSError:
                await asyncio.sleep(0.05)
        raise ProviderUnavailable("the agent is not there", retry_after_s=1.0)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
        if self._writer is not None:
            self._writer.close()

    async def _ask_once(self, wish: Wish) -> Answer:
        writer = self._writer or await self._opening.join("", self._open)
        await writer.drain()  # an agent that does not read is sent no more than it has been already
        if writer is not self._writer or writer.is_closing():
            raise ConnectionResetError("the agent's desk is gone")  # nobody would hear an answer on this one any more
        self._numbers += 1
        number = self._numbers
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            writer.write(frame(msgspec.structs.replace(wish, number=number)))
            answer: Answer = await waiting
            return answer
        finally:
            self._waiting.pop(number, None)

    async def _open(self) -> asyncio.StreamWriter:
        reader, writer = await self._connect()
        if writer.is_closing():
            raise ConnectionResetError("the agent's desk hung up at once")  # uvloop would raise what nobody expects
        writer.write(self._hello)
        self._writer = writer
        self._listener = asyncio.ensure_future(self._listen(reader, writer))
        return writer

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                answer = msgspec.msgpack.decode(await read_frame(reader), type=Answer)
                waiting = self._waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except (EOFError, ValueError, OSError, msgspec.DecodeError):
            self._writer = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("the agent's desk is gone"))
        finally:
            writer.close()


def _read(answer: Answer) -> Credential:
    if answer.failure is not None:
        raise error_of(answer.failure)
    if answer.credential is None:
        raise BffError("an answer without anything")
    return answer.credential.credential()
