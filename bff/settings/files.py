"""The files that settings name: there, readable, not empty, and what they claim to be (C3: never start weaker)."""

from __future__ import annotations

import os
import ssl
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

from bff.base.errors import ConfigError
from bff.base.secret import Secret
from bff.oauth.client_auth import load_private_key
from bff.oauth.types import ClientIdentity
from bff.session.sealing import KeyRing
from bff.settings.findings import Finding
from bff.settings.model import Settings
from bff.settings.sources import Place, read_bounded

_MAY_NOT = "correct the owner or mode of it or of a folder above, so that the user who runs bff may read it"


def check(settings: Settings) -> Iterator[Finding]:
    """Findings for every named file and folder."""
    yield from _check_key_ring(settings)
    yield from _check_private_key(settings)
    named: list[tuple[Place, str]] = [(("provider", "ca_file"), settings.provider.ca_file)]
    for index, route in enumerate(settings.routes):
        named.append((("routes", index, "ca_file"), route.ca_file))
        yield from _check_pair(("routes", index), ("client_cert_file", route.client_cert_file), ("client_key_file", route.client_key_file))
    for place, name in named:
        yield from _check_ca(place, name)
    provider, server = settings.provider, settings.server
    yield from _check_pair(("provider",), ("client_cert_file", provider.client_cert_file), ("client_key_file", provider.client_key_file))
    yield from _check_pair(("server",), ("tls_cert_file", server.tls_cert_file), ("tls_key_file", server.tls_key_file))
    yield from _check_directory(settings)


def _read(place: Place, name: str, fix: str) -> Iterator[Finding | str]:
    """The file's text, or the finding that says why there is none."""
    try:
        text = read_bounded(Path(name))
    except OSError as error:
        # The whole path: a relative one starts at the configuration's folder, which surprises in an environment variable.
        what = f"names {name}, a file that cannot be read ({error.strerror or type(error).__name__})"
        yield Finding(place, what, _MAY_NOT if isinstance(error, PermissionError) else fix)
        return
    except ValueError:
        yield Finding(place, "names a file that is not text below 1 MiB", fix)
        return
    if text.strip():
        yield text
    else:
        yield Finding(place, "names an empty file", fix)


def _check_key_ring(settings: Settings) -> Iterator[Finding]:
    place: Place = ("session", "keys_file")
    if not settings.session.keys_file:
        yield Finding(place, "is empty", "name a file and write it with: bff keys new")
        return
    for read in _read(place, settings.session.keys_file, "write one with: bff keys new"):
        if isinstance(read, Finding):
            yield read
            continue
        try:
            KeyRing.from_json(read)
        except ConfigError:
            yield Finding(
                place, "is not a key ring", "restore it from your secret store, or write a new one with: bff keys new (signs everybody out)"
            )


def _check_private_key(settings: Settings) -> Iterator[Finding]:
    place: Place = ("provider", "private_key_file")
    if not settings.provider.private_key_file:
        return
    for read in _read(place, settings.provider.private_key_file, "name a readable PEM file"):
        if isinstance(read, Finding):
            yield read
            continue
        provider = settings.provider
        identity = ClientIdentity(provider.client_id, provider.client_auth, private_key_pem=Secret(read), signing_alg=provider.signing_alg)
        try:
            load_private_key(identity)
        except ConfigError as error:
            what = error.problems[0].partition(": ")[2]
            yield Finding(place, f"cannot sign client assertions: {what}", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")


def _check_ca(place: Place, name: str) -> Iterator[Finding]:
    if not name:
        return
    for read in _read(place, name, "name a readable PEM file"):
        if isinstance(read, Finding):
            yield read
            continue
        try:
            ssl.create_default_context(cadata=read)
        except (ssl.SSLError, ValueError):
            yield Finding(place, "holds no usable certificate", "name a PEM file of CA certificates")


def _check_pair(place: Place, cert: tuple[str, str], key: tuple[str, str]) -> Iterator[Finding]:
    if not cert[1] or not key[1]:
        return
    unread = [
        read for at, name in (cert, key) for read in _read((*place, at), name, "name a readable PEM file") if isinstance(read, Finding)
    ]
    yield from unread
    if unread:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert[1], key[1], password=_no_password)
    except (ssl.SSLError, ValueError, OSError):
        yield Finding(
            (*place, cert[0]), f"and {key[0]} do not belong together, or are not unencrypted PEM", "name the chain and its own private key"
        )


def _no_password() -> str:
    """Asked for an encrypted key: answering makes OpenSSL fail instead of asking the terminal."""
    return ""


def _check_directory(settings: Settings) -> Iterator[Finding]:
    folder, place = settings.spa.directory, ("spa", "directory")
    if not folder:
        return
    try:
        is_folder, page = Path(folder).is_dir(), Path(folder) / "index.html"
        holds_page = page.is_file()
        if holds_page:
            page.open("rb").close()
    except OSError as error:
        yield Finding(place, f"names {folder}, which cannot be read ({error.strerror or type(error).__name__})", _MAY_NOT)
        return
    if not is_folder:
        yield Finding(place, f"names {folder}, which is no directory", "correct the path, or empty it if something else serves the app")
    elif not holds_page:
        yield Finding(place, f"names {folder}, which holds no index.html", "name the folder of the built app")


def find_warnings(settings: Settings) -> Iterator[Finding]:
    """Secret files that others on this machine can read (K9)."""
    provider, session, server = settings.provider, settings.session, settings.server
    named: dict[Place, str] = {
        ("session", "keys_file"): session.keys_file,
        ("provider", "client_secret_file"): provider.client_secret_file,
        ("provider", "private_key_file"): provider.private_key_file,
        ("server", "tls_key_file"): server.tls_key_file,
    }
    for place, name in named.items():
        if name and os.name == "posix" and _open_to_others(Path(name)):
            yield Finding(place, "can be read by every user of this machine", f"chmod 600 {name}")


def find_config_warnings(path: Path) -> Iterator[str]:
    """A line like those of ``bff.settings.find_warnings``: a secret in the configuration itself, which others here can read (K9)."""
    try:
        raw = tomllib.loads(read_bounded(path))
    except (OSError, ValueError):
        return
    provider = raw.get("provider")
    if isinstance(provider, dict) and provider.get("client_secret") and os.name == "posix" and _open_to_others(path):
        what = f"stands in {path}, which can be read by every user of this machine"
        yield f"provider.client_secret: {what}; fix: chmod 600 {path}, or put it into a client_secret_file of mode 0600"


def _open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
