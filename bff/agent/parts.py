"""The agent's collaborators, as one value that every handler is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from quart import Response

from bff.agent.answers import Pages
from bff.agent.options import AgentOptions
from bff.agent.rates import RateGate
from bff.base.clock import Clock
from bff.base.errors import BffError
from bff.base.events import Event, EventKind, Probe
from bff.policy.handoff import Handed
from bff.policy.verdict import Admitted
from bff.session.model import Session

if TYPE_CHECKING:
    from bff.oauth.flows import OAuthClient
    from bff.session.credentials import CredentialDesk
    from bff.session.keeper import Keeper
    from bff.session.pending import PendingCookies
    from bff.session.signing import Signer
    from bff.session.store.port import SessionStore


class Verdicts(Protocol):
    """Where the door's verdicts arrive: bff.agent.reception.Reception."""

    def read(self, note: bytes) -> Handed | None: ...
    async def seat(self, handed: Handed) -> Admitted: ...


@dataclass(slots=True)
class Parts:
    """``options`` may be replaced (SIGHUP, by ``bff.agent.app.adopt``); the rest stays as it was built."""

    options: AgentOptions
    client: OAuthClient
    keeper: Keeper
    desk: CredentialDesk
    pending: PendingCookies
    signer: Signer
    store: SessionStore
    clock: Clock
    probe: Probe
    pseudonym: Callable[..., str]
    pages: Pages
    login_gate: RateGate
    callback_gate: RateGate
    backchannel_gate: RateGate

    def tell(
        self,
        kind: EventKind,
        admitted: Admitted,
        outcome: str = "ok",
        *,
        session: Session | None = None,
        fields: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        """Report one security event (PRIV-7), the person and the session as keyed pseudonyms (PRIV-6)."""
        self.probe(
            Event(
                kind,
                outcome,
                request_id=admitted.facts.request_id,
                session="" if session is None else self.pseudonym("session", session.key.hex()),
                subject="" if session is None else self.pseudonym("subject", session.issuer, session.subject),
                route=admitted.route.name,
                fields=fields,
            )
        )


Handler = Callable[[Parts, Admitted], Awaitable[Response]]


def reason(failure: BffError) -> Mapping[str, str]:
    """What the log is told beside the code, which alone does not lead to the cause. Never shown to the browser."""
    return {"why": failure.detail} if failure.detail else {}


def find_session(admitted: Admitted) -> Session | None:
    """The session this request came with, as the gatekeeper judged it, unless it has ended since."""
    live = admitted.live
    return None if live is None else live.session
