"""The one judgement. Nothing else finds a session, and nothing else calls ``screen`` and ``decide``.

    match → methods → screen → session → decide (before a token is asked for) → credential → decide (at its scopes) → aim → Admitted

Each arrow may end in a Refusal. ``judge_now`` walks the line without waiting and gives up (None) where it would have to wait for
the store or the provider; ``judge`` walks it again and waits. Both run the same steps, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from bff.base.clock import Clock
from bff.base.errors import BffError
from bff.base.events import Event, EventKind, Probe, no_probe
from bff.policy.admission import screen
from bff.policy.decide import UNAUTHENTICATED, decide, demands_session, valid_until
from bff.policy.facts import Facts
from bff.policy.failures import refuse_failure
from bff.policy.routes import Admission, Route, TokenKind
from bff.policy.table import RouteTable
from bff.policy.target import aim
from bff.policy.verdict import Refusal, Verdict, build_admitted
from bff.session.cookies import CookiePolicy, find_cookie
from bff.session.model import Credential, Live, Session

_ROUTE_UNKNOWN: Final = Refusal(404, "route_unknown", "There is nothing at this address.")
_ENCODED_SLASH: Final = Refusal(400, "target_refused", "This address may not hold an encoded slash.", close=True)
_NO_WEBSOCKET: Final = Refusal(400, "websocket_malformed", "There is no WebSocket at this address.", close=True)
_CLEARED: Final = replace(UNAUTHENTICATED, clear_cookie=True)
_USERS_TOKENS: Final = frozenset({"user", "user_or_client", "user_or_none"})
_LOOKS_FOR_SESSION: Final = frozenset({Admission.API, Admission.NAVIGATION, Admission.RETURN_NAVIGATION, Admission.FORM})
_FOREVER: Final = float("inf")


class Sessions(Protocol):
    """What the gatekeeper needs of bff.session.keeper.Keeper."""

    def recall(self, cookie_value: str) -> Live | None: ...
    async def find(self, cookie_value: str) -> Live | None: ...
    def touch(self, live: Live) -> None: ...


class Desk(Protocol):
    """What it needs of bff.session.credentials.CredentialDesk. The client's own token needs no session."""

    def at_hand(self, session: Session | None, *, token: TokenKind, audience: str, scopes: frozenset[str]) -> Credential | None: ...
    async def issue(self, live: Live | None, *, token: TokenKind, audience: str, scopes: frozenset[str]) -> Credential: ...


