"""A second place that remembers how far the session file had come: an older copy of it gives itself away (F42)."""

from __future__ import annotations

import os
from pathlib import Path

LINE_LENGTH = 40


class Mark:
    """The highest change position ever committed, in a small file beside the session file. Written without fsync, after
    the commit it speaks of is on the disk: it may lag, never lead. Two processes may set it back by a moment: harmless.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted = 0

    def read(self) -> int:
        """0 when there is none. OSError."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        return int(text) if text.strip().isdigit() else 0

    def note(self, position: int) -> None:
        """Remember ``position`` if it is further than before. OSError."""
        if position <= self._noted:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, f"{position:>{LINE_LENGTH - 1}}\n".encode(), 0)
        finally:
            os.close(descriptor)
        self._noted = position
