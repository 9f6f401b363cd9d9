"""The table of bad configurations: each is refused, and its line names the key and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Problems = Callable[..., list[str]]
ROUTE = ("routes", 0)

BAD: list[tuple[str, tuple[tuple[Any, ...], ...], str]] = [
    ("server.public_origin", (("server", "public_origin", ...),), "BFF_SERVER__PUBLIC_ORIGIN"),
    ("server.public_origin", (("server", "public_origin", "http://app.example.com"),), "danger_plain_http_origin"),
    ("server.public_origin", (("server", "public_origin", "https://app.example.com/"),), 'write "https://app.example.com"'),
    ("server.public_origin", (("server", "public_origin", "https://app.example.com:443"),), 'write "https://app.example.com"'),
    ("server.public_origin", (("server", "public_origin", "https://App.example.com"),), "lower-case"),
    ("server.public_origin", (("server", "public_origin", "https://u:p@app.example.com"),), "remove"),
    ("server.public_origin", (("server", "public_origin", "app.example.com"),), "https://"),
    ("server.listen", (("server", "listen", "8080"),), "127.0.0.1:8080"),
    ("server.listen", (("server", "listen", "0.0.0.0:99999"),), "127.0.0.1:8080"),
    ("server.listen", (("server", "listen", "unix:relative.sock"),), "unix:/run"),
    ("server.listen", (("server", "listen", "fd://1"),), "fd://3"),
    ("server.manage_listen", (("server", "manage_listen", "127.0.0.1:8080"),), "own port"),
    ("server.manage_listen", (("server", "listen", "0.0.0.0:9464"),), "own port"),
    ("server.manage_hosts[0]", (("server", "manage_hosts", ["bff.internal:9464"]),), "without scheme and port"),
    ("server.manage_hosts[0]", (("server", "manage_hosts", ["*"]),), "without scheme and port"),
    ("server.workers", (("server", "workers", 0),), "from 1"),
    ("server.workers", (("server", "workers", 257),), "up to 256"),
    ("server.stuck_timeout", (("server", "stuck_timeout", "2s"),), "at least"),
    ("server.prefix", (("server", "prefix", "/"),), "start with /"),
    ("server.prefix", (("server", "prefix", "bff"),), "start with /"),
    ("server.prefix", (("server", "prefix", "/a/../b"),), "start with /"),
    ("server.trusted_proxies[0]", (("server", "trusted_proxies", ["10.0.0.1/8"]),), "CIDR"),
    ("server.trusted_proxies", (("server", "trusted_proxies", "10.0.0.0/8"),), "list"),
    ("server.hosts[0]", (("server", "hosts", ["a b"]),), "Host header"),
    ("server.tls_key_file", (("server", "tls_cert_file", "keys.json"),), "both"),
    ("provider.issuer", (("provider", "issuer", "http://id.example.com"),), "danger_plain_http_provider"),
    ("provider.issuer", (("provider", "issuer", "https://id.example.com/?a=b"),), "remove"),
    ("provider.issuer", (("provider", "issuer", "https://id.example.com/a/.well-known/openid-configuration"),), "before /.well-known"),
    ("provider.issuer", (("provider", "issuer", "https://id.example.com:0/"),), "name the port"),
    ("provider.issuer", (("provider", "issuer", "https://login.microsoftonline.com/common/v2.0"),), "tenant"),
    ("provider.client_id", (("provider", "client_id", ""),), "put a value"),
    ("provider.client_secret", (("provider", "client_secret", ...),), "BFF_PROVIDER__CLIENT_SECRET"),
    ("provider.client_secret", (("provider", "client_secret", "  "),), "put the secret there"),
    ("provider.client_auth", (("provider", "client_auth", "none"),), "client_secret_basic"),
    ("provider.private_key_file", (("provider", "client_auth", "private_key_jwt"),), "private key"),
    ("provider.client_key_file", (("provider", "client_auth", "tls_client_auth"),), "both files"),
    ("provider.scopes", (("provider", "scopes", ["profile"]),), "openid"),
    ("provider.scopes[1]", (("provider", "scopes", ["openid", "a b"]),), "one scope per entry"),
    ("provider.optional_scopes[0]", (("provider", "optional_scopes", ["a b"]),), "one scope per entry"),
    *(
        (f"provider.authorize_parameters.{name}", (("provider", "authorize_parameters", {name: value}),), fix)
        for name, value, fix in (
            ("redirect_uri", "https://evil.example/", "remove it"), ("scope", "openid", "remove it"), ("state", "s", "remove it"),
            ("request", "e30.e30.", "remove it"), ("response_mode", "form_post", "remove it"), ("a b", "c", "underscores"),
            ("x", "y\nz", "remove it"), ("x", "y" * 1025, "one line"), ("prompt", "none", "select_account"),
        )
    ),
    ("session.clear_site_data[0]", (("session", "clear_site_data", ["*"]),), "storage"),
    *(
        ("spa.post_logout_path", (("spa", "post_logout_path", path),), "such as /signed-out")
        for path in ("", "signed-out", "//evil.example", "https://evil.example/", "/bff/login", "/a/../b", "/x?y=1", "/x#y", "/%2fevil")
    ),
    ("provider.id_token_algs[0]", (("provider", "id_token_algs", ["none"]),), "RS256"),
    ("provider.id_token_algs[0]", (("provider", "id_token_algs", ["HS256"]),), "RS256"),
    ("provider.id_token_algs", (("provider", "id_token_algs", []),), "default"),
    ("provider.leeway", (("provider", "leeway", "1h"),), "5m"),
    ("provider.par", (("provider", "par", "sometimes"),), "auto"),
    ("session.store", (("session", "store", "redis://localhost"),), ""),
    ("session.store", (("session", "store", "mysql://x"),), "memory:"),
    ("session.idle", (("session", "idle", "13h"),), "shorter"),
    ("cookie.same_site", (("cookie", "same_site", "none"),), "strict"),
    ("cookie.name", (("cookie", "name", "a b"),), "letters"),
    ("cookie.name", (("cookie", "name", "__Host-bff"),), "prefix"),
    ("cookie.domain", (("cookie", "domain", "example.com"),), ""),
    ("spa.csp", (("spa", "csp", "default-src 'self';\nscript-src 'self'"),), "one line"),
    ("spa.csp", (("spa", "csp", "default-src b\u00fccher.example"),), "one line"),
    ("spa.csp", (("spa", "csp", "default-src 'self'; " + "x" * 8192),), "shorten"),
    ("spa.csp", (("spa", "csp", " ; "),), "remove the key"),
    ("spa.upstream", (("spa", "upstream", "http://web.internal"),), "danger_plain_http_upstream"),
    ("spa.upstream", (("spa", "upstream", "http://127.0.0.1:8080"),), "development server"),
    ("log.level", (("log", "level", "trace"),), "debug"),
    ("routes[0].upstream", ((*ROUTE, "upstream", ...),), "name the API"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "http://orders.internal/"),), "danger_plain_http_upstream"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "ws://orders.internal/"),), "https"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "https://app.example.com/x/"),), "API's address"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "http://localhost:8080/"),), "API's address"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "http://127.0.0.1:9464/"),), "API's address"),
    ("routes[0].upstream", ((*ROUTE, "upstream", "https://orders.internal/../x"),), "plain segments"),
    ("routes[0].upstream_by_claim.eu", ((*ROUTE, "upstream_by_claim", {"claim": "r", "eu": "http://eu.internal/"}),), "https"),
    ("routes[0].upstream_by_claim.claim", ((*ROUTE, "upstream_by_claim", {"eu": "https://eu.internal/"}),), ""),
    ("routes[0].upstream_by_claim.table", ((*ROUTE, "upstream_by_claim", {"claim": "r"}),), "put a value"),
    ("routes[0].path", ((*ROUTE, "path", "/bff/x"),), "another path"),
    ("routes[0].path", ((*ROUTE, "path", "/bff"),), "another path"),
    ("routes[0].path", ((*ROUTE, "path", "/a/../b/"),), "plain segments"),
    ("routes[0].path", ((*ROUTE, "path", "//a/"),), "plain segments"),
    ("routes[0].path", ((*ROUTE, "path", "/a%2fb/"),), "plain segments"),
    ("routes[0].path", ((*ROUTE, "path", "/a;b/"),), "plain segments"),
    ("routes[0].methods[0]", ((*ROUTE, "methods", ["TRACE"]),), "GET"),
    ("routes[0].methods[0]", ((*ROUTE, "methods", ["get"]),), "GET"),
    ("routes[0].methods", ((*ROUTE, "methods", []),), "remove the key"),
    ("routes[0].redirect_origins[0]", ((*ROUTE, "redirect_origins", ["https://files.example.com/x"]),), "https://files.example.com"),
    ("routes[0].token", ((*ROUTE, "token", "any"),), "user"),
    ("routes[0].token", ((*ROUTE, "token", "user_or_client"), (*ROUTE, "acr", ["mfa"])), "user"),
    ("routes[0].token", ((*ROUTE, "token", "user_or_none"), (*ROUTE, "session", True)), "user"),
    ("routes[0].scopes", ((*ROUTE, "token", "none"), (*ROUTE, "scopes", ["a"])), "choose a token"),
    ("routes[0].scopes", ((*ROUTE, "token", "user_or_none"), (*ROUTE, "scopes", ["a"])), "remove scopes"),
    ("routes[0].audience", ((*ROUTE, "token", "none"), (*ROUTE, "audience", "a")), "choose a token"),
    ("routes[0].claims.department", ((*ROUTE, "claims", {"department": []}),), "list the values"),
    ("routes[0].acr[0]", ((*ROUTE, "acr", [""]),), "one value per entry"),
    ("routes[0].acr[1]", ((*ROUTE, "acr", ["mfa", "a b"]),), "one value per entry"),
    ("routes[0].client_key_file", ((*ROUTE, "client_cert_file", "keys.json"),), "both"),
]


@pytest.mark.row("OPS-1", "C3", "ROUTE-10", "ROUTE-11", "COOKIE-9", "COOKIE-2", "META-3")
@pytest.mark.parametrize(("key", "changes", "fix"), BAD, ids=[f"{number}-{key}" for number, (key, _, _) in enumerate(BAD)])
def test_a_bad_configuration_is_refused_by_a_line_with_key_and_fix(
    problems: Problems, key: str, changes: tuple[tuple[Any, ...], ...], fix: str
) -> None:
    """OPS-1, C3: each line reads ``file: key: what; fix: how``."""
    found = problems(*changes)
    assert len(found) == 1, found
    where, named, rest = found[0].split(": ", 2)
    what, _, how = rest.partition("; fix: ")
    assert where.endswith("bff.toml")
    assert named == key
    assert what
    assert how
    assert fix in how


@pytest.mark.row("OPS-1")
def test_the_configuration_that_the_table_spoils_is_good(problems: Problems) -> None:
    """OPS-1: the positive twin of every row."""
    assert problems() == []


@pytest.mark.row("OPS-1", "ROUTE-10")
@pytest.mark.parametrize(
    "changes",
    [
        (("server", "public_origin", "http://app.example.com"), ("server", "danger_plain_http_origin", True)),
        (("server", "public_origin", "http://localhost:8080"),),
        (("server", "public_origin", "http://app.localhost:8080"),),
        (("provider", "issuer", "http://id.example.com"), ("provider", "danger_plain_http_provider", True)),
        (("provider", "issuer", "http://127.0.0.1:9000"),),
        ((*ROUTE, "upstream", "http://orders.internal/"), (*ROUTE, "danger_plain_http_upstream", True)),
        ((*ROUTE, "upstream", "http://[::1]:9000/"),),
        (("provider", "issuer", "https://id.example.com/"),),
        (("server", "listen", "[::]:8080"),),
        (("server", "listen", "unix:/run/bff/door.sock"),),
        (("server", "listen", "fd://3"),),
        ((*ROUTE, "upstream_by_claim", {"claim": "r", "eu": "https://eu.internal/"}),),
        ((*ROUTE, "upstream", ...), (*ROUTE, "upstream_by_claim", {"claim": "r", "eu": "https://eu.internal/"})),
        ((*ROUTE, "upstream_by_claim", {"claim": "r", "table": {"claim": "https://eu.internal/"}}),),
        ((*ROUTE, "max_age", ""),),
        ((*ROUTE, "max_age", "0s"),),
        ((*ROUTE, "claims", {"department": "sales"}),),
    ],
)
def test_what_is_allowed_is_accepted(problems: Problems, changes: tuple[tuple[Any, ...], ...]) -> None:
    """ROUTE-10: loopback needs no switch, everything else is accepted with its own."""
    assert problems(*changes) == []


@pytest.mark.row("OPS-1")
def test_two_routes_on_one_path_are_refused(problems: Problems) -> None:
    """OPS-1: a final slash does not make it another prefix."""
    route = {"path": "/api/orders", "upstream": "https://other.internal/"}
    assert [
        line
        for line in problems(("routes", [route, {**route, "path": "/api/orders/"}]))
        if "routes[1].path" in line and "routes[0]" in line
    ]


@pytest.mark.row("OPS-1")
def test_every_problem_is_told_at_once(problems: Problems) -> None:
    """OPS-1: broken types and contradictions of other keys stand side by side, environment and file alike."""
    found = problems(
        ("session", "idle", "300x"),
        ("provider", "scopes", ["profile"]),
        ("server", "wrokers", 2),
        (*ROUTE, "upstream", "http://orders.internal/"),
        env={"BFF_SERVER__WORKERS": "many", "BFF_SESION__MAX": "1h"},
    )
    keys = {line.split(": ")[1] for line in found}
    assert keys == {"session.idle", "provider.scopes", "server.wrokers", "routes[0].upstream", "server.workers", "BFF_SESION__MAX"}


@pytest.mark.row("OPS-1")
def test_missing_sections_and_broken_toml_are_told(tmp_path: Any) -> None:
    """OPS-1: an empty file, text that is no TOML, and no file at all."""
    from bff.base.errors import ConfigError
    from bff.settings import load_settings

    path = tmp_path / "bff.toml"
    for text, expected in (("", "server"), ("[server", "not TOML"), ("\xff", "TOML")):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_settings(path, {})
        assert any(expected in line and "; fix: " in line for line in caught.value.problems)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.toml", {})


def test_a_memory_store_serves_any_number_of_workers(problems: Problems) -> None:
    """The workers of an instance share it; it is a file of the instance that ends with it."""
    assert problems(("server", "workers", 2)) == []
