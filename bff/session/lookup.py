"""Finding rows by whom they belong to, through blind indexes: the store never learns a name."""

from __future__ import annotations

from bff.session.sealing import KeyRing
from bff.session.store.port import Row, SessionStore


async def find_indexed(store: SessionStore, ring: KeyRing, *, issuer: str, subject: str = "", sid: str = "") -> list[Row]:
    """Rows of a person or of a provider session, in key order. StoreUnavailable.

    With both, those of the person that have this sid, and those that never had any: which of them the provider means
    cannot be told, and a logout that spares one is the worse mistake (OIDC Back-Channel Logout §2.7).
    """
    people = await _rows(store, ring.indexes("subject", issuer, subject)) if subject else {}
    logins = await _rows(store, ring.indexes("sid", issuer, sid)) if sid else {}
    found = people or logins
    if subject and sid:
        found = {key: row for key, row in people.items() if key in logins or len(row.indexes) == 1}
    return [found[key] for key in sorted(found)]


async def _rows(store: SessionStore, indexes: tuple[bytes, ...]) -> dict[bytes, Row]:
    rows: dict[bytes, Row] = {}
    for index in indexes:
        rows.update((row.key, row) for row in await store.find(index))
    return rows
