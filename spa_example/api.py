"""An example API. It sits behind the token handler but trusts nobody: every call proves itself with a JWT of its own.

Each answer says who called and what arrived, so that the demo page can show both sides of the token handler: no cookie
here, no token in the browser.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart import Quart, Response, jsonify, request, websocket
from werkzeug.datastructures import Headers

from spa_example.tokens import Caller, CallRefused, TokenChecker, fetch_keys_of, read_bearer

SHOWN_CLAIMS = ("iss", "sub", "aud", "client_id", "scope", "jti", "exp", "acr", "auth_time", "department", "region", "roles")
LONGEST_S = 60.0
LARGEST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Orders:
    """The shop: what everybody sees, newest first. Bound: the last 200."""

    items: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=200))
    next_id: int = 1004

    @classmethod
    def with_samples(cls) -> Orders:
        samples = (("Standing desk", 2, "eu"), ("Desk lamp", 6, "us"), ("Office chair", 4, "eu"))
        made = ({"id": 1001 + n, "item": item, "quantity": q, "region": region} for n, (item, q, region) in enumerate(samples))
        return cls(deque(made, maxlen=200))

    def add(self, item: str, quantity: int, caller: Caller) -> dict[str, Any]:
        order = {"id": self.next_id, "item": item, "quantity": quantity, "region": caller.claims.get("region", ""), "by": caller.subject}
        self.next_id += 1
        self.items.appendleft(order)
        return order


@dataclass(frozen=True, slots=True)
class Shop:
    """What the views need."""

    checker: TokenChecker
    orders: Orders
    payments_acr: str
    tick_s: float

    async def caller(self, headers: Headers, query_names: list[str], *scopes: str) -> Caller:
        """Who calls, if their token is good and has all of ``scopes``; CallRefused otherwise."""
        caller = await self.checker.check(read_bearer(headers.getlist("Authorization"), query_names))
        if missing := set(scopes) - caller.scopes:
            raise CallRefused(403, "insufficient_scope", "a scope is missing", scope=" ".join(sorted(missing)))
        return caller

    def demand_acr(self, caller: Caller) -> None:
        """Step-up challenge (RFC 9470 §3) unless the sign-in was strong enough."""
        if caller.claims.get("acr") != self.payments_acr:
            raise CallRefused(401, "insufficient_user_authentication", "a stronger sign-in is needed", acr_values=self.payments_acr)


def what_arrived(caller: Caller) -> dict[str, Any]:
    """For the demo page: the caller's claims, and which headers came. Their values stay here where they are secret."""
    shown = {name: value for name, value in request.headers.items() if name.lower() not in ("authorization", "cookie")}
    return {
        "caller": {name: caller.claims[name] for name in SHOWN_CLAIMS if name in caller.claims},
        "received": {
            "authorization": request.headers.get("Authorization", "").partition(" ")[0],
            "cookie_arrived": "Cookie" in request.headers,
            "csrf_header_arrived": "X-Csrf" in request.headers,
            "headers": shown,
        },
    }


def build_api(
    *,
    issuer: str,
    audience: str,
    checker: TokenChecker | None = None,
    payments_acr: str = "mfa",
    tick_s: float = 1.0,
    keys_max_age_s: float = 5.0,
) -> Quart:
    """The API for tokens of ``issuer`` meant for ``audience``. ``tick_s`` is the pause between events of /ticks."""
    app = Quart("spa_example.api", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_BYTES, RESPONSE_TIMEOUT=None, PROPAGATE_EXCEPTIONS=False)
    fresh = checker or TokenChecker(issuer=issuer, audience=audience, fetch_keys=fetch_keys_of(issuer), keys_max_age_s=keys_max_age_s)
    shop = Shop(fresh, Orders.with_samples(), payments_acr, tick_s)
    _install_refusals(app)
    _install_orders(app, shop)
    _install_demonstrations(app, shop)
    _install_streams(app, shop)
    return app


def _install_refusals(app: Quart) -> None:
    @app.errorhandler(CallRefused)
    async def refused(refusal: CallRefused) -> Response:
        answer = jsonify(error=refusal.error or "unauthorized", detail=refusal.description or "an access token is needed")
        answer.status_code = refusal.status
        if refusal.status in (401, 403, 400):
            answer.headers["WWW-Authenticate"] = refusal.challenge
        return answer

    @app.after_request
    async def headers(answer: Response) -> Response:
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


def _install_orders(app: Quart, shop: Shop) -> None:
    async def admit(*scopes: str) -> Caller:
        return await shop.caller(request.headers, list(request.args), *scopes)

    @app.get("/health")
    async def health() -> Response:
        return jsonify(status="ok")

    @app.get("/orders")
    async def list_orders() -> Response:
        caller = await admit("orders:read")
        return jsonify(orders=list(shop.orders.items), **what_arrived(caller))

    @app.get("/orders/<int:order_id>")
    async def show_order(order_id: int) -> Response:
        caller = await admit("orders:read")
        found = [order for order in shop.orders.items if order["id"] == order_id]
        return jsonify(orders=found, **what_arrived(caller))

    @app.post("/orders")
    async def create_order() -> Response:
        caller = await admit("orders:read", "orders:write")
        item, quantity = read_order(await request.get_json(silent=True))
        answer = jsonify(order=shop.orders.add(item, quantity, caller), **what_arrived(caller))
        answer.status_code = 201
        return answer

    @app.get("/payments")
    async def payments() -> Response:
        caller = await admit()
        shop.demand_acr(caller)
        waiting = {"id": "P-77", "amount": "1 280.00", "currency": "EUR", "state": "waiting for release"}
        return jsonify(payments=[waiting], **what_arrived(caller))


