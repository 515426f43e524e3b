"""How many processors and how much memory this process may use: the machine's, or a container's lower limit."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def read_cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Return the number of processors that this process may use, at least 1. A limit of 1.5 counts as 2.

    The kernel would pause the threads of a process that has more of them than its limit, also during a ranking.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _read_quota(cgroup: Path) -> float | None:
    """Read the control group's limit of processors (versions 1 and 2); None without a limit."""
    try:
        if (two := cgroup / "cpu.max").is_file():
            granted, period = two.read_text().split()
        else:
            granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(granted) / float(period) if granted != "max" and float(granted) > 0 else None
    except (OSError, ValueError):
        return None


def read_memory_limit(cgroup: Path = _CGROUP) -> int:
    """Return the bytes of memory that this process may use."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            return min(machine, int(file.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return machine


def measure_core_time(tasks: Path = Path("/proc/self/task")) -> tuple[int, int] | None:
    """Return for how many nanoseconds this process's threads ran on a core, and waited for one.

    None if the kernel does not tell.
    """
    ran = waited = 0
    try:
        for file in tasks.glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
                first, other, _ = file.read_text().split()
                ran, waited = ran + int(first), waited + int(other)
    except (OSError, ValueError):
        return None
    return (ran, waited) if ran else None
