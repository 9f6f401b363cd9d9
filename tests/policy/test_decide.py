from __future__ import annotations

from dataclasses import fields, replace

import pytest

from bff.policy.decide import UNAUTHENTICATED, decide, demands_session, valid_until
from bff.policy.routes import Policy, Route
from bff.policy.verdict import StepUp
from tests.policy.asked import route, session

NOW = 2000.0
NONE: frozenset[str] = frozenset()


def policed(**policy: object) -> Route:
    return route(policy=Policy(**policy))  # type: ignore[arg-type]


@pytest.mark.row("ZTA-2")
def test_a_live_session_passes_a_route_without_demands() -> None:
    assert decide(route(), session(), NOW, scopes=NONE) is None


@pytest.mark.row("ZTA-2", "SESS-5")
def test_no_session_or_an_expired_one_is_unauthenticated() -> None:
    assert decide(route(), None, NOW, scopes=NONE) is UNAUTHENTICATED
    assert decide(route(), session(expires_at=NOW), NOW, scopes=NONE) is UNAUTHENTICATED
    assert decide(route(), session(expires_at=NOW + 0.001), NOW, scopes=NONE) is None


@pytest.mark.parametrize(
    ("way", "demanding"),
    [
        (route(), True),
        (route(session=False), True),
        (route(token="client", session=False), False),
        (route(token="client", session=True), True),
        (route(token="user_or_client", session=False), False),
        (route(token="user_or_none", session=False), False),
        (route(token="none", session=False), False),
        (route(token="none", session=False, policy=Policy(acr=("gold",))), True),
        (route(token="none", session=False, policy=Policy(max_age_s=0)), True),
        (route(token="user_or_client", session=False, policy=Policy(claims={"a": frozenset({"b"})})), True),
        (route(session_optional=True), False),
    ],
)
def test_a_route_demands_a_session_when_its_token_or_policy_needs_one(way: Route, demanding: bool) -> None:
    assert demands_session(way) is demanding
    assert (decide(way, None, NOW, scopes=NONE) is None) is not demanding


@pytest.mark.row("STEPUP-7")
def test_a_missing_scope_is_a_403_that_names_it() -> None:
    way = policed(scopes=frozenset({"orders:read", "orders:write"}))
    assert decide(way, session(), NOW, scopes=frozenset({"orders:read", "orders:write", "more"})) is None
    refusal = decide(way, session(), NOW, scopes=frozenset({"orders:read"}))
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "insufficient_scope")
    assert "orders:write" in refusal.detail
    assert refusal.step_up == StepUp(scopes=("orders:write",))


@pytest.mark.parametrize(
    ("claim", "passes"),
    [
        ("sales", True), (["it", "sales"], True), (("sales",), True), ("Sales", False), ("sales ", False), (None, False), ([], False),
        ({}, False),
        ({"sales": True}, False), ([["sales"]], False), ("salesforce", False), (7, True), (7.5, False), (True, True), (False, False),
        ("7", True),
    ],
)  # fmt: skip
def test_a_claim_must_hold_one_of_the_values_exactly(claim: object, passes: bool) -> None:
    way = policed(claims={"department": frozenset({"sales", "7", "true"})})
    refusal = decide(way, session(claims={"department": claim}), NOW, scopes=NONE)
    assert (refusal is None) is passes
    assert refusal is None or (refusal.status, refusal.code) == (403, "claim_required")


def test_every_claim_must_hold() -> None:
    way = policed(claims={"a": frozenset({"1"}), "b": frozenset({"2"})})
    assert decide(way, session(claims={"a": "1", "b": "2"}), NOW, scopes=NONE) is None
    assert decide(way, session(claims={"a": "1"}), NOW, scopes=NONE) is not None


@pytest.mark.row("ZTA-3", "STEPUP-2")
@pytest.mark.parametrize(("age", "passes"), [(0, True), (299, True), (300, True), (300.5, False), (301, False), (None, False)])
def test_a_sign_in_may_be_as_old_as_max_age_and_not_older(age: float | None, passes: bool) -> None:
    who = session(auth_time=None if age is None else int(NOW))
    now = NOW + (age or 0)
    refusal = decide(policed(max_age_s=300), who, now, scopes=NONE)
    assert (refusal is None) is passes
    if refusal is not None:
        assert (refusal.status, refusal.code, refusal.step_up) == (401, "step_up_required", StepUp(max_age=300))
        assert not refusal.clear_cookie


@pytest.mark.row("ZTA-3", "STEPUP-2")
def test_another_acr_is_a_step_up_that_names_what_is_needed() -> None:
    way = policed(acr=("gold", "platinum"), max_age_s=60)
    assert decide(way, session(acr="platinum", auth_time=1990), NOW, scopes=NONE) is None
    for acr in ("", "Gold", "silver", "gold platinum"):
        refusal = decide(way, session(acr=acr, auth_time=1990), NOW, scopes=NONE)
        assert refusal is not None
        assert refusal.step_up == StepUp(acr_values=("gold", "platinum"), max_age=60)


def test_nobody_is_asked_to_sign_in_again_for_what_the_account_can_never_do() -> None:
    way = policed(acr=("gold",), claims={"a": frozenset({"1"})}, scopes=frozenset({"s"}))
    first = decide(way, session(), NOW, scopes=NONE)
    second = decide(way, session(claims={"a": "1"}), NOW, scopes=NONE)
    third = decide(way, session(claims={"a": "1"}), NOW, scopes=frozenset({"s"}))
    assert [refusal.code for refusal in (first, second, third) if refusal] == ["claim_required", "insufficient_scope", "step_up_required"]


@pytest.mark.row("ZTA-2")
def test_a_verdict_holds_until_time_alone_could_change_it() -> None:
    who = session(expires_at=5000.0, auth_time=1000)
    assert valid_until(route(), who) == 5000.0
    assert valid_until(policed(max_age_s=300), who) == 1300.0
    assert valid_until(policed(max_age_s=9000), who) == 5000.0
    way = policed(max_age_s=300)
    edge = valid_until(way, who)
    assert decide(way, who, edge, scopes=NONE) is None
    assert decide(way, who, edge + 0.01, scopes=NONE) is not None
    assert valid_until(way, replace(who, auth_time=None)) == 5000.0


DEMANDS: dict[str, tuple[object, object, object]] = {
    "scopes": (frozenset({"s"}), ({}, frozenset({"other"})), ({}, frozenset({"s"}))),
    "claims": ({"a": frozenset({"1"})}, ({"claims": {"a": "2"}}, NONE), ({"claims": {"a": "1"}}, NONE)),
    "acr": (("gold",), ({"acr": "silver"}, NONE), ({"acr": "gold"}, NONE)),
    "max_age_s": (60, ({"auth_time": 1000}, NONE), ({"auth_time": 1990}, NONE)),
}
"""For each option of a policy: a value, (the session, its scopes) that it must refuse, and one that it must not."""


@pytest.mark.row("L14")
@pytest.mark.parametrize("option", [field.name for field in fields(Policy)])
def test_every_option_of_a_policy_alone_refuses_somebody_and_not_everybody(option: str) -> None:
    """Made from the fields themselves: an option that nobody is refused by cannot be added."""
    value, refused, admitted = DEMANDS[option]
    way = policed(**{option: value})
    for (changes, scopes), passes in ((refused, False), (admitted, True)):  # type: ignore[misc]
        assert (decide(way, session(**changes), NOW, scopes=scopes) is None) is passes
