"""Measure the BFF beside its peers: same job, same machine, interleaved rounds. ``python -m bench --help``."""
