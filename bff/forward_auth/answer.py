"""A verdict in a front proxy's dialect. What the front proxy relays to the browser is the door's own answer, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bff.forward_auth.dialects import PROBLEM, STATUS, Dialect
from bff.forward_auth.identity import Identity
from bff.policy.facts import Facts
from bff.policy.verdict import Admitted, Refusal
from bff.proxy.answer import refusal_bytes
from bff.proxy.headers import HeaderRules, foreign_cookies

MAX_CACHE_S: Final = 60.0
_REASON: Final = {401: b"Unauthorized", 403: b"Forbidden"}


@dataclass(frozen=True, slots=True)
class Rendering:
    """What answers need of this deployment; as for ``refusal_bytes``."""

    rules: HeaderRules
    prefix: str
    https: bool
    clear_cookies: tuple[str, ...]


def admitted_bytes(
    admitted: Admitted, identity: Identity, dialect: Dialect, *, rules: HeaderRules, keep_alive: bool, cache_s: float = 0.0
) -> bytes:
    """Yes: the credential, the cookies the API may see, and who the user is. ``cache_s`` is how long the front proxy may repeat it.

    An answer that sets a cookie is for one browser and one moment, so it is never repeated.
    """
    lines: list[tuple[str, bytes]] = []
    if cache_s:
        seconds = 0 if admitted.set_cookies else int(cache_s)
        lines.append(("X-Accel-Expires", b"%d" % seconds))  # before Cache-Control, which older versions of nginx obey in order
    lines.append(("Cache-Control", b"no-store"))
    credential = admitted.credential
    cookies = "; ".join(foreign_cookies(admitted.facts.cookies, admitted.route, rules)).encode("latin-1")
    said = [("Authorization", b"" if credential is None else credential.authorization), ("Cookie", cookies), *identity]
    lines += [(name, value) for name, value in said if value or dialect.writes_empty]
    lines += [("Set-Cookie", cookie.encode("ascii")) for cookie in admitted.set_cookies]
    lines += [("Content-Length", b"0"), ("Connection", b"keep-alive" if keep_alive else b"close")]
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in lines) + b"\r\n"


def cache_seconds(admitted: Admitted, *, asked: str, now: float) -> float:
    """How long a front proxy that asked to cache for ``asked`` seconds may: never past what time alone could end (token, session, age).

    0 for not at all. Whatever else ends the session is heard of when that time is over: the staleness that the front proxy chose.
    """
    if not asked.isdecimal() or len(asked) > 6:
        return 0.0
    return max(min(float(asked), MAX_CACHE_S, admitted.valid_until - now), 0.0)


def refused_bytes(
    refusal: Refusal,
    original: Facts | None,
    dialect: Dialect,
    rendering: Rendering,
    *,
    question: Facts | None,
    request_id: str,
    keep_alive: bool,
) -> bytes:
    """No. ``original`` and ``question`` are None as far as they could not be read."""
    if refusal.status < 300:
        # An answer of the door's own (OPTIONS at its last hop): every front proxy would take it for a yes.
        refusal = replace(refusal, status=403)
    shown = original
    if shown is not None:
        has_body = question is None or question.method != "HEAD"
        shown = replace(shown, method="GET" if has_body and shown.method == "HEAD" else shown.method if has_body else "HEAD")
        if not dialect.relays:
            shown = replace(shown, fetch_mode="cors")  # the answer rides in a header: problem JSON, no page
    answer = refusal_bytes(
        refusal,
        shown,
        request_id=request_id,
        keep_alive=keep_alive,
        clear_cookies=rendering.clear_cookies,
        https=rendering.https,
        prefix=rendering.prefix,
    )
    return answer if dialect.relays else _enclose(refusal.status, answer)


def _enclose(status: int, answer: bytes) -> bytes:
    """For a front proxy that knows 401 and 403 alone: the true status and the problem document in headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    code = status if status in _REASON else 403
    problem = b"".join(bytes((byte,)) if 0x20 <= byte < 0x7F else b"?" for byte in body)
    added: Sequence[bytes] = (
        b"HTTP/1.1 %d %b" % (code, _REASON[code]),
        *head.split(b"\r\n")[1:],
        STATUS.encode() + b": %d" % status,
        PROBLEM.encode() + b": " + problem,
    )
    return b"\r\n".join(added) + b"\r\n\r\n" + body
