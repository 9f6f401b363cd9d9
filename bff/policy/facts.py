"""Everything known of a request, parsed once. What is judged here is byte for byte what is forwarded."""

from __future__ import annotations

from dataclasses import dataclass

from bff.policy.quick import build_quickly

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Facts:
    """One request. ``path`` is canonical by construction: read_facts refuses whatever is not (ROUTE-4 to 6).

    ``headers`` keeps order, multiplicity and spelling of every received field. Single-valued fields are None when absent.
    ``cookies`` holds every pair received, in order. ``path`` and ``query`` are the raw ASCII of the target; ``query``
    is None without a "?". ``body_length`` is the declared length, None when ``chunked``, 0 when there is no body.

    ``passing`` is the lines an API may see unchanged, in order (REQH-1 to 13); None where nobody classified them, as in
    hand-made facts. ``connection`` is the field names listed in Connection, lower-case. ``insecure``: a trusted peer says that
    the browser spoke plain http (ROUTE-13). ``encoded_slash``: the path holds %2F in some depth; only routes that opt in match.
    ``prefetch``: the browser says nobody asked for this yet (Sec-Purpose).
    """

    method: str
    path: str
    query: str | None
    host: str
    headers: tuple[Header, ...]
    cookies: tuple[tuple[str, str], ...] = ()
    http_10: bool = False
    keep_alive: bool = True
    body_length: int | None = 0
    chunked: bool = False
    expect_continue: bool = False
    websocket: bool = False
    origin: str | None = None
    referer: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    fetch_dest: str | None = None
    fetch_user: bool = False
    csrf_header: str | None = None
    accept: str | None = None
    content_type: str | None = None
    client_ip: str = ""
    scheme: str = "http"
    request_id: str = ""
    traceparent: str | None = None
    passing: tuple[bytes, ...] | None = None
    connection: tuple[bytes, ...] = ()
    encoded_slash: bool = False
    insecure: bool = False
    prefetch: bool = False

    @property
    def target(self) -> str:
        """Path and query as received."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def wants_page(self) -> bool:
        """A person looks at the answer: a navigation by Fetch Metadata, else by Accept."""
        if self.fetch_mode is not None:
            return self.fetch_mode == "navigate"
        return self.accept is not None and "text/html" in self.accept


build_facts = build_quickly(Facts)
