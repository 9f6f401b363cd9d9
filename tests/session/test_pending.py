"""Pending logins in cookies: many at once, bounded, bound to browser, state, name and time."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base.clock import FakeClock
from bff.base.errors import LoginFailed, LoginReason
from bff.oauth.types import PendingLogin
from bff.session.cookies import CookiePolicy
from bff.session.pending import PendingCookies, _pack, _unpack
from bff.session.sealing import KeyRing

RING = KeyRing.generate()
COOKIE = CookiePolicy(instance="https://app.example.com")


def desk(clock: FakeClock, ring: KeyRing = RING, cookie: CookiePolicy = COOKIE, ttl_s: float = 600) -> PendingCookies:
    return PendingCookies(ring=ring, cookie=cookie, clock=clock, ttl_s=ttl_s)


def login(clock: FakeClock, **changes: object) -> PendingLogin:
    typical = PendingLogin(
        issuer="https://keycloak.example.com/realms/company",
        redirect_uri="https://app.example.com/bff/callback",
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        code_verifier=secrets.token_urlsafe(32),
        scopes=("openid", "profile", "offline_access"),
        return_to="/orders/2027?tab=open",
        created_at=clock.now(),
        previous=secrets.token_bytes(32).hex(),
    )
    return replace(typical, **changes)  # type: ignore[arg-type]


class Jar(dict[str, str]):
    """A browser's cookies, as far as these lines go."""

    def take_in(self, lines: list[str]) -> None:
        names = [line.partition("=")[0] for line in lines]
        assert len(names) == len(set(names)), "COOKIE-16"
        for line in lines:
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0;" in line:
                self.pop(name, None)
            else:
                self[name] = value

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(self.items())


texts = st.text(max_size=40) | st.sampled_from(["", "abcd", "QQ", "QR", "A" * 43, "0af1", "0AF1"])


@given(
    texts,
    texts,
    texts,
    texts,
    st.lists(st.sampled_from(["openid", "a", "b"]), max_size=3),
    st.none() | st.integers(0, 10**6),
    st.floats(0, 1e11),
)
def test_a_packed_login_unpacks_to_itself(
    state: str, verifier: str, previous: str, subject: str, scopes: list[str], age: int | None, at: float
) -> None:
    pending = PendingLogin("i", "r", state, "n", verifier, tuple(scopes), "/", at, ("a", "b"), age, "login", subject, previous)
    assert _unpack(_pack(pending)) == pending


def test_a_kept_login_is_taken_by_its_state() -> None:
    clock = FakeClock()
    pending, jar = login(clock), Jar()
    jar.take_in(desk(clock).keep(pending, []))
    assert desk(clock).take(pending.state, jar.pairs) == pending


@pytest.mark.row("COOKIE-7", "COOKIE-1")
def test_the_login_cookie_is_lax_http_only_and_short_lived() -> None:
    line = desk(FakeClock()).keep(login(FakeClock()), [])[0]
    assert line.startswith("__Host-Http-bff-login-")
    assert line.endswith("; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax")


@pytest.mark.row("F15")
def test_thirty_tabs_finish_in_any_order_as_far_as_they_are_kept() -> None:
    clock, jar = FakeClock(), Jar()
    started = []
    for number in range(30):
        clock.advance(0.001)
        pending = login(clock, return_to=f"/tab/{number}")
        started.append(pending)
        jar.take_in(desk(clock).keep(pending, jar.pairs))
    for pending in reversed(started[-7:]):
        assert desk(clock).take(pending.state, jar.pairs) == pending
    for pending in started[:-7]:
        with pytest.raises(LoginFailed):
            desk(clock).take(pending.state, jar.pairs)


@pytest.mark.row("F16")
def test_fifty_abandoned_logins_leave_seven_cookies_below_four_kibibytes() -> None:
    clock, jar = FakeClock(), Jar()
    for _ in range(50):
        clock.advance(1)
        jar.take_in(desk(clock).keep(login(clock), jar.pairs))
    assert len(jar) == 7
    assert sum(len(name) + len(value) + 3 for name, value in jar.items()) < 4096


@pytest.mark.row("F16", "COOKIE-11")
@pytest.mark.parametrize("length", [10, 500, 1000, 1024, 1025, 5000])
def test_long_return_paths_push_out_older_logins_or_are_dropped(length: int) -> None:
    clock, jar = FakeClock(), Jar()
    for _ in range(20):
        clock.advance(1)
        last = login(clock, return_to="/" + "x" * (length - 1))
        jar.take_in(desk(clock).keep(last, jar.pairs))
    assert sum(len(name) + len(value) + 3 for name, value in jar.items()) < 4096
    assert all(len(name) + len(value) < 4096 for name, value in jar.items())
    taken = desk(clock).take(last.state, jar.pairs)
    assert taken.return_to == (last.return_to if length <= 1024 else "/")


