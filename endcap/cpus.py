"""How many processors and how much memory this process may use: the machine's, or less where a container's limit says
so."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def read_cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Whole processors, at least 1; a limit of 1.5 counts as 2.

    More threads than the limit would be paused by the kernel in the midst of a ranking.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _read_quota(cgroup: Path) -> float | None:
    """Processors that the control group grants, by version 2's file or version 1's; None: no limit."""
    try:
        if (two := cgroup / "cpu.max").is_file():
            granted, period = two.read_text().split()
        else:
            granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(granted) / float(period) if granted != "max" and float(granted) > 0 else None
    except (OSError, ValueError):
        return None


def read_memory_limit(cgroup: Path = _CGROUP) -> int:
    """Bytes."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            return min(machine, int(file.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return machine


def measure_core_time(tasks: Path = Path("/proc/self/task")) -> tuple[int, int] | None:
    """Of this process's threads: nanoseconds on a core, and ready to run without one; None where the kernel does not
    say it."""
    ran = waited = 0
    try:
        for file in tasks.glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
                first, other, _ = file.read_text().split()
                ran, waited = ran + int(first), waited + int(other)
    except (OSError, ValueError):
        return None
    return (ran, waited) if ran else None
