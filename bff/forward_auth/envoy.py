"""Envoy 1.40 or newer (a retry policy for questions): the ``ext_authz`` filter with its HTTP service, between two that change headers.

Envoy joins repeated header lines with a comma, so a repeated Origin reaches us as one that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bff.forward_auth.dialects import ENVOY, ROUTE, SECRET
from bff.forward_auth.front import SYSTEM_CA, Address, Front, Way
from bff.forward_auth.stripping import ANSWER_NAMES, FAMILIES, NAMES
from bff.forward_auth.yaml_text import build_yaml
from bff.proxy.lines import JUDGED

_TYPE = "type.googleapis.com/envoy"
_MUTATION = f"{_TYPE}.extensions.filters.http.header_mutation.v3.HeaderMutation"
_BEFORE, _ASK, _AFTER = "bff.before", "envoy.filters.http.ext_authz", "bff.after"

# What the judgement reads of a request, besides its method and target.
# Framing is the question's own. Envoy rewrites X-Forwarded-For and -Proto; the other words about where a request came from are a
# browser's, and go before anybody could believe them (H5).
_FRAMING = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "x-forwarded-host", "forwarded"}
_SENT = tuple(sorted(({name.decode() for name in JUDGED} - _FRAMING) | {"user-agent", ROUTE.lower()}))
_OTHER_HOST = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {"@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
}
_LOOK = {"timeout": "1s", "interval": "0.5s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {}}
_REFUSAL = (
    "content-type", "cache-control", "set-cookie", "www-authenticate", "retry-after", "allow", "bff-error", "x-content-type-options",
    "referrer-policy", "cross-origin-resource-policy", "content-security-policy", "cross-origin-opener-policy", "strict-transport-security",
)  # fmt: skip


def build_envoy(front: Front) -> str:
    listener = {"name": "bff", "address": _socket(front.listen), "filter_chains": [_chain(front)]}
    clusters = [_cluster("bff_door", *front.doors), *(_api_cluster(way) for way in front.ways)]
    return build_yaml({"static_resources": {"listeners": [listener], "clusters": clusters}})


def _chain(front: Front) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bff",
        "codec_type": "AUTO" if front.tls else "HTTP1",
        "use_remote_address": True,
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": False}],
        "route_config": {"name": "bff", "virtual_hosts": [{"name": "bff", "domains": ["*"], "routes": list(_routes(front))}]},
        "http_filters": list(_filters(front)),
    }
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if front.tls:
        certificate = {"certificate_chain": {"filename": front.tls_cert_file}, "private_key": {"filename": front.tls_key_file}}
        common = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]}
        kind = f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": kind, "common_tls_context": common},
        }
    return chain


def _filters(front: Front) -> Iterable[dict[str, Any]]:
    judged = set(_SENT)
    before: list[dict[str, Any]] = [{"remove": name} for name in (*NAMES, "authorization") if name not in judged]
    before += [
        _remove_family(family) for family in FAMILIES if not family.startswith(("sec-", "x-forwarded", "access-control", "x-envoy-"))
    ]
    yield _mutation(_BEFORE, before)
    yield {"name": _ASK, "typed_config": _authorization(front)}
    after: list[dict[str, Any]] = [{"remove": name} for name in (*NAMES, front.csrf_header, ROUTE)]
    after += [_remove_family(family) for family in ("sec-", "x-forwarded", "access-control-request-", "x-envoy-")]
    after.append({"remove_on_match": {"key_matcher": {"contains": "."}}})
    after += [
        _set("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        _set("x-forwarded-proto", front.origin.partition(":")[0]),
        _set("x-forwarded-host", front.authority),
    ]
    kept = {name.lower() for name in front.identity}
    yield _mutation(_AFTER, [one for one in after if str(one.get("remove", "")).lower() not in kept])
    router = {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    yield {"name": "envoy.filters.http.router", "typed_config": router}


def _mutation(name: str, mutations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _MUTATION, "mutations": {"request_mutations": mutations}}}


def _set(name: str, value: str) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _remove_family(family: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": family, "ignore_case": True}}}


def _authorization(front: Front) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "allowed_headers": _exactly(_SENT),
        "http_service": {
            "server_uri": {"uri": f"http://{front.door}", "cluster": "bff_door", "timeout": "65s"},
            "path_prefix": f"{front.endpoint}{ENVOY.name}",
            # An instance that restarts refuses connections, or ends one that was kept: the next is asked. Questions may be repeated.
            "retry_policy": {"num_retries": 2, "retry_on": "connect-failure,reset"},
            "authorization_request": {"headers_to_add": [{"key": SECRET, "value": front.secret}]},
            "authorization_response": {
                "allowed_upstream_headers": _exactly(name.lower() for name in front.answer_headers),
                "allowed_client_headers": _exactly(_REFUSAL),
                "allowed_client_headers_on_success": _exactly(["set-cookie"]),
            },
        },
    }


def _exactly(names: Iterable[str]) -> dict[str, Any]:
    return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}


def _routes(front: Front) -> Iterable[dict[str, Any]]:
    yield {"match": {"prefix": front.endpoint}, "direct_response": {"status": 404}, "typed_per_filter_config": _unasked()}
    # WebSockets and event streams go through the door, which ends them with the session. No other upgrade is ever passed on.
    websocket = {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}
    events = {"name": "accept", "string_match": {"contains": "text/event-stream", "ignore_case": True}}
    yield _to_door({"prefix": "/", "headers": [websocket]}, upgrade_configs=[{"upgrade_type": "websocket", "enabled": True}])
    yield _to_door({"prefix": "/", "headers": [events]})
    for way in front.ways:
        yield _api(front, way)
    yield _to_door({"prefix": "/"})


def _to_door(match: dict[str, Any], **more: Any) -> dict[str, Any]:
    # The door has deadlines of its own; none here may cut a stream.
    again = {
        "retry_on": "connect-failure,reset",
        "num_retries": 2,
        "retriable_request_headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        "retry_host_predicate": [_OTHER_HOST],
    }
    route = {"cluster": "bff_door", "timeout": "0s", "idle_timeout": "920s", "retry_policy": again, **more}
    return {
        "match": match,
        "route": route,
        "request_headers_to_remove": [SECRET, "x-forwarded-host", "forwarded"],
        "typed_per_filter_config": _unasked(),
    }


def _unasked() -> dict[str, Any]:
    off = {"@type": f"{_TYPE}.config.route.v3.FilterConfig", "disabled": True}
    per_route = {"@type": f"{_TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
    return {_BEFORE: off, _ASK: per_route, _AFTER: off}


def _api(front: Front, way: Way) -> dict[str, Any]:
    limits = way.route.limits
    mutation = f"{_MUTATION}PerRoute"
    before = [_set(ROUTE, way.route.path)]
    per_filter: dict[str, Any] = {_BEFORE: {"@type": mutation, "mutations": {"request_mutations": before}}}
    if not way.keeps_cookies:
        per_filter[_AFTER] = {"@type": mutation, "mutations": {"request_mutations": [{"remove": "cookie"}]}}
    return {
        "match": _match(way),
        "route": {
            "cluster": f"bff_api_{way.index}",
            "prefix_rewrite": way.base,
            "host_rewrite_literal": way.upstream.authority,
            "timeout": f"{limits.total_s:g}s",
            "idle_timeout": f"{limits.idle_s:g}s",
        },
        "response_headers_to_remove": [name for name in ANSWER_NAMES if name not in {"server"}],
        "response_headers_to_add": _answer_headers(front, way),
        "typed_per_filter_config": per_filter,
    }


def _match(way: Way) -> dict[str, Any]:
    if way.reach == "":
        return {"path": way.route.path}
    return {"prefix" if way.reach == "/" else "path_separated_prefix": way.route.path}


def _answer_headers(front: Front, way: Way) -> list[dict[str, Any]]:
    fields = {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }
    if way.cache_control:
        fields["Cache-Control"] = way.cache_control
    if front.tls:
        fields["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    listed = [_set(name, value)["append"] for name, value in fields.items()]
    if way.cache_control:
        listed.append({"header": {"key": "Vary", "value": "Cookie"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"})
    return listed


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _cluster(name: str, *addresses: Address) -> dict[str, Any]:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _socket(address)}} for address in addresses]}
    looks = {"health_checks": [_LOOK]} if len(addresses) > 1 else {}
    return {
        "name": name,
        "type": "STRICT_DNS",
        **looks,
        "dns_lookup_family": "V4_PREFERRED",  # the default takes the IPv6 address alone where a name has both
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}]},
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
    }


def _api_cluster(way: Way) -> dict[str, Any]:
    upstream = way.upstream
    cluster = _cluster(f"bff_api_{way.index}", Address(upstream.host, upstream.port))
    cluster["connect_timeout"] = f"{way.route.limits.connect_s:g}s"
    if way.secure:
        named = [{"san_type": "IP_ADDRESS" if way.by_address else "DNS", "matcher": {"exact": upstream.host}}]
        context = {"trusted_ca": {"filename": upstream.ca_file or SYSTEM_CA}, "match_typed_subject_alt_names": named}
        kind = f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": kind,
                **({} if way.by_address else {"sni": upstream.host}),
                "common_tls_context": {"validation_context": context},
            },
        }
    return cluster
