"""What the agent is told once, at start. Values only; the collaborators come to ``build_agent``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bff.session.cookies import CookiePolicy


@dataclass(frozen=True, slots=True)
class Rate:
    """How many in a minute: from one client address (an IPv6 /64), and from all of them together."""

    per_client: int
    together: int


@dataclass(frozen=True, slots=True)
class Rates:
    """OPS-5, each agent's process counts for itself. ``backchannel`` counts refused logout tokens only: good ones are never limited."""

    login: Rate = Rate(per_client=3_000, together=30_000)
    callback: Rate = Rate(per_client=3_000, together=30_000)
    backchannel: Rate = Rate(per_client=120, together=1_200)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """``public_origin`` has no trailing slash; ``prefix`` starts with one and ends without. Paths are same-origin.

    ``acr_values`` and ``optional_scopes`` are what a login may ask for beyond the configured request (STEPUP-3, AUTHZ-8).
    ``claims`` limits what /user tells the SPA, None for everything the session holds. ``form_targets`` are origins a form
    may be redirected to (the provider's end_session, for a logout by form). ``revoke_on_logout`` follows RFC 7009.
    """

    public_origin: str
    cookie: CookiePolicy
    prefix: str = "/bff"
    scopes: tuple[str, ...] = ("openid", "profile", "offline_access")
    optional_scopes: frozenset[str] = frozenset()
    acr_values: tuple[str, ...] = ()
    default_return: str = "/"
    post_logout_path: str = "/"
    claims: frozenset[str] | None = None
    spa_directory: Path | None = None
    spa_csp: str = ""
    form_targets: tuple[str, ...] = ()
    clear_site_data: tuple[str, ...] = ()
    revoke_on_logout: bool = True
    rates: Rates = field(default_factory=Rates)
    state_s: float = 600.0

    @property
    def redirect_uri(self) -> str:
        """The one redirect URI, from configuration and never from a request header (AUTHZ-7)."""
        return f"{self.public_origin}{self.prefix}/callback"

    @property
    def post_logout_redirect_uri(self) -> str:
        return f"{self.public_origin}{self.post_logout_path}"

    @property
    def https(self) -> bool:
        return self.public_origin.startswith("https://")
