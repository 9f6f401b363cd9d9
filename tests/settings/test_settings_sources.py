"""Where values come from, what beats what, and names that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bff.base.errors import ConfigError
from bff.settings import Settings, load_settings
from tests.settings.good import CANARY

Load = Callable[..., Settings]
Problems = Callable[..., list[str]]


@pytest.mark.row("OPS-2")
def test_environment_beats_file_content_beats_secrets_directory_beats_toml(load: Load, tmp_path: Path) -> None:
    """OPS-2: the documented order."""
    place = ("provider", "client_id", "from-toml")
    assert load(place).provider.client_id == "from-toml"
    (tmp_path / "bff_provider__client_id").write_text("from-directory\n")
    assert load(place).provider.client_id == "from-directory"
    (tmp_path / "elsewhere").write_text("from-file\n")
    env = {"BFF_PROVIDER__CLIENT_ID_FILE": str(tmp_path / "elsewhere")}
    assert load(place, env=env).provider.client_id == "from-file"
    assert load(place, env={**env, "BFF_PROVIDER__CLIENT_ID": "from-environment"}).provider.client_id == "from-environment"


@pytest.mark.row("OPS-2", "PRIV-1")
@pytest.mark.parametrize("name", ["BFF_PROVIDER__CLIENT_SECRET_FILE"])
def test_a_secret_comes_from_a_file_without_its_final_newline(load: Load, tmp_path: Path, name: str) -> None:
    """OPS-2: one newline at the end is the editor's, not the secret's."""
    (tmp_path / "secret").write_text(f"{CANARY} x\n")
    settings = load(("provider", "client_secret", ...), env={name: str(tmp_path / "secret")})
    assert settings.provider.client_secret.reveal() == f"{CANARY} x"


@pytest.mark.row("C3")
@pytest.mark.parametrize("content", [None, "", "\n", "two\nlines\n"])
def test_a_secret_file_that_is_missing_or_empty_stops_the_start(problems: Problems, tmp_path: Path, content: str | None) -> None:
    """C3: never started with an empty secret instead."""
    if content is not None:
        (tmp_path / "secret").write_text(content)
    found = problems(("provider", "client_secret", ...), ("provider", "client_secret_file", "secret"))
    assert len(found) == 1
    assert "provider.client_secret_file" in found[0]
    if content is None:
        assert f"{tmp_path / 'secret'}, a file that cannot be read (No such file or directory)" in found[0]
    assert problems(("provider", "client_secret", ...), env={"BFF_PROVIDER__CLIENT_ID_FILE": str(tmp_path / "none")})


@pytest.mark.row("C3")
def test_a_secret_given_twice_is_refused(problems: Problems, tmp_path: Path) -> None:
    """C3: which one would be used is nobody's guess."""
    (tmp_path / "secret").write_text("x")
    assert "keep one" in problems(("provider", "client_secret_file", "secret"))[0]
    assert problems(("provider", "client_secret", ...), ("provider", "client_secret_file", "secret")) == []


@pytest.mark.row("OPS-1", "C3")
@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("BFF_SESION__IDLE", "BFF_SESSION__IDLE"),
        ("BFF_SESSION__IDEL", "BFF_SESSION__IDLE"),
        ("BFF_PROVIDER__CLIENT_SECRET_FIL", "BFF_PROVIDER__CLIENT_SECRET_FILE"),
        ("BFF_ROUTES__0__UPSTRAEM", "BFF_ROUTES__0__UPSTREAM"),
        ("BFF_SERVER", ""),
        ("BFF_session__idle", "BFF_SESSION__IDLE"),
        ("BFF_CONFIGG", "BFF_CONFIG"),
    ],
)
def test_an_unknown_environment_name_is_an_error_with_a_suggestion(problems: Problems, name: str, suggestion: str) -> None:
    """OPS-1: an ignored typo is a setting that is off."""
    found = problems(env={name: "30m"})
    assert len(found) == 1
    assert name in found[0]
    assert suggestion in found[0]


@pytest.mark.row("OPS-1")
@pytest.mark.parametrize("section", ["server", "provider", "session", "cookie", "spa", "log", "limits"])
def test_an_unknown_key_is_an_error_in_every_section(problems: Problems, section: str) -> None:
    """OPS-1: and an unknown section too."""
    assert f"{section}.unknwon: is not a setting" in problems((section, "unknwon", 1))[0]
    assert "sesion: is not a setting" in problems(("sesion", {}))[0]


def test_names_for_tools_are_not_settings(problems: Problems) -> None:
    """OPS-1: BFF_CONFIG, BFF_TEST_* and BFF_BENCH_* are ours without being settings."""
    assert problems(env={"BFF_CONFIG": "x", "BFF_TEST_REQUIRE": "browser", "BFF_BENCH_ROUNDS": "3", "PATH": "/bin"}) == []


