"""What docs/ generates is fresh, and every code in the source has its page."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bff.base import errors
from bff.policy.codes import CODES

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem for path in (ROOT / "docs" / "errors").glob("*.md")} - {"README"}
CARRIERS = {"Notice", "Refusal", "_refuse"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize(
    "words",
    [
        ("docs/tools/rows.py", "--check"),
        ("docs/tools/errors.py", "--check"),
        ("-m", "bff.settings.reference", "--check", "docs/settings.md"),
    ],
    ids=["rows", "errors", "settings"],
)
def test_a_generated_page_is_what_its_generator_writes_today(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 0, done.stderr


def subclasses(kind: type[errors.BffError]) -> Iterator[type[errors.BffError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def codes_in_calls() -> Iterator[tuple[str, str]]:
    """Codes given as text to the things that carry one to a browser."""
    for path in sorted((ROOT / "bff").rglob("*.py")):
        if "devkit" in path.parts or "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CARRIERS:
                for item in node.args[:4]:
                    if isinstance(item, ast.Constant) and isinstance(item.value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", item.value):
                        yield item.value, path.relative_to(ROOT).as_posix()
                        break


def test_every_code_in_the_source_has_a_page() -> None:
    import bff.oauth.answers
    import bff.proxy.upstream
    import bff.serve  # noqa: F401 - their error classes must be known

    tree = {kind.code for kind in subclasses(errors.BffError) if kind.__module__.startswith("bff.")}
    reasons = {reason.value for reason in errors.LoginReason}
    called = {code for code, _ in codes_in_calls()}
    wanted = tree | reasons | set(CODES) | called
    assert sorted(wanted - PAGES) == []


def test_every_page_is_about_a_code_that_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "bff").rglob("*.py"))
    assert [code for code in sorted(PAGES) if f'"{code}"' not in source] == []


def test_every_link_between_pages_leads_to_a_file() -> None:
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if not page.exists():
            continue
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
