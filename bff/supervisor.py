"""Own the listening sockets, keep ``workers`` processes alive, pass signals on, drain on SIGTERM.

The supervisor never serves a request and runs no event loop: it forks, waits for signals and reaps. Workers inherit the sockets,
so a restarting worker refuses nobody: what waits in the accept queue is taken by the next one (closing a SO_REUSEPORT socket
would reset it instead). A worker notices a dead supervisor by the end of a pipe, so none is ever left behind.

State: one slot per worker (owner: the supervisor; bound: ``workers``).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
FINAL_CODES = frozenset({2, 69, 78})
"""Exit codes a worker uses for what a restart cannot mend: usage, a missing dependency, configuration."""

SLOWEST_RESTART_S = 5.0
SETTLED_S = 10.0


@dataclass(slots=True)
class _Slot:
    number: int
    started: float = 0.0
    restart_at: float = 0.0
    delay_s: float = 0.0
    pid: int = 0


@dataclass(slots=True)
class Supervisor:
    """``work(slot, lifeline)`` runs in the forked child, with SIGHUP blocked, and returns its exit code; ``lifeline`` is the read end of a
    pipe that ends with the supervisor. ``reload()`` runs here; SIGHUP is passed on if it says True. ``say`` writes one log event.
    ``let_go()`` closes this process's hold on the door, so that it closes with the last worker's and nobody queues for nobody."""

    work: Callable[[int, int], int]
    workers: int
    grace_s: float
    reload: Callable[[], bool]
    say: Callable[[str, Mapping[str, object]], None]
    let_go: Callable[[], None] = lambda: None
    notify: Callable[[str], None] = lambda state: None
    _slots: list[_Slot] = field(default_factory=list)
    _stopping: bool = False
    _settled: bool = False
    _final_code: int | None = None

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code of ``bff serve``."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        lifeline, held = os.pipe()
        self._slots = [_Slot(number) for number in range(self.workers)]
        for slot in self._slots:
            self._start(slot, lifeline, held)
        self.notify("READY=1")
        try:
            while not self._stopping:
                self._step(lifeline, held)
            return self._stop()
        finally:
            os.close(lifeline)
            os.close(held)

    def _step(self, lifeline: int, held: int) -> None:
        due = [slot.restart_at for slot in self._slots if not slot.pid]
        timeout = min(due) - time.monotonic() if due else 1.0
        received = signal.sigtimedwait(SIGNALS, max(0.0, min(timeout, 1.0)))
        self._reap()
        if received is not None:
            self._handle(received.si_signo)
        for slot in self._slots:
            if not slot.pid and not self._stopping and slot.restart_at <= time.monotonic():
                self._start(slot, lifeline, held)

    def _handle(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stopping = True
        elif number == signal.SIGHUP and self.reload():
            self._signal(signal.SIGHUP)

    def _start(self, slot: _Slot, lifeline: int, held: int) -> None:
        pid = os.fork()
        if pid == 0:
            os.close(held)
            # SIGHUP would end a process that has no handler for it yet: the worker unblocks it, and hears of one that came meanwhile.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS - {signal.SIGHUP})
            code = 70
            try:
                code = self.work(slot.number, lifeline)
            except BaseException as error:
                self.say("worker_failed", {"worker": slot.number, "error": f"{type(error).__name__}: {error}"})
            finally:
                # No way back into the supervisor's stack, whatever happened.
                os._exit(code)
        slot.pid, slot.started = pid, time.monotonic()
        self.say("worker_started", {"worker": slot.number, "pid": pid})

    def _reap(self) -> None:
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, code: int) -> None:
        lived_s = time.monotonic() - slot.started
        pid, slot.pid = slot.pid, 0
        if self._stopping:
            return
        self.say("worker_ended", {"worker": slot.number, "pid": pid, "exit": code, "lived_s": round(lived_s, 1)})
        # One replacement that cannot start is no reason to end those who serve.
        self._settled = self._settled or any(one.pid and time.monotonic() - one.started >= SETTLED_S for one in self._slots)
        if code in FINAL_CODES and lived_s < SETTLED_S and not self._settled:
            self._stopping, self._final_code = True, code
            return
        self._settled = self._settled or lived_s >= SETTLED_S
        slot.delay_s = 0.05 if lived_s >= SETTLED_S else min(SLOWEST_RESTART_S, max(0.05, slot.delay_s * 2))
        slot.restart_at = time.monotonic() + slot.delay_s

    def _stop(self) -> int:
        self.notify("STOPPING=1")
        self.let_go()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s + 5.0
        while any(slot.pid for slot in self._slots) and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap()
        self._signal(signal.SIGKILL)
        for slot in self._slots:
            if slot.pid:
                os.waitpid(slot.pid, 0)
        return self._final_code or 0

    def _signal(self, number: int) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)
