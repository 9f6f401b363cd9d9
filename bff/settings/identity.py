"""The client identity that the provider section describes, its key file read."""

from __future__ import annotations

from pathlib import Path

from bff.base.secret import Secret
from bff.oauth.types import ClientIdentity
from bff.settings.model import Settings


def build_identity(settings: Settings) -> ClientIdentity:
    """Who we are to the provider. OSError if the key file is gone since the settings were checked."""
    provider = settings.provider
    pem = Path(provider.private_key_file).read_text(encoding="utf-8") if provider.private_key_file else ""
    return ClientIdentity(
        client_id=provider.client_id,
        client_auth=provider.client_auth,
        client_secret=provider.client_secret,
        private_key_pem=Secret(pem),
        signing_alg=provider.signing_alg,
        key_id=provider.key_id,
    )
