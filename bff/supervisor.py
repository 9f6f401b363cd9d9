"""Own the listening sockets, keep ``workers`` processes alive, pass signals on, drain on SIGTERM; on a SIGINT during it, stop at once.

The supervisor never serves a request and runs no event loop: it forks, waits for signals and reaps. Workers inherit the sockets,
so a restarting worker refuses nobody: what waits in the accept queue is taken by the next one (closing a SO_REUSEPORT socket
would reset it instead). A worker notices a dead supervisor by the end of a pipe, so none is ever left behind.

A worker whose loop no longer turns is alive to everybody but its users: one that gives no sign of life on the board is killed and
replaced. Silence is counted in the supervisor's own steps, at most a second each, so what stops the whole machine kills nobody.

State: one slot per worker (owner: the supervisor; bound: ``workers``).
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bff.board import Board

ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
SIGNALS = ENDING | {signal.SIGHUP, signal.SIGCHLD}
FINAL_CODES = frozenset({2, 69, 78})
"""Exit codes a worker uses for what a restart cannot mend: usage, a missing dependency, configuration."""

SLOWEST_RESTART_S = 5.0
SETTLED_S = 10.0
STEP_S = 1.0
AGAIN_S = 0.3
"""Sooner than this after the first signal a SIGINT is the same wish, as when a terminal and a program around us both tell us. A SIGTERM
that comes again cuts no drain short: a ``preStop`` hook sends one, and what runs us its own behind it."""
CLOSES_S = 5.0
"""What closing may take: after ``grace_s``, or after the word that nobody is waited for."""
STARTS_S = 30.0
"""Silence that is a worker's by right before its first sign of life: imports, and a store that is slow to open."""


@dataclass(slots=True)
class _Slot:
    number: int
    started: float = 0.0
    restart_at: float = 0.0
    delay_s: float = 0.0
    pid: int = 0
    beat_at: float = 0.0
    silent_s: float = 0.0
    asked: bool = False


