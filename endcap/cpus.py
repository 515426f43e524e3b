"""How many processors this process may use: those of the machine, or fewer where a container's limit says so."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Whole processors, at least 1; a limit of 1.5 counts as 2.

    More threads than the limit would be paused by the kernel in the midst of a ranking.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Processors that the control group grants, by version 2's file or version 1's; None: no limit."""
    try:
        if (two := cgroup / "cpu.max").is_file():
            granted, period = two.read_text().split()
        else:
            granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(granted) / float(period) if granted != "max" and float(granted) > 0 else None
    except (OSError, ValueError):
        return None
