"""``python -m tests.fuzz.fuzz_cookies [libFuzzer options]``: coverage-guided search for bytes that break ``check_cookies``."""

from tests.fuzz.run import fuzz

if __name__ == "__main__":
    fuzz("cookies")
