"""Looking for secrets where they must not be: logs, stores, pages, process titles (NOSECRET)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

SHORTEST = 16


def spellings(secret: str) -> set[bytes]:
    """A secret as it might be written: plain, percent-encoded, base64, and the signature of a JWT by itself."""
    plain = {secret, quote(secret, safe=""), secret.rpartition(".")[2] if secret.count(".") == 2 else secret}
    encoded = {base64.b64encode(secret.encode()).decode().rstrip("="), base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")}
    return {text.encode() for text in plain | encoded if len(text) >= SHORTEST}


def find_secrets(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[str]:
    """Sentences naming the place and the first characters of each secret found there."""
    found = []
    for secret in {secret for secret in secrets if len(secret) >= SHORTEST}:
        for text in spellings(secret):
            found += [f"{place} holds {secret[:6]}…({len(secret)} characters)" for place, content in places.items() if text in content]
    return sorted(set(found))


def read_places(*paths: Path) -> dict[str, bytes]:
    """The content of files, and of every file below folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def process_titles(pids: Iterable[int]) -> dict[str, bytes]:
    """Command lines, which every user of the machine can read."""
    return {f"cmdline of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if Path(f"/proc/{pid}").exists()}
