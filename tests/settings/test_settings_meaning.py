"""What settings mean to the rest: defaults, warnings, switches, routes, reference, schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bff.policy.routes import METHODS
from bff.policy.table import RouteTable
from bff.settings import Settings, build_identity, build_routes, find_dangers, find_warnings
from bff.settings.reference import main, reference_text, schema_text

Load = Callable[..., Settings]
ROUTE = ("routes", 0)


@pytest.mark.row("SESS-7")
def test_shipped_limits_satisfy_aal2_and_larger_ones_are_warned_of(load: Load) -> None:
    """SESS-7: 30 minutes idle, 12 hours in all (NIST SP 800-63B)."""
    settings = load()
    assert settings.session.idle <= 30 * 60
    assert settings.session.max <= 12 * 3600
    assert not [line for line in find_warnings(settings) if "800-63B" in line]
    warned = find_warnings(load(("session", "idle", "31m"), ("session", "max", "13h")))
    assert {line.split(":")[0] for line in warned if "800-63B" in line} == {"session.idle", "session.max"}


@pytest.mark.parametrize(("path", "warned"), [("/api/*", True), ("/api/:id", True), ("/api/", False), ("/api/a:b", False)])
def test_a_path_that_is_meant_as_a_pattern_is_warned_of(load: Load, path: str, warned: bool) -> None:
    """Other routers read it so; here it would match itself alone, and the app's files would answer the calls."""
    assert any(line.startswith("routes[0].path: is no pattern") for line in find_warnings(load((*ROUTE, "path", path)))) is warned


@pytest.mark.row("COOKIE-6", "COOKIE-3")
def test_the_session_cookie_is_strict_by_default(load: Load) -> None:
    """COOKIE-6: and carries the strictest prefix."""
    assert (load().cookie.same_site, load().cookie.prefix) == ("strict", "__Host-Http-")


@pytest.mark.row("OPS-1", "AUTHZ-9")
@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ([("server", "trusted_proxies", ("0.0.0.0/0",))], "server.trusted_proxies"),
        ([("provider", "scopes", ["openid"])], "provider.scopes"),
        ([("server", "manage_listen", "0.0.0.0:9464")], "server.manage_listen"),
        ([(*ROUTE, "scopes", ["orders:read"])], "routes[0].scopes"),
        ([], "session.store"),
        ([("server", "public_origin", "http://app.example.com"), ("server", "danger_plain_http_origin", True)], "server.public_origin"),
    ],
)
def test_what_is_allowed_but_unwise_is_warned_of(load: Load, changes: list[Any], key: str) -> None:
    """OPS-1: a warning names its key and a fix, and stops nothing."""
    assert [line for line in find_warnings(load(*changes)) if line.startswith(f"{key}: ") and "; fix: " in line]


@pytest.mark.row("OPS-1")
def test_every_dangerous_switch_is_reported(load: Load) -> None:
    """OPS-1: by its full name, in dangers and in warnings."""
    settings = load(
        ("server", "danger_plain_http_origin", True),
        ("provider", "danger_plain_http_provider", True),
        ("spa", "danger_plain_http_upstream", True),
        (*ROUTE, "danger_plain_http_upstream", True),
    )
    dangers = find_dangers(settings)
    assert len(dangers) == 4
    assert all(any(line.startswith(f"{name}: is on") for line in find_warnings(settings)) for name in dangers)
    assert find_dangers(load()) == []


def test_the_urls_to_register_follow_the_origin(load: Load) -> None:
    """AUTHZ-7: from configuration alone."""
    settings = load(("server", "prefix", "/auth"))
    assert settings.redirect_uri == "https://app.example.com/auth/callback"
    assert settings.backchannel_logout_uri == "https://app.example.com/auth/backchannel-logout"
    assert settings.post_logout_redirect_uri == "https://app.example.com/"


@pytest.mark.row("PRIV-2", "STEPUP-3")
def test_claims_and_acr_that_routes_decide_by_are_kept_and_known(load: Load) -> None:
    """PRIV-2: the allow-list, and what policy needs; STEPUP-3: the acr values that may be asked for."""
    settings = load(
        ("session", "claims", ["name"]),
        ("provider", "acr_values", ["gold", "mfa"]),
        (*ROUTE, "claims", {"department": ["sales"]}),
        (*ROUTE, "acr", ["mfa"]),
        (*ROUTE, "upstream_by_claim", {"claim": "region", "eu": "https://eu.internal/"}),
    )
    assert settings.kept_claims == {"name", "department", "region"}
    assert settings.known_acr == ("mfa", "gold")


