"""What a step costs: time of processors and GPUs, memory, and what it adds to the store."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError
from endcap.runs.text import format_duration
from endcap.store import Store
from endcap.tables import format_bytes

Json = dict[str, Any]
_CGROUP = Path("/sys/fs/cgroup")
_IN_POD = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True)
class Cost:
    """What a step, or all steps of a run, used.

    Attributes
    ----------
    cpu_seconds
        Processor time. In a pod: of its container. Elsewhere: of the step's process, and of those of its processes
        that have ended, so that workers of Ray which outlive it are missing.
    gpu_seconds
        The GPUs that the step had, times the seconds that it had them, used or not.
    peak_memory_bytes
        The most memory at a time: of the container, else of the largest process. Of a run: of its largest step.
    stored_bytes
        What the step added to the store: its artifact, unless that existed before.
    """

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    stored_bytes: int = 0

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Cost:
        """Read the cost in a step's document; all is 0 where it has none."""
        known = document.get("cost") or {}
        return cls(**{name: known.get(name, 0) for name in asdict(cls())})

    def to_json(self) -> Json:
        """Return the cost as JSON values."""
        return {**asdict(self), "cpu_seconds": round(self.cpu_seconds, 3), "gpu_seconds": round(self.gpu_seconds, 3)}

    def __str__(self) -> str:
        parts = [f"{format_duration(self.cpu_seconds)} of processors"] if self.cpu_seconds else []
        parts += [f"{format_duration(self.gpu_seconds)} of GPUs"] if self.gpu_seconds else []
        parts += [f"{format_bytes(self.peak_memory_bytes)} of memory"] if self.peak_memory_bytes else []
        parts += [f"{format_bytes(self.stored_bytes)} stored"] if self.stored_bytes else []
        return ", ".join(parts)


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Add up the costs of steps that ran one after the other."""
    steps = list(costs)
    return Cost(
        sum(step.cpu_seconds for step in steps),
        sum(step.gpu_seconds for step in steps),
        max((step.peak_memory_bytes for step in steps), default=0),
        sum(step.stored_bytes for step in steps),
    )


def measure_cost(seconds: float, gpus: int, *, cgroup: Path = _CGROUP) -> Cost:
    """Measure what this process has cost since it began; for a step that has a process, or a container, of its own.

    Parameters
    ----------
    seconds
        How long the step has taken.
    gpus
        How many GPUs it had.
    cgroup
        The folder of the container's control group.
    """
    cpu, memory = _read_container(cgroup) if os.environ.get(_IN_POD) else (None, None)
    used = [resource.getrusage(processes) for processes in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    if cpu is None:
        cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    if memory is None:
        memory = max(usage.ru_maxrss for usage in used) * (1 if sys.platform == "darwin" else 1024)
    return Cost(cpu, gpus * seconds, memory)


def measure_stored_bytes(store: Store, address: str) -> int:
    """Return the bytes of an artifact's files; 0 if the address is of none, or it cannot be read."""
    try:
        return sum(file["bytes"] for file in store.manifest(address)["files"].values())
    except (EndcapError, OSError):
        return 0


def _read_container(cgroup: Path) -> tuple[float | None, int | None]:
    """Read the processor time in seconds and the peak of memory in bytes of a control group of version 2."""
    return _read_number(cgroup / "cpu.stat", "usage_usec", 1e6), _read_peak(cgroup / "memory.peak")


def _read_number(file: Path, name: str, unit: float) -> float | None:
    try:
        values = dict(line.split() for line in file.read_text().splitlines())
        return int(values[name]) / unit
    except (OSError, ValueError, KeyError):
        return None


def _read_peak(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