def test_a_login_that_fits_no_cookie_fails_at_once_instead_of_later() -> None:
    with pytest.raises(LoginFailed):
        desk(FakeClock()).keep(login(FakeClock(), subject="x" * 4000), [])


@pytest.mark.row("S13")
def test_a_login_is_over_after_its_time_by_the_servers_clock() -> None:
    clock, jar = FakeClock(), Jar()
    pending = login(clock)
    jar.take_in(desk(clock).keep(pending, []))
    clock.advance(600)
    assert desk(clock).take(pending.state, jar.pairs) == pending
    clock.advance(1)
    with pytest.raises(LoginFailed) as caught:
        desk(clock).take(pending.state, jar.pairs)
    assert caught.value.reason is LoginReason.EXPIRED


@pytest.mark.row("S13", "F49")
def test_a_login_from_the_future_is_not_taken() -> None:
    clock, jar = FakeClock(), Jar()
    pending = login(clock, created_at=clock.now() + 3600)
    jar.take_in(desk(clock).keep(pending, []))
    with pytest.raises(LoginFailed):
        desk(clock).take(pending.state, jar.pairs)


@pytest.mark.row("COOKIE-19", "COOKIE-21", "F18", "S9")
def test_another_state_name_ring_instance_or_a_double_is_unknown() -> None:
    clock, jar = FakeClock(), Jar()
    pending, other = login(clock), login(clock)
    jar.take_in(desk(clock).keep(pending, []))
    ((name, value),) = jar.items()
    swapped_name = desk(clock).keep(other, [])[0].partition("=")[0]
    tries = [
        (desk(clock), other.state, jar.pairs),
        (desk(clock), other.state, [(swapped_name, value)]),
        (desk(clock), pending.state, []),
        (desk(clock), pending.state, [(name, value), (name, value)]),
        (desk(clock), pending.state, [(name, value[:-1])]),
        (desk(clock), pending.state, [(name, "")]),
        (desk(clock, ring=KeyRing.generate()), pending.state, jar.pairs),
        (desk(clock, cookie=CookiePolicy(instance="https://other.example.com")), pending.state, jar.pairs),
    ]
    for cookies, state, pairs in tries:
        with pytest.raises(LoginFailed) as caught:
            cookies.take(state, pairs)
        assert caught.value.reason is LoginReason.UNKNOWN
    assert desk(clock).take(pending.state, jar.pairs) == pending


@pytest.mark.row("F18", "COOKIE-20")
def test_a_login_survives_a_key_rotation_while_the_user_is_at_the_provider() -> None:
    clock, jar = FakeClock(), Jar()
    ring = KeyRing.generate()
    pending = login(clock)
    jar.take_in(desk(clock, ring=ring).keep(pending, []))
    assert desk(clock, ring=ring.rotated()).take(pending.state, jar.pairs) == pending


@pytest.mark.row("F17", "COOKIE-16")
def test_unreadable_expired_and_doubled_leftovers_are_cleared_by_the_next_login() -> None:
    clock, jar = FakeClock(), Jar()
    stale = login(clock)
    jar.take_in(desk(clock).keep(stale, []))
    clock.advance(601)
    pairs = [*jar.pairs, (COOKIE.login_prefix + "AAAAAAAAAAAA", "junk"), ("unrelated", "x"), (COOKIE.login_prefix + "BBBBBBBBBBBB", "1")]
    pairs.append((COOKIE.login_prefix + "BBBBBBBBBBBB", "2"))
    lines = desk(clock).keep(login(clock), pairs)
    names = [line.partition("=")[0] for line in lines]
    assert len(names) == len(set(names)) == 4
    assert all("Max-Age=0" in line for line in lines[1:])


def test_clearing_names_only_our_login_cookies_each_once() -> None:
    clock, jar = FakeClock(), Jar()
    pending = login(clock)
    jar.take_in(desk(clock).keep(pending, []))
    pairs = [*jar.pairs, *jar.pairs, ("other", "1"), (COOKIE.session_name, "t"), (COOKIE.login_prefix + "x; Domain=evil", "1")]
    assert desk(clock).clear_all(pairs) == [desk(clock).clear(pending.state)]
    jar.take_in([desk(clock).clear(pending.state)])
    assert not jar


@pytest.mark.row("S11")
def test_four_hundred_login_cookies_are_bounded_work() -> None:
    clock = FakeClock()
    pairs = [(f"{COOKIE.login_prefix}{number:012d}", "x" * 400) for number in range(400)]
    assert len(desk(clock).keep(login(clock), pairs)) <= 51
    assert len(desk(clock).clear_all(pairs)) == 50


@pytest.mark.row("S10")
@given(st.text(max_size=80), st.text(max_size=80))
def test_made_up_states_and_values_are_unknown(state: str, value: str) -> None:
    clock = FakeClock()
    cookies = desk(clock)
    name = cookies._name(state)
    with pytest.raises(LoginFailed):
        cookies.take(state, [(name, value)])
