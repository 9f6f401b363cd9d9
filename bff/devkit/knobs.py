"""The fault knobs: what a test can make the provider do wrong. Everything here is off until somebody turns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

BodyKind = Literal["", "html", "empty", "huge", "truncated", "array", "redirect", "drip", "text", "number"]
Mode = Literal[
    "", "bad_signature", "empty_signature", "none", "hmac_public_pem", "hmac_public_jwk", "hmac_secret",
    "foreign_key", "foreign_new_kid", "embedded_jwk", "no_kid", "garbage", "encrypted", "duplicate_claim",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What one endpoint answers instead of, or after, its work.

    ``delay_s`` holds the answer back: before the work, or with ``after`` once it is done (the provider has rotated but
    the client does not know: attack row F7). ``status`` 0 keeps 200. ``error`` answers an OAuth error. ``times`` counts
    down to nothing, 0 is for ever.
    """

    status: int = 0
    delay_s: float = 0.0
    body: BodyKind = ""
    error: str = ""
    after: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int = 64 * 1024 * 1024
    times: int = 0

    @property
    def replaces_answer(self) -> bool:
        return bool(self.status or self.body or self.error)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What the next token is changed to. ``grant`` limits it to one grant type; ``times`` 0 is for ever."""

    token: Literal["id_token", "access_token", "logout_token"] = "id_token"
    grant: str = ""
    mode: Mode = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict)
    remove_header: tuple[str, ...] = ()
    times: int = 1


@dataclass(slots=True)
class Knobs:
    """All of them. ``faults`` is keyed by endpoint: discovery, jwks, authorize, par, token, userinfo, revoke, introspect, end_session."""

    faults: dict[str, Fault] = field(default_factory=dict)
    mutations: list[Mutation] = field(default_factory=list)
    access_token_s: int = 300
    access_token_format: Literal["jwt", "opaque"] = "jwt"
    id_token_alg: str = "RS256"
    rotation: Literal["strict", "grace", "off"] = "strict"
    grace_s: float = 10.0
    issue_refresh_token: bool = True
    id_token_on_refresh: bool = True
    narrow_scopes: list[str] | None = None
    iss_parameter: Literal["on", "off", "wrong"] = "on"
    authorize_error: str = ""
    authorize_error_description: str = ""
    userinfo_sub: str = ""
    userinfo_claims: dict[str, Any] = field(default_factory=dict)
    token_members: dict[str, Any] = field(default_factory=dict)
    token_members_removed: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    metadata_removed: list[str] = field(default_factory=list)
    publish_keys: Literal["all", "none"] = "all"
    require_par: bool = False
    auto_login: str = ""
    skip_consent: bool = False
    clock_offset_s: float = 0.0
    logout_tokens_sent: bool = True
    extra_claims: dict[str, Any] = field(default_factory=dict)

    def turn(self, changes: Mapping[str, Any]) -> None:
        """Set knobs by name, from JSON. ValueError for a name that is not a knob; nothing is changed then."""
        unknown = set(changes) - {one.name for one in fields(self)}
        if unknown:
            raise ValueError(f"unknown knob: {sorted(unknown)[0]}")
        read = {name: _read(name, value) for name, value in changes.items()}
        for name, value in read.items():
            setattr(self, name, value)

    def take_fault(self, endpoint: str) -> Fault | None:
        """The fault for one request to ``endpoint``, counted down."""
        fault = self.faults.get(endpoint)
        if fault is None:
            return None
        if fault.times == 1:
            del self.faults[endpoint]
        elif fault.times > 1:
            self.faults[endpoint] = replace(fault, times=fault.times - 1)
        return fault

    def take_mutation(self, token: str, grant: str) -> Mutation | None:
        """The first mutation meant for this token, counted down."""
        for at, mutation in enumerate(self.mutations):
            if mutation.token != token or mutation.grant not in ("", grant):
                continue
            if mutation.times == 1:
                del self.mutations[at]
            elif mutation.times > 1:
                self.mutations[at] = replace(mutation, times=mutation.times - 1)
            return mutation
        return None


def _read(name: str, value: Any) -> Any:
    try:
        if name == "faults":
            return {endpoint: Fault(**fault) for endpoint, fault in value.items()}
        if name == "mutations":
            return [Mutation(**mutation) for mutation in value]
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    return value
