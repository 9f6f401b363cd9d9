"""The provider as its published documents show it: discovery, issuer, clock, keys, algorithms, PKCE, refresh, logout."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from bff.base.errors import ProviderMisbehaved
from bff.cli.doctor.lines import Lines, fail, ok, warn
from bff.cli.raw import Reply, Unreachable
from bff.oauth.keys import read_published_keys
from bff.oauth.metadata import read_provider, well_known_urls
from bff.oauth.types import Provider
from bff.settings import Settings

CLOCK_WARN_S = 10.0


class Asker(Protocol):
    """What the checks need of bff.cli.raw.Http."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Reply: ...
    def post(self, url: str, form: list[tuple[str, str]], headers: Mapping[str, str] | None = None) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Discovered:
    """The metadata as published and as believed, and the answer it came in."""

    document: Mapping[str, Any]
    provider: Provider | None
    reply: Reply


def discover(settings: Settings, http: Asker) -> tuple[Discovered | None, Lines]:
    """Fetch the metadata; None if there is none, and the lines about it."""
    issuer = settings.provider.issuer
    reply: Reply | None = None
    for url in well_known_urls(issuer):
        try:
            reply = http.get(url)
        except Unreachable as error:
            fix = f"provider.issuer: {error.fix}" if error.fix else "check provider.issuer, DNS, firewall and provider.ca_file"
            return None, iter([fail("discovery", f"{issuer} cannot be reached: {error}", fix)])
        if reply.status == 200:
            break
    document = read_object(reply)
    if reply is None or document is None:
        status = reply.status if reply else 0
        fix = "provider.issuer is the URL before /.well-known/openid-configuration; try it in a browser"
        return None, iter([fail("discovery", f"no metadata document there (status {status})", fix)])
    return _believe(settings, document, reply)


def _believe(settings: Settings, document: Mapping[str, Any], reply: Reply) -> tuple[Discovered, Lines]:
    issuer, published = settings.provider.issuer, document.get("issuer")
    if published is None:
        fix = "correct provider.issuer: it is the URL before /.well-known/openid-configuration, as the provider's documentation gives it"
        return Discovered(document, None, reply), iter(
            [fail("issuer", "the document there names none, so this is no provider's address", fix)]
        )
    if published != issuer:
        shown = ascii(published)[:120]
        fix = "set provider.issuer to exactly that, if that is your provider; a slash at the end counts"
        return Discovered(document, None, reply), iter([fail("issuer", f"the metadata names {shown}, we expect {issuer!r}", fix)])
    try:
        provider = read_provider(dict(document), issuer=issuer, plain_http=settings.provider.danger_plain_http_provider)
    except ProviderMisbehaved as error:
        return Discovered(document, None, reply), iter(
            [fail("discovery", f"the metadata cannot be used: {error.detail}", "correct it at the provider")]
        )
    return Discovered(document, provider, reply), iter(
        [ok("discovery", f"metadata of {issuer}"), ok("issuer", "is what we expect, byte for byte")]
    )


def read_object(reply: Reply | None) -> Mapping[str, Any] | None:
    """The JSON object of a 200 answer."""
    if reply is None or reply.status != 200:
        return None
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def check_clock(reply: Reply, leeway_s: float, now: float | None = None) -> Lines:
    """Our clock against the Date header, which has whole seconds."""
    try:
        theirs = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        yield warn("clock", "the provider sends no Date, so it cannot be compared", "make sure that this machine's clock is synchronised")
        return
    apart = abs((time.time() if now is None else now) - theirs)
    if apart > leeway_s:
        yield fail(
            "clock",
            f"{apart:.0f} s apart from the provider's, more than provider.leeway",
            "synchronise this machine's clock (chrony, timesyncd)",
        )
    elif apart > CLOCK_WARN_S:
        yield warn("clock", f"{apart:.0f} s apart from the provider's", "synchronise this machine's clock (chrony, timesyncd)")
    else:
        yield ok("clock", "agrees with the provider's within seconds")


