"""The deadlines of one HTTP call, looked at a few times a second (BODY-5, D9, F54), and its session's life (SSE-4).

No timer runs for a request: the house's tick asks every busy door, and each answer is a comparison or two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bff.proxy.refusals import BODY_LATE, LATE_ANSWER
from bff.proxy.tether import Tether

if TYPE_CHECKING:
    from bff.proxy.call import Call

WAIT_S = 60.0
"""For the gatekeeper and a connection together; both have shorter bounds of their own."""
EOF_S = 0.5
"""How long a browser that sends no more may stay without a byte of its answer before it is taken for gone (BODY-4)."""


def check_waiting(call: Call, now: float) -> None:
    if now - call.started > WAIT_S:
        call.refuse(LATE_ANSWER)


def check_head(call: Call, now: float) -> None:
    """The upstream has the request, or is getting it. A browser that stalls gets a 408, an upstream that does a 504."""
    limits = call.plan.route.limits
    quiet = now - call.moved_at
    if call.waits_for_body:
        late = BODY_LATE if quiet > min(limits.idle_s, call.door.house.options.body_s) else None
    else:
        late = LATE_ANSWER if quiet > (limits.head_s if call.upload is None else limits.idle_s) else None
    if late is None and now - call.started > limits.total_s:
        late = BODY_LATE if call.waits_for_body else LATE_ANSWER
    if late is not None:
        call.refuse(late)


def check_body(call: Call, now: float) -> None:
    """The answer is on its way: whatever goes wrong now can only cut it."""
    limits, plan = call.plan.route.limits, call.plan
    idle_s = limits.stream_idle_s if call.stream else limits.idle_s
    stalled = call.door.writable and now - call.moved_at > idle_s
    if stalled or (not call.stream and now - call.started > limits.total_s):
        call.cut()
    elif plan.live is not None and plan.judged is not None and plan.proxied:
        if call.tether is None:
            call.tether = Tether(plan.live, plan.judged, call.on_session_end)
        call.tether.check(call.door.house.now())


def seems_gone(call: Call, now: float) -> bool:
    """The browser half-closed or closed, which look the same until something is sent; nothing was sent since."""
    return call.eof_mark == call.sent and now - max(call.door.eof_at, call.started) > EOF_S
