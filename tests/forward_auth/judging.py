"""The same request twice: to the door, and through a front proxy. What came of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.forward_auth.fronts import FrontProxy, send
from tests.harness.http import Address, Answer, HeaderList
from tests.harness.upstream import Seen
from tests.harness.world import World

SESSION = "__Host-Http-bff"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the asker got, and what the API saw of it."""

    answer: Answer
    seen: tuple[Seen, ...]

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What must be the same on every way: status, our code, and for each request at the API its line, user and body."""
        ours = self.answer.header("bff-error") or ""
        reached = [(seen.line, seen.claims.get("sub"), seen.body) for seen in self.seen]
        return self.answer.status, ours, reached


def door_of(world: World) -> Address:
    host, _, port = world.product.config["server"]["listen"].rpartition(":")
    return Address(host, int(port))


async def at_the_door(world: World, method: str, target: str, headers: HeaderList, body: bytes | None = None) -> Outcome:
    world.recorder.clear()
    answer = await send(door_of(world), world.app.partition("://")[2], method, target, headers, body)
    return Outcome(answer, tuple(world.recorder.seen))


@dataclass(slots=True)
class Door:
    """The door's verdicts, remembered: each front proxy is compared with the same ones."""

    known: dict[Any, tuple[Any, ...]] = field(default_factory=dict)

    async def meaning(self, world: World, method: str, target: str, headers: HeaderList, body: bytes | None = None) -> tuple[Any, ...]:
        key = (method, target, tuple(headers), body)
        if key not in self.known:
            self.known[key] = (await at_the_door(world, method, target, headers, body)).meaning
        return self.known[key]


async def through(front: FrontProxy, world: World, method: str, target: str, headers: HeaderList, body: bytes | None = None) -> Outcome:
    world.recorder.clear()
    answer = await front.ask(method, target, headers, body)
    return Outcome(answer, tuple(world.recorder.seen))
