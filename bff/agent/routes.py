"""The agent's rows of the route table. The door and the gatekeeper read them; ``app`` finds its handler by their names."""

from __future__ import annotations

from bff.policy.routes import Admission, Limits, Route, Upstream

LOGIN = "bff.login"
CALLBACK = "bff.callback"
USER = "bff.user"
SESSIONS = "bff.sessions"
SESSIONS_END = "bff.sessions-end"
LOGOUT = "bff.logout"
BACKCHANNEL = "bff.backchannel-logout"
CLIENT_JS = "bff.client.js"
OPENAPI = "bff.openapi.json"
SPA = "spa"

MAX_BODY_BYTES = 64 * 1024
"""Nothing that the agent reads is larger: a logout token, a form, a small JSON object."""

_LIMITS = Limits(body_bytes=MAX_BODY_BYTES, head_s=30.0, total_s=60.0, concurrent_per_session=32)


def agent_routes(prefix: str = "/bff", *, spa: bool = True, spa_upstream: Upstream | None = None) -> list[Route]:
    """The table's rows for ``prefix``, all exact but the SPA's, which takes what no other route wants.

    ``spa_upstream`` is a development server to ask for the SPA's files instead of the agent; ``spa=False`` serves none.
    None of them counts as user activity: asking who is signed in must not keep the session alive (SESS-6).
    """
    rows = [
        _row(LOGIN, f"{prefix}/login", Admission.NAVIGATION, "GET"),
        _row(CALLBACK, f"{prefix}/callback", Admission.RETURN_NAVIGATION, "GET"),
        _row(USER, f"{prefix}/user", Admission.API, "GET", session=True),
        _row(SESSIONS, f"{prefix}/sessions", Admission.API, "GET", session=True),
        _row(SESSIONS_END, f"{prefix}/sessions/end", Admission.API, "POST", session=True, json_body=True),
        _row(LOGOUT, f"{prefix}/logout", Admission.FORM, "POST"),
        _row(BACKCHANNEL, f"{prefix}/backchannel-logout", Admission.MACHINE, "POST"),
        _row(CLIENT_JS, f"{prefix}/client.js", Admission.OPEN, "GET", "HEAD"),
        _row(OPENAPI, f"{prefix}/openapi.json", Admission.OPEN, "GET", "HEAD"),
    ]
    if spa_upstream is not None:
        rows.append(_spa(spa_upstream))
    elif spa:
        rows.append(_spa(None))
    return rows


def _row(name: str, path: str, admission: Admission, *methods: str, session: bool = False, json_body: bool = False) -> Route:
    return Route(
        name=name,
        path=path,
        admission=admission,
        methods=frozenset(methods),
        exact=True,
        session=session,
        json_body=json_body,
        limits=_LIMITS,
        activity=False,
        navigable=admission in (Admission.NAVIGATION, Admission.RETURN_NAVIGATION),
        cache="no-store",
    )


def _spa(upstream: Upstream | None) -> Route:
    return Route(
        name=SPA,
        path="/",
        admission=Admission.OPEN,
        methods=frozenset({"GET", "HEAD"}),
        upstream=upstream,
        activity=False,
        navigable=True,
        cache="upstream",
    )
