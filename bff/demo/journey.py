"""``bff demo --once``: the whole journey over real sockets, each step with what the browser and what the API saw.

Every step states what must hold and checks it; the first that does not ends the journey.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bff.demo.visitor import Answer, Visitor, fetch_headers, page_headers, read_forms
from bff.demo.world import World

CSRF = {"X-CSRF": "1"}
SHORT_LIFE_S = 3


class StepFailed(Exception):
    """A step whose promise did not hold."""


def demand(holds: bool, what: str) -> None:
    """Raise StepFailed unless ``holds``."""
    if not holds:
        raise StepFailed(what)


@dataclass(slots=True)
class Journey:
    """One visitor walking through one world. ``say`` prints a line."""

    world: World
    say: Callable[[str], None]
    visitor: Visitor = field(default_factory=Visitor)
    _token_ids: list[str] = field(default_factory=list)

    def run(self) -> bool:
        """Walk every step in order; True if all of them held."""
        steps = [
            self.arrive, self.sign_in, self.see_the_user, self.call_the_api, self.forget_the_header,
            self.outlive_the_token, self.open_a_websocket, self.follow_events, self.sign_out,
        ]  # fmt: skip
        for number, step in enumerate(steps, 1):
            title = (step.__doc__ or "").splitlines()[0]
            try:
                seen = step()
            except (StepFailed, OSError, ValueError, KeyError) as error:
                self.say(f"{number}. FAILED  {title}\n      {type(error).__name__}: {error}")
                return False
            self.say(f"{number}. ok      {title}")
            for line in seen:
                self.say(f"      {line}")
        return True

    def arrive(self) -> list[str]:
        """A stranger opens the app: no cookie is set, and the API answers nobody."""
        page = self.visitor.visit(f"{self.world.app}/")
        demand(page.status == 200, f"the app's page answered {page.status}")
        demand(not self.visitor.jar.get("localhost"), "a cookie was set before anybody signed in")
        user = self._fetch("GET", "/bff/user")
        told = user.header("Content-Type").startswith("application/problem+json")
        demand(user.status == 401 and told, f"/bff/user answered {user.status}")
        call = self._fetch("GET", "/api/whoami")
        demand(call.status == 401 and not call.header("Location"), f"the API call answered {call.status}")
        return [f"browser saw: {user.status} {user.json()['code']}, no redirect, no cookie"]

    def sign_in(self) -> list[str]:
        """Signing in at the provider (another site), with a form a person submits."""
        self._knob(access_token_s=SHORT_LIFE_S)
        page = self._to_provider()
        form = read_forms(page.body)[0]
        page = self.visitor.submit(page, form, {"person": "ada"})
        if page.url.startswith(self.world.provider):
            page = self.visitor.submit(page, read_forms(page.body)[0], {"decision": "allow"})
        demand(page.url == f"{self.world.app}/?signed-in", f"sign-in ended at {page.url.split('?')[0]}")
        demand(page.status == 200, f"the app answered {page.status} after sign-in")
        cookies = self.visitor.jar["localhost"]
        demand(list(cookies) == ["__Host-Http-bff"], f"the browser holds {sorted(cookies)}")
        return [f"browser holds: one HttpOnly cookie, __Host-Http-bff, {len(cookies['__Host-Http-bff'])} characters, and no token"]

    def see_the_user(self) -> list[str]:
        """The app asks who is signed in."""
        user = self._fetch("GET", "/bff/user")
        demand(user.status == 200, f"/bff/user answered {user.status}")
        found = user.json()
        demand("access_token" not in user.body.decode() and "eyJ" not in user.body.decode(), "a token was in the answer")
        session = found.pop("session")
        return [f"browser saw: {json.dumps(found)}", f"session ends in {session['expires_in']} s because of: {session['expires_because']}"]

    def call_the_api(self) -> list[str]:
        """The app calls the API; the cookie becomes a JWT on the way."""
        call = self._fetch("GET", "/api/whoami")
        demand(call.status == 200, f"the API answered {call.status}")
        return self._received(call)

    def forget_the_header(self) -> list[str]:
        """The same call without X-CSRF is refused before the API hears of it."""
        call = self.visitor.ask("GET", f"{self.world.app}/api/whoami", fetch_headers())
        demand(call.status == 403, f"answered {call.status}")
        return [f"browser saw: {call.status} {call.json()['code']}"]

    def outlive_the_token(self) -> list[str]:
        """The access token expires; the next call works all the same, with a new one."""
        time.sleep(SHORT_LIFE_S + 0.2)
        before = self._token_ids[-1]
        call = self._fetch("GET", "/api/whoami")
        demand(call.status == 200, f"the API answered {call.status}")
        seen = self._received(call)
        demand(self._token_ids[-1] != before, "the API received the old token")
        self._knob(access_token_s=300)
        return seen

    def open_a_websocket(self) -> list[str]:
        """A WebSocket from our own page is opened, from another site's page it is not."""
        socket_url = f"{self.world.app}/api/echo"
        status, said = self.visitor.talk(socket_url, self.world.app, "hello")
        demand(status == 101, f"the handshake answered {status}")
        foreign, _ = self.visitor.talk(socket_url, "https://evil.example", "hello")
        demand(foreign == 403, f"a foreign Origin got {foreign}")
        return [f"browser saw: {status} and {said[:100]}", f"from another origin: {foreign}"]

    def follow_events(self) -> list[str]:
        """Server-sent events arrive one by one."""
        events = self.visitor.events(f"{self.world.app}/api/ticks", 3)
        demand(len(events) == 3, f"{len(events)} events arrived")
        return [f"browser saw: {len(events)} events, the last: {events[-1][:100]}"]

    def sign_out(self) -> list[str]:
        """Signing out ends the session here and at the provider; the old cookie is worthless."""
        old = dict(self.visitor.jar["localhost"])
        gone = self._fetch("POST", "/bff/logout")
        demand(gone.status == 200, f"/bff/logout answered {gone.status}")
        demand(not self.visitor.jar["localhost"], "a cookie is left")
        landed = self.visitor.visit(gone.json()["logout_url"], site="cross-site")
        if landed.url.startswith(self.world.provider):
            landed = self.visitor.submit(landed, read_forms(landed.body)[0], {"confirm": "yes"})
        demand(landed.url.startswith(f"{self.world.app}/"), "the provider did not lead back to the app")
        self.visitor.jar["localhost"] = old
        replay = self._fetch("GET", "/api/whoami")
        demand(replay.status == 401, f"the old cookie got {replay.status}")
        return [f"browser saw: signed out, back at {landed.url.split('?')[0]}", f"the saved cookie, replayed: {replay.status}"]

    def _to_provider(self) -> Answer:
        start = self.visitor.ask("GET", f"{self.world.app}/bff/login?return_to=%2F%3Fsigned-in", page_headers("same-origin"))
        demand(start.status in (302, 303), f"/bff/login answered {start.status}")
        return self.visitor.visit(start.header("Location"), site="cross-site")

    def _fetch(self, method: str, path: str) -> Answer:
        origin = {"Origin": self.world.app} if method != "GET" else {}
        return self.visitor.ask(method, f"{self.world.app}{path}", {**fetch_headers(), **CSRF, **origin})

    def _knob(self, **changes: Any) -> None:
        body = json.dumps(changes).encode()
        answer = Visitor().ask("POST", f"{self.world.provider}/admin/knobs", {"Content-Type": "application/json"}, body)
        demand(answer.status == 200, f"the provider's knobs answered {answer.status}")

    def _received(self, call: Answer) -> list[str]:
        seen = call.json()
        received, caller = seen["received"], seen["caller"]
        demand(received["authorization"] == "Bearer", "no bearer token reached the API")
        demand(not received["cookie_arrived"], "a cookie reached the API")
        self._token_ids.append(caller["jti"])
        shown = {name: caller[name] for name in ("sub", "aud", "scope") if name in caller}
        return [f"API received: Bearer JWT {caller['jti'][:8]}… {json.dumps(shown)}, no cookie"]
