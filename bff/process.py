"""What every process of an instance has in common: what it shares with the others, its signals, its patience, its memory."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import hmac
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bff.assembly import Shared
from bff.base.clock import Clock
from bff.base.errors import StoreUnavailable
from bff.base.listening import BACKLOG
from bff.board import BEAT_S, Board
from bff.session.sealing import KeyRing

STORE_PATIENCE_S = 5.0
SETTLE_EVERY_S = 60.0
LAG_FADES = 0.93
"""Of a lag, what the next beat still tells: half of it after 2.4 s."""
M_ARENA_MAX = -8


@dataclass(slots=True)
class Instance:
    """What the processes of one instance share and nobody else has. Made by the supervisor, inherited by fork.

    ``ring`` signs the door's notes to the agent and ``secret`` opens the agent's desk; both live as long as the instance. The two
    sockets are listened on by the agent's process and held open by the supervisor. ``workers_alive`` is the read end of a pipe
    that ends with the last process holding ``workers_pipe``: every worker does, and the supervisor until it stops. ``board`` holds
    the processes' signs of life.
    """

    folder: Path
    agent_socket: socket.socket
    desk_socket: socket.socket
    workers_alive: int
    workers_pipe: int
    board: Board
    ring: KeyRing = field(default_factory=KeyRing.generate)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def create(cls, folder: Path, *, processes: int) -> Instance:
        """``folder`` is private to us (mode 0700); the sockets in it are 0600 besides. ``processes``: workers and agents."""
        alive, pipe = os.pipe()
        return cls(folder, _listen(folder / "agent.sock"), _listen(folder / "desk.sock"), alive, pipe, Board(processes))

    @property
    def agent_path(self) -> str:
        return str(self.folder / "agent.sock")

    @property
    def desk_path(self) -> str:
        return str(self.folder / "desk.sock")

    @property
    def store_path(self) -> Path:
        """Where sessions live that nobody wants to keep (``memory:``): with the instance, and no longer."""
        return self.folder / "sessions.db"

    def holder(self, slot: int) -> bytes:
        """The name in leases of the process in this slot. Its successor has the same, so what a killed one held is not waited for."""
        return hmac.digest(self.secret, b"holder %d" % slot, "sha256")[:16]

    def let_go(self) -> None:
        """This process is no worker: the pipe may end without it. Closed once: the number may be another file's soon."""
        pipe, self.workers_pipe = self.workers_pipe, -1
        if pipe >= 0:
            os.close(pipe)


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def watch_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """SIGTERM stops, SIGHUP reloads, on the running loop. A SIGHUP that came before this was held back and is heard now."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal's Ctrl-C reaches the supervisor, which sends SIGTERM
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor starts us with it blocked


def tell_where_it_hangs() -> None:
    """On SIGUSR2 write the stack of every thread, without values, to standard error and go on. The supervisor sends it to a child that
    is stuck: a handler of the loop's would never run, and SIGABRT would leave a core file with every token in it."""
    faulthandler.register(signal.SIGUSR2, all_threads=True, chain=False)


@contextlib.asynccontextmanager
async def beating(board: Board, slot: int, *, clock: Clock, observe: Callable[[float], None]) -> AsyncIterator[None]:
    """Show on the board that this loop turns, until the block ends; ``observe`` gets how late each turn was, in seconds (F53)."""
    board.beat(slot, clock.monotonic())
    task = asyncio.ensure_future(_beat(board, slot, clock, observe))
    try:
        yield
    finally:
        await cancel(task)


async def _beat(board: Board, slot: int, clock: Clock, observe: Callable[[float], None]) -> None:
    lag_s = 0.0
    while True:
        slept_at = clock.monotonic()
        await asyncio.sleep(BEAT_S)
        now = clock.monotonic()
        late_s = max(0.0, now - slept_at - BEAT_S)
        observe(late_s)
        lag_s = max(late_s, lag_s * LAG_FADES)
        board.beat(slot, now, lag_s)


def watch_end(pipe: int, ended: Callable[[], None]) -> None:
    """Call ``ended`` when ``pipe`` ends, once: its end stays readable, and the loop would turn for nothing else from then on."""
    loop = asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(pipe)
        ended()

    loop.add_reader(pipe, on_end)


async def reach_store(shared: Shared, stop: asyncio.Event) -> None:
    """A store that is busy just now (a backup, an instance that is ending) costs the start a moment. StoreUnavailable for the others."""
    deadline = shared.clock.monotonic() + STORE_PATIENCE_S
    while not stop.is_set():
        try:
            return await shared.store.ping()
        except StoreUnavailable:
            if shared.clock.monotonic() >= deadline:
                raise
        await asyncio.sleep(0.25)


def limit_arenas() -> None:
    """One heap for all threads, before any is started: the store's threads would each keep one of their own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


async def cancel(task: asyncio.Future[None]) -> None:
    """Cancel and wait for the end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def keep_settled() -> None:
    """Give back each minute what bursts left behind, until cancelled: glibc keeps what lies below the last block in use."""
    while True:
        await asyncio.sleep(SETTLE_EVERY_S)
        give_back()


def settle_memory() -> None:
    """Give back what importing and starting left behind, before it is copied or counted."""
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Free memory that the C library keeps goes back to the system (under 1 ms, measured)."""
    with contextlib.suppress(OSError, AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)


def name_process(name: str) -> None:
    """What ``ps -o comm`` shows, where the system can be told."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")
