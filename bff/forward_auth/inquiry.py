"""The endpoint: a front proxy's question enters the door, the original request is judged like any other, the verdict goes back.

Who may ask: a peer in ``server.trusted_proxies`` that also knows the secret. The address alone proves nothing, because the front proxy
passes browsers' requests on from the same address, and the answer holds an access token. To everybody else this path does not exist.

That nothing is sent elsewhere than was judged: the front proxy names the route it would take, and is refused if the table says another
(attacks P5 to P10: matchers that fold case, decode or merge slashes where ours does not).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from bff.forward_auth.answer import Rendering, admitted_bytes, cache_seconds, refused_bytes
from bff.forward_auth.dialects import CACHE, DIALECTS, ENDPOINT, ROUTE, SECRET, Dialect
from bff.forward_auth.identity import build_identity
from bff.forward_auth.original import build_original, find_field
from bff.forward_auth.readings import Reading, Readings, split_id
from bff.forward_auth.stripping import find_stubborn
from bff.policy.facts import Facts
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.call import Call
from bff.proxy.door import BUSY
from bff.proxy.path import malformed

if TYPE_CHECKING:
    from bff.proxy.door import Door
    from bff.proxy.edge import Edge

_LONGEST_START: Final = 64
_SECRET_LINE: Final = b"\r\n" + SECRET.lower().encode() + b":"
_ELSEWHERE: Final = Refusal(404, "route_unknown", "The front proxy would send this elsewhere than its address belongs.")


class ForwardAuth:
    """Owner: one worker. ``secrets`` are the values of which any one is good, asked for once until ``forget``: deriving them anew for
    each question was 7 % of it. ``identity`` is (header, claim)."""

    def __init__(
        self,
        *,
        secrets: Callable[[], Iterable[str]],
        rendering: Rendering,
        identity: Sequence[tuple[str, str]] = (),
        csrf_header: str = "x-csrf",
    ) -> None:
        self._secrets = secrets
        self._known: tuple[bytes, ...] = ()
        self.readings = Readings()
        self._mark = f" {rendering.prefix}{ENDPOINT}".encode()
        self.rendering = rendering
        self.identity = tuple(identity)
        self.csrf_header = csrf_header

    def find_dialect(self, block: bytes, edge: Edge) -> Dialect | None:
        """The dialect of a question, None for any other request head: whoever may not ask gets the answer of an unknown path."""
        at = block.find(self._mark, 0, _LONGEST_START + len(self._mark))
        if at < 0 or not edge.peer_trusted or b" " in block[:at] or b"\r" in block[:at]:
            return None
        start = at + len(self._mark)
        name = block[start : start + 16].replace(b"/", b" ").replace(b"?", b" ").split(b" ", 1)[0].decode("latin-1")
        dialect = DIALECTS.get(name)
        return dialect if dialect is not None and self._knows_secret(block) else None

    def _knows_secret(self, block: bytes) -> bool:
        lowered = block.lower()
        at = lowered.find(_SECRET_LINE)
        if at < 0 or lowered.find(_SECRET_LINE, at + 1) >= 0:
            return False
        start = at + len(_SECRET_LINE)
        given = block[start : block.find(b"\r\n", start)].strip(b" \t")
        if not self._known:
            self._known = tuple(secret.encode() for secret in self._secrets())
        return any([hmac.compare_digest(given, secret) for secret in self._known])

    def forget(self) -> None:
        """Keys or routes were replaced: what was good need not be any more."""
        self._known = ()
        self.readings.forget()

    def take(self, door: Door, block: bytes) -> bool:
        """Answer a question on this door; False for any other request head, with nothing done."""
        if self._mark not in block[: _LONGEST_START + len(self._mark)]:
            return False
        key, request_id = split_id(block)
        reading = self.readings.find(key, door.edge)
        dialect = self.find_dialect(block, door.edge) if reading is None else reading.dialect
        if dialect is None:
            return False
        house = door.house
        inquiry = Inquiry(door, house.next_id(), house.monotonic())
        inquiry.asked = self
        inquiry.dialect = dialect
        if door.eof_at:
            inquiry.eof_mark = 0
        door.mode = BUSY
        door.exchange = cast(Any, inquiry)
        if reading is None:
            inquiry.ask(block, key)
        else:
            inquiry.ask_again(reading, request_id)
        return True

    def endpoint(self, dialect: Dialect) -> str:
        return f"{self.rendering.prefix}{ENDPOINT}{dialect.name}"


class Inquiry(Call):
    """One question. Owner: its door, from the head on until ``door.done``. Never holds an upstream connection."""

    asked: ForwardAuth
    dialect: Dialect
    question: Facts | None = None
    facts: Facts = cast(Facts, None)

    def ask_again(self, reading: Reading, request_id: bytes) -> None:
        """The same question as before, read then: judged now."""
        self.question = reading.question
        self.request_id = request_id or self.request_id
        self._judge(reading.original(self.request_id.decode("ascii")))

    def ask(self, block: bytes, key: bytes) -> None:
        """Read the question, rebuild and read the original, judge it. ``key`` is what it is remembered by."""
        house, edge = self.door.house, self.door.edge
        question = house.reader.read(block, edge)
        if isinstance(question, Refusal):
            self.refuse(question)
            return
        self.question = question
        rebuilt = build_original(question, self.dialect, endpoint=self.asked.endpoint(self.dialect))
        if isinstance(rebuilt, Refusal):
            self.refuse(rebuilt)
            return
        original = house.reader.read(rebuilt, edge)
        if isinstance(original, Refusal):
            self.refuse(replace(original, close=False))  # the question itself was in order: its connection stays
            return
        self.request_id = original.request_id.encode()
        self.facts = original
        refusal = self._refuse_stubborn(original)
        if refusal is not None:
            self.refuse(refusal)
            return
        readings = self.asked.readings
        if readings.is_worth(key):
            readings.keep(key, Reading(self.dialect, edge, question, original))
        self._judge(original)

    def _judge(self, original: Facts) -> None:
        """At once if everything is at hand."""
        self.facts = original
        verdict = self.door.house.gatekeeper.judge_now(original)
        if verdict is None:
            self._spawn(self._walk(original))
        else:
            self._ruled(verdict)

    async def _walk(self, original: Facts) -> None:
        verdict = await self.door.house.gatekeeper.judge(original)
        self.task = None
        self._ruled(verdict)

    def _refuse_stubborn(self, original: Facts) -> Refusal | None:
        if self.dialect.removes_families:
            return None
        name = find_stubborn(original, self.asked.csrf_header)
        return malformed(f"The front proxy could not keep the header {name[:60]} from the API.") if name else None

    def _ruled(self, verdict: Admitted | Refusal) -> None:
        if isinstance(verdict, Refusal):
            self.refuse(replace(verdict, close=False))
            return
        question = cast(Facts, self.question)
        if verdict.target is None or find_field(question, ROUTE) != verdict.route.path:
            self.refuse(_ELSEWHERE)
            return
        house = self.door.house
        self.plan = house.account(verdict, self.door.edge)
        keep = self._keeps()
        answer = admitted_bytes(
            verdict,
            build_identity(self.asked.identity, verdict.judged),
            self.dialect,
            rules=self.asked.rendering.rules,
            keep_alive=keep,
            cache_s=cache_seconds(verdict, asked=find_field(question, CACHE), now=house.now()),
        )
        self._reply(answer, 200, "ok", keep)

    def refuse(self, refusal: Refusal) -> None:
        """Answer no. Also what ``check`` and a failure of ours end in."""
        keep = self._keeps() and not refusal.close
        answer = refused_bytes(
            refusal,
            self.facts,
            self.dialect,
            self.asked.rendering,
            question=self.question,
            request_id=self.request_id.decode("ascii"),
            keep_alive=keep,
        )
        self._reply(answer, refusal.status, refusal.code, keep)

    def _reply(self, answer: bytes, status: int, outcome: str, keep_alive: bool) -> None:
        door = self.door
        self.status = status
        if self.task is not None:
            self.task.cancel()
            self.task = None
        door.write(answer)
        now = door.house.monotonic()
        self._leave(now, outcome)
        door.done(keep_alive, now)

    def _keeps(self) -> bool:
        question = self.question
        return question is not None and question.keep_alive and not question.http_10 and self.door.house.keeps_alive
