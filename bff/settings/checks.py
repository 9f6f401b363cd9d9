"""What no single field can know: contradictions, missing companions, addresses that are our own (OPS-1, C3, ROUTE-10, ROUTE-11).

``check`` finds what stops a start; ``find_warnings`` and ``find_dangers`` find what is said at every start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from bff.base.clock import SystemClock
from bff.base.errors import ConfigError
from bff.oauth.authorize import OWN_PARAMETERS
from bff.policy.return_path import safe_return
from bff.policy.routes import METHODS
from bff.proxy.lines import HOP_BY_HOP, may_pass
from bff.session.store import open_store
from bff.settings import files, spa
from bff.settings.findings import Finding
from bff.settings.model import Settings
from bff.settings.routes import RouteSettings
from bff.settings.sources import Place
from bff.settings.values import Listen, Unusable, Url, check_host, is_loopback, read_url

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_ROUTE_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,=:@-]+/)*(?:[A-Za-z0-9._~!$&'()*+,=:@-]+)?", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_OWN_HEADERS = frozenset(
    {b"host", b"content-length", b"content-type", b"cookie", b"set-cookie", b"authorization", b"expect", b"origin", b"accept",
     b"x-request-id", b"cache-control", b"x-accel-expires", b"date", b"server", b"location", b"range", b"via", b"forwarded"}
)  # fmt: skip
_PARAMETER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_PROMPTS = frozenset({"login", "consent", "select_account"})
MAX_PARAMETER_CHARS = 1024
LEAST_STUCK_S = 3.0
_AAL2_IDLE_S, _AAL2_MAX_S = 30 * 60, 12 * 3600


def check(settings: Settings) -> list[Finding]:
    """Everything that must stop a start, in the order of the file."""
    parts: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _check_server,
        _check_provider,
        _check_session,
        _check_cookie_and_spa,
        _check_forward_auth,
        _check_routes,
        files.check,
        spa.check,
    )
    return list(chain.from_iterable(part(settings) for part in parts))


def _check_server(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if server.origin.plain_and_remote and not server.danger_plain_http_origin:
        yield Finding(
            ("server", "public_origin"),
            "is plain http on a host that is not loopback",
            "use https, or set server.danger_plain_http_origin = true",
        )
    if server.tls_cert_file and server.origin.scheme == "http":
        yield Finding(
            ("server", "tls_cert_file"),
            "gives the door TLS while public_origin is plain http",
            "write public_origin with https, or remove the certificate",
        )
    if bool(server.tls_cert_file) != bool(server.tls_key_file):
        missing = "tls_key_file" if server.tls_cert_file else "tls_cert_file"
        yield Finding(("server", missing), "is missing beside its companion", "name both the certificate and its key, or neither")
    if not _PREFIX.fullmatch(server.prefix) or any(part in (".", "..") for part in server.prefix.split("/")):
        yield Finding(("server", "prefix"), "is not a path such as /bff", "start with /, use plain segments, end without /")
    if _same_address(server.listen, server.manage_listen):
        yield Finding(
            ("server", "manage_listen"), "is the public listener's address", "give the management listener its own port, on loopback"
        )
    if server.stuck_timeout < LEAST_STUCK_S:
        yield Finding(("server", "stuck_timeout"), "would kill processes that are merely busy", f'use at least "{LEAST_STUCK_S:.0f}s"')
    for index, name in enumerate(server.manage_hosts):
        if not _is_authority(name) or ":" in name:
            yield Finding(("server", "manage_hosts", index), "is not a host name", "write the name alone, without scheme and port")
    for index, host in enumerate(server.hosts):
        if not _is_authority(host):
            yield Finding(("server", "hosts", index), "is not a host or host:port", "write it as the Host header does, lower case")


def _is_authority(text: str) -> bool:
    try:
        url = read_url(f"https://{text}")
    except Unusable:
        return False
    return not url.path and bool(check_host(f"[{url.host}]" if ":" in url.host else url.host))


def _same_address(one: Listen, other: Listen) -> bool:
    if one.kind != "tcp" or other.kind != "tcp":
        return one == other
    wild = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return one.port == other.port != 0 and (one.host == other.host or bool({one.host, other.host} & wild))


def _check_provider(settings: Settings) -> Iterator[Finding]:
    provider = settings.provider
    if read_url(provider.issuer).plain_and_remote and not provider.danger_plain_http_provider:
        yield Finding(
            ("provider", "issuer"),
            "is plain http on a host that is not loopback",
            "use https, or set provider.danger_plain_http_provider = true",
        )
    if "openid" not in provider.scopes:
        yield Finding(("provider", "scopes"), 'does not contain "openid"', 'add "openid": without it there is no ID token and no login')
    yield from _check_scopes(("provider", "scopes"), provider.scopes)
    yield from _check_scopes(("provider", "optional_scopes"), provider.optional_scopes)
    yield from _check_authorize_parameters(provider.authorize_parameters)
    if not provider.id_token_algs:
        yield Finding(("provider", "id_token_algs"), "is empty", "name at least one algorithm, or remove the key for the default")
    if provider.leeway > 300:
        yield Finding(("provider", "leeway"), "forgives more than 5 minutes", "set the clocks right and use at most 5m")
    yield from _check_client_auth(settings)


def _check_authorize_parameters(given: Mapping[str, str]) -> Iterator[Finding]:
    for name, value in given.items():
        place = ("provider", "authorize_parameters", name)
        if name in OWN_PARAMETERS:
            yield Finding(place, "is a parameter that only the login itself sets", "remove it: scopes and resources are settings")
        elif not _PARAMETER.fullmatch(name):
            yield Finding(place, "is not a parameter's name", "use letters, digits, dots, dashes and underscores")
        elif len(value) > MAX_PARAMETER_CHARS or any(char < " " for char in value):
            yield Finding(place, "cannot be sent", f"use one line of at most {MAX_PARAMETER_CHARS} characters")
        elif name == "prompt" and not _PROMPTS.issuperset(value.split()):
            yield Finding(place, "is no prompt for every login", f'use {", ".join(sorted(_PROMPTS))}, or "" for none')


def _check_client_auth(settings: Settings) -> Iterator[Finding]:
    provider = settings.provider
    if provider.client_auth.startswith("client_secret") and not provider.client_secret and not provider.client_secret_file:
        yield Finding(
            ("provider", "client_secret"),
            f"is missing, and client_auth {provider.client_auth} needs it",
            "set client_secret_file or BFF_PROVIDER__CLIENT_SECRET",
        )
    if provider.client_auth == "private_key_jwt" and not provider.private_key_file:
        yield Finding(
            ("provider", "private_key_file"), "is missing, and client_auth private_key_jwt needs it", "name the file of the private key"
        )
    if "tls_client_auth" in provider.client_auth and not (provider.client_cert_file and provider.client_key_file):
        yield Finding(
            ("provider", "client_cert_file" if provider.client_key_file else "client_key_file"),
            f"is missing, and client_auth {provider.client_auth} needs certificate and key",
            "name both files",
        )


def _check_scopes(place: Place, scopes: tuple[str, ...]) -> Iterator[Finding]:
    for index, scope in enumerate(scopes):
        if not _SCOPE.fullmatch(scope):
            yield Finding((*place, index), "is not a scope", "one scope per entry, without spaces or quotes")
        elif scope in scopes[:index]:
            yield Finding((*place, index), "is there twice", "remove one")


def _check_session(settings: Settings) -> Iterator[Finding]:
    session = settings.session
    store = session.store.reveal()
    scheme = store.partition(":")[0]
    if scheme in ("redis", "rediss", "valkey", "postgresql"):
        yield Finding(("session", "store"), f"names {scheme}, which is not available in this version", "use sqlite:///path/sessions.db")
    elif not _is_store(store):
        yield Finding(("session", "store"), "is not a store", 'write "sqlite:///path/sessions.db" or "memory:"')
    if session.idle > session.max:
        yield Finding(("session", "idle"), "is longer than session.max", "make idle the shorter one")


def _is_store(url: str) -> bool:
    try:
        open_store(url, clock=SystemClock())
    except ConfigError:
        return False
    return True


def _check_cookie_and_spa(settings: Settings) -> Iterator[Finding]:
    if not _TOKEN.fullmatch(settings.cookie.name) or len(settings.cookie.name) > 64:
        yield Finding(("cookie", "name"), "is not a cookie name", "use letters, digits, - and _; the prefix is added by us")
    elif settings.cookie.name.lower().startswith(("__host-", "__secure-", "__http-")):
        yield Finding(("cookie", "name"), "repeats a prefix", "leave the prefix out; cookie.prefix adds it")
    app = settings.spa
    if app.directory and app.upstream:
        yield Finding(("spa", "upstream"), "is given beside spa.directory", "keep one of them")
    if app.upstream and app.upstream.plain_and_remote and not app.danger_plain_http_upstream:
        yield Finding(
            ("spa", "upstream"), "is plain http on a host that is not loopback", "use https, or set spa.danger_plain_http_upstream = true"
        )
    if app.upstream and _is_ourselves(app.upstream, settings):
        yield Finding(("spa", "upstream"), "is our own address: requests would go round in circles", "name the development server")
    yield from _check_post_logout_path(settings)


def _check_post_logout_path(settings: Settings) -> Iterator[Finding]:
    path, prefix = settings.spa.post_logout_path, settings.server.prefix
    allowed = safe_return(path, prefix=prefix if _PREFIX.fullmatch(prefix) else "/bff")
    if allowed != path or "?" in path or "#" in path:
        fix = "write a path such as /signed-out, without query, outside server.prefix"
        yield Finding(("spa", "post_logout_path"), "is not a path of the app's", fix)


def _check_forward_auth(settings: Settings) -> Iterator[Finding]:
    asked = settings.forward_auth
    for name in asked.identity_headers:
        place: Place = ("forward_auth", "identity_headers", name)
        lower = name.lower().encode("utf-8", "replace")
        if not _HEADER.fullmatch(name):
            yield Finding(place, "is not a header name", "use letters, digits and dashes, such as X-User")
        elif lower in HOP_BY_HOP or lower in _OWN_HEADERS or lower.startswith((b"bff-", b"sec-", b"x-forwarded-", b"access-control-")):
            yield Finding(place, "names a header that means something else", "choose another name, such as X-User")
    for index, name in enumerate(asked.pass_headers):
        if not _HEADER.fullmatch(name) or not may_pass(name.lower().encode()):
            yield Finding(("forward_auth", "pass_headers", index), "is not a header that an API may see", "name one of the app's own")
    for key, value in (("door", asked.door), ("listen", asked.listen)):
        if value is not None and value.kind != "tcp":
            yield Finding(("forward_auth", key), "is not host:port", 'write "127.0.0.1:8080"')


def _check_routes(settings: Settings) -> Iterator[Finding]:
    seen: dict[tuple[str, bool], int] = {}
    for index, route in enumerate(settings.routes):
        place: Place = ("routes", index)
        key = route.path if route.exact else route.path.rstrip("/")
        first = seen.setdefault((key, route.exact), index)
        if first != index:
            yield Finding((*place, "path"), f"is the same as that of routes[{first}]", "give each route its own path")
        yield from _check_route_path(place, route, settings)
        yield from _check_route_upstreams(place, route, settings)
        yield from _check_route_policy(place, route)


def _check_route_path(place: Place, route: RouteSettings, settings: Settings) -> Iterator[Finding]:
    at = (*place, "path")
    prefix = settings.server.prefix
    if not _ROUTE_PATH.fullmatch(route.path) or any(part in (".", "..") for part in route.path.split("/")):
        yield Finding(at, "is not a canonical path", 'start with /, plain segments, no //, %, ?, # or dots: "/api/orders/"')
    elif route.path.rstrip("/") == prefix or route.path.startswith(prefix + "/"):
        yield Finding(at, f"lies under {prefix}, where our own endpoints are", "choose another path, or another server.prefix")
    elif route.path == "/" and not route.exact and (settings.spa.directory or settings.spa.upstream):
        yield Finding(
            at, "takes every path, which the spa section does already", "use a narrower prefix such as /api/, or empty the spa section"
        )


def _check_route_upstreams(place: Place, route: RouteSettings, settings: Settings) -> Iterator[Finding]:
    if not route.upstreams:
        yield Finding((*place, "upstream"), "is required", 'name the API: upstream = "https://orders.internal/v1/"')
    named: list[tuple[Place, Url]] = [((*place, "upstream"), route.upstream)] if route.upstream else []
    if route.upstream_by_claim:
        named += [((*place, "upstream_by_claim", value), url) for value, url in route.upstream_by_claim.table.items()]
    for at, url in named:
        if url.plain_and_remote and not route.danger_plain_http_upstream:
            yield Finding(
                at, "is plain http to a host that is not loopback", "use https, or set danger_plain_http_upstream = true on this route"
            )
        if _is_ourselves(url, settings):
            yield Finding(at, "is our own address: requests would go round in circles", "name the API's address")
    if bool(route.client_cert_file) != bool(route.client_key_file):
        missing = "client_key_file" if route.client_cert_file else "client_cert_file"
        yield Finding((*place, missing), "is missing beside its companion", "name both the certificate and its key, or neither")


def _is_ourselves(url: Url, settings: Settings) -> bool:
    if url.origin == settings.server.public_origin:
        return True
    return any(_reaches(url, listen) for listen in (settings.server.listen, settings.server.manage_listen))


def _reaches(url: Url, listen: Listen) -> bool:
    if listen.kind != "tcp" or listen.port != url.port or not listen.port:
        return False
    here = is_loopback(listen.host) or listen.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return url.host == listen.host or (here and is_loopback(url.host) and _could_be_same_loopback(url.host, listen.host))


def _could_be_same_loopback(one: str, other: str) -> bool:
    """127.0.0.2 is another machine as far as sockets go; localhost may be any of them."""
    names = {one, other}
    return one == other or not all(name.startswith("127.") for name in names)


def _check_route_policy(place: Place, route: RouteSettings) -> Iterator[Finding]:
    for index, method in enumerate(route.methods):
        if method not in METHODS:
            yield Finding((*place, "methods", index), "is not a method that passes", f"use some of {', '.join(sorted(METHODS))}")
    if not route.methods:
        yield Finding((*place, "methods"), "is empty", "name the methods, or remove the key for all of them")
    yield from _check_scopes((*place, "scopes"), route.scopes)
    if route.scopes and not route.attaches_token:
        yield Finding((*place, "scopes"), 'is given, but token = "none" attaches no token', "remove scopes, or choose a token")
    if route.scopes and route.token == "user_or_none":  # noqa: S105 - a kind
        yield Finding((*place, "scopes"), "is given, but calls without any token pass as well", 'write token = "user", or remove scopes')
    if route.audience and not route.attaches_token:
        yield Finding((*place, "audience"), 'is given, but token = "none" attaches no token', "remove audience, or choose a token")
    for name, allowed in route.claims.items():
        if not allowed:
            yield Finding((*place, "claims", name), "allows no value", "list the values, or remove the claim")
    if route.accepts_nobody and route.needs_session:
        yield Finding(
            (*place, "token"),
            f"is {route.token} on a route that demands a signed-in user",
            'write token = "user", or drop session, claims, acr and max_age',
        )


def find_warnings(settings: Settings) -> list[str]:
    """What is allowed and still deserves a sentence at start: ``key: what; fix: …`` lines."""
    return [f"{'.'.join(str(part) for part in found.place)}: {found.what}; fix: {found.fix}" for found in _warnings(settings)]


def _warnings(settings: Settings) -> Iterator[Finding]:
    session, provider = settings.session, settings.provider
    if session.idle > _AAL2_IDLE_S:
        yield Finding(("session", "idle"), "is above 30m, the limit of NIST SP 800-63B for AAL2", "use at most 30m")
    if session.max > _AAL2_MAX_S:
        yield Finding(("session", "max"), "is above 12h, the limit of NIST SP 800-63B for AAL2", "use at most 12h")
    if "offline_access" not in provider.scopes:
        yield Finding(
            ("provider", "scopes"),
            "lacks offline_access: most providers then give no refresh token",
            "add it, or expect sign-ins whenever a token ends",
        )
    if provider.client_secret and not provider.client_auth.startswith("client_secret"):
        yield Finding(("provider", "client_secret"), f"is not used by client_auth {provider.client_auth}", "remove it")
    manage = settings.server.manage_listen
    if manage.kind == "tcp" and not is_loopback(manage.host):
        yield Finding(
            ("server", "manage_listen"), "is reachable from other machines", "keep the public off it with a firewall or network policy"
        )
    if any(network.prefixlen == 0 for network in settings.server.trusted_proxies):
        yield Finding(
            ("server", "trusted_proxies"), "trusts every address: anybody may say where a request came from", "list the front proxies alone"
        )
    if session.store.reveal() == "memory:":
        yield Finding(("session", "store"), "is memory: a restart signs everybody out", "use sqlite:///path/sessions.db")
    for index, route in enumerate(settings.routes):
        if "*" in route.path or "/:" in route.path:
            yield Finding(
                (f"routes[{index}]", "path"), "is no pattern: * and :name stand for themselves", "a path that ends in / covers all below it"
            )
        unasked = sorted(set(route.scopes) - set(provider.scopes))
        if unasked and not route.audience and route.users_token:
            yield Finding(
                (f"routes[{index}]", "scopes"),
                f"demands {' '.join(unasked)[:80]}, which login doesn't ask for",
                "add it to provider.scopes, or name an audience",
            )
    yield from files.find_warnings(settings)
    yield from spa.find_warnings(settings)
    for name in find_dangers(settings):
        yield Finding((name,), "is on: something that should be encrypted is not", "switch it off before real users come")
    if settings.server.origin.plain_and_remote:
        yield Finding(
            ("server", "public_origin"),
            "is plain http: browsers do not keep our Secure cookies there",
            "use https; nobody can sign in otherwise",
        )


def find_dangers(settings: Settings) -> list[str]:
    """The dangerous switches that are on, by their full key."""
    on = [("server.danger_plain_http_origin", settings.server.danger_plain_http_origin)]
    on += [("provider.danger_plain_http_provider", settings.provider.danger_plain_http_provider)]
    on += [("spa.danger_plain_http_upstream", settings.spa.danger_plain_http_upstream)]
    on += [(f"routes[{index}].danger_plain_http_upstream", route.danger_plain_http_upstream) for index, route in enumerate(settings.routes)]
    return [name for name, is_on in on if is_on]
