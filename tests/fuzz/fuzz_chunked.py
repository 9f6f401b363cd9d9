"""``python -m tests.fuzz.fuzz_chunked [libFuzzer options]``: coverage-guided search for bytes that break ``check_chunked``."""

from tests.fuzz.run import fuzz

if __name__ == "__main__":
    fuzz("chunked")
