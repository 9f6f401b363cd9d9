"""Every input the fuzzers ever stumbled over, and their seeds, replayed: nothing found once comes back."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.row("M1", "M4", "M5", "M8", "M11", "P13", "COOKIE-21")
@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_breaks_no_promise(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert len(files) >= 10
    for file in files:
        try:
            TARGETS[name](file.read_bytes())
        except Exception as error:
            raise AssertionError(f"corpus/{name}/{file.name}") from error


@pytest.mark.row("M1")
@pytest.mark.parametrize("name", TARGETS)
def test_cut_and_doubled_corpus_inputs_break_no_promise(name: str) -> None:
    """Cheap neighbours of every input: its halves, itself twice, one byte changed."""
    for file in sorted((CORPUS / name).iterdir()):
        data = file.read_bytes()[:400]
        half = len(data) // 2
        for near in (data[:half], data[half:], data + data, data[:half] + b"\n" + data[half:], data[:half] + b"\x00" + data[half + 1 :]):
            TARGETS[name](near)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_search_finds_nothing(name: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        if "fuzzer" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail("atheris is not installed")
        pytest.skip("atheris is not installed (requirements/ci.txt has it)")
    command = [sys.executable, "-m", f"tests.fuzz.fuzz_{name}", "-max_total_time=15"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
