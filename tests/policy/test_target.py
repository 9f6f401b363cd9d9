from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.policy.routes import Upstream
from bff.policy.target import aim, claim_values
from bff.policy.verdict import Refusal, Target
from tests.policy.asked import UPSTREAM, facts, route, session

EU = Upstream("https", "eu.internal", 443, "/eu/")
US = Upstream("https", "us.internal", 8443, "/")


@pytest.mark.row("ROUTE-4", "ROUTE-8", "P7")
@pytest.mark.parametrize(
    ("path", "query", "sent"),
    [
        ("/api/x", None, "/v1/x"), ("/api/", None, "/v1/"), ("/api/a/b;c=1/", None, "/v1/a/b;c=1/"), ("/api/%41%2f", None, "/v1/%41%2f"),
        ("/api/x", "", "/v1/x?"), ("/api/x", "a=%2F&a=b&;/public", "/v1/x?a=%2F&a=b&;/public"), ("/api/api/x", None, "/v1/api/x"),
    ],
)  # fmt: skip
def test_the_prefix_is_replaced_and_the_rest_sent_byte_for_byte(path: str, query: str | None, sent: str) -> None:
    assert aim(route(), session(), facts(path=path, query=query)) == Target(UPSTREAM, sent)


@pytest.mark.parametrize(
    ("prefix", "base", "path", "sent"),
    [
        ("/api", "/v1", "/api", "/v1"),
        ("/api", "/v1", "/api/x", "/v1/x"),
        ("/api", "/", "/api", "/"),
        ("/", "/", "/x", "/x"),
        ("/", "/v1/", "/", "/v1/"),
    ],
)
def test_prefixes_without_a_final_slash_map_as_well(prefix: str, base: str, path: str, sent: str) -> None:
    aimed = aim(route(path=prefix, upstream=replace(UPSTREAM, base_path=base)), None, facts(path=path))
    assert aimed == Target(replace(UPSTREAM, base_path=base), sent)


def test_an_exact_route_has_exactly_one_target() -> None:
    way = route(path="/health", exact=True, upstream=replace(UPSTREAM, base_path="/internal/health"))
    aimed = aim(way, None, facts(path="/health", query="a"))
    assert isinstance(aimed, Target)
    assert aimed.path == "/internal/health?a"
    assert isinstance(aim(way, None, facts(path="/health/x")), Refusal)


@pytest.mark.row("P7", "ROUTE-2")
def test_facts_from_elsewhere_can_not_leave_the_tree() -> None:
    for path in ("/other", "/api//admin", "/ap"):
        assert isinstance(aim(route(), None, facts(path=path)), Refusal)


@pytest.mark.row("ROUTE-2")
@pytest.mark.parametrize(
    ("claim", "host"),
    [
        ("eu", "eu.internal"),
        (["zz", "us"], "us.internal"),
        ("zz", "api.internal"),
        (None, "api.internal"),
        ("EU", "api.internal"),
        ({"eu": 1}, "api.internal"),
    ],
)
def test_a_claim_chooses_from_the_closed_table_only(claim: object, host: str) -> None:
    way = route(claim="region", by_claim={"eu": EU, "us": US})
    aimed = aim(way, session(claims={"region": claim}), facts())
    assert isinstance(aimed, Target)
    assert aimed.upstream.host == host


def test_without_a_destination_of_its_own_the_route_refuses_strangers_to_the_table() -> None:
    way = route(claim="region", by_claim={"eu": EU}, upstream=None)
    assert aim(way, session(claims={"region": "eu"}), facts()) == Target(EU, "/eu/x")
    for who in (session(claims={"region": "zz"}), session(), None):
        refusal = aim(way, who, facts())
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (403, "upstream_unmapped")


def test_claims_are_spelled_as_configuration_spells_them() -> None:
    assert list(claim_values(["a", 1, True, False, None, {"x": 1}, 1.5])) == ["a", "1", "true", "false", "1.5"]
    assert list(claim_values(None)) == []


@pytest.mark.row("P7")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "..x", "%41", ";v=1", "%2f", "~"]), max_size=6).map("/".join))
def test_every_target_stays_below_its_base(rest: str) -> None:
    aimed = aim(route(), None, facts(path="/api/" + rest))
    if isinstance(aimed, Target):
        assert aimed.path == "/v1/" + rest
