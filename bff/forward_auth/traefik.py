"""Traefik 3.6 or newer: ``forwardAuth``. Two files: the dynamic one says everything about requests, the static one where to listen.

Traefik removes headers by name alone, so a request with another member of a family that claims an identity is refused by us.
"""

from __future__ import annotations

from typing import Any

from bff.forward_auth.dialects import ROUTE, SECRET, TRAEFIK
from bff.forward_auth.front import SYSTEM_CA, Front, Way
from bff.forward_auth.stripping import ANSWER_NAMES, NAMES
from bff.forward_auth.yaml_text import build_yaml

DYNAMIC_FILE = "/etc/traefik/dynamic.yaml"
_STREAM = "HeaderRegexp(`Upgrade`, `(?i)^websocket$`) || HeaderRegexp(`Accept`, `(?i)text/event-stream`)"
# Traefik writes these itself, after dropping the browser's.
_TRAEFIKS = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-server", "x-real-ip"})


def build_traefik_static(front: Front) -> str:
    """Paths reach us as they were sent (``sanitizePath`` off, encoded characters let pass): the door and the endpoint refuse what is not
    canonical, and the endpoint what would go another way than it was judged."""
    encoded = ("Slash", "BackSlash", "NullCharacter", "Semicolon", "Percent", "QuestionMark", "Hash")
    host = "" if front.listen.host == "0.0.0.0" else front.listen.host  # noqa: S104 - compared, not bound
    return build_yaml(
        {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "WARN"},
            "entryPoints": {
                "bff": {
                    "address": f"{host}:{front.listen.port}",
                    "http": {"sanitizePath": False, "encodedCharacters": {f"allowEncoded{name}": True for name in encoded}},
                }
            },
            "providers": {"file": {"filename": DYNAMIC_FILE}},
        }
    )


def build_traefik(front: Front) -> str:
    tls: dict[str, Any] = {"tls": {}} if front.tls else {}
    routers: dict[str, Any] = {
        "bff-stream": {"rule": _STREAM, "priority": 100_000, "service": "bff-door", "middlewares": ["bff-to-door"], **_tls(front)},
        "bff-door": {"rule": "PathPrefix(`/`)", "priority": 1, "service": "bff-door", "middlewares": ["bff-to-door"], **_tls(front)},
    }
    middlewares: dict[str, Any] = {
        "bff-to-door": {"headers": {"customRequestHeaders": {SECRET: "", "Forwarded": "", "X-Request-Id": ""}}},
        "bff-ask": {"forwardAuth": _ask(front)},
    }
    services: dict[str, Any] = {"bff-door": _service(f"http://{front.door}", pass_host=True)}
    transports: dict[str, Any] = {}
    for way in front.ways:
        name = f"bff-api-{way.index}"
        routers[name] = {
            "rule": _rule(way),
            "priority": 10_000 - way.index,
            "service": name,
            "middlewares": [f"{name}-question", "bff-ask", *([f"{name}-path"] if way.base != way.route.path else []), f"{name}-judged"],
            **_tls(front),
        }
        middlewares[f"{name}-question"] = {"headers": {"customRequestHeaders": _question(front, way)}}
        middlewares[f"{name}-judged"] = {"headers": _judged(front, way)}
        if way.base != way.route.path:
            middlewares[f"{name}-path"] = {"replacePathRegex": {"regex": way.path_pattern, "replacement": f"{way.base}$1"}}
        services[name] = _service(f"{way.upstream.scheme}://{way.server}", pass_host=False, transport=name)
        transports[name] = _transport(way)
    http = {
        "routers": routers,
        "middlewares": middlewares,
        "services": services,
        **({"serversTransports": transports} if transports else {}),
    }
    document: dict[str, Any] = {"http": http}
    if tls:
        document["tls"] = {"certificates": [{"certFile": front.tls_cert_file, "keyFile": front.tls_key_file}]}
    return build_yaml(document)


def _tls(front: Front) -> dict[str, Any]:
    return {"entryPoints": ["bff"], **({"tls": {}} if front.tls else {})}


def _rule(way: Way) -> str:
    path = way.route.path
    if way.reach == "":
        return f"Path(`{path}`)"
    return f"PathPrefix(`{path}`)" if way.reach == "/" else f"Path(`{path}`) || PathPrefix(`{path}/`)"


def _ask(front: Front) -> dict[str, Any]:
    return {
        "address": f"http://{front.door}{front.endpoint}{TRAEFIK.name}",
        "trustForwardHeader": False,
        "maxResponseBodySize": 65_536,
        "authResponseHeaders": [*front.answer_headers, SECRET, ROUTE],
        "addAuthCookiesToResponse": [front.cookie],
    }


def _question(front: Front, way: Way) -> dict[str, str]:
    return {SECRET: front.secret, ROUTE: way.route.path, "Upgrade": "", "Forwarded": "", "X-Request-Id": ""}


def _judged(front: Front, way: Way) -> dict[str, Any]:
    kept = _TRAEFIKS | {name.lower() for name in front.answer_headers}
    request = {name: "" for name in (*NAMES, front.csrf_header, "X-Replaced-Path") if name not in kept}
    # Its own word is "wss" for any Upgrade that names a websocket, and such a one was asked about without it.
    request |= {"X-Forwarded-Proto": front.origin.partition(":")[0], "X-Forwarded-Host": front.authority}
    if not way.keeps_cookies:
        request["Cookie"] = ""
    answer = {name: "" for name in ANSWER_NAMES}
    if way.cache_control:
        answer |= {"Cache-Control": way.cache_control, "Vary": "Cookie"}
    answer |= {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }
    if front.tls:
        answer["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    lowered = {name.lower() for name, value in answer.items() if value}
    return {
        "customRequestHeaders": request,
        "customResponseHeaders": {name: value for name, value in answer.items() if value or name not in lowered},
    }


def _service(url: str, *, pass_host: bool, transport: str = "") -> dict[str, Any]:
    balancer: dict[str, Any] = {"passHostHeader": pass_host, "servers": [{"url": url}]}
    if transport:
        balancer["serversTransport"] = transport
    else:
        balancer["responseForwarding"] = {"flushInterval": "-1ms"}
    return {"loadBalancer": balancer}


def _transport(way: Way) -> dict[str, Any]:
    limits = way.route.limits
    transport: dict[str, Any] = {
        "forwardingTimeouts": {"dialTimeout": f"{limits.connect_s:g}s", "responseHeaderTimeout": f"{limits.head_s:g}s"}
    }
    if way.secure:
        transport |= {"serverName": way.upstream.host, "rootCAs": [way.upstream.ca_file or SYSTEM_CA]}
    return transport