@dataclass(slots=True)
class Supervisor:
    """``work(slot, lifeline)`` runs in the forked child, with SIGHUP blocked, and returns its exit code; ``lifeline`` is the read end of a
    pipe that ends with the supervisor. ``reload()`` runs here; SIGHUP is passed on if it says True. ``say`` writes one log event.
    ``let_go()`` closes this process's hold on the door, so that it closes with the last worker's and nobody queues for nobody.

    A worker silent on the ``board`` for ``stuck_s`` is asked by SIGUSR2 where it is and killed a second later; 0: never. The last
    ``helpers`` slots serve the others: in a drain one that dies is replaced as long as any of those is left.
    """

    work: Callable[[int, int], int]
    workers: int
    grace_s: float
    reload: Callable[[], bool]
    say: Callable[[str, Mapping[str, object]], None]
    board: Board
    let_go: Callable[[], None] = lambda: None
    notify: Callable[[str], None] = lambda state: None
    stuck_s: float = 0.0
    helpers: int = 0
    step_s: float = STEP_S
    _looked_at: float = 0.0
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
        self._looked_at = time.monotonic()
        try:
            while not self._stopping:
                self._step(lifeline, held)
            return self._stop(lifeline, held)
        finally:
            os.close(lifeline)
            os.close(held)

    def _step(self, lifeline: int, held: int) -> None:
        due = [slot.restart_at for slot in self._slots if not slot.pid]
        timeout = min(due) - time.monotonic() if due else self.step_s
        received = signal.sigtimedwait(SIGNALS, max(0.0, min(timeout, self.step_s)))
        self.notify("WATCHDOG=1")
        self._reap()
        if received is not None:
            self._handle(received.si_signo)
        if not self._stopping:
            self._end_who_is_stuck()
            self._start_who_is_due(self._slots, lifeline, held)

    def _start_who_is_due(self, slots: Sequence[_Slot], lifeline: int, held: int) -> None:
        for slot in slots:
            if not slot.pid and slot.restart_at <= time.monotonic():
                self._start(slot, lifeline, held)

    def _end_who_is_stuck(self) -> None:
        now = time.monotonic()
        passed_s, self._looked_at = min(now - self._looked_at, self.step_s), now
        for slot in self._slots if self.stuck_s else ():
            if not slot.pid:
                continue
            beat_at = self.board.beat_at(slot.number)
            if beat_at != slot.beat_at:
                slot.beat_at, slot.silent_s, slot.asked = beat_at, 0.0, False
                continue
            slot.silent_s += passed_s
            over_s = slot.silent_s - (self.stuck_s if beat_at else max(self.stuck_s, STARTS_S))
            if over_s >= 0 and not _is_traced(slot.pid):
                self._end_stuck(slot, over_s)

    def _end_stuck(self, slot: _Slot, over_s: float) -> None:
        """Not by its own handlers, which a loop that hangs never calls. SIGKILL also ends who was stopped."""
        if not slot.asked:
            slot.asked = True
            self.say("worker_stuck", {"worker": slot.number, "pid": slot.pid, "silent_s": round(slot.silent_s, 1)})
            os.kill(slot.pid, signal.SIGUSR2)
        elif over_s >= STEP_S:
            os.kill(slot.pid, signal.SIGKILL)

    def _handle(self, number: int) -> None:
        if number in ENDING:
            self._stopping = True
        elif number == signal.SIGHUP and self.reload():
            self._signal(signal.SIGHUP)

    def _start(self, slot: _Slot, lifeline: int, held: int) -> None:
        self.board.clear(slot.number)
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
        slot.beat_at, slot.silent_s, slot.asked = 0.0, 0.0, False
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
        slot.restart_at = math.inf
        if self._stopping and not self._is_needed(slot, code):
            return
        self.say("worker_ended", {"worker": slot.number, "pid": pid, "exit": code, "lived_s": round(lived_s, 1)})
        # One replacement that cannot start is no reason to end those who serve.
        self._settled = self._settled or any(one.pid and time.monotonic() - one.started >= SETTLED_S for one in self._slots)
        if code in FINAL_CODES and lived_s < SETTLED_S and not self._settled and not self._stopping:
            self._stopping, self._final_code = True, code
            return
        self._settled = self._settled or lived_s >= SETTLED_S
        slot.delay_s = 0.05 if lived_s >= SETTLED_S else min(SLOWEST_RESTART_S, max(0.05, slot.delay_s * 2))
        slot.restart_at = time.monotonic() + slot.delay_s

    def _is_needed(self, slot: _Slot, code: int) -> bool:
        """In a drain: others still wait for what it has to say."""
        helping = slot.number >= self.workers - self.helpers
        return helping and code not in FINAL_CODES and any(one.pid for one in self._slots[: self.workers - self.helpers])

    def _stop(self, lifeline: int, held: int) -> int:
        self.notify("STOPPING=1")
        self.board.drain()
        self.let_go()
        self._signal(signal.SIGTERM)
        served, helpers = self._slots[: self.workers - self.helpers], self._slots[self.workers - self.helpers :]
        begun = time.monotonic()
        deadline = begun + self.grace_s + CLOSES_S
        while any(slot.pid for slot in self._slots) and time.monotonic() < deadline:
            received = signal.sigtimedwait(ENDING | {signal.SIGCHLD}, 0.1)
            again = received is not None and received.si_signo == signal.SIGINT and time.monotonic() - begun >= AGAIN_S
            if again and not self.board.hurrying:
                self.board.hurry()
                self.say("drain_cut_short", {})
                deadline = min(deadline, time.monotonic() + CLOSES_S)
            self.notify("WATCHDOG=1")
            self._reap()
            self._end_who_is_stuck()
            if any(slot.pid for slot in served):
                self._start_who_is_due(helpers, lifeline, held)
        self._signal(signal.SIGKILL)
        for slot in self._slots:
            if slot.pid:
                os.waitpid(slot.pid, 0)
        return self._final_code or 0

    def _signal(self, number: int) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)


def _is_traced(pid: int) -> bool:
    """Somebody looks at it with a debugger: it is silent for a reason."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "TracerPid:" in status and "TracerPid:\t0\n" not in status
