"""The record: a session as a store keeps it. Sealed so that a store dump, the key ring, or both open nothing without
the cookie, and a row copied under another key or version opens for nobody (attacks.md 4.3).

The record's key comes from the ticket's half and a server half; the tag binds store key and version.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bff.base.errors import SealBroken
from bff.base.secret import Secret
from bff.session.model import Grant, Session
from bff.session.sealing import KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES, Key, KeyRing, derive, join_prefixed
from bff.session.store.port import Row

FORMAT = 1
READABLE = frozenset({FORMAT, FORMAT - 1})
"""F44: formats that this release reads. Within a format only trailing fields with defaults are added: older releases
skip what they do not know, newer ones fill in what is missing."""

_HEADER_BYTES = 1 + KEY_ID_BYTES
_PURPOSE = b"record"


class _PackedGrant(msgspec.Struct, array_like=True):
    access_token: str
    expires_at: float
    scopes: list[str]
    token_type: str
    issued_at: float = 0.0


class _PackedSession(msgspec.Struct, array_like=True):
    issuer: str
    subject: str
    sid: str
    acr: str
    amr: list[str]
    auth_time: int | None
    claims: dict[str, Any]
    grants: dict[str, _PackedGrant]
    refresh_token: str
    id_token: str


_decoder = msgspec.msgpack.Decoder(_PackedSession)
_encoder = msgspec.msgpack.Encoder()


def seal_record(session: Session, *, half: bytes, ring: KeyRing, seen_at: float) -> Row:
    """The row that a store keeps, sealed under the newest key, with its blind indexes."""
    key = ring.newest()
    header = bytes([FORMAT]) + key.id_bytes
    nonce = secrets.token_bytes(NONCE_BYTES)
    cipher = _cipher(ring, key, half, session.key)
    sealed = cipher.encrypt(nonce, _encoder.encode(_pack(session)), _context(header, session.key, session.version))
    return Row(
        key=session.key,
        version=session.version,
        sealed=header + nonce + sealed,
        created_at=session.created_at,
        seen_at=seen_at,
        expires_at=session.expires_at,
        indexes=indexes_of(session.issuer, session.subject, session.sid, ring=ring),
    )


def open_record(row: Row, *, half: bytes, ring: KeyRing) -> Session:
    """The session in the row. SealBroken, also for a format of a future release."""
    header, rest = row.sealed[:_HEADER_BYTES], row.sealed[_HEADER_BYTES:]
    nonce, sealed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    key = ring.find_key(header[1:])
    if key is None or len(sealed) < TAG_BYTES or header[0] not in READABLE:
        raise SealBroken("record of an unknown key or format")
    try:
        plain = _cipher(ring, key, half, row.key).decrypt(nonce, sealed, _context(header, row.key, row.version))
        packed = _decoder.decode(plain)
    except (InvalidTag, msgspec.MsgspecError):
        raise SealBroken("record does not open") from None
    return _unpack(packed, row)


def find_session(row: Row, half: bytes, *, ring: KeyRing, to_send: bool = False) -> Session | None:
    """The session in the row, None where it does not open. ``to_send``: as ``Session.held_to_send``."""
    try:
        session = open_record(row, half=half, ring=ring)
    except SealBroken:
        return None
    return session.held_to_send() if to_send else session


def seal_again(row: Row, *, half: bytes, ring: KeyRing, seen_at: float) -> Row | None:
    """The same session sealed under the newest key, as the next version of its row; None where it does not open."""
    session = find_session(row, half, ring=ring)
    return None if session is None else seal_record(replace(session, version=row.version + 1), half=half, ring=ring, seen_at=seen_at)


def is_current(row: Row, *, ring: KeyRing) -> bool:
    """Whether the key that seals now sealed this row."""
    return row.sealed[1:_HEADER_BYTES] == ring.newest().id_bytes


def indexes_of(issuer: str, subject: str, sid: str, *, ring: KeyRing) -> tuple[bytes, ...]:
    """Blind indexes under the newest key: of the subject, and of the provider's sid where there is one."""
    subject_index = ring.indexes("subject", issuer, subject)[0]
    return (subject_index, ring.indexes("sid", issuer, sid)[0]) if sid else (subject_index,)


def _cipher(ring: KeyRing, key: Key, half: bytes, store_key: bytes) -> AESGCM:
    return AESGCM(derive(half + ring.subkey(key, "record half"), _PURPOSE, store_key))


def _context(header: bytes, store_key: bytes, version: int) -> bytes:
    return join_prefixed(header, _PURPOSE, store_key, version.to_bytes(8, "big"))


def _pack(session: Session) -> _PackedSession:
    grants = {
        audience: _PackedGrant(grant.access_token.reveal(), grant.expires_at, sorted(grant.scopes), grant.token_type, grant.issued_at)
        for audience, grant in session.grants.items()
    }
    return _PackedSession(
        issuer=session.issuer,
        subject=session.subject,
        sid=session.sid,
        acr=session.acr,
        amr=list(session.amr),
        auth_time=session.auth_time,
        claims=dict(session.claims),
        grants=grants,
        refresh_token=session.refresh_token.reveal(),
        id_token=session.id_token.reveal(),
    )


@lru_cache(maxsize=256)
def _scopes(scopes: tuple[str, ...]) -> frozenset[str]:
    """One set for all sessions that were granted the same: a worker holds thousands of them."""
    return frozenset(scopes)


@lru_cache(maxsize=256)
def _same(words: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all who signed in the same way."""
    return words


def _unpack(packed: _PackedSession, row: Row) -> Session:
    grants = {
        audience: Grant(
            Secret(grant.access_token), grant.expires_at, _scopes(tuple(grant.scopes)), sys.intern(grant.token_type), grant.issued_at
        )
        for audience, grant in packed.grants.items()
    }
    return Session(
        key=row.key,
        version=row.version,
        issuer=sys.intern(packed.issuer),
        subject=packed.subject,
        created_at=row.created_at,
        expires_at=row.expires_at,
        sid=packed.sid,
        acr=sys.intern(packed.acr),
        amr=_same(tuple(packed.amr)),
        auth_time=packed.auth_time,
        claims=packed.claims,
        grants=grants,
        refresh_token=Secret(packed.refresh_token),
        id_token=Secret(packed.id_token),
    )
