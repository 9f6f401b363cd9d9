"""Writing files that others must not read, and replacing them without a moment in which they are half there."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from bff.cli.report import USAGE, Stop

PRIVATE = 0o600


def write_new(path: Path, text: str, *, mode: int, force: bool = False) -> None:
    """Write ``text`` with ``mode`` from the first byte on. Stop if the file exists, unless ``force``."""
    if force:
        replace(path, text, mode=mode)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Stop(USAGE, f"{path} exists already", "name another file, or add --force to replace it") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def replace(path: Path, text: str, *, mode: int) -> None:
    """Put ``text`` in the place of the file at once: readers see the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