class Gatekeeper:
    """Owner: one worker. Holds no state of its own; ``origin`` is the public origin, ``pseudonym`` names sessions in events."""

    def __init__(
        self,
        *,
        table: RouteTable,
        keeper: Sessions,
        desk: Desk,
        origin: str,
        cookie: CookiePolicy,
        clock: Clock,
        probe: Probe = no_probe,
        csrf_header: str = "x-csrf",
        pseudonym: Callable[..., str] | None = None,
    ) -> None:
        self._table = table
        self._keeper = keeper
        self._desk = desk
        self._origin = origin
        self._cookie = cookie
        self._cookie_name = cookie.session_name
        self._clock = clock
        self._probe = probe
        self._csrf_header = csrf_header
        self._pseudonym = pseudonym

    def adopt(self, table: RouteTable) -> None:
        """Judge by another table from now on (SIGHUP). Verdicts already given stay; the door forgets its memo of them."""
        self._table = table

    def match(self, path: str) -> Route | None:
        """The route of a canonical path, by the table of now."""
        return self._table.match(path)

    def judge_now(self, facts: Facts) -> Verdict | None:
        """The verdict, if everything it needs is at hand; None if ``judge`` must be awaited. Raises nothing of ours."""
        route = self._table.match(facts.path)
        refusal = self._knock(facts, route)
        if refusal is not None or route is None:
            return self._tell(refusal or _ROUTE_UNKNOWN, facts, route)
        live: Live | None = None
        if _wants_session(route):
            value = find_cookie(facts.cookies, self._cookie_name)
            if value is not None:
                live = self._keeper.recall(value)
                if live is None:
                    return None
        session = None if live is None else live.session
        kind = _token_for(route, session)
        if kind != "none":
            credential = self._desk.at_hand(session, token=kind, audience=route.audience, scopes=route.policy.scopes)
            if credential is not None:
                return self._conclude(facts, route, live, session, credential)
        refusal = self._decide_early(facts, route, session)
        if refusal is not None:
            return self._tell(refusal, facts, route, session)
        return self._conclude(facts, route, live, session, None) if kind == "none" else None

    async def judge(self, facts: Facts) -> Verdict:
        """The verdict, waiting for store and provider where needed. Raises nothing of ours: failures become refusals (§6).

        A cancelled caller leaves a running refresh to finish for the others (TOKEN-8); that is the desk's promise.
        """
        verdict = self.judge_now(facts)
        if verdict is not None:
            return verdict
        route = self._table.match(facts.path)
        if route is None:
            return self._tell(_ROUTE_UNKNOWN, facts, route)
        try:
            return await self._judge_waiting(facts, route)
        except BffError as error:
            return self._tell(refuse_failure(error), facts, route)

    async def _judge_waiting(self, facts: Facts, route: Route) -> Verdict:
        value = find_cookie(facts.cookies, self._cookie_name) if _wants_session(route) else None
        live = await self._keeper.find(value) if value is not None else None
        session = None if live is None else live.session
        refusal = self._decide_early(facts, route, session)
        if refusal is not None:
            return self._tell(refusal, facts, route, session)
        credential: Credential | None = None
        kind = _token_for(route, session)
        if kind != "none":
            if live is not None and route.activity:
                self._keeper.touch(live)  # now: a renewal writes it down with its tokens, and nobody has to a moment later
            credential = await self._desk.issue(live, token=kind, audience=route.audience, scopes=route.policy.scopes)
            # A renewal replaces the session, with new claims perhaps (S7); it may also have ended meanwhile.
            session = None if live is None else live.session
            if live is not None and session is None:
                return self._tell(_CLEARED, facts, route)
        return self._conclude(facts, route, live, session, credential)

    def _knock(self, facts: Facts, route: Route | None) -> Refusal | None:
        """Everything that needs no session: where, how, and from which page."""
        if route is None:
            return _ROUTE_UNKNOWN
        if facts.method not in route.methods:
            allow = tuple(sorted(route.methods))
            return Refusal(405, "method_refused", "This method is not served at this address.", allow=allow)
        if facts.encoded_slash and not route.encoded_slash:
            return _ENCODED_SLASH
        if facts.websocket and route.upstream is None and not route.by_claim:
            return _NO_WEBSOCKET
        refusal = screen(facts, route, origin=self._origin, csrf_header=self._csrf_header)
        if refusal is None and facts.method == "OPTIONS":
            return _refuse_last_hop(facts, route)
        return refusal

    def _decide_early(self, facts: Facts, route: Route, session: Session | None) -> Refusal | None:
        """All that can be decided before a token is asked for, so that nobody who is refused anyway costs the provider a call.

        A grant for this audience may not exist yet; then its scopes are judged once it does.
        """
        scopes = route.policy.scopes
        if session is not None and route.token != "client" and (grant := session.grants.get(route.audience)) is not None:  # noqa: S105
            scopes = grant.scopes
        return self._name(decide(route, session, self._clock.now(), scopes=scopes), facts)

    def _conclude(self, facts: Facts, route: Route, live: Live | None, session: Session | None, credential: Credential | None) -> Verdict:
        until = _FOREVER
        if credential is not None:
            until = credential.fresh_until
            refusal = self._name(decide(route, session, self._clock.now(), scopes=credential.scopes), facts)
            if refusal is not None:
                return self._tell(refusal, facts, route, session)
        target = None
        if route.upstream is not None or route.by_claim:
            aimed = aim(route, session, facts)
            if isinstance(aimed, Refusal):
                return self._tell(aimed, facts, route, session)
            target = aimed
        cookies: tuple[str, ...] = ()
        if live is not None and session is not None:
            until = min(until, valid_until(route, session))
            if live.renew_cookie:
                cookies = (self._cookie.set_session(live.renew_cookie),)
            if route.activity:
                self._keeper.touch(live)
        elif _wants_session(route) and self._presented(facts):
            cookies = (self._cookie.clear_session(),)
        return build_admitted(
            facts=facts,
            route=route,
            target=target,
            live=live,
            judged=session,
            credential=credential,
            valid_until=until,
            set_cookies=cookies,
        )

    def _name(self, refusal: Refusal | None, facts: Facts) -> Refusal | None:
        """Unknown, expired, forged and doubled cookies get one and the same answer, which clears them (K8, COOKIE-21)."""
        return _CLEARED if refusal is UNAUTHENTICATED and self._presented(facts) else refusal

    def _presented(self, facts: Facts) -> bool:
        return any(name == self._cookie_name for name, _ in facts.cookies)

    def _tell(self, refusal: Refusal, facts: Facts, route: Route | None, session: Session | None = None) -> Refusal:
        names = {} if session is None or self._pseudonym is None else _pseudonyms(session, self._pseudonym)
        fields: dict[str, str | int | float | bool] = {"status": refusal.status, "method": facts.method}
        if refusal.code == "cross_origin" and facts.origin is not None:
            fields["origin"] = facts.origin[:100]
        self._probe(
            Event(
                EventKind.REQUEST_REFUSED,
                refusal.code,
                request_id=facts.request_id,
                route="" if route is None else route.name,
                fields=fields,
                **names,
            )
        )
        return refusal


def _pseudonyms(session: Session, pseudonym: Callable[..., str]) -> dict[str, str]:
    return {"session": pseudonym("session", session.key.hex()), "subject": pseudonym("subject", session.issuer, session.subject)}


def _wants_session(route: Route) -> bool:
    """Anonymous API routes never see a session, even where there is one (ROUTE-12); the machine's and open routes neither."""
    if route.upstream is None and not route.by_claim:
        return route.admission in _LOOKS_FOR_SESSION
    return route.session or route.token in _USERS_TOKENS or demands_session(route) or bool(route.claim)


def _token_for(route: Route, session: Session | None) -> TokenKind:
    """Which token goes out. A user's token is never replaced by another because it could not be had (ZTA-4)."""
    if route.token == "user_or_client":  # noqa: S105
        return "client" if session is None else "user"
    if route.token == "user_or_none":  # noqa: S105
        return "none" if session is None else "user"
    return route.token


def _refuse_last_hop(facts: Facts, route: Route) -> Refusal | None:
    """OPTIONS with Max-Forwards: 0 is for us to answer (RFC 9110 §7.6.2, REQH-15)."""
    for name, value in facts.headers:
        if name.lower() == b"max-forwards" and value.strip(b"0") == b"" and value:
            return Refusal(204, "forwards_exhausted", "", allow=tuple(sorted(route.methods)))
    return None