def test_lists_tables_and_routes_come_from_the_environment(load: Load) -> None:
    """Every value can: lists by comma or JSON, tables as JSON, routes by number."""
    settings = load(
        env={
            "BFF_PROVIDER__SCOPES": "openid, orders",
            "BFF_SERVER__TRUSTED_PROXIES": '["10.0.0.0/8"]',
            "BFF_ROUTES__0__UPSTREAM": "https://a.internal/",
            "BFF_ROUTES__0__CLAIMS": '{"department": ["sales"]}',
            "BFF_ROUTES__1__PATH": "/b/",
            "BFF_ROUTES__1__UPSTREAM": "https://b.internal/",
            "BFF_LOG__ACCESS": "false",
            "BFF_SERVER__WORKERS": "1",
        }
    )
    assert settings.provider.scopes == ("openid", "orders")
    assert [str(route.upstream) for route in settings.routes] == ["https://a.internal/", "https://b.internal/"]
    assert settings.routes[0].claims == {"department": ("sales",)}
    assert settings.log.access is False


def test_all_of_it_can_come_from_the_environment(tmp_path: Path, ring_text: str) -> None:
    """A container without any file but the keys."""
    (tmp_path / "keys.json").write_text(ring_text)
    settings = load_settings(
        None,
        {
            "BFF_SERVER__PUBLIC_ORIGIN": "https://app.example.com",
            "BFF_PROVIDER__ISSUER": "https://id.example.com",
            "BFF_PROVIDER__CLIENT_ID": "spa",
            "BFF_PROVIDER__CLIENT_SECRET": "x",
            "BFF_SESSION__KEYS_FILE": str(tmp_path / "keys.json"),
            "BFF_ROUTES": '[{"path": "/api/", "upstream": "https://a.internal/"}]',
            "BFF_SECRETS_DIR": str(tmp_path),
        },
    )
    assert settings.routes[0].path == "/api/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BFF_ROUTES__5__PATH", "/x/"),
        ("BFF_ROUTES__0__CLAIMS", "[1]"),
        ("BFF_ROUTES", "x"),
        ("BFF_SERVER__HOSTS", "[1"),
        ("BFF_SECRETS_DIR", "/none"),
    ],
)
def test_environment_text_of_the_wrong_shape_is_told(problems: Problems, name: str, value: str) -> None:
    """OPS-1: with the variable's name in the line."""
    assert [line for line in problems(env={name: value}) if name in line and "; fix: " in line]


def test_a_stray_name_in_the_secrets_directory_is_told(problems: Problems, tmp_path: Path) -> None:
    """OPS-1: bff_section__key there must be a setting; other files are nobody's business."""
    (tmp_path / "bff_provider__client_sekret").write_text("x")
    (tmp_path / "bff_tls.pem").write_text("x")
    assert len(found := problems()) == 1
    assert "BFF_PROVIDER__CLIENT_SECRET" in found[0]


def test_relative_paths_start_at_the_file(load: Load, tmp_path: Path) -> None:
    """Also those of the defaults."""
    settings = load(("session", "store", ...), ("session", "keys_file", ...))
    assert settings.session.keys_file == str(tmp_path / "keys.json")
    assert settings.session.store.reveal() == f"sqlite://{tmp_path}/sessions.db"
    assert load(("session", "store", "sqlite:///var/x.db")).session.store.reveal() == "sqlite:///var/x.db"


@pytest.mark.row("PRIV-1", "K1")
def test_no_secret_is_in_any_printed_form_of_the_settings(load: Load, problems: Problems) -> None:
    """K1: repr, str, dump, schema and every problem line, whatever else is wrong."""
    settings = load()
    printed = f"{settings!r} {settings} {settings.provider!r} {settings.model_dump()!r} {settings.session!r}"
    assert CANARY not in printed
    changes: list[tuple[Any, ...]] = [
        ("provider", "client_secret", [CANARY]),
        ("provider", "client_secret", {"a": CANARY}),
        ("provider", "client_secret", CANARY + "\n"),
        ("provider", CANARY[:0] + "client_secrets", CANARY),
        ("session", "store", f"redis://:{CANARY}@host"),
        ("session", "store", f"{CANARY}://x"),
        ("provider", "issuer", f"https://u:{CANARY}@id.example.com"),
        ("routes", 0, "upstream", f"https://u:{CANARY}@id.example.com"),
        ("provider", CANARY),
    ]
    for change in changes:
        found = problems(change)
        assert found, change
        assert CANARY not in "\n".join(found)


@pytest.mark.row("K1")
def test_a_traceback_of_a_configuration_error_holds_no_secret(load: Load) -> None:
    """K1: pydantic would quote the input; the chain is cut and the input hidden."""
    import traceback

    with pytest.raises(ConfigError) as caught:
        load(("provider", "client_secret", [CANARY]))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
