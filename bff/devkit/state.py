"""``DevProvider``: everything the provider remembers, and the few operations on it. No HTTP here."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any

from bff.base.clock import Clock, SystemClock
from bff.devkit.keys import SigningKeys
from bff.devkit.knobs import Knobs
from bff.devkit.ledger import Ledger, fingerprint
from bff.devkit.loopback import check_issuer, post_form
from bff.devkit.model import AuthorizationRequest, Code, DevClient, Family, Interaction, IssuedAccess, SignIn
from bff.devkit.people import DEMO_PEOPLE, Person
from bff.devkit.tokens import mint

BACKCHANNEL_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CODE_LIFE_S = 60
PAR_LIFE_S = 60
INTERACTION_LIFE_S = 900
MOST_KEPT = 20_000


class DevProvider:
    """One development provider. ``issuer`` must be local (ConfigError); ``audience`` is an access token's when no resource was named.

    ``tls`` is used for back-channel logout to https clients. ``remember_secrets`` keeps every token and code in clear, for a
    test that looks for them where they must not be. All state is in memory, of this process and loop.
    """

    def __init__(
        self,
        *,
        issuer: str,
        clients: Iterable[DevClient],
        audience: str = "https://api.example.com",
        people: Iterable[Person] = DEMO_PEOPLE,
        clock: Clock | None = None,
        knobs: Knobs | None = None,
        tls: ssl.SSLContext | None = None,
        remember_secrets: bool = False,
    ) -> None:
        self.issuer = check_issuer(issuer)
        self.clients = {client.client_id: client for client in clients}
        self.people = {person.key: person for person in people}
        self.audience = audience
        self.knobs = knobs or Knobs()
        self.ledger = Ledger()
        self.keys = SigningKeys()
        self.sign_ins: dict[str, SignIn] = {}
        self.interactions: dict[str, Interaction] = {}
        self.pushed: dict[str, tuple[dict[str, list[str]], str, float]] = {}
        self.codes: dict[str, Code] = {}
        self.families: dict[str, Family] = {}
        self.refresh_tokens: dict[str, str] = {}
        self.access_tokens: dict[str, IssuedAccess] = {}
        self.seen_assertions: dict[str, float] = {}
        self.consents: set[tuple[str, str, frozenset[str]]] = set()
        self._clock = clock or SystemClock()
        self._tls = tls
        self.secrets: deque[str] | None = deque(maxlen=MOST_KEPT) if remember_secrets else None

    def now(self) -> float:
        return self._clock.now() + self.knobs.clock_offset_s

    def url(self, path: str) -> str:
        return f"{self.issuer}{path}"

    def handed_out(self, *values: str) -> None:
        """Note secrets that left us or reached us, if a test asked for that."""
        if self.secrets is not None:
            self.secrets.extend(value for value in values if value)

    # -- people ---------------------------------------------------------------------------------------------------

    def sign_in(self, person: Person, *, acr: str) -> SignIn:
        amr = ("pwd", "otp", "mfa") if acr == "mfa" else ("pwd",)
        made = SignIn(secrets.token_urlsafe(24), secrets.token_hex(12), person, int(self.now()), acr, amr)
        self.sign_ins[made.handle] = made
        _trim(self.sign_ins)
        return made

    def find_sign_in(self, handle: str | None) -> SignIn | None:
        return self.sign_ins.get(handle or "")

    def interact(self, request: AuthorizationRequest, *, acr: str, fresh: bool, sign_in: SignIn | None) -> tuple[str, Interaction]:
        key = secrets.token_urlsafe(18)
        made = Interaction(request, secrets.token_urlsafe(18), self.now() + INTERACTION_LIFE_S, sign_in, acr, fresh)
        self.interactions[key] = made
        _trim(self.interactions)
        return key, made

    # -- grants ---------------------------------------------------------------------------------------------------

    def issue_code(self, request: AuthorizationRequest, sign_in: SignIn) -> str:
        value = secrets.token_urlsafe(24)
        scopes = self.granted_scopes(request.client, sign_in.person, request.scopes)
        self.handed_out(value)
        self.codes[value] = Code(request, sign_in, scopes, self.now() + CODE_LIFE_S)
        sign_in.clients.add(request.client.client_id)
        _trim(self.codes)
        return value

    def granted_scopes(self, client: DevClient, person: Person, asked: Iterable[str]) -> tuple[str, ...]:
        """What the client may have of what it asked for, less what the person may not do, less what a knob took away."""
        allowed = [s for s in asked if (not client.scopes or s in client.scopes) and s not in person.denied_scopes]
        if self.knobs.narrow_scopes is not None:
            allowed = [s for s in allowed if s in self.knobs.narrow_scopes]
        return tuple(dict.fromkeys(allowed))

    def new_refresh_token(self, family: Family) -> str:
        token = secrets.token_urlsafe(32)
        name = fingerprint(token)
        if family.current:
            family.used[family.current] = self.now()
        family.current = name
        self.refresh_tokens[name] = family.family_id
        return token

    def end_family(self, family: Family, *, why: str) -> None:
        """Nothing of this grant works any more: refresh tokens, and access tokens as far as anybody asks us."""
        if family.alive:
            family.alive = False
            self.ledger.note("family_ended", at=self.now(), family=family.family_id, sub=family.person.sub, why=why)

    def find_access(self, token: str) -> IssuedAccess | None:
        """The access token if it still counts."""
        issued = self.access_tokens.get(fingerprint(token))
        if issued is None or issued.revoked or issued.expires_at <= self.now():
            return None
        family = self.families.get(issued.family_id)
        return None if family is not None and not family.alive else issued

    def remember_access(self, token: str, issued: IssuedAccess) -> None:
        self.access_tokens[fingerprint(token)] = issued
        _trim(self.access_tokens)

    # -- the buttons ----------------------------------------------------------------------------------------------

    def rotate_keys(self, *, withdraw: bool = False) -> None:
        self.keys.rotate(withdraw=withdraw)
        self.ledger.note("keys_rotated", at=self.now(), withdrawn=withdraw)

    def expire_access_tokens(self) -> int:
        """No access token issued so far works any more: UserInfo and introspection refuse them, and APIs can no longer
        verify them, because the keys that signed them are withdrawn. Refresh tokens stay good."""
        live = [issued for issued in self.access_tokens.values() if not issued.revoked]
        for issued in live:
            issued.revoked = True
        self.keys.rotate(withdraw=True)
        self.ledger.note("access_tokens_expired", at=self.now(), count=len(live))
        return len(live)

    def end_grants(self, sub: str, *, why: str) -> None:
        for family in self.families.values():
            if family.person.sub == sub:
                self.end_family(family, why=why)

    async def sign_out_everywhere(self, sub: str) -> int:
        """End every sign-in and grant of ``sub`` here and tell each client by a logout token with sub and no sid.
        Returns how many clients answered 200."""
        clients = {client for one in self.sign_ins.values() if one.person.sub == sub for client in one.clients}
        clients |= {family.client_id for family in self.families.values() if family.person.sub == sub}
        for handle in [handle for handle, one in self.sign_ins.items() if one.person.sub == sub]:
            del self.sign_ins[handle]
        self.end_grants(sub, why="signed_out_everywhere")
        return await self._tell(clients, sub=sub, sid="")

    async def end_sign_in(self, sign_in: SignIn) -> int:
        """End one sign-in; its clients get a logout token with sub and sid. Grants with offline_access live on
        (Back-Channel Logout §2.7)."""
        self.sign_ins.pop(sign_in.handle, None)
        for family in self.families.values():
            if family.sid == sign_in.sid and "offline_access" not in family.scopes:
                self.end_family(family, why="sign_in_ended")
        return await self._tell(sign_in.clients, sub=sign_in.person.sub, sid=sign_in.sid)

    def logout_token(self, client: DevClient, *, sub: str, sid: str) -> str:
        """A logout token (Back-Channel Logout §2.4), with the next mutation for one applied."""
        now = int(self.now())
        claims: dict[str, Any] = {
            "iss": self.issuer, "aud": client.client_id, "iat": now, "exp": now + 120, "jti": secrets.token_urlsafe(16),
            "events": {BACKCHANNEL_EVENT: {}},
        }
        claims |= {name: value for name, value in (("sub", sub), ("sid", sid)) if value}
        mutation = self.knobs.take_mutation("logout_token", "")
        alg = self.knobs.id_token_alg
        return mint(self.keys, alg=alg, typ="logout+jwt", claims=claims, mutation=mutation, client_secret=client.client_secret)

    async def _tell(self, client_ids: Iterable[str], *, sub: str, sid: str) -> int:
        receivers = [self.clients[c] for c in sorted(client_ids) if c in self.clients and self.clients[c].backchannel_logout_uri]
        if not self.knobs.logout_tokens_sent:
            return 0
        statuses = await asyncio.gather(*(self.send_logout_token(one, self.logout_token(one, sub=sub, sid=sid)) for one in receivers))
        return sum(status == 200 for status in statuses)

    async def send_logout_token(self, client: DevClient, token: str) -> int:
        """POST it to the client; the status, 0 without an answer."""
        uri = client.backchannel_logout_uri
        status = await post_form(uri, {"logout_token": token}, tls=self._tls if uri.startswith("https:") else None)
        outcome = "ok" if status == 200 else "failed"
        self.ledger.note("backchannel_logout", at=self.now(), client_id=client.client_id, status=status, outcome=outcome)
        return status


def _trim(kept: dict[str, Any]) -> None:
    """Bound of every table here: the oldest go first."""
    while len(kept) > MOST_KEPT:
        del kept[next(iter(kept))]
