"""One ``[[routes]]`` table as a type, and as the row of the route table it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bff.policy.routes import METHODS, Admission, Limits, Policy, Route, TokenKind, Upstream
from bff.settings.types import Duration, FileName, MaybeDuration, MaybeUrl, OriginText, Section, Size, Text, UrlText, Word, written
from bff.settings.values import Url


class UpstreamByClaim(Section):
    """Dynamic user routing: a closed table from the values of one claim to upstreams. Any other key is a row of it."""

    claim: Annotated[Text, Field(min_length=1)]
    """The claim whose value chooses. A user whose value isn't in the table goes to the route's `upstream`, or is refused without one."""
    table: Annotated[dict[str, UrlText], Field(min_length=1)]
    """Value of the claim to upstream. Rows may also stand directly beside `claim`."""

    @model_validator(mode="before")
    @classmethod
    def _gather_rows(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        table = raw.get("table")
        named = table if isinstance(table, dict) else {}
        rows = {key: value for key, value in raw.items() if key != "claim" and not (key == "table" and isinstance(value, dict))}
        gathered: dict[str, Any] = {"table": {**named, **rows}}
        return {"claim": raw["claim"], **gathered} if "claim" in raw else gathered


class RouteSettings(Section):
    """One prefix of paths and the API behind it."""

    path: Text
    """Prefix (`/api/orders/`), or one path with `exact`. The longest match wins; a path that only a looser
    reader would give to a longer one (`%6f`, `;x`, another case) is a 404. Paths of the BFF can't be shadowed."""
    name: Text = ""
    """Label in logs and metrics; empty: the path."""
    exact: bool = False
    """Match this path alone."""
    upstream: MaybeUrl = None
    """The API. Its path replaces the prefix: `/api/orders/17` goes to `https://orders.internal/v1/17`."""
    upstream_by_claim: UpstreamByClaim | None = None
    """Chooses another upstream by a claim of the user."""
    methods: tuple[Text, ...] = tuple(sorted(METHODS))
    """Methods that pass; others get 405. Default: all but CONNECT and TRACE."""
    token: TokenKind = "user"  # noqa: S105 - a kind
    """Whose access token is attached: `user`, `client`, `user_or_client` (the client's when nobody is signed in), `user_or_none`
    (none then) or `none`."""
    session: bool = False
    """Demand a signed-in user although the token is not the user's."""
    audience: Text = ""
    """Resource indicator or token exchange target; empty: the login's own access token."""
    scopes: tuple[Text, ...] = ()
    """Scopes the token must have, all of them."""
    claims: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Claims the user must have, each with one of the values."""
    acr: tuple[Word, ...] = ()
    """Step-up when the session's acr is none of these."""
    max_age: MaybeDuration = None
    """Step-up when the user signed in longer ago than this."""
    connect_timeout: Duration = written("5s")
    """To reach the upstream."""
    head_timeout: Duration = written("30s")
    """From the request's end to the head of the answer."""
    idle_timeout: Duration = written("60s")
    """Between two pieces of a body."""
    stream_idle_timeout: Duration = written("15m")
    """Between two pieces of an event stream or WebSocket."""
    total_timeout: Duration = written("5m")
    """One whole exchange; not for event streams and WebSockets."""
    max_body: Size | None = None
    """Largest request body; default `limits.max_body`."""
    max_websocket_message: Size = written("64MiB")
    """Largest WebSocket message."""
    concurrent: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Calls under way per worker."""
    concurrent_per_session: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Calls under way per session and worker."""
    forward_cookies: tuple[Text, ...] = ()
    """Cookies of the browser that the API may see. Ours never are."""
    return_cookies: tuple[Text, ...] = ()
    """Cookies that the API may set in the browser."""
    redirect_origins: tuple[OriginText, ...] = ()
    """Origins that the API's redirects may lead to, besides its own tree (`https://files.example.com`)."""
    ca_file: FileName = ""
    """CA bundle (PEM) for the upstream, instead of the system's."""
    client_cert_file: FileName = ""
    """Certificate (PEM) we show the upstream."""
    client_key_file: FileName = ""
    """Private key (PEM) of that certificate."""
    encoded_slash: bool = False
    """Let `%2F` pass in the path, byte for byte."""
    activity: bool = True
    """Calls count as user activity for `session.idle`; switch off for polling."""
    navigable: bool = False
    """Let top-level navigations (downloads) pass without the header."""
    cache: Literal["no-store", "private", "upstream"] = "private"
    """What browsers and shared caches may keep: nothing, privately what the upstream allows, or as the upstream says."""
    danger_plain_http_upstream: bool = False
    """Accept plain http to an upstream that is not on this machine. Tokens then travel readable."""

    @field_validator("claims", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, raw: Any, info: ValidationInfo) -> Any:
        if not isinstance(raw, dict):
            return raw
        return {name: (value,) if isinstance(value, str) else value for name, value in raw.items()}

    @property
    def users_token(self) -> bool:
        return self.token in ("user",)

    @property
    def accepts_nobody(self) -> bool:
        """Calls pass without a signed-in user: with the client's token, or with none."""
        return self.token in ("user_or_client", "user_or_none")

    @property
    def attaches_token(self) -> bool:
        return self.token not in ("none",)

    @property
    def decides_by(self) -> frozenset[str]:
        """Names of the claims this route looks at."""
        return frozenset(self.claims) | ({self.upstream_by_claim.claim} if self.upstream_by_claim else frozenset())

    @property
    def upstreams(self) -> tuple[Url, ...]:
        """Every address this route can reach."""
        table = self.upstream_by_claim.table.values() if self.upstream_by_claim else ()
        return tuple(dict.fromkeys([*([self.upstream] if self.upstream else []), *table]))

    @property
    def needs_session(self) -> bool:
        """A user must be signed in: by token, by demand, or because the policy looks at the user."""
        by_policy = bool(self.claims or self.acr or self.max_age is not None or self.upstream_by_claim)
        return self.users_token or self.session or by_policy


