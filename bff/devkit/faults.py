"""Turning the fault knobs into answers: wrong statuses, wrong bodies, no answer for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quart import Quart, Response, g, request

from bff.devkit.knobs import Fault
from bff.devkit.state import DevProvider
from bff.devkit.web import json_answer

ENDPOINTS = {
    "/.well-known/openid-configuration": "discovery",
    "/jwks": "jwks",
    "/authorize": "authorize",
    "/par": "par",
    "/token": "token",
    "/userinfo": "userinfo",
    "/revoke": "revoke",
    "/introspect": "introspect",
    "/end-session": "end_session",
}
DRIP_S = 60.0
HTML = "<!doctype html><html><body><h1>502 Bad Gateway</h1><script>document.title='devkit-fault'</script></body></html>"


def install_faults(app: Quart, provider: DevProvider) -> None:
    @app.before_request
    async def before() -> Response | None:
        endpoint = ENDPOINTS.get(request.path)
        if endpoint is None:
            return None
        provider.ledger.count_request(endpoint)
        g.fault = fault = provider.knobs.take_fault(endpoint)
        if fault is None or fault.after:
            return None
        await asyncio.sleep(fault.delay_s)
        return fault_answer(fault) if fault.replaces_answer else None

    @app.after_request
    async def after(answer: Response) -> Response:
        fault: Fault | None = g.get("fault")
        if fault is None:
            return answer
        if fault.after:
            await asyncio.sleep(fault.delay_s)
            answer = fault_answer(fault) if fault.replaces_answer else answer
        answer.headers.update(fault.headers)
        return answer


def fault_answer(fault: Fault) -> Response:
    """The answer a fault asks for. ``huge`` is sent as a stream of ``size_bytes``, ``drip`` one byte at a time for a minute."""
    if fault.error:
        return json_answer({"error": fault.error, "error_description": "a fault knob is turned"}, fault.status or 400)
    status = fault.status or 200
    match fault.body:
        case "html":
            return Response(HTML, status=status, content_type="text/html; charset=utf-8")
        case "array":
            return json_answer([1, 2, 3], status)
        case "number":
            return json_answer(42, status)
        case "text":
            return Response("upstream connect error", status=status, content_type="text/plain")
        case "redirect":
            return Response(status=fault.status or 302, headers={"Location": "http://127.0.0.1:9/elsewhere"})
        case "truncated":
            answer = _streamed(_cut_short(), status)
            answer.headers["Content-Length"] = "4096"
            return answer
        case "huge":
            return _streamed(_huge(fault.size_bytes), status)
        case "drip":
            return _streamed(_drip(), status)
        case _:
            return Response("", status=status, content_type="application/json")


def _streamed(body: AsyncIterator[bytes], status: int) -> Response:
    answer = Response(body, status=status, content_type="application/json")
    answer.timeout = None
    return answer


async def _cut_short() -> AsyncIterator[bytes]:
    yield b'{"access_token": "abc'


async def _huge(size: int) -> AsyncIterator[bytes]:
    yield b'{"padding": "'
    for _ in range(size // 65_536):
        yield b"x" * 65_536
    yield b'"}'


async def _drip() -> AsyncIterator[bytes]:
    yield b'{"a": "'
    for _ in range(int(DRIP_S / 0.5)):
        yield b"x"
        await asyncio.sleep(0.5)
