"""Pending logins, each in a cookie of its own: any number of tabs may sign in at once (F15), and the callback is bound
to the browser that started (RFC 9700 §4.7). Bounded in number, bytes and time (F16, S13).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from bff.base.clock import Clock
from bff.base.errors import LoginFailed, LoginReason, SealBroken
from bff.oauth.types import PendingLogin
from bff.session.cookies import CookiePolicy, Cookies, find_cookie
from bff.session.sealing import KeyRing, decode_text, encode_text, join_prefixed

PURPOSE = "pending login"
KEPT = 7
BUDGET_BYTES = 4000
MAX_RETURN_TO = 1024
MAX_CLEARED = 50
MAX_VALUE = 3800
SUFFIX_LENGTH = 12
CLOCK_SLACK_S = 60.0

Packed = str | bytes
"""Text; or bytes where the text is their base64url (state, nonce, verifier) or hex (previous): a quarter to half smaller."""


class _PackedPending(msgspec.Struct, array_like=True):
    issuer: str
    redirect_uri: str
    state: Any
    nonce: Any
    code_verifier: Any
    scopes: str
    return_to: str
    created_at: float
    previous: Any = ""
    subject: str = ""
    acr_values: list[str] = []
    max_age: int | None = None
    prompt: str = ""


_decoder = msgspec.msgpack.Decoder(_PackedPending)
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A pending login found among the request's cookies. ``size`` is what it takes of the Cookie header."""

    name: str
    created_at: float
    size: int


class PendingCookies:
    """Keeps pending logins in the browser, sealed and bound to cookie name and instance. No state on the server."""

    def __init__(self, *, ring: KeyRing, cookie: CookiePolicy, clock: Clock, ttl_s: float = 600) -> None:
        self._ring = ring
        self._cookie = cookie
        self._clock = clock
        self._ttl_s = ttl_s

    def keep(self, pending: PendingLogin, cookies: Cookies) -> list[str]:
        """Set-Cookie values: the new one, then the ends of those that must make room: unreadable, expired, oldest.

        A ``return_to`` beyond 1024 characters is not worth a cookie: that login ends at "/".
        """
        if len(pending.return_to) > MAX_RETURN_TO:
            pending = replace(pending, return_to="/")
        name = self._name(pending.state)
        value = self._ring.seal(PURPOSE, _encoder.encode(_pack(pending)), self._context(name))
        if len(value) > MAX_VALUE:
            raise LoginFailed(LoginReason.INCOMPLETE, "pending login too large for a cookie")
        evicted = self._evicted(cookies, name, budget=BUDGET_BYTES - _size(name, value))
        return [self._cookie.set_login(name, value, max_age_s=int(self._ttl_s)), *(self._cookie.clear_login(old) for old in evicted)]

    def take(self, state: str, cookies: Cookies) -> PendingLogin:
        """The pending login that ``state`` names, if this browser holds it. LoginFailed: EXPIRED or UNKNOWN.

        Taking does not spend it: the caller clears the cookie and the provider's code works once.
        """
        name = self._name(state)
        value = find_cookie(cookies, name)
        pending = None if value is None else self._read(name, value)
        if pending is None or not hmac.compare_digest(pending.state.encode(), state.encode()):
            raise LoginFailed(LoginReason.UNKNOWN, "no pending login for this state")
        if not self._alive(pending):
            raise LoginFailed(LoginReason.EXPIRED, "pending login too old")
        return pending

    def clear(self, state: str) -> str:
        return self._cookie.clear_login(self._name(state))

    def clear_all(self, cookies: Cookies) -> list[str]:
        """Ends for every login cookie of ours that came with the request, each name once (COOKIE-16), at most 50."""
        return [self._cookie.clear_login(name) for name in self._names(cookies)[:MAX_CLEARED]]

    def _name(self, state: str) -> str:
        digest = hashlib.sha256(b"bff pending login\0" + state.encode("utf-8", "surrogatepass")).digest()
        return self._cookie.login_prefix + encode_text(digest)[:SUFFIX_LENGTH]

    def _names(self, cookies: Cookies) -> list[str]:
        prefix = self._cookie.login_prefix
        ours = (name for name, _ in cookies if name.startswith(prefix) and len(name) == len(prefix) + SUFFIX_LENGTH)
        return list(dict.fromkeys(ours))

    def _evicted(self, cookies: Cookies, new_name: str, *, budget: int) -> list[str]:
        names = [name for name in self._names(cookies) if name != new_name]
        kept = {entry.name for entry in _newest(self._readable(names, cookies), budget)}
        return [name for name in names if name not in kept][:MAX_CLEARED]

    def _readable(self, names: Iterable[str], cookies: Cookies) -> list[_Kept]:
        found = []
        for name in names:
            value = find_cookie(cookies, name)
            pending = None if value is None else self._read(name, value)
            if value is not None and pending is not None and self._alive(pending):
                found.append(_Kept(name, pending.created_at, _size(name, value)))
        return found

    def _read(self, name: str, value: str) -> PendingLogin | None:
        """None where it does not open: a key that was retired in between means starting again (F18)."""
        try:
            plain, _ = self._ring.open(PURPOSE, value, self._context(name))
            return _unpack(_decoder.decode(plain))
        except (SealBroken, msgspec.MsgspecError):
            return None

    def _alive(self, pending: PendingLogin) -> bool:
        # S13: by the server's clock; a cookie's Max-Age is only a request to the browser.
        return -CLOCK_SLACK_S <= self._clock.now() - pending.created_at <= self._ttl_s

    def _context(self, name: str) -> bytes:
        return join_prefixed(name.encode(), self._cookie.instance.encode())


