"""Every file that a setting names: missing, empty, unreadable, or not what it should be."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from bff.base.errors import ConfigError
from bff.settings import Settings, find_warnings, load_settings
from bff.settings.files import find_config_warnings

Load = Callable[..., Settings]
Problems = Callable[..., list[str]]


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a server certificate, its key, and keys of other kinds."""
    folder = tmp_path_factory.mktemp("pems")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    cert, other = ca.issue_cert("app.example.com"), ca.issue_cert("other.example.com")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    cert.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other-key.pem")
    signing = ec.generate_private_key(ec.SECP256R1())
    for name, how in (("sign.pem", NoEncryption()), ("locked.pem", BestAvailableEncryption(b"x"))):
        (folder / name).write_bytes(signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    weak = rsa.generate_private_key(65537, 1024)
    (folder / "weak.pem").write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder


JWT = ("provider", "client_auth", "private_key_jwt")
NO_SECRET = ("provider", "client_secret", ...)

OPTIONS: list[tuple[str, Callable[[str, Path], list[tuple[Any, ...]]]]] = [
    ("session.keys_file", lambda name, pems: [("session", "keys_file", name)]),
    ("provider.private_key_file", lambda name, pems: [JWT, NO_SECRET, ("provider", "private_key_file", name)]),
    ("provider.client_secret_file", lambda name, pems: [NO_SECRET, ("provider", "client_secret_file", name)]),
    ("provider.ca_file", lambda name, pems: [("provider", "ca_file", name)]),
    ("routes[0].ca_file", lambda name, pems: [("routes", 0, "ca_file", name)]),
    (
        "routes[0].client_cert_file",
        lambda name, pems: [("routes", 0, "client_cert_file", name), ("routes", 0, "client_key_file", str(pems / "key.pem"))],
    ),
    (
        "routes[0].client_key_file",
        lambda name, pems: [("routes", 0, "client_key_file", name), ("routes", 0, "client_cert_file", str(pems / "cert.pem"))],
    ),
    ("server.tls_cert_file", lambda name, pems: [("server", "tls_cert_file", name), ("server", "tls_key_file", str(pems / "key.pem"))]),
    ("server.tls_key_file", lambda name, pems: [("server", "tls_key_file", name), ("server", "tls_cert_file", str(pems / "cert.pem"))]),
    ("spa.directory", lambda name, pems: [("spa", "directory", name)]),
]


@pytest.mark.row("C3", "OPS-1")
@pytest.mark.parametrize(("key", "changes"), OPTIONS, ids=[key for key, _ in OPTIONS])
@pytest.mark.parametrize("fault", ["missing", "empty", "folder", "binary", "rubbish"])
def test_a_file_that_cannot_serve_stops_the_start_and_names_its_key(
    problems: Problems, tmp_path: Path, pems: Path, key: str, changes: Any, fault: str
) -> None:
    """C3: a security setting whose file is missing must never be as if it were off."""
    path = tmp_path / "file"
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes({"empty": b"", "binary": b"\xff\xfe\x00", "rubbish": b"rub\nbish"}[fault])
    found = problems(*changes(str(path), pems))
    assert found
    section = key.rpartition(".")[0]
    assert all(f": {section}." in line and "; fix: " in line for line in found)
    assert any(f": {key}: " in line or f"and {key.rpartition('.')[2]}" in line for line in found)


@pytest.mark.row("C3")
@pytest.mark.parametrize(("key", "changes"), OPTIONS, ids=[key for key, _ in OPTIONS])
def test_a_file_setting_of_the_wrong_type_is_refused(problems: Problems, pems: Path, key: str, changes: Any) -> None:
    """C3: a number or a list is no file name."""
    for wrong in (1, True, ["a"], {"a": "b"}):
        assert [line for line in problems(*changes(wrong, pems)) if key in line]


@pytest.mark.row("C3")
def test_good_files_are_accepted(problems: Problems, pems: Path, tmp_path: Path) -> None:
    """C3: the positive twin, all at once."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<!doctype html>")
    changes = [
        JWT,
        NO_SECRET,
        ("provider", "private_key_file", str(pems / "sign.pem")),
        ("provider", "ca_file", str(pems / "ca.pem")),
        ("routes", 0, "ca_file", str(pems / "ca.pem")),
        ("routes", 0, "client_cert_file", str(pems / "cert.pem")),
        ("routes", 0, "client_key_file", str(pems / "key.pem")),
        ("server", "tls_cert_file", str(pems / "cert.pem")),
        ("server", "tls_key_file", str(pems / "key.pem")),
        ("spa", "directory", "web"),
    ]
    assert problems(*changes) == []


@pytest.mark.row("C3")
@pytest.mark.parametrize("name", ["locked.pem", "weak.pem", "cert.pem"])
def test_a_signing_key_that_cannot_sign_is_refused(problems: Problems, pems: Path, name: str) -> None:
    """C3: encrypted, too weak, or no key at all."""
    assert "provider.private_key_file" in problems(JWT, NO_SECRET, ("provider", "private_key_file", str(pems / name)))[0]


@pytest.mark.row("C3")
def test_a_certificate_with_another_key_is_refused(problems: Problems, pems: Path) -> None:
    """C3: they must belong together."""
    found = problems(("server", "tls_cert_file", str(pems / "cert.pem")), ("server", "tls_key_file", str(pems / "other-key.pem")))
    assert "belong together" in found[0]
    plain = ("server", "public_origin", "http://localhost:8080")
    found = problems(plain, ("server", "tls_cert_file", str(pems / "cert.pem")), ("server", "tls_key_file", str(pems / "key.pem")))
    assert "server.tls_cert_file" in found[0]


@pytest.mark.row("C3")
def test_a_key_ring_with_a_weak_key_is_refused(problems: Problems, tmp_path: Path) -> None:
    """C3: a passphrase is no key."""
    path = tmp_path / "weak.json"
    path.write_text('{"keys": [{"kid": "00000000", "secret": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "created_at": 1}]}')
    assert "is not a key ring" in problems(("session", "keys_file", str(path)))[0]


@pytest.mark.row("K9")
def test_a_secret_file_that_everybody_can_read_is_warned_of(load: Load, tmp_path: Path) -> None:
    """K9: told, not refused: orchestrators mount secrets that way."""
    assert not [line for line in find_warnings(load()) if "keys_file" in line]
    settings = load()
    (tmp_path / "keys.json").chmod(0o644)
    assert [line for line in find_warnings(settings) if line.startswith("session.keys_file: ") and "chmod 600" in line]


@pytest.mark.row("K9")
def test_a_secret_in_a_configuration_that_everybody_can_read_is_warned_of(load: Load, tmp_path: Path) -> None:
    """K9: as for a file that holds nothing else; one that only the environment brings stands in no file."""
    path = tmp_path / "bff.toml"
    load()
    path.chmod(0o600)
    assert list(find_config_warnings(path)) == []
    path.chmod(0o644)
    told = list(find_config_warnings(path))
    assert len(told) == 1 and told[0].startswith("provider.client_secret: ") and f"; fix: chmod 600 {path}" in told[0]
    load(("provider", "client_secret", ...), env={"BFF_PROVIDER__CLIENT_SECRET": "x"})
    assert list(find_config_warnings(path)) == list(find_config_warnings(tmp_path / "none.toml")) == []


@pytest.mark.row("OPS-1")
def test_a_key_ring_that_may_not_be_read_is_no_reason_to_write_a_new_one(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new ring signs everybody out."""

    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    missing = problems(("session", "keys_file", "none.json"))
    assert f"names {tmp_path / 'none.json'}, " in missing[0] and "bff keys new" in missing[0]
    monkeypatch.setattr("bff.settings.files.read_bounded", refuse)
    found = problems()
    assert f"names {tmp_path / 'keys.json'}, a file that cannot be read (Permission denied)" in found[0]
    assert "fix: correct the owner or mode" in found[0] and "keys new" not in found[0]


@pytest.mark.row("OPS-1")
def test_an_app_folder_that_may_not_be_read_is_told_apart_from_one_that_is_not_there(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = tmp_path / "web"
    web.mkdir()
    assert f"names {web}, which holds no index.html" in problems(("spa", "directory", "web"))[0]
    assert f"names {tmp_path / 'wbe'}, which is no directory" in problems(("spa", "directory", "wbe"))[0]
    (web / "index.html").write_text("<!doctype html>")
    opened = Path.open

    def refuse(path: Path, *rest: Any, **more: Any) -> Any:
        if path == web / "index.html":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)
    found = problems(("spa", "directory", "web"))
    assert f"names {web}, which cannot be read (Permission denied)" in found[0] and "fix: correct the owner or mode" in found[0]


@pytest.mark.row("OPS-1")
def test_an_empty_configuration_is_told_each_setting_that_it_lacks_and_no_variable_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "bff.toml"
    path.write_text("")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {"BFF_SECRETS_DIR": str(tmp_path)})
    keys = [line.split(": ")[1] for line in caught.value.problems]
    assert keys[:3] == ["server.public_origin", "provider.issuer", "provider.client_id"]
    assert "provider.client_secret" in keys and "session.keys_file" in keys
    for line, name in zip(caught.value.problems, ("SERVER__PUBLIC_ORIGIN", "PROVIDER__ISSUER", "PROVIDER__CLIENT_ID"), strict=False):
        assert line.endswith(f"fix: set it, or BFF_{name}")
