"""A cookie jar as Chromium has it (RFC 6265bis), measured: name prefixes, Secure on loopback http, SameSite by initiator, ports ignored."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

MAX_PAIR_BYTES = 4096
MAX_PER_HOST = 169


@dataclass(frozen=True, slots=True)
class Cookie:
    name: str
    value: str
    host: str
    host_only: bool = True
    path: str = "/"
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    expires_at: float | None = None


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def site_of(url: str) -> str:
    """Scheme and registrable domain, the unit of SameSite. The last two labels do here; an address is a site of its own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if host.replace(".", "").isdigit() or ":" in host:
        return f"{scheme}://{host}"
    return f"{scheme}://{'.'.join(host.split('.')[-2:])}"


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}"


class Jar:
    """The cookies of one browser profile."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self.cookies: list[Cookie] = list(cookies)

    def copy(self) -> Jar:
        return Jar(self.cookies)

    def names(self) -> set[str]:
        return {cookie.name for cookie in self.cookies}

    def get(self, name: str) -> str | None:
        return next((cookie.value for cookie in self.cookies if cookie.name == name), None)

    def drop(self, name: str) -> None:
        self.cookies = [cookie for cookie in self.cookies if cookie.name != name]

    def visible_to_scripts(self, url: str) -> dict[str, str]:
        """What document.cookie shows."""
        host = urlsplit(url).hostname or ""
        return {c.name: c.value for c in self.cookies if not c.http_only and _host_matches(c, host)}

    def store(self, url: str, set_cookie: str) -> bool:
        """Take one Set-Cookie of a response from ``url``; False when a browser would drop it."""
        parts = urlsplit(url)
        cookie = _read_cookie(parts, set_cookie)
        if cookie is None or not _acceptable(parts, cookie):
            return False
        kept = [c for c in self.cookies if (c.name, c.host, c.path) != (cookie.name, cookie.host, cookie.path)]
        gone = cookie.expires_at is not None and cookie.expires_at <= time.time()
        self.cookies = kept if gone else [*kept, cookie]
        mine = [c for c in self.cookies if c.host == cookie.host]
        if len(mine) > MAX_PER_HOST:
            self.cookies.remove(mine[0])
        return True

    def header(self, url: str, *, initiator: str | None = None, navigation: bool = True, method: str = "GET") -> str:
        """The Cookie header of a request, "" for none. ``initiator`` is the URL of the page that caused it, None for the address bar.

        Only the initiator counts, not the redirects on the way: so Chromium does.
        """
        parts = urlsplit(url)
        same_site = initiator is None or site_of(initiator) == site_of(url)
        lax = navigation and method in ("GET", "HEAD")
        kinds = {"none", "", "lax", "strict"} if same_site else {"none", "", "lax"} if lax else {"none"}
        sent = [c for c in self.cookies if _goes_to(c, parts) and c.same_site in kinds]
        sent.sort(key=lambda c: -len(c.path))
        return "; ".join(f"{c.name}={c.value}" for c in sent)


def _read_cookie(parts: SplitResult, text: str) -> Cookie | None:
    pair, *attributes = text.split(";")
    name, equals, value = pair.partition("=")
    if not equals or any(ord(character) < 32 for character in text):
        return None
    found = {key.strip().lower(): rest.strip() for key, _, rest in (a.partition("=") for a in attributes)}
    host = parts.hostname or ""
    domain = found.get("domain", "").lstrip(".").lower()
    path = found.get("path", "")
    return Cookie(
        name=name.strip(),
        value=value.strip(),
        host=domain or host,
        host_only=not domain,
        path=path if path.startswith("/") else (parts.path.rpartition("/")[0] or "/"),
        secure="secure" in found,
        http_only="httponly" in found,
        same_site=found.get("samesite", "").lower() if found.get("samesite", "").lower() in ("strict", "lax", "none") else "",
        expires_at=_expiry(found),
    )


def _expiry(found: dict[str, str]) -> float | None:
    if "max-age" in found and found["max-age"].lstrip("-").isdigit():
        return time.time() + int(found["max-age"])
    if "expires" in found:
        try:
            return parsedate_to_datetime(found["expires"]).timestamp()
        except (TypeError, ValueError):
            return None
    return None


def _acceptable(parts: SplitResult, cookie: Cookie) -> bool:
    host = parts.hostname or ""
    trustworthy = parts.scheme == "https" or is_loopback(host)
    if len(cookie.name) + len(cookie.value) > MAX_PAIR_BYTES:
        return False
    if not cookie.host_only and not (host == cookie.host or host.endswith(f".{cookie.host}")):
        return False
    if (cookie.secure and not trustworthy) or (cookie.same_site == "none" and not cookie.secure):
        return False
    return _prefix_kept(cookie)


def _prefix_kept(cookie: Cookie) -> bool:
    """The promises that a name makes (RFC 6265bis §4.1.3 and the Http prefixes)."""
    name = cookie.name.lower()
    host_bound = cookie.secure and cookie.host_only and cookie.path == "/"
    if name.startswith("__host-http-"):
        return host_bound and cookie.http_only
    if name.startswith("__http-"):
        return cookie.secure and cookie.http_only
    if name.startswith("__host-"):
        return host_bound
    return cookie.secure if name.startswith("__secure-") else True


def _host_matches(cookie: Cookie, host: str) -> bool:
    return host == cookie.host or (not cookie.host_only and host.endswith(f".{cookie.host}"))


def _goes_to(cookie: Cookie, parts: SplitResult) -> bool:
    host = parts.hostname or ""
    path = parts.path or "/"
    if cookie.secure and not (parts.scheme in ("https", "wss") or is_loopback(host)):
        return False
    if cookie.expires_at is not None and cookie.expires_at <= time.time():
        return False
    under = path == cookie.path or path.startswith(cookie.path if cookie.path.endswith("/") else f"{cookie.path}/")
    return _host_matches(cookie, host) and under
