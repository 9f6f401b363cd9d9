"""``python -m tests.fuzz.fuzz_head [libFuzzer options]``: coverage-guided search for bytes that break ``check_head``."""

from tests.fuzz.run import fuzz

if __name__ == "__main__":
    fuzz("head")
