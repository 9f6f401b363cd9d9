"""What docs/architecture.md says about the code is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LINE = ("base", "oauth", "session", "policy", "proxy")
IO_MODULES = {"socket", "ssl", "sqlite3", "httpx", "subprocess", "urllib.request", "http.client"}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def test_the_list_of_files_that_do_io_is_complete_and_exact() -> None:
    chapter = TEXT.split("## Files that do I/O")[1].split("\nAt the root")[0]
    listed = set(re.findall(r"`(bff/[\w/]+\.py)`", chapter))
    found = {
        path.relative_to(ROOT).as_posix()
        for package in LINE
        for path in (ROOT / "bff" / package).rglob("*.py")
        if imported(path) & IO_MODULES
    }
    assert listed == found


def test_httpx_is_the_wires_and_its_transports_alone() -> None:
    users = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "bff").rglob("*.py")) if "httpx" in imported(path)]
    assert users == ["bff/oauth/client.py", "bff/oauth/transport.py"]


def test_every_file_that_the_documents_name_exists() -> None:
    missing = []
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"`((?:bff|docs|deploy|bench|spa_example|tests)/[\w./-]+)`", page.read_text(encoding="utf-8")):
            if not (ROOT / name).exists() and "secrets" not in name:
                missing.append(f"{page.name}: {name}")
    assert missing == []
