"""Cookie names and Set-Cookie lines. The only place that spells cookie attributes (RFC 6265bis §5.6, §4.1.3)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bff.base.errors import ConfigError

SameSite = Literal["strict", "lax", "none"]
Cookies = Sequence[tuple[str, str]]

HOST_PREFIXES = ("__Host-Http-", "__Host-")
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """How our cookies are named and attributed. Every one is Secure, HttpOnly, Path=/ and without Domain (COOKIE-1, 2).

    ``prefix`` is a host prefix, spelled exactly (attack S14); ``instance`` tells two deployments that share keys
    apart: what one sealed, the other refuses (COOKIE-19). ``login_same_site`` must be "none" for a form_post callback.
    """

    name: str = "bff"
    same_site: SameSite = "strict"
    prefix: str = "__Host-Http-"
    instance: str = ""
    login_same_site: SameSite = "lax"
    partitioned: bool = False

    def __post_init__(self) -> None:
        problems = _cookie_problems(self)
        if problems:
            raise ConfigError(*problems)

    @property
    def session_name(self) -> str:
        return self.prefix + self.name

    @property
    def login_prefix(self) -> str:
        return f"{self.prefix}{self.name}-login-"

    def set_session(self, value: str) -> str:
        """A Set-Cookie value without Max-Age: the browser forgets it with its own session, the server much earlier."""
        return self._line(self.session_name, value, self.same_site)

    def clear_session(self) -> str:
        return self._line(self.session_name, "", self.same_site, max_age_s=0)

    def set_login(self, name: str, value: str, *, max_age_s: int) -> str:
        return self._line(name, value, self.login_same_site, max_age_s=max_age_s)

    def clear_login(self, name: str) -> str:
        return self._line(name, "", self.login_same_site, max_age_s=0)

    def _line(self, name: str, value: str, same_site: SameSite, *, max_age_s: int | None = None) -> str:
        # S4: browsers ignore a change to a prefixed cookie, also its deletion, unless every attribute is there again.
        age = "" if max_age_s is None else f"; Max-Age={max_age_s}"
        partitioned = "; Partitioned" if self.partitioned else ""
        return f"{name}={value}; Path=/{age}; Secure; HttpOnly; SameSite={same_site.capitalize()}{partitioned}"


def find_cookie(cookies: Cookies, name: str) -> str | None:
    """The value of the one cookie with exactly this name, else None: two of a name are nobody's (COOKIE-4, COOKIE-21)."""
    values = [value for given, value in cookies if given == name]
    return values[0] if len(values) == 1 else None


def _cookie_problems(policy: CookiePolicy) -> list[str]:
    problems = []
    if not policy.name or len(policy.name) > 64 or not _TOKEN.issuperset(policy.name):
        problems.append("cookie.name must be 1 to 64 letters, digits or -._ characters.")
    if policy.prefix not in HOST_PREFIXES:
        problems.append(f"cookie.prefix must be one of {', '.join(HOST_PREFIXES)} (exact spelling).")
    for setting in (policy.same_site, policy.login_same_site):
        if setting not in ("strict", "lax", "none"):
            problems.append("cookie.same_site must be strict, lax or none.")
    if policy.login_same_site == "strict":
        problems.append("The login cookie cannot be SameSite=Strict: the callback comes from another site.")
    if policy.partitioned and policy.same_site != "none":
        problems.append("A partitioned cookie needs same_site = none.")
    return problems
