"""How many connections may wait to be accepted."""

from __future__ import annotations

from typing import Final

BACKLOG: Final = 4096
"""For every listening socket, in every process: who calls ``listen`` last on a shared one decides for all of them."""
