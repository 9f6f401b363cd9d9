"""Cookie names, attributes, and finding exactly one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.errors import ConfigError, SealBroken
from bff.session.cookies import CookiePolicy, find_cookie
from bff.session.sealing import KeyRing
from bff.session.ticket import TEXT_LENGTH, build_ticket, open_ticket, seal_ticket

POLICY = CookiePolicy()
LINES = [
    POLICY.set_session("v"),
    POLICY.clear_session(),
    POLICY.set_login("__Host-Http-bff-login-x", "v", max_age_s=600),
    POLICY.clear_login("__Host-Http-bff-login-x"),
]


@pytest.mark.row("COOKIE-1", "COOKIE-2", "COOKIE-3", "COOKIE-5", "S4", "S14")
@pytest.mark.parametrize("line", LINES)
def test_every_line_set_or_clear_has_all_attributes(line: str) -> None:
    name, *attributes = line.split("; ")
    assert name.startswith("__Host-Http-bff")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(attributes)
    assert sum(attribute.startswith("SameSite=") for attribute in attributes) == 1
    assert not any(attribute.lower().startswith("domain") for attribute in attributes)
    assert len(attributes) == len({attribute.partition("=")[0] for attribute in attributes})


@pytest.mark.row("COOKIE-6", "COOKIE-7")
def test_the_session_cookie_is_strict_and_the_login_cookie_reaches_the_callback() -> None:
    assert "SameSite=Strict" in POLICY.set_session("v")
    assert "SameSite=Lax" in POLICY.set_login("n", "v", max_age_s=1)
    assert "SameSite=None; Secure" not in POLICY.set_login("n", "v", max_age_s=1)
    assert "SameSite=None" in CookiePolicy(login_same_site="none").set_login("n", "v", max_age_s=1)


@pytest.mark.row("COOKIE-10", "COOKIE-9")
def test_a_partitioned_deletion_repeats_the_attributes_of_the_setting() -> None:
    policy = CookiePolicy(same_site="none", partitioned=True)
    kept = set(policy.set_session("v").split("; ")[1:])
    assert kept <= set(policy.clear_session().split("; ")[1:])
    assert {"Partitioned", "Secure", "SameSite=None"} <= kept
    with pytest.raises(ConfigError):
        CookiePolicy(partitioned=True)


@pytest.mark.row("COOKIE-3", "COOKIE-7", "S14", "C3")
@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": ""},
        {"prefix": "__host-Http-"},
        {"prefix": "Host__"},
        {"prefix": "__Secure-"},
        {"same_site": "Strict"},
        {"same_site": ""},
        {"login_same_site": "strict"},
        {"name": ""},
        {"name": "a b"},
        {"name": "a;b"},
        {"name": "a=b"},
        {"name": "é"},
        {"name": "x" * 65},
    ],
)
def test_a_policy_that_protects_less_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        CookiePolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.row("COOKIE-3")
def test_the_older_prefix_may_be_configured() -> None:
    assert CookiePolicy(prefix="__Host-").session_name == "__Host-bff"


@pytest.mark.row("COOKIE-17")
def test_the_session_cookie_has_no_age_and_the_cleared_one_has_none_left() -> None:
    assert "Max-Age" not in POLICY.set_session("v")
    assert "Max-Age=0" in POLICY.clear_session()


@pytest.mark.row("COOKIE-4", "COOKIE-21", "S6")
def test_only_one_cookie_of_exactly_this_name_counts() -> None:
    name = POLICY.session_name
    assert find_cookie([("a", "1"), (name, "v"), ("b", "2")], name) == "v"
    assert find_cookie([(name, "v"), (name, "w")], name) is None
    assert find_cookie([(name, "w"), (name, "v")], name) is None
    assert find_cookie([(name, "v"), (name, "v")], name) is None
    assert find_cookie([(name.lower(), "v")], name) is None
    assert find_cookie([("", f"{name}=v")], name) is None
    assert find_cookie([], name) is None


@given(st.lists(st.tuples(st.sampled_from(["a", "A", "b", " a", "a "]), st.text(max_size=3)), max_size=6))
def test_found_means_exactly_one_was_there(cookies: list[tuple[str, str]]) -> None:
    values = [value for name, value in cookies if name == "a"]
    assert find_cookie(cookies, "a") == (values[0] if len(values) == 1 else None)


@pytest.mark.row("COOKIE-11", "COOKIE-12", "COOKIE-13", "COOKIE-14", "COOKIE-15", "F22")
@given(st.floats(0, 1e12))
def test_the_session_cookie_has_one_size_at_most_200_bytes_so_nothing_is_ever_chunked(expires_at: float) -> None:
    value = seal_ticket(build_ticket(expires_at), ring=KeyRing.generate(), cookie=POLICY)
    assert len(value) == TEXT_LENGTH
    assert re.fullmatch(r"[A-Za-z0-9_-]+", value)
    assert len(f"{POLICY.session_name}={value}") <= 200


@pytest.mark.row("COOKIE-19", "S9")
@pytest.mark.parametrize(
    "other", [CookiePolicy(name="other", instance="a"), CookiePolicy(instance="b"), CookiePolicy(prefix="__Host-", instance="a")]
)
def test_a_ticket_opens_only_under_its_cookie_name_and_instance(other: CookiePolicy) -> None:
    ring, mine = KeyRing.generate(), CookiePolicy(instance="a")
    ticket = build_ticket(5.0)
    value = seal_ticket(ticket, ring=ring, cookie=mine)
    assert open_ticket(value, ring=ring, cookie=mine) == (ticket, True)
    with pytest.raises(SealBroken):
        open_ticket(value, ring=ring, cookie=other)


@pytest.mark.row("COOKIE-19", "C2")
def test_shifting_bytes_between_cookie_name_and_instance_breaks_the_seal() -> None:
    ring = KeyRing.generate()
    value = seal_ticket(build_ticket(5.0), ring=ring, cookie=CookiePolicy(name="ab", instance="c"))
    with pytest.raises(SealBroken):
        open_ticket(value, ring=ring, cookie=CookiePolicy(name="a", instance="bc"))
