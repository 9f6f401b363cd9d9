"""The whole configuration as types (design: "outside contract"). Field docstrings become docs/settings.md and the schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bff.oauth.types import ClientAuth
from bff.settings.routes import RouteSettings
from bff.settings.types import (
    Duration,
    DurationOrZero,
    FileName,
    IssuerText,
    ListenText,
    MaybeListen,
    MaybeUrl,
    Network,
    OriginText,
    SecretText,
    Section,
    Size,
    Text,
    written,
)
from bff.settings.values import Listen, Url, read_url

__all__ = ["Cookie", "ForwardAuth", "Listen", "Log", "Provider", "RouteSettings", "Server", "Session", "Settings", "Spa", "Url"]

SigningAlg = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


class Server(Section):
    """The door: where browsers arrive, what they see, and how the process behaves."""

    listen: ListenText = written("127.0.0.1:8080")
    """Where browsers (or the front proxy) connect: `host:port`, `unix:/path` or `fd://3`."""
    public_origin: OriginText
    """What the browser's address bar shows, such as `https://app.example.com`; redirect URI, cookie and Origin check follow it."""
    manage_listen: ListenText = written("127.0.0.1:9464")
    """The management listener: `/healthz`, `/readyz`, `/metrics` and session administration. Never the public address."""
    manage_hosts: tuple[Text, ...] = ()
    """Names, without port, by which others ask there, such as `bff.internal`. Addresses and `localhost` are always answered, other names
    never: a web page could have its own name point here (DNS rebinding)."""
    prefix: Text = "/bff"
    """Path under which our own endpoints live (`/bff/login`, `/bff/user`, ...)."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Worker processes. More than one needs a store that they can share."""
    trusted_proxies: tuple[Network, ...] = ()
    """CIDRs of front proxies whose X-Forwarded-* and X-Request-Id are believed. Without them those headers are dropped."""
    hosts: tuple[Text, ...] = ()
    """Further `host` or `host:port` values accepted in Host, beside the public origin's and the listen address."""
    tls_cert_file: FileName = ""
    """Certificate chain (PEM) for TLS at the door; read again on SIGHUP."""
    tls_key_file: FileName = ""
    """Private key (PEM) of the certificate."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Open browser connections per worker; above that, idle ones give way to new ones, and if none is idle new ones are refused."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many of them one client address (IPv6: one /64) may hold; `trusted_proxies` and Unix sockets are not counted. Lower it where
    clients come with their own addresses: idle connections give way without it, busy ones do not."""
    head_timeout: Duration = written("10s")
    """How long a client may take to send a request head."""
    keep_alive: Duration = written("75s")
    """How long an idle connection stays open."""
    drain_delay: DurationOrZero = written("5s")
    """On SIGTERM: how long `/readyz` says 503 before the door stops accepting, so that load balancers notice."""
    grace: Duration = written("25s")
    """On SIGTERM: how long running requests may take to finish after that."""
    stuck_timeout: Duration = written("30s")
    """A process whose event loop gives no sign of life for so long is killed and replaced. At least `3s`."""
    danger_plain_http_origin: bool = False
    """Accept a public origin of plain http on a host that is not loopback. Cookies and pages then travel readable."""

    @property
    def origin(self) -> Url:
        """The public origin in parts."""
        return read_url(self.public_origin)


