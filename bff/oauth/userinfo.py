"""UserInfo (CORE §5.3): more claims about the person of the ID token, and never about another. Pure."""

from __future__ import annotations

from dataclasses import replace

from bff.base.errors import TokenInvalid
from bff.oauth.id_token import PROTOCOL_CLAIMS
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import Identity


def add_user_claims(identity: Identity, document: JsonObject) -> Identity:
    """``identity`` with the claims of ``document`` added. TokenInvalid ``userinfo_sub``: then none of it is used (UINFO-1).

    The claims that steer the protocol stay those of the signed ID token.
    """
    if document.get("sub") != identity.subject:
        raise TokenInvalid("userinfo_sub", "user info about another subject")
    added = {name: value for name, value in document.items() if name not in PROTOCOL_CLAIMS}
    return replace(identity, claims={**identity.claims, **added})
