"""The port every session store implements. A store is dumb: sealed bytes under hashed keys, times, blind indexes.

One contract suite (tests/session/test_store_contract.py) runs against each store. Every method raises
``StoreUnavailable`` when it has no answer, never anything of its driver's; none of them retries a write.
All times are epoch seconds. A cancelled call may or may not have happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """One sealed record. ``indexes`` are keyed blind indexes of subject and provider sid; ``version`` starts at 1."""

    key: bytes
    version: int
    sealed: bytes
    created_at: float
    seen_at: float
    expires_at: float
    indexes: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a cursor. ``keys`` is None when the store can't tell: then everything may have changed."""

    cursor: int
    keys: Sequence[bytes] | None


class SessionStore(Protocol):
    async def insert(self, row: Row) -> None:
        """Add a new row, all its indexes with it or nothing."""

    async def get(self, key: bytes) -> Row | None:
        """The row as last acknowledged by any process, or None."""

    async def replace(self, row: Row, *, expected_version: int) -> bool:
        """Compare and set: write ``row`` only if the stored version is ``expected_version``. False if it is not, or
        if the row is gone: an ended session is never revived. ``seen_at`` never moves backwards."""

    async def touch(self, key: bytes, seen_at: float) -> None:
        """Move ``seen_at`` forward; no version change, no effect on a row that is gone."""

    async def delete(self, key: bytes) -> bool:
        """End it, indexes with it. True if there was one. Idempotent."""

    async def find(self, index: bytes) -> list[Row]:
        """Every row under a blind index."""

    async def list(self, *, after: bytes = b"", limit: int = 100) -> list[Row]:
        """Rows in key order, for administration."""

    async def once(self, name: bytes, until: float) -> bool:
        """True the first time ``name`` is seen by any process before ``until``, else False. For jti and state replay."""

    async def acquire(self, name: bytes, holder: bytes, ttl_s: float) -> bool:
        """Take or renew a lease. False while another holder's lease has not ended."""

    async def release(self, name: bytes, holder: bytes) -> None:
        """Give a lease back, if it is still this holder's."""

    async def changes(self, cursor: int) -> Changes:
        """What other processes or we ourselves changed or deleted after ``cursor`` (0: from now on). Cheap: called a
        few times a second by each worker. Touches are not changes."""

    async def purge(self, now: float, *, seen_before: float = float("-inf")) -> int:
        """Remove rows that expired by ``now`` or were last seen before ``seen_before``, a bounded number at a time
        (call again while it returns any); returns how many. Removed rows are changes."""

    async def count(self) -> int:
        """Live rows, for the metrics."""

    async def ping(self) -> None:
        """Return if the store can be read and written; raise StoreUnavailable if not."""

    async def close(self) -> None: ...
