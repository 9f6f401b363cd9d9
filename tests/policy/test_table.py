from __future__ import annotations

import pytest

from bff.base.errors import ConfigError
from bff.policy.routes import Admission, Route
from bff.policy.table import RouteTable
from tests.policy.asked import UPSTREAM, route


def agent(path: str, *, exact: bool = True) -> Route:
    return route(name="agent:" + path, path=path, upstream=None, token="none", exact=exact, admission=Admission.OPEN)


def named(name: str, path: str, **more: object) -> Route:
    return route(name=name, path=path, **more)


TABLE = RouteTable(
    [
        named("api", "/api/"),
        named("orders", "/api/orders/"),
        named("special", "/api/orders/special", exact=True),
        named("slashless", "/legacy"),
        agent("/bff/login"),
        agent("/bff/user"),
        agent("/", exact=False),
    ]
)


@pytest.mark.row("ROUTE-1", "ROUTE-7", "P8", "CACHE-4")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/", "api"), ("/api/x", "api"), ("/api/orders", "api"), ("/api/orders/", "orders"), ("/api/orders/1/2", "orders"),
        ("/api/orders/special", "special"), ("/api/orders/special/", "orders"), ("/api/ordersx", "api"), ("/api/Orders/", None),
        ("/legacy", "slashless"), ("/legacy/", "slashless"), ("/legacy/x", "slashless"), ("/legacyx", "agent:/"), ("/legacy;x", "agent:/"),
        ("/api", "agent:/"), ("/apix", "agent:/"), ("/API/", "agent:/"), ("/api;x/", "agent:/"), ("/%61pi/x", "agent:/"), ("/", "agent:/"),
        ("/bff/login", "agent:/bff/login"), ("/bff/login/", None), ("/bff/login/x.css", None), ("/bff/nothing", None), ("/bff/", None),
        ("/bff", None), ("/bffx", "agent:/"), ("/bff;x", "agent:/"), ("/BFF/login", "agent:/"), ("/bff/user;x", None),
        ("/bff/user%2f.js", None),
    ],
)  # fmt: skip
def test_the_longest_prefix_of_whole_segments_wins(path: str, name: str | None) -> None:
    found = TABLE.match(path)
    assert (None if found is None else found.name) == name


@pytest.mark.row("ROUTE-1")
def test_without_a_catch_all_what_is_not_listed_is_nowhere() -> None:
    table = RouteTable([named("api", "/api/")])
    assert table.match("/other") is None
    assert table.match("/") is None
    assert RouteTable([]).match("/") is None


@pytest.mark.row("ROUTE-1", "K5")
@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (named("evil", "/bff/"), "sign-in"),
        (named("evil", "/bff/login", exact=True), "sign-in"),
        (named("evil", "/bff"), "sign-in"),
        (named("evil", "/bff/x", upstream=None, by_claim={"eu": UPSTREAM}, exact=True), "sign-in"),
        (named("evil", "api/"), "start"),
        (named("evil", "/api/"), "taken"),
        (named("evil", "/api"), "taken"),
    ],
)
def test_a_table_that_would_shadow_something_does_not_come_to_be(bad: Route, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        RouteTable([named("api", "/api/"), bad])


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RouteTable([named("a", "x"), named("b", "/bff/x")])
    assert len(caught.value.problems) == 2


def test_another_prefix_frees_ours() -> None:
    table = RouteTable([named("mine", "/bff/"), agent("/auth/login")], reserved="/auth")
    assert table.match("/bff/x") is not None
    assert table.match("/auth/x") is None
    assert table.match("/auth/login") is not None


def test_a_very_deep_path_costs_as_many_look_ups_as_there_are_prefix_lengths() -> None:
    assert len(TABLE._lengths) == 4
    deep = TABLE.match("/api/" + "a/" * 4000)
    assert deep is not None
    assert deep.name == "api"


NESTED = RouteTable(
    [
        named("api", "/api/"),
        named("payments", "/api/payments"),
        named("one", "/api/one", exact=True),
        named("Upper", "/api/Upper/"),
        named("upper", "/api/upper/"),
        named("plain", "/plain/"),
        agent("/", exact=False),
    ]
)


@pytest.mark.row("P1", "P6", "P7", "P8", "ROUTE-4", "ROUTE-7")
@pytest.mark.parametrize(
    "path",
    [
        "/api/%70ayments", "/api/%70%61yments/x", "/api/%2570ayments", "/api/payments;x=1", "/api/payments;/x", "/api/payments%3bx",
        "/api/Payments", "/api/PAYMENTS/1", "/api/payment%53", "/api/payments.", "/api/payments%20/x", "/api/payments%2f1",
        "/api/ONE", "/api/on%65", "/api/one;a", "/api/payment%C5%BF", "/api/%EF%BD%90ayments", "/api/UPPER/x", "/api/uppe%72/",
        "/api/%55pper/",
    ],
)  # fmt: skip
def test_a_path_that_an_api_may_read_as_a_stricter_rows_belongs_to_none(path: str) -> None:
    assert NESTED.match(path) is None


@pytest.mark.row("P6", "P8", "ROUTE-4")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/payments", "payments"), ("/api/payments/", "payments"), ("/api/payments/A%20b;v=1", "payments"), ("/api/one", "one"),
        ("/api/one/", "api"), ("/api/paymentsx", "api"), ("/api/Users/A;v=1/%41.", "api"), ("/api/%e2%82%ac", "api"), ("/api/", "api"),
        ("/api/Upper/x", "Upper"), ("/api/upper/x", "upper"), ("/plain/%61", "plain"), ("/plain/A;b", "plain"),
        ("/%61pi/payments", "agent:/"),
        ("/API/payments", "agent:/"),
    ],
)  # fmt: skip
def test_a_path_whose_every_reading_is_one_rows_belongs_to_it(path: str, name: str) -> None:
    found = NESTED.match(path)
    assert found is not None
    assert found.name == name