def _newest(entries: list[_Kept], budget: int) -> list[_Kept]:
    """The newest entries that fit beside the new one: at most six, at most ``budget`` bytes."""
    chosen: list[_Kept] = []
    for entry in sorted(entries, key=lambda kept: kept.created_at, reverse=True)[: KEPT - 1]:
        budget -= entry.size
        if budget < 0:
            break
        chosen.append(entry)
    return chosen


def _size(name: str, value: str) -> int:
    return len(name) + len(value) + len("=; ")


def _pack(pending: PendingLogin) -> _PackedPending:
    return _PackedPending(
        issuer=pending.issuer,
        redirect_uri=pending.redirect_uri,
        state=_shrink(pending.state),
        nonce=_shrink(pending.nonce),
        code_verifier=_shrink(pending.code_verifier),
        scopes=" ".join(pending.scopes),
        return_to=pending.return_to,
        created_at=pending.created_at,
        previous=_shrink_hex(pending.previous),
        subject=pending.subject,
        acr_values=list(pending.acr_values),
        max_age=pending.max_age,
        prompt=pending.prompt,
    )


def _unpack(packed: _PackedPending) -> PendingLogin:
    return PendingLogin(
        issuer=packed.issuer,
        redirect_uri=packed.redirect_uri,
        state=_grow(packed.state),
        nonce=_grow(packed.nonce),
        code_verifier=_grow(packed.code_verifier),
        scopes=tuple(packed.scopes.split()),
        return_to=packed.return_to,
        created_at=packed.created_at,
        acr_values=tuple(packed.acr_values),
        max_age=packed.max_age,
        prompt=packed.prompt,
        subject=packed.subject,
        previous=packed.previous.hex() if isinstance(packed.previous, bytes) else _grow(packed.previous),
    )


def _shrink(text: str) -> Packed:
    try:
        return decode_text(text)
    except SealBroken:
        return text


def _shrink_hex(text: str) -> Packed:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return text
    return data if text and data.hex() == text else text


def _grow(packed: Any) -> str:
    """msgspec knows no union of text and bytes, so the two are told apart here."""
    if isinstance(packed, str):
        return packed
    if isinstance(packed, bytes):
        return encode_text(packed)
    raise SealBroken("a pending login of another shape")