class Provider(Section):
    """The OpenID provider and who we are there."""

    issuer: IssuerText
    """Issuer URL, byte for byte as the provider's metadata names it (a trailing slash counts)."""
    client_id: Annotated[Text, Field(min_length=1)]
    """Our client id."""
    client_secret: SecretText = written("")
    """Our client secret; better in a file."""
    client_secret_file: FileName = ""
    """File that holds the client secret; a trailing newline is not part of it."""
    client_auth: ClientAuth = "client_secret_basic"
    """How we prove who we are at the token endpoint."""
    private_key_file: FileName = ""
    """Private key (PEM) that signs client assertions (`private_key_jwt`)."""
    signing_alg: Text = ""
    """Algorithm of client assertions; empty: chosen from the key."""
    key_id: Text = ""
    """`kid` of client assertions, where the provider wants one."""
    client_cert_file: FileName = ""
    """Certificate (PEM) for `tls_client_auth` and `self_signed_tls_client_auth`."""
    client_key_file: FileName = ""
    """Private key (PEM) of that certificate."""
    scopes: tuple[Text, ...] = ("openid", "profile", "offline_access")
    """Scopes asked for at login. Must contain `openid`; without `offline_access` most providers give no refresh token."""
    optional_scopes: tuple[Text, ...] = ()
    """Further scopes that a sign-in may ask for when the app wishes it (`/bff/login?scope=orders:write`), such as those of rare routes."""
    authorize_parameters: dict[Text, Text] = Field(default_factory=dict)
    """Further parameters of each authorization request, where a provider wants its own: `{ access_type = "offline" }`. `prompt` here holds
    where the app chooses none, in place of the `consent` that goes with `offline_access`; empty leaves it out."""
    resources: tuple[Text, ...] = ()
    """Resource indicators (RFC 8707) sent with login and refresh."""
    par: Literal["auto", "always", "never"] = "auto"
    """Pushed authorization requests (RFC 9126): when offered, always, or never."""
    id_token_algs: tuple[SigningAlg, ...] = (
        "RS256", "PS256", "ES256", "Ed25519", "EdDSA", "RS384", "RS512", "ES384", "ES512", "PS384", "PS512",
    )  # fmt: skip
    """Signature algorithms accepted for ID tokens and logout tokens."""
    logout_typ: Literal["strict", "compatible", "lenient"] = "compatible"
    """`typ` of logout tokens: `strict` wants `logout+jwt`, `compatible` takes none as well, `lenient` also `JWT` (Keycloak before 25)."""
    trusted_audiences: tuple[Text, ...] = ()
    """Audiences that may stand beside our client id in an ID token."""
    acr_values: tuple[Text, ...] = ()
    """Further `acr` values that a step-up may ask for, beside those that routes name."""
    leeway: DurationOrZero = written("60s")
    """Clock difference to the provider that is forgiven."""
    userinfo: bool = False
    """Fetch further claims from the UserInfo endpoint at login."""
    ca_file: FileName = ""
    """CA bundle (PEM) for the provider, instead of the system's."""
    danger_plain_http_provider: bool = False
    """Accept an issuer of plain http on a host that is not loopback. Codes, secrets and tokens then travel readable."""


class Session(Section):
    """How long a browser stays signed in and where its record is kept."""

    store: SecretText = written("sqlite:sessions.db")
    """`sqlite:///absolute/path`, `sqlite:relative/path` or `memory:` (forgotten at restart)."""
    keys_file: FileName = "keys.json"
    """The key ring (`bff keys new`); read again on SIGHUP."""
    idle: Duration = written("30m")
    """Signed out after this long without a call by the user."""
    max: Duration = written("12h")
    """Signed out after this long in any case."""
    cached: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    """Opened sessions each worker keeps in memory: 2 KiB each besides their access tokens and large claims. Others are read again."""
    claims: tuple[Text, ...] = (
        "name", "given_name", "family_name", "nickname", "preferred_username", "picture", "locale", "zoneinfo", "email", "email_verified",
    )  # fmt: skip
    """Claims of the ID token that the session keeps and `/bff/user` shows. Claims that routes decide by are kept as well."""
    renew_margin: Duration = written("30s")
    """How long before its expiry an access token is renewed."""
    clear_site_data: tuple[Literal["cache", "cookies", "storage", "executionContexts"], ...] = ()
    """What browsers are told to forget of this origin at a sign-out (`Clear-Site-Data`). `storage` takes what the app itself has kept."""


