"""What a token answer makes of a session, and until when a token is fresh. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bff.base.secret import Secret
from bff.oauth.types import Identity, TokenSet
from bff.session.model import Credential, Grant, Session

JITTER = 0.2
SHORTEST_LIFE_S = 1.0
"""A token that is over on arrival counts as this long, so that it cannot ask for a renewal at every request (F14)."""


class Superseded(Exception):
    """The record holds another refresh token than the one we redeemed: another worker was first, and its tokens stay."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """One answered refresh: whose refresh token was redeemed (``base``), for which ``audience``, what came back at ``now``.

    ``claims`` are the new ID token's allowed ones, None where no ID token came.
    """

    base: Session
    audience: str
    tokens: TokenSet
    identity: Identity | None
    claims: Mapping[str, Any] | None
    now: float

    @property
    def refresh_token(self) -> Secret:
        """The one that is good from now on: the old one, where the answer brings none (TOKEN-7)."""
        return self.tokens.refresh_token or self.base.refresh_token

    def orphan(self) -> Session:
        """Nothing but what came back: for revocation, when nobody is there any more to have it (F10)."""
        return replace(self.base, grants={self.audience: self._grant(self.base)}, refresh_token=self.refresh_token)

    def apply(self, session: Session) -> Session:
        """The session with the new tokens. Superseded: then nothing of ours may be written (RFC 9700 §4.14.2)."""
        if session.refresh_token not in (self.base.refresh_token, self.refresh_token):
            raise Superseded
        longest_s = self.tokens.session_max_s
        renewed = replace(
            session,
            grants={**session.grants, self.audience: self._grant(session)},
            refresh_token=self.refresh_token,
            # An ID token that did not pass (then no identity came) must not become a logout hint either.
            id_token=self.tokens.id_token if self.identity is not None and self.tokens.id_token else session.id_token,
            expires_at=session.expires_at if longest_s is None else min(session.expires_at, self.now + longest_s),
        )
        return renewed if self.identity is None else self._identified(renewed, self.identity)

    def _grant(self, session: Session) -> Grant:
        old = session.grants.get(self.audience) or session.grants.get("")
        scopes = self.tokens.scopes if self.tokens.scopes is not None else (old.scopes if old else ())
        expires_at = max(self.tokens.expires_at, self.now + SHORTEST_LIFE_S)
        return Grant(self.tokens.access_token, expires_at, frozenset(scopes), self.tokens.token_type, issued_at=self.now)

    def _identified(self, session: Session, identity: Identity) -> Session:
        """S7: claims are replaced as a whole, so a group that was taken away is gone with this answer."""
        ends_at = identity.session_expires_at
        return replace(
            session,
            expires_at=session.expires_at if ends_at is None else min(session.expires_at, ends_at),
            claims=session.claims if self.claims is None else self.claims,
            acr=identity.acr or session.acr,
            amr=identity.amr or session.amr,
            auth_time=session.auth_time if identity.auth_time is None else identity.auth_time,
            sid=identity.sid or session.sid,
        )


def fresh_until(session: Session, grant: Grant, *, margin_s: float) -> float:
    """When to renew: a margin before the end, at most half of the token's life, up to a fifth earlier by session so
    that those who signed in together do not renew together (F11, TOKEN-13). Without a refresh token: the end itself.
    """
    if not session.refresh_token:
        return grant.expires_at
    spread = 1 + JITTER * session.key[0] / 255 if session.key else 1.0
    life_s = grant.expires_at - grant.issued_at
    return grant.expires_at - max(0.0, min(margin_s * spread, life_s / 2))


def find_credential(session: Session, audience: str, *, now: float, margin_s: float) -> Credential | None:
    """The fresh credential that a session holds for an audience, if it holds one."""
    grant = session.grants.get(audience)
    if grant is None:
        return None
    until = fresh_until(session, grant, margin_s=margin_s)
    return build_credential(grant, audience, until=until) if now < until else None


def build_credential(grant: Grant, audience: str, *, until: float) -> Credential:
    return Credential(grant.authorization(), until, audience, grant.scopes)
