"""What a front proxy must take from a request before an API sees it, and from an API's answer before a browser does.

The door decides by name and by the start of a name (bff.proxy.lines). A front proxy that only knows names gets those below; a request
with another member of a family is refused for it (``find_stubborn``), so that nothing passes because a list is finite (H1, H2, H4).
"""

from __future__ import annotations

from typing import Final

from bff.policy.facts import Facts
from bff.proxy.headers import NEVER_RETURN
from bff.proxy.lines import HOP_BY_HOP, NEVER_PASS, NEVER_PASS_PREFIXES, may_pass

# Set anew by every configuration, so never merely removed.
_REBUILT: Final = frozenset({b"host", b"content-length", b"cookie", b"authorization", b"x-request-id", b"expect"})

# Hop-by-hop fields that front proxies are known to pass on; the others are framing, which they write themselves.
_HOPS: Final = frozenset({b"http2-settings", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"trailer", b"trailers"})

_MEMBERS: Final = {
    "sec-": "fetch-site fetch-mode fetch-dest fetch-user fetch-storage-access purpose gpc ch-ua ch-ua-mobile ch-ua-platform ch-ua-arch "
    "ch-ua-model ch-ua-bitness ch-ua-full-version ch-ua-full-version-list ch-ua-platform-version ch-ua-wow64 ch-ua-form-factors "
    "ch-prefers-color-scheme ch-prefers-reduced-motion ch-prefers-reduced-transparency websocket-key websocket-version "
    "websocket-protocol websocket-extensions",
    "x-forwarded": "",
    "x-forwarded-": "for host proto port prefix server scheme ssl uri url method path by user email groups group preferred-username "
    "username name id role roles access-token id-token tls-client-cert tls-client-cert-info client-cert for-original context tenant",
    "x-original-": "url uri method host for forwarded-for proto",
    "x-auth-": "request-user request-email request-groups request-preferred-username request-access-token request-redirect user email "
    "token username name groups roles role id subject sub scope scopes",
    "x-user-": "id email name groups roles role",
    "x-remote-": "user groups email name",
    "x-authenticated": "",
    "x-authenticated-": "user userid groups email scope",
    "x-credential-": "identifier username",
    "x-ssl-": "client-cert client-verify client-s-dn client-dn",
    "ssl-": "client-cert client-verify client-s-dn",
    "x-client-cert-": "chain dn",
    "x-jwt": "",
    "x-jwt-": "payload assertion claims",
    "x-oidc-": "user access-token id-token",
    "oidc-": "claim-sub claim-email access-token id-token",
    "x-amzn-oidc-": "data identity accesstoken",
    "x-goog-authenticated-": "user-email user-id",
    "x-goog-iap-": "jwt-assertion",
    "x-ms-client-principal": "",
    "x-ms-client-principal-": "id name idp",
    "x-ms-token-": "aad-access-token aad-id-token",
    "x-pomerium-": "jwt-assertion claim-email",
    "x-vouch-": "user idp-claims-sub success",
    "x-authentik-": "username email groups name uid jwt",
    "cf-access-": "jwt-assertion authenticated-user-email",
    "tailscale-user-": "login name",
    "proxy-": "authorization connection",
    "access-control-request-": "method headers private-network",
    "x-envoy-": "external-address original-path decorator-operation internal",
    "bff-": "forward-auth route cache handoff",
}
_HARMLESS: Final = (b"sec-", b"access-control-request-")
"""Families that a browser itself adds to, and that no API takes for an identity: an unknown member of these is let pass."""

NAMES: Final = tuple(
    sorted(
        {name.decode() for name in (NEVER_PASS - HOP_BY_HOP - _REBUILT) | _HOPS}
        | {family + member for family, members in _MEMBERS.items() for member in (members.split() or [""])}
    )
)
"""Every request header that a front proxy which removes by name removes, lower-case; Cookie and Authorization are set anew besides."""

FAMILIES: Final = tuple(prefix.decode() for prefix in NEVER_PASS_PREFIXES)

_REMOVED: Final = frozenset(name.encode() for name in NAMES) | HOP_BY_HOP | _REBUILT

ANSWER_NAMES: Final = tuple(
    sorted(
        {name.decode() for name in NEVER_RETURN - HOP_BY_HOP - {b"content-length"}}
        | {"set-cookie", "www-authenticate"}
        | {f"access-control-{name}" for name in ("allow-origin", "allow-credentials", "allow-methods", "allow-headers", "max-age")}
        | {f"x-accel-{name}" for name in ("redirect", "expires", "limit-rate", "buffering", "charset")}
        | {"access-control-expose-headers", "bff-error", "bff-status", "bff-problem"}
    )
)
"""Headers of an API's answer that never reach a browser (RESP-2, RESP-4 to 6)."""


def find_stubborn(facts: Facts, csrf_header: str) -> str:
    """The name of a request header that no API may see and that a front proxy which removes by name would leave in place, or ""."""
    for name, _ in facts.headers:
        lower = name.lower()
        if lower in _REMOVED or lower.startswith(_HARMLESS) or lower.decode() == csrf_header:
            continue
        if not may_pass(lower):
            return name.decode()
    return ""
