"""The callback: what it may hold, in which order it is judged, and that nothing makes it crash."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.agent.parameters import ParameterError, read_query
from bff.base.errors import LoginFailed, LoginReason
from bff.oauth.authorize import KNOWN_ERRORS, build_pending_login, check_callback
from bff.oauth.types import Provider

ISSUER = "https://id.example.test/t1"
PROVIDER = Provider(issuer=ISSUER, authorization_endpoint=ISSUER + "/a", token_endpoint=ISSUER + "/t", jwks_uri=ISSUER + "/j")
ANNOUNCES = replace(PROVIDER, authorization_response_iss_parameter_supported=True)
PENDING = build_pending_login(issuer=ISSUER, redirect_uri="https://a.test/cb", scopes=("openid",), return_to="/", created_at=0.0)
STATE = ("state", PENDING.state)


def refusal(*parameters: tuple[str, str], provider: Provider = PROVIDER) -> LoginFailed:
    with pytest.raises(LoginFailed) as caught:
        check_callback(PENDING, provider, parameters)
    return caught.value


@pytest.mark.row("CB-1")
def test_a_callback_with_state_and_code_is_accepted() -> None:
    assert check_callback(PENDING, PROVIDER, [STATE, ("code", "c"), ("session_state", "x"), ("scope", "openid")]) == "c"


@pytest.mark.row("ISS-1", "ISS-2", "L3")
def test_the_right_issuer_is_accepted_whether_announced_or_not() -> None:
    for provider in (PROVIDER, ANNOUNCES):
        assert check_callback(PENDING, provider, [STATE, ("iss", ISSUER), ("code", "c")]) == "c"


@pytest.mark.row("ISS-1", "L3")
@pytest.mark.parametrize(
    "iss", [ISSUER + "/", ISSUER.upper(), ISSUER + ":443", quote(ISSUER, safe=""), "https://evil.test", ISSUER[:-1], "x"]
)
def test_any_other_issuer_is_refused_also_unannounced(iss: str) -> None:
    for provider in (PROVIDER, ANNOUNCES):
        assert refusal(STATE, ("iss", iss), ("code", "c"), provider=provider).reason is LoginReason.MISMATCH


@pytest.mark.row("ISS-2")
def test_an_announced_issuer_that_is_missing_or_empty_is_refused() -> None:
    assert refusal(STATE, ("code", "c"), provider=ANNOUNCES).reason is LoginReason.MISMATCH
    assert refusal(STATE, ("iss", ""), ("code", "c"), provider=ANNOUNCES).reason is LoginReason.MISMATCH


@pytest.mark.row("ISS-4", "L3")
def test_a_login_started_at_another_provider_is_refused() -> None:
    assert refusal(STATE, ("code", "c"), provider=replace(PROVIDER, issuer="https://other.test")).reason is LoginReason.MISMATCH


@pytest.mark.row("CB-1")
@pytest.mark.parametrize(
    "state",
    ["", "x", PENDING.state[:-1], PENDING.state + "x", "ä", "\ud800"],
    ids=["empty", "other", "shorter", "longer", "umlaut", "surrogate"],
)
def test_another_state_is_refused(state: str) -> None:
    assert refusal(("state", state), ("code", "c")).reason is LoginReason.MISMATCH
    assert refusal(("code", "c")).reason is LoginReason.MISMATCH


@pytest.mark.row("CB-3", "L5")
@pytest.mark.parametrize("name", ["state", "code", "iss", "error", "session_state", "unknown"])
def test_a_parameter_sent_twice_is_refused_even_with_equal_values(name: str) -> None:
    parameters = [STATE, ("code", "c"), ("iss", ISSUER)]
    value = dict(parameters).get(name, "x")
    assert refusal(*[pair for pair in parameters if pair[0] != name], (name, value), (name, value)).reason is LoginReason.MISMATCH


@pytest.mark.row("CB-3", "L5")
def test_code_and_error_together_are_refused_without_believing_either() -> None:
    failure = refusal(STATE, ("code", "c"), ("error", "access_denied"))
    assert (failure.reason, failure.oauth_error) == (LoginReason.MISMATCH, None)


@pytest.mark.row("CB-9")
@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token", "token_type", "response"])
def test_a_token_on_the_front_channel_is_refused(name: str) -> None:
    assert refusal(STATE, ("code", "c"), (name, "x")).reason is LoginReason.MISMATCH


@pytest.mark.row("CB-4", "CB-5", "F21")
@pytest.mark.parametrize("error", sorted(KNOWN_ERRORS))
def test_a_known_error_is_passed_on(error: str) -> None:
    failure = refusal(STATE, ("error", error), ("error_description", "<script>"))
    assert (failure.reason, failure.oauth_error) == (LoginReason.DENIED, error)
    assert "script" not in str(failure)


@pytest.mark.row("CB-4", "L6")
@pytest.mark.parametrize("error", ["<script>alert(1)</script>", "nope", "ACCESS_DENIED", "a\r\nb", "x" * 3000])
def test_an_unknown_error_is_not_repeated(error: str) -> None:
    failure = refusal(STATE, ("error", error))
    assert (failure.reason, failure.oauth_error) == (LoginReason.DENIED, None)
    assert error not in str(failure)


@pytest.mark.row("CB-4")
def test_an_error_is_believed_only_after_state_and_issuer() -> None:
    assert refusal(("error", "access_denied")).reason is LoginReason.MISMATCH
    assert refusal(STATE, ("iss", "https://evil.test"), ("error", "access_denied")).reason is LoginReason.MISMATCH
    assert refusal(STATE, ("error", "access_denied"), provider=ANNOUNCES).reason is LoginReason.MISMATCH


@pytest.mark.row("CB-1", "L2")
@pytest.mark.parametrize("code", ["", "a\n", "\x7f", "é", "c" * 5000])
def test_without_a_usable_code_the_login_is_incomplete(code: str) -> None:
    assert refusal(STATE, ("code", code)).reason is LoginReason.INCOMPLETE


@pytest.mark.row("L5")
def test_five_hundred_parameters_are_refused() -> None:
    assert refusal(STATE, ("code", "c"), *((f"p{i}", "x") for i in range(500))).reason is LoginReason.INCOMPLETE


@pytest.mark.row("L8")
@pytest.mark.parametrize("query", ["a=%ff", "%c3%28=x", "&".join(["a=b"] * 100)])
def test_a_query_that_is_no_text_or_has_no_end_is_refused(query: str) -> None:
    with pytest.raises(ParameterError):
        read_query(query)


@given(st.lists(st.tuples(st.text(max_size=10, min_size=1), st.text(max_size=20)), max_size=20))
def test_reading_a_query_gives_back_every_pair_in_order(pairs: list[tuple[str, str]]) -> None:
    assert list(read_query(urlencode(pairs))) == pairs


@pytest.mark.row("L8", "CB-3")
@given(st.text(max_size=300))
def test_any_query_is_read_or_cleanly_refused(query: str) -> None:
    try:
        parameters = read_query(query)
    except ParameterError:
        return
    with pytest.raises(LoginFailed):
        check_callback(PENDING, PROVIDER, parameters)


names = st.sampled_from(["state", "code", "iss", "error", "access_token", "x"])


@pytest.mark.row("CB-1", "CB-3", "CB-4", "ISS-1")
@given(st.lists(st.tuples(names, st.sampled_from([PENDING.state, ISSUER, "c", "access_denied", ""])), max_size=6), st.booleans())
def test_a_code_comes_out_only_when_every_rule_holds(pairs: list[tuple[str, str]], announced: bool) -> None:
    provider = ANNOUNCES if announced else PROVIDER
    values = dict(pairs)
    iss = values.get("iss", "")
    holds = (
        len(values) == len(pairs)
        and values.get("state") == PENDING.state
        and (iss == ISSUER or (not iss and not announced))
        and not values.get("error")
        and not values.get("access_token")
        and bool(values.get("code"))
    )
    try:
        assert check_callback(PENDING, provider, pairs) == values["code"]
        assert holds
    except LoginFailed:
        assert not holds
