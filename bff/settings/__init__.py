"""The configuration: typed, strict, complete. The root of the program uses it; no package imports it."""

from bff.settings.checks import find_dangers, find_warnings
from bff.settings.identity import build_identity
from bff.settings.load import load_settings
from bff.settings.model import Cookie, ForwardAuth, Log, Provider, Server, Session, Settings, Spa
from bff.settings.routes import RouteSettings, build_routes
from bff.settings.values import Listen, Url

__all__ = [
    "Cookie",
    "ForwardAuth",
    "Listen",
    "Log",
    "Provider",
    "RouteSettings",
    "Server",
    "Session",
    "Settings",
    "Spa",
    "Url",
    "build_identity",
    "build_routes",
    "find_dangers",
    "find_warnings",
    "load_settings",
]
