"""``python -m tests.fuzz.fuzz_response [libFuzzer options]``: coverage-guided search for bytes that break ``check_response``."""

from tests.fuzz.run import fuzz

if __name__ == "__main__":
    fuzz("response")
