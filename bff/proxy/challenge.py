"""What an upstream's 401 means to us: the token is stale, the user must step up, or it is the API's own affair.

RFC 9110 §11.6.1 (several challenges, in one field or many, quoted commas), RFC 6750 §3.1, RFC 9470 §3. Pure.
Rows TOKEN-10, STEPUP-1 to 3, RESP-4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from bff.policy.facts import Header
from bff.policy.verdict import Refusal, StepUp

MAX_CHALLENGE_BYTES = 8192
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAM = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:({_WORD})(?=[ \t]*(?:,|$))|"((?:[^"\\]|\\.)*)")[ \t]*(?:,|$)')
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?:[ \t]+(?:([0-9A-Za-z\-._~+/]+=*)[ \t]*(?=,|$))?|[ \t]*(?=,|$))")
_VALUE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
_SCOPE_VALUE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge; scheme and parameter names in lower case, the first of a repeated parameter counts."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class Meaning(Enum):
    IGNORE = "ignore"
    RENEW = "renew"
    STEP_UP = "step_up"


def read_challenges(headers: Iterable[Header]) -> list[Challenge]:
    """Every challenge in the WWW-Authenticate fields, in order. What can't be read is left out, never an error."""
    found: list[Challenge] = []
    for name, value in headers:
        if name.lower() == b"www-authenticate" and len(value) <= MAX_CHALLENGE_BYTES:
            found.extend(_read_field(value.decode("latin-1")))
    return found


def _read_field(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while at < len(text):
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            return found
        at = scheme.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAM.match(text, at)) is not None:
            quoted = parameter[3]
            value = parameter[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def read_meaning(headers: Iterable[Header]) -> tuple[Meaning, StepUp | None]:
    """What a 401 asks for. A step-up demand wins over a stale token: refreshing would not help (STEPUP-2)."""
    errors = [challenge for challenge in read_challenges(headers) if challenge.scheme in ("bearer", "dpop")]
    for challenge in errors:
        if challenge.parameters.get("error") == "insufficient_user_authentication":
            return Meaning.STEP_UP, read_step_up(challenge)
    for challenge in errors:
        if challenge.parameters.get("error") == "invalid_token":
            return Meaning.RENEW, None
    return Meaning.IGNORE, None


def read_step_up(challenge: Challenge) -> StepUp:
    """The demand of RFC 9470 §3; parts outside their grammar are dropped, they must not reach an authorization request."""
    given = challenge.parameters
    acr = tuple(value for value in given.get("acr_values", "").split(" ") if _VALUE.fullmatch(value))
    age = given.get("max_age", "")
    scope = given.get("scope", "")
    return StepUp(
        acr_values=acr[:16],
        max_age=int(age) if re.fullmatch(r"[0-9]{1,9}", age) else None,
        scopes=tuple(scope.split(" ")) if len(scope) <= 1024 and _SCOPE_VALUE.fullmatch(scope) else (),
    )


def step_up_refusal(demand: StepUp) -> Refusal:
    """The upstream's demand as the SPA gets it: the same shape as a demand of our own policy (STEPUP-2)."""
    return Refusal(401, "step_up_required", "The API asks for a stronger or more recent sign-in.", step_up=demand)