def build_upstream(url: Url, route: RouteSettings, *, path: str) -> Upstream:
    """``url`` for a row of the table at ``path``: its base path ends with a slash exactly where ``path`` does."""
    base = url.path if route.exact else url.path.rstrip("/") + ("/" if path.endswith("/") else "")
    return Upstream(
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        base_path=base or "/",
        ca_file=route.ca_file,
        client_cert_file=route.client_cert_file,
        client_key_file=route.client_key_file,
    )


def build_routes(route: RouteSettings, *, default_body_bytes: int) -> list[Route]:
    """The rows of the route table that ``route`` asks for: one, or two for a prefix without a final slash whose API sits at
    the root. There ``/api`` alone must become ``/`` and ``/api/x`` must become ``/x``, which no single replacement does.
    """
    if route.exact or route.path.endswith("/") or all(url.path.rstrip("/") for url in route.upstreams):
        return [_build_row(route, route.path, exact=route.exact, body_bytes=default_body_bytes)]
    below = _build_row(route, route.path + "/", exact=False, body_bytes=default_body_bytes)
    return [_build_row(route, route.path, exact=True, body_bytes=default_body_bytes), below]


def _build_row(route: RouteSettings, path: str, *, exact: bool, body_bytes: int) -> Route:
    table: Mapping[str, Url] = route.upstream_by_claim.table if route.upstream_by_claim else {}
    first = route.upstream or next(iter(table.values()))
    return Route(
        name=route.name or route.path,
        path=path,
        admission=Admission.API,
        methods=frozenset(route.methods),
        upstream=build_upstream(first, route, path=path),
        exact=exact,
        token=route.token,
        session=route.needs_session,
        audience=route.audience,
        policy=_build_policy(route),
        claim=route.upstream_by_claim.claim if route.upstream_by_claim else "",
        by_claim={value: build_upstream(url, route, path=path) for value, url in table.items()},
        limits=_build_limits(route, body_bytes),
        forward_cookies=frozenset(route.forward_cookies),
        return_cookies=frozenset(route.return_cookies),
        redirect_origins=frozenset(route.redirect_origins),
        encoded_slash=route.encoded_slash,
        activity=route.activity,
        navigable=route.navigable,
        cache=route.cache,
    )


def _build_policy(route: RouteSettings) -> Policy:
    claims = {name: frozenset(values) for name, values in route.claims.items()}
    if route.upstream_by_claim and route.upstream is None:
        rows = frozenset(route.upstream_by_claim.table)
        claim = route.upstream_by_claim.claim
        claims[claim] = claims.get(claim, rows) & rows
    max_age_s = None if route.max_age is None else int(route.max_age)
    return Policy(scopes=frozenset(route.scopes), claims=claims, acr=route.acr, max_age_s=max_age_s)


def _build_limits(route: RouteSettings, default_body_bytes: int) -> Limits:
    return Limits(
        connect_s=route.connect_timeout,
        head_s=route.head_timeout,
        idle_s=route.idle_timeout,
        stream_idle_s=route.stream_idle_timeout,
        total_s=route.total_timeout,
        body_bytes=route.max_body or default_body_bytes,
        concurrent=route.concurrent,
        concurrent_per_session=route.concurrent_per_session,
        websocket_message_bytes=route.max_websocket_message,
    )
