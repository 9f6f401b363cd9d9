"""The development provider as a process, and its side door."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.programs import PYTHON, Program, free_port

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Provider:
    """A running devkit provider with one or more clients (dicts as ``bff.devkit.model.read_client`` reads them)."""

    def __init__(self, *, folder: Path, clients: list[dict[str, Any]], audience: str, port: int = 0, extra: tuple[str, ...] = ()) -> None:
        self.port = port or free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._clients = [json.dumps(client) for client in clients]
        self._audience = audience
        self._extra = extra
        self._log = folder / f"provider-{self.port}.log"
        self.program = self._start()

    def _start(self) -> Program:
        arguments = [PYTHON, "-m", "bff.devkit", "--port", str(self.port), "--audience", self._audience, "--remember-secrets", *self._extra]
        for client in self._clients:
            arguments += ["--client", client]
        program = Program(arguments, log_file=self._log)
        program.wait_ready(lambda: bool(self._get("/.well-known/openid-configuration")))
        return program

    def restart(self) -> None:
        """The same provider again, having forgotten everything, its keys included."""
        self.program.stop()
        self.program = self._start()

    def stop(self) -> None:
        self.program.stop()

    def _get(self, path: str) -> Any:
        with _OPENER.open(f"{self.issuer}{path}", timeout=10) as answer:
            return json.load(answer)

    def _post(self, path: str, body: Any = None, *, form: str | None = None) -> Any:
        data = form.encode() if form is not None else json.dumps(body or {}).encode()
        kind = "application/x-www-form-urlencoded" if form is not None else "application/json"
        request = urllib.request.Request(f"{self.issuer}{path}", data, {"Content-Type": kind})
        with _OPENER.open(request, timeout=10) as answer:
            return json.load(answer)

    def knobs(self, **changes: Any) -> None:
        self._post("/admin/knobs", changes)

    def fault(self, endpoint: str, **fault: Any) -> None:
        """Turn one endpoint's fault; with no arguments, take it away."""
        self.knobs(faults={endpoint: fault} if fault else {})

    def mutate(self, **mutation: Any) -> None:
        """Spoil the next token (see bff.devkit.knobs.Mutation)."""
        self.knobs(mutations=[mutation])

    def reset(self) -> None:
        """All knobs back, ledger empty. Sign-ins and grants stay."""
        self._post("/admin/reset")

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._get("/admin/state")
        return state

    def secrets(self) -> list[str]:
        secrets: list[str] = self._get("/admin/secrets")
        return secrets

    def ledger(self, kind: str, **match: Any) -> list[dict[str, Any]]:
        """Entries of one kind (authorization_code, refresh_token, revocation, backchannel_logout, ...) with these members."""
        entries = self.state()["entries"]
        return [entry for entry in entries if entry["kind"] == kind and all(entry.get(name) == value for name, value in match.items())]

    def requests(self, endpoint: str) -> int:
        return int(self.state()["requests"].get(endpoint, 0))

    def wait_ledger(self, kind: str, count: int = 1, timeout_s: float = 5.0, **match: Any) -> list[dict[str, Any]]:
        """Entries, once there are ``count``; what there is when the time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            entries = self.ledger(kind, **match)
            if len(entries) >= count or time.monotonic() > deadline:
                return entries
            time.sleep(0.03)

    def rotate_keys(self, *, withdraw: bool = False) -> None:
        self._post(f"/admin/rotate-keys{'?withdraw=1' if withdraw else ''}")

    def expire_tokens(self) -> None:
        self._post("/admin/expire-tokens")

    def sign_out(self, sub: str) -> int:
        return int(self._post("/admin/sign-out", form=f"sub={sub}")["clients_told"])

    def logout_token(self, **wish: Any) -> str:
        return str(self._post("/admin/logout-token", wish)["logout_token"])


def sub_of(person: str) -> str:
    """The subject identifiers of the demo people."""
    return {"ada": "ada-7c1f04", "ben": "ben-58e2b9", "chloe": "chloe-93d6aa"}[person]


def as_client(client_id: str, origin: str, secret: str, *, post_logout_path: str = "/", **more: Any) -> Mapping[str, Any]:
    """A client registration for a token handler at ``origin``."""
    return {
        "client_id": client_id,
        "client_secret": secret,
        "redirect_uris": [f"{origin}/bff/callback"],
        "post_logout_redirect_uris": [f"{origin}{post_logout_path}"],
        "backchannel_logout_uri": f"{origin}/bff/backchannel-logout",
        **more,
    }
