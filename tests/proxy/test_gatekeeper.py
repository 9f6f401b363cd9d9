"""The one judgement: its order, what it never touches, and how failures come out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bff.base import errors
from bff.base.events import EventKind
from bff.base.secret import Secret
from bff.policy.facts import Facts
from bff.policy.table import RouteTable
from bff.policy.verdict import Admitted, Refusal
from bff.session.model import Credential, Grant, Live
from tests.proxy.gate import COOKIE, NAME, ORIGIN, SCOPES, World, ask


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.row("ZTA-2", "ZTA-4")
def test_a_good_call_is_admitted_with_everything_that_was_judged(world: World) -> None:
    facts = ask("/api/x", query="a=b")
    admitted = world.admitted(facts)
    assert admitted.facts is facts
    assert admitted.route.path == "/api/"
    assert admitted.live is world.live
    assert admitted.judged is world.session
    assert admitted.credential is world.credential
    assert admitted.target is not None
    assert admitted.target.path == "/v1/x?a=b"
    assert admitted.valid_until == 3000.0
    assert admitted.set_cookies == ()
    assert world.keeper.touched == [world.live]
    assert world.events == []


@pytest.mark.row("ROUTE-1", "CSRF-7")
@pytest.mark.parametrize(
    ("facts", "status", "code"),
    [
        (ask("/bff/nothing"), 404, "route_unknown"),
        (ask("/get/x", "POST"), 405, "method_refused"),
        (ask("/api/a%2Fb", encoded_slash=True), 400, "target_refused"),
        (ask(csrf_header=None), 403, "csrf_header_missing"),
        (ask(fetch_site="cross-site"), 403, "cross_origin"),
        (ask("/bff/user", websocket=True, origin=ORIGIN), 400, "websocket_malformed"),
        (ask(insecure=True), 403, "https_required"),
    ],
)
def test_whoever_may_not_knock_touches_no_session_and_no_token(world: World, facts: Facts, status: int, code: str) -> None:
    world.desk.ready.clear()
    world.refused(facts, status, code)
    assert world.keeper.asked == []
    assert world.keeper.touched == []
    assert world.desk.issued == []


@pytest.mark.row("ROUTE-3")
def test_a_405_names_what_is_allowed(world: World) -> None:
    assert world.refused(ask("/get/x", "DELETE"), 405, "method_refused").allow == ("GET", "HEAD")


@pytest.mark.row("ROUTE-6")
def test_an_encoded_slash_passes_where_the_route_opted_in(world: World) -> None:
    admitted = world.admitted(ask("/files/a%2Fb", encoded_slash=True))
    assert admitted.target is not None
    assert admitted.target.path == "/v1/a%2Fb"


@pytest.mark.row("PRIV-7", "E9", "E13")
def test_every_refusal_is_an_event_that_names_nobody_in_clear(world: World) -> None:
    world.refused(ask(fetch_site="cross-site", origin="https://evil.test"), 403, "cross_origin")
    world.session = replace(world.session, claims={})
    world.live.session = world.session
    world.refused(ask("/sales/x"), 403, "claim_required")
    first, second = world.events
    assert (first.kind, first.outcome, first.request_id, first.route) == (EventKind.REQUEST_REFUSED, "cross_origin", "r-1", "/api/")
    assert first.fields["origin"] == "https://evil.test"
    assert (second.session, second.subject) == ("~session", "~subject")
    assert "alice" not in repr(world.events)


@pytest.mark.row("K8")
async def test_unknown_expired_and_doubled_cookies_get_the_very_same_answer_and_are_cleared(world: World) -> None:
    world.keeper.cold["expired"] = Live(replace(world.session, expires_at=2000.0), 1990.0, 600.0)
    world.keeper.warm["ended"] = Live(None, 1990.0, 600.0)
    answers = [await world.gatekeeper.judge(ask(cookies=(value,))) for value in ("unknown", "expired", "ended")]
    answers.append(await world.gatekeeper.judge(ask(cookies=("alice", "mallory"))))
    answers.append(await world.gatekeeper.judge(ask(cookies=("alice", "alice"))))
    assert all(answer == answers[0] for answer in answers)
    assert isinstance(answers[0], Refusal)
    assert (answers[0].status, answers[0].code, answers[0].clear_cookie) == (401, "unauthenticated", True)


@pytest.mark.row("COOKIE-4", "COOKIE-21")
def test_without_a_cookie_of_ours_there_is_nothing_to_clear(world: World) -> None:
    assert not world.refused(ask(cookies=()), 401, "unauthenticated").clear_cookie
    recased = ask(cookies=())
    assert not world.refused(replace(recased, cookies=((NAME.upper(), "alice"),)), 401, "unauthenticated").clear_cookie
    assert world.keeper.asked == []


async def test_a_session_only_the_store_knows_must_be_waited_for(world: World) -> None:
    world.keeper.cold["bob"] = world.live
    assert world.now(ask(cookies=("bob",))) is None
    verdict = await world.gatekeeper.judge(ask(cookies=("bob",)))
    assert isinstance(verdict, Admitted)
    assert world.events == []


@pytest.mark.row("F34", "SESS-14")
async def test_a_store_that_does_not_answer_is_a_503_and_clears_nothing(world: World) -> None:
    world.keeper.failure = errors.StoreUnavailable("connection refused at db:5432")
    verdict = await world.gatekeeper.judge(ask(cookies=("bob",)))
    assert isinstance(verdict, Refusal)
    assert (verdict.status, verdict.code, verdict.retry_after_s, verdict.clear_cookie) == (503, "store_unavailable", 1, False)
    assert "db" not in verdict.detail


@pytest.mark.row("TOKEN-9", "F24")
@pytest.mark.parametrize(
    ("failure", "status", "code", "cleared"),
    [
        (errors.ProviderUnavailable("x"), 503, "provider_unavailable", False),
        (errors.GrantRevoked("invalid_grant"), 401, "unauthenticated", True),
        (errors.SessionGone(), 401, "unauthenticated", True),
        (errors.GrantRefused("invalid_target"), 502, "grant_refused", False),
        (errors.ProviderMisbehaved("x"), 502, "provider_misbehaved", False),
        (errors.StoreUnavailable(), 503, "store_unavailable", False),
    ],
)
async def test_what_the_desk_raises_becomes_a_refusal(world: World, failure: Exception, status: int, code: str, cleared: bool) -> None:
    world.desk.ready.clear()
    world.desk.failure = failure
    assert world.now(ask()) is None
    verdict = await world.gatekeeper.judge(ask())
    assert isinstance(verdict, Refusal)
    assert (verdict.status, verdict.code, verdict.clear_cookie) == (status, code, cleared)


@pytest.mark.row("TOKEN-12", "RES-1")
async def test_a_token_for_the_route_s_audience_is_issued_and_judged_at_its_own_scopes(world: World) -> None:
    assert world.now(ask("/orders/x")) is None
    world.desk.later["user", "orders"] = Credential(b"Bearer o", 2500.0, "orders", SCOPES)
    verdict = await world.gatekeeper.judge(ask("/orders/x"))
    assert isinstance(verdict, Admitted)
    assert verdict.credential is world.desk.later["user", "orders"]
    assert verdict.valid_until == 2500.0
    assert world.desk.issued == [(world.live, "user", "orders", SCOPES)]
    world.desk.later["user", "orders"] = Credential(b"Bearer o", 2500.0, "orders", frozenset())
    verdict = await world.gatekeeper.judge(ask("/orders/x"))
    assert isinstance(verdict, Refusal)
    assert verdict.code == "insufficient_scope"


async def test_nobody_who_is_refused_anyway_costs_the_provider_a_call(world: World) -> None:
    world.desk.ready.clear()
    world.live.session = replace(world.session, claims={}, auth_time=None, grants={"": Grant(Secret("t"), 1.0, frozenset())})
    for path in ("/sales/x", "/fresh/x", "/scoped/x"):
        assert isinstance(world.now(ask(path)), Refusal)
    assert world.desk.issued == []


@pytest.mark.row("S7")
async def test_a_renewal_that_changes_the_claims_is_judged_by_the_new_ones(world: World) -> None:
    world.desk.ready.clear()
    world.desk.later["user", ""] = world.credential

    def demote() -> None:
        world.live.session = replace(world.session, version=2, claims={"department": "it"})

    world.desk.meanwhile = demote
    verdict = await world.gatekeeper.judge(ask("/sales/x"))
    assert isinstance(verdict, Refusal)
    assert verdict.code == "claim_required"


async def test_a_session_that_ends_while_its_token_is_renewed_admits_nothing(world: World) -> None:
    world.desk.ready.clear()
    world.desk.later["user", ""] = world.credential
    world.desk.meanwhile = lambda: setattr(world.live, "session", None)
    verdict = await world.gatekeeper.judge(ask())
    assert isinstance(verdict, Refusal)
    assert (verdict.code, verdict.clear_cookie) == ("unauthenticated", True)


@pytest.mark.row("ZTA-3", "STEPUP-2")
def test_a_stale_sign_in_is_a_step_up_and_the_verdict_knows_when_it_will_be(world: World) -> None:
    assert world.admitted(ask("/fresh/x")).valid_until == 2200.0
    world.clock.advance(201)
    refusal = world.refused(ask("/fresh/x"), 401, "step_up_required")
    assert refusal.step_up is not None
    assert refusal.step_up.max_age == 300
    assert not refusal.clear_cookie


@pytest.mark.row("STEPUP-7")
def test_a_missing_scope_of_the_token_at_hand_is_named(world: World) -> None:
    world.admitted(ask("/scoped/x"))
    world.desk.ready["user", ""] = replace(world.credential, scopes=frozenset())
    world.refused(ask("/scoped/x"), 403, "insufficient_scope")


@pytest.mark.row("ROUTE-12")
def test_an_anonymous_route_looks_for_no_session_even_where_there_is_one(world: World) -> None:
    admitted = world.admitted(ask("/public/x"))
    assert (admitted.live, admitted.judged, admitted.credential) == (None, None, None)
    assert admitted.valid_until == float("inf")
    assert world.keeper.asked == []


@pytest.mark.row("ZTA-4")
async def test_the_client_s_own_token_goes_out_only_where_the_route_says_so(world: World) -> None:
    world.desk.ready["client", ""] = Credential(b"Bearer c", 2400.0)
    assert world.admitted(ask("/machine/x", cookies=())).credential == world.desk.ready["client", ""]
    assert world.admitted(ask("/machine/x")).live is None
    assert world.admitted(ask("/either/x", cookies=())).credential == world.desk.ready["client", ""]
    assert world.admitted(ask("/either/x")).credential is world.credential
    world.desk.ready.pop(("user", ""))
    world.desk.failure = errors.ProviderUnavailable()
    verdict = await world.gatekeeper.judge(ask("/either/x"))
    assert isinstance(verdict, Refusal), "a user's token was replaced by the client's"


@pytest.mark.row("ZTA-4")
async def test_a_route_for_users_and_strangers_sends_the_user_s_token_or_none(world: World) -> None:
    stranger = world.admitted(ask("/greeting/x", cookies=()))
    assert (stranger.live, stranger.credential, stranger.set_cookies) == (None, None, ())
    assert world.admitted(ask("/greeting/x")).credential is world.credential
    world.refused(ask("/greeting/x", cookies=(), csrf_header=None), 403, "csrf_header_missing")
    world.desk.ready.pop(("user", ""))
    world.desk.failure = errors.ProviderUnavailable()
    verdict = await world.gatekeeper.judge(ask("/greeting/x"))
    assert isinstance(verdict, Refusal), "a signed-in user was taken for a stranger"


async def test_a_client_token_that_is_not_at_hand_is_issued_without_a_session(world: World) -> None:
    world.desk.later["client", ""] = Credential(b"Bearer c", 2400.0)
    assert world.now(ask("/machine/x", cookies=())) is None
    verdict = await world.gatekeeper.judge(ask("/machine/x", cookies=()))
    assert isinstance(verdict, Admitted)
    assert world.desk.issued == [(None, "client", "", frozenset())]


@pytest.mark.row("SESS-6")
def test_only_what_the_user_does_counts_as_activity(world: World) -> None:
    world.admitted(ask("/quiet/x"))
    world.admitted(ask("/bff/user"))
    assert world.keeper.touched == []
    world.admitted(ask())
    assert world.keeper.touched == [world.live]


@pytest.mark.row("SESS-6")
@pytest.mark.parametrize(("path", "noted"), [("/api/x", 1), ("/quiet/x", 0)])
async def test_activity_is_known_before_a_token_is_asked_for(world: World, path: str, noted: int) -> None:
    """The renewal writes it down; behind it the session would be written a second time."""
    known: list[int] = []
    world.desk.ready.clear()
    world.desk.later["user", ""] = Credential(b"Bearer n", 2400.0, scopes=SCOPES)
    world.desk.meanwhile = lambda: known.append(len(world.keeper.touched))
    assert isinstance(await world.gatekeeper.judge(ask(path)), Admitted)
    assert known == [noted]


@pytest.mark.row("COOKIE-20")
def test_a_cookie_under_an_old_key_is_renewed_on_the_way(world: World) -> None:
    world.live.renew_cookie = "fresh"
    assert world.admitted(ask()).set_cookies == (COOKIE.set_session("fresh"),)


@pytest.mark.row("S2", "RPLO-6", "COOKIE-21")
async def test_the_agent_s_pages_clear_a_cookie_that_opens_nothing(world: World) -> None:
    login = ask("/bff/login", cookies=("unknown",), csrf_header=None, fetch_site=None)
    verdict = await world.gatekeeper.judge(login)
    assert isinstance(verdict, Admitted)
    assert verdict.set_cookies == (COOKIE.clear_session(),)
    alice = ask("/bff/login", csrf_header=None, fetch_site=None)
    assert world.admitted(alice).live is world.live
    assert world.admitted(alice).set_cookies == ()
    assert world.admitted(replace(alice, cookies=())).set_cookies == ()


def test_an_agent_route_may_answer_for_a_missing_session_itself(world: World) -> None:
    world.refused(ask("/bff/user", cookies=()), 401, "unauthenticated")
    admitted = world.admitted(ask("/bff/maybe", cookies=()))
    assert (admitted.live, admitted.target) == (None, None)
    assert world.admitted(ask("/bff/maybe")).live is world.live


def test_open_and_machine_routes_read_no_cookie(world: World) -> None:
    world.admitted(ask("/index.html", csrf_header=None, fetch_site=None))
    world.admitted(ask("/bff/backchannel-logout", "POST", csrf_header=None, fetch_site="cross-site"))
    assert world.keeper.asked == []


@pytest.mark.row("ROUTE-2")
def test_a_claim_without_a_destination_is_refused(world: World) -> None:
    world.refused(ask("/region/x"), 403, "upstream_unmapped")
    world.live.session = replace(world.session, claims={"region": "eu"})
    assert world.admitted(ask("/region/x")).target is not None


@pytest.mark.row("REQH-15")
@pytest.mark.parametrize(("value", "answered"), [(b"0", True), (b"00", True), (b"1", False), (b"", False), (b"junk", False)])
def test_options_with_no_forwards_left_is_answered_here(world: World, value: bytes, answered: bool) -> None:
    facts = ask("/api/x", "OPTIONS", headers=((b"Max-Forwards", value),))
    if answered:
        assert "GET" in world.refused(facts, 204, "forwards_exhausted").allow
    else:
        world.admitted(facts)


@pytest.mark.row("CORS-1", "CORS-4")
def test_a_preflight_from_elsewhere_is_refused_without_a_session(world: World) -> None:
    refusal = world.refused(
        ask("/api/x", "OPTIONS", csrf_header=None, fetch_site="cross-site", origin="https://evil.test"), 403, "cross_origin"
    )
    assert refusal.headers == ()
    assert world.keeper.asked == []


def test_another_table_can_be_adopted(world: World) -> None:
    world.gatekeeper.adopt(RouteTable([]))
    world.refused(ask(), 404, "route_unknown")


async def test_both_ways_of_judging_agree_where_everything_is_at_hand(world: World) -> None:
    for facts in (
        ask(),
        ask("/sales/x"),
        ask("/scoped/x"),
        ask("/nowhere", csrf_header=None),
        ask(csrf_header=None),
        ask("/public/x"),
        ask(cookies=()),
    ):
        assert await world.gatekeeper.judge(facts) == world.now(facts)
