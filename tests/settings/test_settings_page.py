"""The app's page against the policy that it is served with, and that policy against what it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bff.settings import Settings, find_warnings
from bff.settings.page import find_blocked, find_risks
from bff.settings.plan import build_plan

Load = Callable[..., Settings]
ORIGIN = "https://app.example.com"
STRICT = "default-src 'self'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    "page",
    [
        "",
        '<!doctype html><script type="module" src="/main.js"></script><link rel="stylesheet" href="a.css"><link rel="icon" href="data:,">',
        f'<script src="{ORIGIN}/main.js"></script>',
        '<script type="application/ld+json">{}</script><!-- <script>x()</script> -->',
        '<link rel="preconnect" href="https://fonts.example"><link rel="canonical" href="https://www.example.com/">',
        '<noscript><style>p{}</style><link rel="stylesheet" href="https://fonts.example/a.css"></noscript><template><script>x</script>',
        '<script src="https://[bad/"></script><p',
    ],
)
def test_a_page_of_the_apps_own_files_is_left_alone(page: str) -> None:
    assert find_blocked(page, ORIGIN) == []


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("<script>go()</script>", ["1 inline script"]),
        ("<SCRIPT TYPE=module>a</SCRIPT><script type=importmap>{}</script><style>p{}</style>", ["2 inline scripts", "1 inline style"]),
        ('<link rel=stylesheet href=a.css media=print onload="this.media=1">', ["1 inline event handler"]),
        ("<script src=//CDN.example/x.js></script><link rel='preload stylesheet' href=https://cdn.example/a>", ["2 files of cdn.example"]),
        (
            "".join(f'<script src="https://{name}.example/"></script>' for name in "aabcde"),
            ["2 files of a.example", "1 file of b.example", "1 file of c.example", "files of 2 further hosts"],
        ),
        ('<script src="https://\u00e9\x1b.example/"></script>', ["1 file of \\xe9\\x1b.example"]),
    ],
)
def test_what_a_strict_policy_blocks_is_counted(page: str, found: list[str]) -> None:
    assert find_blocked(page, ORIGIN) == found


@pytest.mark.parametrize(
    ("csp", "words"),
    [
        ("", []),
        (STRICT, []),
        ("script-src 'self'; frame-ancestors 'self'", []),
        ("style-src 'self' 'unsafe-inline'; " + STRICT, []),
        ("script-src 'unsafe-inline' 'sha256-AAAA'; frame-ancestors 'none'", []),
        ("img-src *; frame-ancestors 'none'", ["lacks default-src"]),
        ("default-src 'self' 'UNSAFE-inline'; frame-ancestors 'none'", ["unsafe-inline"]),
        ("default-src 'self'; script-src-attr 'unsafe-inline'; frame-ancestors 'none'", ["unsafe-inline"]),
        ("default-src 'none'; script-src 'unsafe-eval'", ["unsafe-eval", "lacks frame-ancestors"]),
        ("frame-ancestors 'none', default-src 'self'", []),
        (f"script-src 'unsafe-inline', {STRICT}", []),
    ],
)
def test_what_a_policy_leaves_open_is_found(csp: str, words: list[str]) -> None:
    risks = find_risks(csp)
    assert len(risks) == len(words)
    assert all(word in risk for word, risk in zip(words, risks, strict=True))


def about_spa(settings: Settings) -> list[str]:
    return [line for line in find_warnings(settings) if line.startswith("spa.")]


def test_a_page_that_the_built_in_policy_stops_is_warned_of_until_a_policy_is_written(load: Load, tmp_path: Path) -> None:
    page = tmp_path / "web" / "index.html"
    page.parent.mkdir()
    page.write_text("<script>a()</script>" * 3 + '<link rel="stylesheet" href="https://fonts.googleapis.com/css">')
    served = ("spa", "directory", "web")
    assert about_spa(load(served)) == [
        "spa.directory: index.html holds 3 inline scripts and 1 file of fonts.googleapis.com, which the policy blocks; "
        "fix: move them into files of the app, or set spa.csp"
    ]
    assert about_spa(load(served, ("spa", "csp", STRICT))) == []
    page.write_bytes(b"\xff" * 256 * 1024 + b"<script>a()</script>")
    assert about_spa(load(served)) == []


def test_a_policy_of_ones_own_is_warned_of_by_name_and_reaches_the_pages(load: Load, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<p>")
    loose = load(("spa", "directory", "web"), ("spa", "csp", "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"))
    [line] = about_spa(loose)
    assert line.startswith("spa.csp: lets inline scripts run ('unsafe-inline')")
    assert "; fix: " in line
    assert build_plan(loose).agent.spa_csp == loose.spa.csp
    [line] = about_spa(load(("spa", "csp", STRICT)))
    assert line.startswith("spa.csp: is not used without spa.directory")
