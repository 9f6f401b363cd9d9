"""Start atheris (libFuzzer) on one target. New inputs land in ``tests/fuzz/found/NAME`` (not committed); what breaks a promise is
written as ``crash-*`` and belongs, minimised, into ``tests/fuzz/corpus/NAME``, where CI replays it for ever."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, FOUND, WORDS = HERE / "corpus", HERE / "found", HERE / "words"


def fuzz(name: str) -> None:
    """Until ``-max_total_time`` (default 300 s) is over or a promise breaks."""
    import atheris

    with atheris.instrument_imports(include=["bff.proxy", "bff.session.cookies", "bff.policy.path"]):
        from tests.fuzz.targets import TARGETS

    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = [] if any(word.startswith("-max_total_time") for word in sys.argv) else ["-max_total_time=300"]
    options += [f"-artifact_prefix={found}/", "-timeout=10", "-rss_limit_mb=1024", "-max_len=6000"]
    dictionary = WORDS / f"{name}.dict"
    if dictionary.exists():
        options.append(f"-dict={dictionary}")
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(found), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()
