"""Metrics over several processes: what must happen before prometheus-client is imported, and after a worker is gone.

The library decides at import whether counters live in memory or in files that all workers share, by one environment
variable. So this file must not import it at the top, and ``share_metrics`` must run first.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics(folder: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep counters in ``folder`` (mode 0700, emptied first: old counts are another process's). Before any import."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stale in folder.glob("*.db"):
        stale.unlink()
    environ[VARIABLE] = str(folder)


def forget_worker(pid: int, folder: Path) -> None:
    """A worker is gone: its gauges with it, its counters stay in the sums."""
    for kind in ("gauge_livesum", "gauge_liveall", "gauge_livemax", "gauge_livemin", "gauge_livemostrecent"):
        (folder / f"{kind}_{pid}.db").unlink(missing_ok=True)
