"""Which settings are taken at a start alone: what SIGHUP compares to say that a restart is needed for what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from bff.base.secret import Secret
from bff.oauth.types import ClientIdentity
from bff.settings.model import Settings
from bff.settings.types import Section

_RELOADED: Final = frozenset(
    {"session.keys_file", "session.claims", "provider.acr_values", "provider.resources", "limits.max_body", "spa.upstream",
     "server.tls_cert_file", "server.tls_key_file"}
)  # fmt: skip
_UNUSED: Final = frozenset(
    {"spa.danger_plain_http_upstream", "server.danger_plain_http_origin", "forward_auth.pass_headers", "forward_auth.listen",
     "forward_auth.door", "forward_auth.tls_cert_file", "forward_auth.tls_key_file"}
)  # fmt: skip
"""Of these a running instance knows nothing: they are for checks and for ``bff front-proxy``."""
_IN_FILES: Final = frozenset({"provider.client_secret", "provider.client_secret_file", "provider.private_key_file"})


def fixed_settings(settings: Settings, identity: ClientIdentity) -> dict[str, bytes]:
    """A fingerprint of each setting that SIGHUP does not take, by its full key. ``identity`` has what the named files hold."""
    return {name: hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16] for name, text in _fixed(settings, identity)}


def _fixed(settings: Settings, identity: ClientIdentity) -> Iterator[tuple[str, str]]:
    for section, _ in settings:
        part = getattr(settings, section)
        for key, value in part if isinstance(part, Section) else ():
            name = f"{section}.{key}"
            if name not in _RELOADED | _UNUSED | _IN_FILES:
                yield name, _text(value)
    provider, server = settings.provider, settings.server
    # A file is named by its setting, and what it holds counts: a secret that was rotated there is not taken either.
    kept_in = "provider.client_secret_file" if provider.client_secret_file else "provider.client_secret"
    yield kept_in, _text(provider.client_secret)
    yield "provider.private_key_file", _text(identity.private_key_pem)
    yield "provider.resources", _text(provider.resources[:1])  # the first is ours; further ones are taken
    yield "server.tls_cert_file", _text(bool(server.tls_cert_file))  # another certificate is taken, TLS on or off is not


def _text(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else repr(value)
