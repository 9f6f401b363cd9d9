"""Where an upstream's redirect may lead: back into its own tree under our public path, or to listed origins (RESP-3, REDIR-4, R3)."""

from __future__ import annotations

import re
from typing import Final

from bff.policy.path import judge_path
from bff.policy.routes import Upstream
from bff.policy.verdict import Admitted

_ABSOLUTE = re.compile(rb"(https?)://([A-Za-z0-9.\-\[\]:]+)(/[^\x00-\x20\x7f-\xff\\#]*)?(#[\x21-\x7e]*)?")
_PATH_ABSOLUTE = re.compile(rb"(/(?!/)[^\x00-\x20\x7f-\xff\\#]*)(#[\x21-\x7e]*)?")
_QUERY = rb"\?[!\x22\x24-\x5b\x5d-\x7e]*"
_RELATIVE = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=@%]+(?:/[A-Za-z0-9\-._~!$&'()*+,;=:@%]*)*(?:" + _QUERY + rb")?|" + _QUERY)
_DEFAULT_PORT: Final = {"http": 80, "https": 443}


def map_location(value: bytes, admitted: Admitted, *, public_origin: str = "") -> bytes | None:
    """The Location for the browser; None where it must not be passed on. Never followed by us (K3).

    An API that believes our X-Forwarded-Host writes ``public_origin`` before its own paths: that is its own tree too.
    """
    target = admitted.target
    if target is None:
        return None
    absolute = _ABSOLUTE.fullmatch(value)
    if absolute is not None:
        origin = f"{absolute[1].decode()}://{absolute[2].decode().lower()}"
        if _is_own(origin, target.upstream) or origin == public_origin:
            return _map_path((absolute[3] or b"/"), absolute[4] or b"", admitted, target.upstream)
        return value if origin in admitted.route.redirect_origins else None
    path = _PATH_ABSOLUTE.fullmatch(value)
    if path is not None:
        return _map_path(path[1], path[2] or b"", admitted, target.upstream)
    if _RELATIVE.fullmatch(value) is not None and judge_path(b"/" + value.partition(b"?")[0]).usable:
        return value
    return None


def _is_own(origin: str, upstream: Upstream) -> bool:
    scheme, _, authority = origin.partition("://")
    own = upstream.authority.lower()
    return scheme == upstream.scheme and authority in (own, f"{own}:{_DEFAULT_PORT[upstream.scheme]}")


def _map_path(path_and_query: bytes, fragment: bytes, admitted: Admitted, upstream: Upstream) -> bytes | None:
    path, mark, query = path_and_query.partition(b"?")
    base = upstream.base_path.encode()
    prefix = admitted.route.path.encode()
    if not path.startswith(base) or not judge_path(path).usable:
        return None
    if admitted.route.exact and path != base:
        return None
    return prefix + path[len(base) :] + mark + query + fragment
