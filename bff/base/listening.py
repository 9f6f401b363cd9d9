"""What holds for every listening socket."""

from __future__ import annotations

import sys
from typing import Any, Final

BACKLOG: Final = 4096
"""How many connections may wait to be accepted, in every process: who calls ``listen`` last on a shared one decides for all of them."""

KEEPS_PATH: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""For ``create_unix_server`` on a socket that others hold too. From Python 3.13 on the loop removes the path of a socket that it closes,
and a successor's callers would find nobody there."""
