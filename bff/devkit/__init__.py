"""A provider for development and tests: every feature the product speaks, every fault it must survive. Loopback only."""

from bff.devkit.app import build_provider
from bff.devkit.knobs import Fault, Knobs, Mutation
from bff.devkit.loopback import listen_loopback
from bff.devkit.model import DevClient
from bff.devkit.people import DEMO_PEOPLE, Person
from bff.devkit.serve import serve_provider
from bff.devkit.state import DevProvider

__all__ = [
    "DEMO_PEOPLE",
    "DevClient",
    "DevProvider",
    "Fault",
    "Knobs",
    "Mutation",
    "Person",
    "build_provider",
    "listen_loopback",
    "serve_provider",
]
