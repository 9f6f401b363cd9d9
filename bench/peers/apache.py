"""Apache with mod_auth_openidc, session in shared memory, logged in by a real code flow."""

from __future__ import annotations

import secrets
from pathlib import Path

from bench.processes import Group, free_port, wait_for_port
from bench.provider import CLIENT_ID, CLIENT_SECRET, BenchVisitor, cookies_of, sign_in, start_provider
from bench.values import OTHER_COOKIES, Absent, Place, Running, Variant

BINARY, MODULES = Path("/usr/sbin/apache2"), Path("/usr/lib/apache2/modules")
NEEDED = ("mpm_event", "authn_core", "authz_core", "authz_user", "headers", "proxy", "proxy_http", "auth_openidc")
COOKIE = "mod_auth_openidc_session"

CONFIG = """\
ServerRoot {directory}
ServerName localhost
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
{modules}
Listen 127.0.0.1:{port}
ErrorLog {directory}/apache-error.log
LogLevel error
{user}
ServerLimit {workers}
StartServers {workers}
ThreadsPerChild 150
ThreadLimit 150
MaxRequestWorkers {threads}
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID {client_id}
OIDCClientSecret {client_secret}
OIDCRedirectURI http://localhost:{port}/oidc/callback
OIDCCryptoPassphrase {passphrase}
OIDCScope "openid profile"
OIDCPKCEMethod S256
OIDCSessionType server-cache
OIDCCacheType shm
OIDCSessionInactivityTimeout 86400
OIDCSessionMaxDuration 86400
OIDCStripCookies {cookie}
OIDCPassClaimsAs environment
<Location />
  AuthType openid-connect
  Require valid-user
</Location>
<Location /api/>
  ProxyPass http://127.0.0.1:{upstream}/api/ keepalive=On
  RequestHeader set Authorization "Bearer %{{OIDC_access_token}}e"
</Location>
"""


def start(place: Place) -> Running:
    missing = [name for name in NEEDED if not (MODULES / f"mod_{name}.so").exists()]
    if not BINARY.exists() or missing:
        raise Absent("Apache with mod_auth_openidc is missing (Debian: apt-get install apache2-bin libapache2-mod-auth-openidc)")
    port = free_port()
    issuer, provider = start_provider(place, "apache", f"http://localhost:{port}/oidc/callback")
    text = CONFIG.format(
        directory=place.directory, port=port, upstream=place.upstream_port, issuer=issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET,
        passphrase=secrets.token_hex(24), cookie=COOKIE, workers=place.workers, threads=150 * place.workers,
        user="User www-data\nGroup www-data" if Path("/proc/self").stat().st_uid == 0 else "",
        modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in NEEDED),
    )  # fmt: skip
    config, log, group = place.directory / "apache.conf", place.directory / "apache.log", Group()
    config.write_text(text)
    group.start([BINARY, "-f", config, "-DFOREGROUND"], log=log, cpus=place.variant_cpus)
    wait_for_port(port, group, log)
    origin, visitor = f"http://localhost:{port}", BenchVisitor()
    page = sign_in(visitor, f"{origin}/api/small", issuer)
    own = cookies_of(visitor, origin)
    if COOKIE not in own:
        raise RuntimeError(f"mod_auth_openidc gave the cookies {sorted(own)}, status {page.status}; see {place.directory}/apache-error.log")
    headers = {"Host": f"localhost:{port}"}
    cookie = f"{OTHER_COOKIES}; {COOKIE}={own[COOKIE]}"
    return Running(port=port, group=group, helper=provider, cookies=[cookie], headers=headers, cookie_name=COOKIE)


VARIANTS = [Variant("mod_auth_openidc", start, "event MPM, session in shared memory")]