def test_a_route_becomes_a_row_of_the_table(load: Load) -> None:
    """ROUTE-1: every field arrives."""
    settings = load(
        (*ROUTE, "scopes", ["orders:read"]),
        (*ROUTE, "claims", {"department": ["sales", "support"]}),
        (*ROUTE, "max_age", "5m"),
        (*ROUTE, "upstream_by_claim", {"claim": "region", "eu": "https://eu.internal/v1"}),
        (*ROUTE, "max_body", "1MiB"),
        (*ROUTE, "total_timeout", "9s"),
        (*ROUTE, "redirect_origins", ["https://files.example.com"]),
    )
    (row,) = build_routes(settings.routes[0], default_body_bytes=5)
    assert row.upstream is not None
    assert (row.path, row.upstream.base_path, row.upstream.authority, row.token) == ("/api/orders/", "/v1/", "orders.internal", "user")
    assert row.methods == METHODS
    assert row.session
    assert row.by_claim["eu"].base_path == "/v1/"
    assert row.redirect_origins == {"https://files.example.com"}
    assert row.policy.claims == {"department": {"sales", "support"}}
    assert (row.policy.max_age_s, row.limits.body_bytes, row.limits.total_s) == (300, 2**20, 9.0)


def test_a_max_age_of_zero_is_kept(load: Load) -> None:
    """AUTHZ-11: zero is a demand, empty is none."""
    for text, expected in (("0s", 0), ("", None)):
        (row,) = build_routes(load((*ROUTE, "max_age", text)).routes[0], default_body_bytes=5)
        assert row.policy.max_age_s == expected


def test_a_claim_table_without_fallback_refuses_other_users(load: Load) -> None:
    """ROUTE-2: the table is closed: policy demands one of its values."""
    by_claim = {"claim": "region", "eu": "https://eu.internal/", "us": "https://us.internal/"}
    (row,) = build_routes(load((*ROUTE, "upstream", ...), (*ROUTE, "upstream_by_claim", by_claim)).routes[0], default_body_bytes=5)
    assert row.policy.claims == {"region": {"eu", "us"}}


@pytest.mark.row("ROUTE-7", "ROUTE-4")
@pytest.mark.parametrize(
    ("path", "upstream", "expected"),
    [
        ("/api", "http://127.0.0.1:9000", {"/api": "/", "/api/x": "/x", "/api/": "/"}),
        ("/api", "http://127.0.0.1:9000/", {"/api": "/", "/api/x": "/x"}),
        ("/api", "http://127.0.0.1:9000/v1", {"/api": "/v1", "/api/x": "/v1/x"}),
        ("/api", "http://127.0.0.1:9000/v1/", {"/api": "/v1", "/api/x": "/v1/x"}),
        ("/api/", "http://127.0.0.1:9000/v1", {"/api/": "/v1/", "/api/x": "/v1/x"}),
        ("/api/", "http://127.0.0.1:9000", {"/api/": "/", "/api/x/y": "/x/y"}),
        ("/", "http://127.0.0.1:9000/v1", {"/": "/v1/", "/x": "/v1/x"}),
    ],
)
def test_a_prefix_is_replaced_by_the_upstreams_path(load: Load, path: str, upstream: str, expected: dict[str, str]) -> None:
    """ROUTE-4: with and without final slashes, never a doubled or a lost one."""
    rows = build_routes(load((*ROUTE, "path", path), (*ROUTE, "upstream", upstream)).routes[0], default_body_bytes=5)
    table = RouteTable(rows)
    for asked, sent in expected.items():
        row = table.match(asked)
        assert row is not None
        assert row.upstream is not None
        assert row.upstream.base_path + asked[len(row.path) :] == sent
    assert table.match(path.rstrip("/") + "x") is None or path == "/"


def test_the_identity_is_what_the_provider_section_says(load: Load) -> None:
    """CAUTH-1: the secret travels as a Secret."""
    identity = build_identity(load())
    assert identity.client_id == "spa"
    assert "canary" not in repr(identity)


def test_the_reference_names_every_setting_and_explains_it() -> None:
    """The page is generated: no key without a sentence."""
    text = reference_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 70
    assert not [row for row in rows if row.rstrip(" |").endswith(("none", "`")) and row.count("|") < 5]
    assert all(row.split(" | ")[-1].strip(" |") for row in rows)
    for key in ("`public_origin`", "`client_secret_file`", "`upstream_by_claim`", "`danger_plain_http_upstream`", "`claim`"):
        assert key in text


def test_a_stale_reference_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check that CI runs."""
    page = tmp_path / "settings.md"
    page.write_text(reference_text())
    assert main(["--check", str(page)]) == 0
    page.write_text("old")
    assert main(["--check", str(page)]) == 1
    assert main([]) == 0
    assert capsys.readouterr().out == reference_text()


@pytest.mark.row("PRIV-1")
def test_the_schema_is_json_and_closed() -> None:
    """OPS-1: editors mark unknown keys too."""
    schema = json.loads(schema_text())
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Server"]["required"] == ["public_origin"]
