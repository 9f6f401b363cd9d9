from __future__ import annotations

import pytest

from bff.base import errors
from bff.policy.codes import CODES
from bff.policy.failures import refuse_failure

CASES: list[tuple[errors.BffError, int, str]] = [
    (errors.StoreUnavailable("dsn with password"), 503, "store_unavailable"),
    (errors.ProviderUnavailable("tcp reset"), 503, "provider_unavailable"),
    (errors.ProviderMisbehaved("html"), 502, "provider_misbehaved"),
    (errors.GrantRefused("invalid_target"), 502, "grant_refused"),
    (errors.GrantRefused("interaction_required"), 401, "step_up_required"),
    (errors.GrantRevoked("invalid_grant"), 401, "unauthenticated"),
    (errors.SessionGone("gone"), 401, "unauthenticated"),
    (errors.SealBroken("tag"), 401, "unauthenticated"),
    (errors.TokenInvalid("alg"), 502, "token_invalid"),
    (errors.UpstreamUnreachable("10.0.0.1"), 502, "upstream_unreachable"),
    (errors.UpstreamTimeout("head"), 504, "upstream_timeout"),
    (errors.UpstreamProtocol("two lengths"), 502, "upstream_protocol"),
    (errors.ConfigError("x"), 500, "internal_error"),
]


@pytest.mark.row("RESP-8", "K8", "BODY-5")
@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda case: type(case).__name__)
def test_each_failure_has_one_answer_and_shows_no_detail(error: errors.BffError, status: int, code: str) -> None:
    refusal = refuse_failure(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert error.detail not in refusal.detail
    assert code in CODES


@pytest.mark.row("SESS-14", "TOKEN-9", "F34")
def test_nobody_is_logged_out_because_something_behind_us_is_down() -> None:
    for error in (
        errors.StoreUnavailable(),
        errors.ProviderUnavailable(),
        errors.ProviderMisbehaved(),
        errors.GrantRefused("invalid_target"),
        errors.GrantRefused("mfa_required"),
    ):
        assert not refuse_failure(error).clear_cookie
    for gone in (errors.SessionGone(), errors.GrantRevoked("invalid_grant"), errors.SealBroken()):
        assert refuse_failure(gone).clear_cookie


@pytest.mark.parametrize(("wish", "answer"), [(None, 5), (0.2, 1), (7.9, 7), (-3, 1), (1e9, 300)])
def test_the_provider_s_wish_to_wait_is_passed_on_within_reason(wish: float | None, answer: int) -> None:
    assert refuse_failure(errors.ProviderUnavailable(retry_after_s=wish)).retry_after_s == answer
    assert refuse_failure(errors.StoreUnavailable()).retry_after_s == 1