def check_keys(provider: Provider, http: Asker, algorithms: tuple[str, ...]) -> Lines:
    """The key set, and whether what it verifies is what we accept."""
    try:
        keys = read_published_keys(dict(read_object(http.get(provider.jwks_uri)) or {}))
    except Unreachable as error:
        yield fail("keys", f"the key set cannot be fetched: {error}", "check that this machine reaches the provider's jwks_uri")
        return
    if keys is None:
        yield fail("keys", "the key set holds no key that we can use", "publish RSA (2048 bits or more), EC or Ed25519 keys there")
        return
    yield ok("keys", f"{len(keys.keys)} usable signing keys")
    announced = set(provider.id_token_signing_alg_values_supported) or {"RS256"}
    common = sorted(announced & set(algorithms) & {alg for key in keys.keys for alg in key.algorithms})
    if common:
        yield ok("algorithms", f"ID tokens can be signed with {', '.join(common)}")
    else:
        offered = ", ".join(sorted(announced))[:100]
        yield fail(
            "algorithms",
            f"nothing in common: the provider announces {offered}",
            "extend provider.id_token_algs, or the client's settings at the provider",
        )


def check_features(settings: Settings, found: Discovered, provider: Provider) -> Lines:
    """What the metadata promises and we rely on."""
    if "S256" in provider.code_challenge_methods_supported:
        yield ok("PKCE", "S256 is announced")
    else:
        yield warn("PKCE", "S256 is not announced; we send it anyway", "switch it on for this client, if the provider can")
    if provider.authorization_response_iss_parameter_supported:
        yield ok("iss parameter", "is announced, and will be demanded (RFC 9207)")
    else:
        yield warn(
            "iss parameter",
            "is not announced: less protection against mix-up of providers",
            "nothing to do with one provider; a newer provider version may have it",
        )
    yield from _check_refresh(settings, found, provider)
    yield from _check_logout(settings, found, provider)
    if provider.require_pushed_authorization_requests and settings.provider.par == "never":
        yield fail("PAR", "the provider demands pushed requests, provider.par says never", 'set provider.par = "auto"')
    if settings.provider.par == "always" and not provider.pushed_authorization_request_endpoint:
        yield fail("PAR", "provider.par says always, the provider has no endpoint for it", 'set provider.par = "auto"')


def _check_refresh(settings: Settings, found: Discovered, provider: Provider) -> Lines:
    grants = found.document.get("grant_types_supported")
    wanted = "offline_access" in settings.provider.scopes
    if isinstance(grants, list) and "refresh_token" not in grants:
        yield warn(
            "refresh",
            "the provider does not announce refresh tokens",
            "allow the refresh_token grant for this client, or expect sign-ins whenever a token ends",
        )
    elif wanted and provider.scopes_supported and "offline_access" not in provider.scopes_supported:
        yield warn(
            "refresh",
            "offline_access is not among the scopes announced",
            "look up how this provider gives refresh tokens, or drop the scope",
        )
    elif not wanted:
        yield warn(
            "refresh", "offline_access is not asked for", "add it to provider.scopes, unless this provider gives refresh tokens without"
        )
    else:
        yield ok("refresh", "offline_access is asked for")
    unknown = (
        sorted(set(settings.provider.scopes) - set(provider.scopes_supported) - {"offline_access"}) if provider.scopes_supported else []
    )
    if unknown:
        yield warn(
            "scopes", f"{' '.join(unknown)[:100]} not among those announced", "check the spelling; some providers announce only a part"
        )


def _check_logout(settings: Settings, found: Discovered, provider: Provider) -> Lines:
    if provider.end_session_endpoint:
        yield ok("logout", f"RP-initiated; register {settings.post_logout_redirect_uri} as post-logout redirect URI")
    else:
        yield warn(
            "logout",
            "the provider has no end-session endpoint: signing out here leaves its session",
            "nothing to do here; users may sign out at the provider",
        )
    if not provider.revocation_endpoint:
        yield warn(
            "revocation", "the provider has no revocation endpoint: tokens live on until they expire", "keep access tokens short-lived"
        )
    if found.document.get("backchannel_logout_supported") is True:
        yield ok("back-channel logout", f"is offered; register {settings.backchannel_logout_uri}")
    else:
        yield warn(
            "back-channel logout",
            "is not announced: signing out elsewhere does not end our session",
            "keep session.idle and session.max short",
        )