def read_order(body: object) -> tuple[str, int]:
    """Item and quantity of a new order. CallRefused 400 when they make no sense."""
    if isinstance(body, Mapping):
        item, quantity = body.get("item"), body.get("quantity", 1)
        if isinstance(item, str) and 0 < len(item) <= 200 and isinstance(quantity, int) and 0 < quantity < 10_000:
            return item, quantity
    raise CallRefused(400, "invalid_request", "an order is an item and a quantity")


def _install_demonstrations(app: Quart, shop: Shop) -> None:
    async def admit() -> Caller:
        return await shop.caller(request.headers, list(request.args))

    @app.get("/whoami")
    async def whoami() -> Response:
        caller = await admit()
        return jsonify(sub=caller.subject, echo=request.args.get("echo", ""), **what_arrived(caller))

    @app.route("/echo-body", methods=["POST", "PUT", "PATCH"])
    async def echo_body() -> Response:
        caller = await admit()
        body = await request.get_data(as_text=False)
        return jsonify(length=len(body), sub=caller.subject)

    @app.get("/slow")
    async def slow() -> Response:
        caller = await admit()
        await asyncio.sleep(read_number("seconds", 2.0, LONGEST_S))
        return jsonify(sub=caller.subject)

    @app.get("/download")
    async def download() -> Response:
        await admit()
        size = int(read_number("bytes", 1_048_576, LARGEST_BYTES))
        return Response(_pieces(size), content_type="application/octet-stream")


async def _pieces(size: int) -> AsyncIterator[bytes]:
    """``size`` bytes in 16 KiB pieces, sent chunked: no length is announced."""
    piece = bytes(range(256)) * 64
    for start in range(0, size, len(piece)):
        yield piece[: size - start]


def read_number(name: str, default: float, most: float) -> float:
    try:
        return min(max(float(request.args.get(name, default)), 0.0), most)
    except ValueError as error:
        raise CallRefused(400, "invalid_request", f"{name} is not a number") from error


def _install_streams(app: Quart, shop: Shop) -> None:
    @app.get("/ticks")
    async def ticks() -> Response:
        caller = await shop.caller(request.headers, list(request.args))
        last = request.headers.get("Last-Event-ID", "")
        start = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 16 else 1
        count = int(read_number("count", 0, 1_000_000))
        answer = Response(_ticks(caller, start, count, shop.tick_s), content_type="text/event-stream")
        answer.timeout = None
        return answer

    @app.websocket("/echo")
    async def echo() -> tuple[str, int, dict[str, str]] | None:
        try:
            caller = await shop.caller(websocket.headers, list(websocket.args))
        except CallRefused as refusal:
            return "", refusal.status, {"WWW-Authenticate": refusal.challenge}
        await websocket.accept()
        await websocket.send(json.dumps({"hello": caller.subject, "cookie_arrived": "Cookie" in websocket.headers}))
        while True:
            await websocket.send(await websocket.receive())


async def _ticks(caller: Caller, start: int, count: int, tick_s: float) -> AsyncIterator[bytes]:
    """Events numbered from ``start``, so that a reconnecting browser misses none (HTML §9.2, Last-Event-ID)."""
    number = start
    yield b"retry: 1000\n\n"
    while count == 0 or number < start + count:
        data = json.dumps({"tick": number, "at": round(time.time(), 3), "sub": caller.subject})
        yield f"id: {number}\nevent: tick\ndata: {data}\n\n".encode()
        number += 1
        await asyncio.sleep(tick_s)


async def serve_api(app: Quart, *, bind: str, stop: asyncio.Event | None = None) -> None:
    """Serve on ``bind`` (``host:port`` or ``fd://N``) until ``stop`` is set or the task is cancelled."""
    config = Config()
    config.bind = [bind]
    config.errorlog = None
    config.graceful_timeout = 0.2
    config.websocket_max_message_size = LARGEST_BYTES
    ended = stop or asyncio.Event()
    serving = asyncio.ensure_future(serve(cast(ASGIFramework, app), config, shutdown_trigger=ended.wait))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:  # let open connections end instead of cancelling them
        ended.set()
        await serving
        raise


async def run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = build_api(issuer=options.issuer, audience=options.audience, tick_s=options.tick, keys_max_age_s=options.keys_max_age)
    await serve_api(app, bind=f"{options.host}:{options.port}", stop=stop)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spa_example.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9401)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", required=True)
    parser.add_argument("--tick", type=float, default=1.0, help="seconds between events of /ticks")
    parser.add_argument("--keys-max-age", type=float, default=5.0, help="seconds a withdrawn key is still believed")
    return parser


def main(run_it: Callable[[argparse.Namespace], Any] = run) -> None:
    asyncio.run(run_it(build_parser().parse_args()))


if __name__ == "__main__":
    main()
