"""oauth2-proxy with its cookie session, logged in by a real code flow."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from bench.processes import Group, free_port, wait_for_port
from bench.provider import CLIENT_ID, CLIENT_SECRET, BenchVisitor, cookies_of, sign_in, start_provider
from bench.values import OTHER_COOKIES, Absent, Place, Running, Variant

ROOT = Path(__file__).resolve().parents[2]
COOKIE = "_oauth2_proxy"


def start(place: Place) -> Running:
    built = ROOT / ".tools" / "bench" / "bin" / "oauth2-proxy"
    binary = str(built) if built.exists() else shutil.which("oauth2-proxy")
    if binary is None:
        raise Absent("oauth2-proxy is missing (python -m bench.install builds it with Go)")
    port = free_port()
    issuer, provider = start_provider(place, "oauth2-proxy", f"http://localhost:{port}/oauth2/callback")
    options = {
        "provider": "oidc", "oidc-issuer-url": issuer, "client-id": CLIENT_ID, "client-secret": CLIENT_SECRET,
        "redirect-url": f"http://localhost:{port}/oauth2/callback", "http-address": f"127.0.0.1:{port}", "email-domain": "*",
        "upstream": f"http://127.0.0.1:{place.upstream_port}/", "cookie-secret": secrets.token_hex(16), "cookie-secure": "false",
        "code-challenge-method": "S256", "scope": "openid profile email", "skip-provider-button": "true", "cookie-expire": "24h",
        "pass-authorization-header": "true", "insecure-oidc-allow-unverified-email": "true", "silence-ping-logging": "true",
        "request-logging": "false", "auth-logging": "false", "standard-logging": "false",
    }  # fmt: skip
    log, group = place.directory / "oauth2-proxy.log", Group()
    group.start([binary, *(f"--{name}={value}" for name, value in options.items())], log=log, cpus=place.variant_cpus)
    wait_for_port(port, group, log)
    origin, visitor = f"http://localhost:{port}", BenchVisitor()
    page = sign_in(visitor, f"{origin}/api/small", issuer)
    own = {name: value for name, value in cookies_of(visitor, origin).items() if name.startswith(COOKIE) and "csrf" not in name}
    if not own:
        raise RuntimeError(f"oauth2-proxy set no session cookie, status {page.status}; see {log}")
    cookie = "; ".join([OTHER_COOKIES, *(f"{name}={value}" for name, value in own.items())])
    return Running(
        port=port, group=group, helper=provider, cookies=[cookie], headers={"Host": f"localhost:{port}"}, cookie_name=COOKIE,
        flaws=("the session cookie reached the upstream",),
    )  # fmt: skip


VARIANTS = [Variant("oauth2-proxy", start, "encrypted cookie session, request log off; sends the ID token as bearer and the cookie along")]
