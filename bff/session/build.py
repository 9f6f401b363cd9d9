"""How sessions come to be and what may change in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from bff.oauth.types import Identity, TokenSet
from bff.session.model import Grant, Session
from bff.session.ticket import Ticket

PROTOCOL_CLAIMS = frozenset({"aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "sid", "typ", "events"})
"""Claims that secure the ID token itself; of no use to anybody afterwards (PRIV-2)."""


def build_session(
    ticket: Ticket, identity: Identity, tokens: TokenSet, *, scopes: Sequence[str], claims: Mapping[str, Any], now: float
) -> Session:
    """Version 1 of a session: nothing in it comes from an older one (SESS-3). ``claims`` are already the allowed ones."""
    granted = frozenset(scopes if tokens.scopes is None else tokens.scopes)
    return Session(
        key=ticket.key,
        version=1,
        issuer=identity.issuer,
        subject=identity.subject,
        created_at=now,
        expires_at=ticket.expires_at,
        sid=identity.sid,
        acr=identity.acr,
        amr=tuple(identity.amr),
        auth_time=identity.auth_time,
        claims=claims,
        grants={"": Grant(tokens.access_token, tokens.expires_at, granted, tokens.token_type, issued_at=now)},
        refresh_token=tokens.refresh_token,
        id_token=tokens.id_token,
    )


def bounded(old: Session, new: Session) -> Session:
    """``new`` as the next version of ``old``: what a change may not change stays, and the end only comes nearer (SESS-5)."""
    return replace(
        new,
        key=old.key,
        version=old.version + 1,
        issuer=old.issuer,
        subject=old.subject,
        created_at=old.created_at,
        expires_at=min(old.expires_at, new.expires_at),
    )


def allowed_claims(claims: Mapping[str, Any], allowed: frozenset[str] | None) -> dict[str, Any]:
    """The claims that a session may hold: the allow-listed ones, or with None all but the ID token's own."""
    wanted = claims.keys() - PROTOCOL_CLAIMS if allowed is None else allowed & claims.keys()
    return {name: value for name, value in claims.items() if name in wanted and _is_storable(value)}


def _is_storable(value: object) -> bool:
    """JSON knows numbers that the record's encoding does not: such a claim is left out, not the login."""
    try:
        msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, ValueError, RecursionError):
        return False
    return True
