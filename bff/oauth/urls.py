"""Which URLs of a provider we are willing to call or to send a browser to (META-3, J8, AUTHZ-10)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from bff.base.errors import ProviderMisbehaved

MAX_URL_CHARS = 2048

_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")


def split_url(url: str) -> SplitResult | None:
    """The parts of an absolute http(s) URL without userinfo and fragment; None for anything else, however it is odd."""
    if len(url) > MAX_URL_CHARS or _URL_CHARACTERS.fullmatch(url) is None:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or port == 0:
        return None
    return parts if parts.hostname and _HOST.fullmatch(parts.hostname) else None


def is_loopback(host: str) -> bool:
    """``localhost``, its subdomains, 127.0.0.0/8 and ::1: by name or literal, never by asking the resolver."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _find_address(host)
    return address is not None and address.is_loopback


def is_fit_for_tokens(parts: SplitResult, *, plain_http: bool) -> bool:
    """https anywhere; plain http on loopback, or everywhere with the operator's ``danger_plain_http``."""
    return parts.scheme == "https" or plain_http or is_loopback(parts.hostname or "")


def check_endpoint(name: str, url: object, *, issuer: str, plain_http: bool) -> str:
    """``url`` from a metadata document, if a provider called ``issuer`` may have such an endpoint (ProviderMisbehaved).

    Another host is allowed (large providers use several). A step down is not: from https to plain http, or from a
    provider on the network to this machine or its link-local neighbours, where cloud metadata services answer (J8).
    """
    parts = split_url(url) if isinstance(url, str) else None
    home = urlsplit(issuer)
    if parts is None or not is_fit_for_tokens(parts, plain_http=plain_http):
        raise ProviderMisbehaved(f"metadata: {name} is not a usable https URL")
    if not plain_http and home.scheme == "https" and parts.scheme != "https":
        raise ProviderMisbehaved(f"metadata: {name} leaves https")
    if not is_loopback(home.hostname or "") and _is_inside_only(parts.hostname or ""):
        raise ProviderMisbehaved(f"metadata: {name} points at this machine")
    return str(url)


def add_query(url: str, parameters: Sequence[tuple[str, str]]) -> str:
    """``url`` with ``parameters`` appended to the query it already has (RFC 6749 §3.1).

    Raises ProviderMisbehaved when that query already holds one of our names: sent twice, nobody knows which one counts.
    """
    query = urlsplit(url).query
    theirs = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    clash = theirs.intersection(name for name, _ in parameters)
    if clash:
        raise ProviderMisbehaved(f"endpoint URL already holds {sorted(clash)[0]}")
    joint = "&" if query else ("" if url.endswith("?") else "?")
    return url + joint + urlencode(parameters)


def _find_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_inside_only(host: str) -> bool:
    address = _find_address(host)
    return is_loopback(host) or (address is not None and (address.is_link_local or address.is_unspecified))
