"""Every ``code`` of a refusal and the title people see. The pages under docs/errors follow this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # the head: bff.proxy.head and what it reads with
        "request_malformed": "The request is malformed",
        "target_refused": "The address is not canonical",
        "target_too_long": "The address is too long",
        "head_too_large": "The request head is too large",
        "body_too_large": "The request body is too large",
        "method_unknown": "Unknown method",
        "method_refused": "Method not allowed",
        "version_refused": "HTTP version not supported",
        "expectation_refused": "Expectation failed",
        "host_unknown": "Unknown host",
        "loop_detected": "Loop detected",
        "websocket_malformed": "The WebSocket handshake is malformed",
        "websocket_version": "WebSocket version not supported",
        "forwards_exhausted": "Max-Forwards reached zero",
        "request_timeout": "The request took too long to arrive",
        # screen
        "https_required": "HTTPS is required",
        "csrf_header_missing": "The CSRF header is missing",
        "cross_origin": "Cross-origin request refused",
        "destination_refused": "This address is not a page, script or frame",
        "content_type_refused": "Content type refused",
        "login_needs_navigation": "Sign-in starts with a navigation",
        "navigation_refused": "This navigation is refused",
        # decide
        "route_unknown": "Not found",
        "unauthenticated": "Sign-in required",
        "insufficient_scope": "Insufficient scope",
        "claim_required": "Not permitted for this account",
        "step_up_required": "Stronger or fresher sign-in required",
        "upstream_unmapped": "No destination for this account",
        # failures, rendered as refusals in one place: bff.proxy.gatekeeper and the exchange
        "session_gone": "Sign-in required",
        "grant_revoked": "Sign-in required",
        "grant_refused": "The sign-in service refused a token for this route",
        "store_unavailable": "Temporarily unavailable",
        "provider_unavailable": "The sign-in service is not reachable",
        "provider_error": "The sign-in service answered in a way we cannot use",
        "provider_misbehaved": "The sign-in service answered in a way we cannot use",
        "token_invalid": "The sign-in service answered in a way we cannot use",
        "upstream_error": "The API gave no usable answer",
        "upstream_unreachable": "The API is not reachable",
        "upstream_timeout": "The API took too long",
        "upstream_protocol": "The API gave no usable answer",
        # the relay: bff.proxy.refusals
        "body_malformed": "The request body is malformed",
        "body_timeout": "The request body took too long to arrive",
        "head_timeout": "The request took too long to arrive",
        "route_busy": "Too many requests at once",
        "session_busy": "Too many requests at once",
        "too_many_connections": "Too many connections",
        "overloaded": "Too many requests at once",
        "draining": "Restarting",
        "internal_error": "Something went wrong on our side",
    }
)
