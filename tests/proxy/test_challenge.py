"""WWW-Authenticate in every spelling an API may use (RFC 9110 §11.6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.policy.verdict import StepUp
from bff.proxy.challenge import Meaning, read_challenges, read_meaning, step_up_refusal

WANTED = StepUp(acr_values=("gold", "silver"), max_age=60)


def meaning(*values: bytes) -> tuple[Meaning, StepUp | None]:
    return read_meaning([(b"WWW-Authenticate", value) for value in values])


@pytest.mark.row("STEPUP-1")
@pytest.mark.parametrize(
    "values",
    [
        (b'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b'bearer error=insufficient_user_authentication,acr_values="gold silver",max_age=60',),
        (b'BEARER  ERROR="insufficient_user_authentication" , ACR_Values="gold silver" , Max_Age="60"',),
        (b'Basic realm="a, b", Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b'Basic realm="a"', b'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60"'),
        (b'Negotiate, Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b'Negotiate YWJj==, Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b'Bearer realm="x\\"y, Bearer", error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b'DPoP algs="ES256", error="insufficient_user_authentication", acr_values="gold silver", max_age="60"',),
        (b', , Bearer error = "insufficient_user_authentication", acr_values = "gold silver", max_age = "60"',),
        (b'Bearer error="invalid_token"', b'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age=60'),
    ],
)
def test_a_step_up_demand_is_understood_in_any_spelling(values: tuple[bytes, ...]) -> None:
    assert meaning(*values) == (Meaning.STEP_UP, WANTED)


@pytest.mark.row("STEPUP-3")
@pytest.mark.parametrize("age", [b"abc", b"-1", b"1e3", b"", b"9999999999", b"6 0"])
def test_an_age_outside_its_grammar_is_dropped(age: bytes) -> None:
    assert meaning(b'Bearer error="insufficient_user_authentication", max_age="' + age + b'"') == (Meaning.STEP_UP, StepUp())


@pytest.mark.row("TOKEN-10")
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'Bearer error="invalid_token"', Meaning.RENEW),
        (b'Bearer realm="a", error="invalid_token", error_description="expired"', Meaning.RENEW),
        (b'Bearer realm="a",, error="invalid_token"', Meaning.RENEW),
        (b'Bearer , error="invalid_token"', Meaning.RENEW),
        (b'Bearer, Basic realm="a", error="invalid_token"', Meaning.IGNORE),
        (b'Basic realm="invalid_token"', Meaning.IGNORE),
        (b'Basic error="invalid_token"', Meaning.IGNORE),
        (b'Bearer error="insufficient_scope"', Meaning.IGNORE),
        (b'Bearer realm="error=\\"invalid_token\\""', Meaning.IGNORE),
        (b"Bearer", Meaning.IGNORE),
        (b"", Meaning.IGNORE),
        (b'Bearer error="invalid_token', Meaning.IGNORE),
        (b'\xff\xfe=,=,"', Meaning.IGNORE),
        (b"Bearer " + b"a=b, " * 5000 + b'error="invalid_token"', Meaning.IGNORE),
    ],
)
def test_only_a_bearer_error_renews(value: bytes, wanted: Meaning) -> None:
    assert meaning(value)[0] is wanted


@given(st.binary(max_size=300))
def test_garbage_is_read_without_an_error(value: bytes) -> None:
    read_challenges([(b"www-authenticate", value)])
    read_meaning([(b"www-authenticate", b"Bearer " + value)])


def test_the_demand_becomes_a_refusal_of_the_usual_shape() -> None:
    refusal = step_up_refusal(WANTED)
    assert (refusal.status, refusal.step_up) == (401, WANTED)
    assert not refusal.clear_cookie