class Cookie(Section):
    """The browser's half of the session."""

    name: Text = "bff"
    """Carried as `__Host-Http-bff`."""
    prefix: Literal["__Host-Http-", "__Host-"] = "__Host-Http-"
    """Name prefix; `__Host-` only for tooling that doesn't know the stricter one."""
    same_site: Literal["strict", "lax"] = "strict"
    """`lax` where the server itself gates documents by session. `none` is not offered."""


class Spa(Section):
    """The single-page app itself; leave empty if something else serves it."""

    directory: FileName = ""
    """Folder with `index.html`; unknown paths fall back to it."""
    upstream: MaybeUrl = None
    """Or a development server such as `http://127.0.0.1:5173`."""
    danger_plain_http_upstream: bool = False
    """Accept a plain http `upstream` on a host that is not loopback."""
    csp: str = ""
    """Content-Security-Policy of the pages in `directory`, one line, in place of the built-in one: no inline code, no other origin. It
    replaces all of that, so say `frame-ancestors` and `base-uri` as well."""
    post_logout_path: Text = "/"
    """The app's page to which the provider sends browsers back after a sign-out; register `public_origin` and this at the provider."""


class ForwardAuth(Section):
    """For a front proxy that asks us about each request and sends it to the API itself (`bff front-proxy`, docs/front-proxies.md)."""

    enabled: bool = True
    """Answer such questions from `server.trusted_proxies`; from anybody else they are unknown paths in any case."""
    identity_headers: dict[Text, Text] = Field(default_factory=dict)
    """Request header to claim (or `sub`, `iss`, `sid`, `acr`): what the front proxy tells APIs besides the token."""
    pass_headers: tuple[Text, ...] = ()
    """Further request headers that APIs get from nginx with `--cache`, which passes the usual ones alone."""
    listen: MaybeListen = None
    """Where the generated configuration listens; empty: at the port of `public_origin`."""
    door: MaybeListen = None
    """Where the front proxy reaches us; empty: `server.listen`."""
    tls_cert_file: FileName = ""
    """Certificate chain (PEM) that the generated configuration names, on the front proxy's machine."""
    tls_key_file: FileName = ""
    """Private key (PEM) of that certificate."""


class Log(Section):
    """What is written to standard output."""

    format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text on a terminal, one JSON object a line elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written; access lines have a switch of their own. No level writes a secret."""
    access: bool = True
    """Write one line per request."""


class Limits(Section):
    """Bounds for everything that has no bound of its own route."""

    max_body: Size = written("100MiB")
    """Largest request body, unless the route says otherwise."""


class Settings(Section):
    """The whole file. Made by ``load_settings``, which has checked everything that can be checked offline."""

    server: Server
    provider: Provider
    session: Session = Field(default_factory=Session)
    cookie: Cookie = Field(default_factory=Cookie)
    spa: Spa = Field(default_factory=Spa)
    routes: tuple[RouteSettings, ...] = ()
    forward_auth: ForwardAuth = Field(default_factory=ForwardAuth)
    log: Log = Field(default_factory=Log)
    limits: Limits = Field(default_factory=Limits)

    @property
    def redirect_uri(self) -> str:
        """The exact string to register at the provider (AUTHZ-7)."""
        return f"{self.server.public_origin}{self.server.prefix}/callback"

    @property
    def post_logout_redirect_uri(self) -> str:
        return f"{self.server.public_origin}{self.spa.post_logout_path}"

    @property
    def backchannel_logout_uri(self) -> str:
        return f"{self.server.public_origin}{self.server.prefix}/backchannel-logout"

    @property
    def kept_claims(self) -> frozenset[str]:
        """What the session keeps: the allow-list and whatever routes decide by (PRIV-2)."""
        by_routes = {name for route in self.routes for name in route.decides_by}
        return frozenset(self.session.claims) | by_routes | frozenset(self.forward_auth.identity_headers.values())

    @property
    def known_acr(self) -> tuple[str, ...]:
        """Every acr that a step-up may ask the provider for (STEPUP-3), in order, without repeats."""
        named = [acr for route in self.routes for acr in route.acr]
        return tuple(dict.fromkeys([*named, *self.provider.acr_values]))
