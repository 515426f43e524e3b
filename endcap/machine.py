"""Describes the machine that a model is fitted on: on it the last bits of sums and products depend."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from endcap.cpus import read_cpu_limit

Json = dict[str, Any]
LIBRARIES = ("scipy", "pyarrow", "duckdb")
"""Libraries that a model's numbers may depend on; `endcap.registry.package.describe_environment` names the others."""
_FEATURES = re.compile(r"sse|ssse|avx|fma|f16c|amx|asimd|neon|sve|bf16")
"""Beginnings of the names of those features of a processor by which libraries choose their code."""
_VARIABLES = frozenset({"ATEN_CPU_CAPABILITY", "MKL_CBWR", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"})
"""Environment variables by which a person chooses the code that a library runs."""
_CPU_INFO = Path("/proc/cpuinfo")


def describe_machine(cpu_info: Path = _CPU_INFO) -> Json:
    """Describe this machine, and how this process computes on it.

    Parameters
    ----------
    cpu_info
        The kernel's description of the processors.

    Returns
    -------
    dict
        As JSON values: `architecture` and `processor` by name; its vector `features`, sorted; the `cores` that this
        process may use; `threads` of one operation, by library; `kernels`, the code that each library chose by the
        processor; releases of `libraries`; the `variables` of the environment by which a person chose such code.
        Threads and kernels are those of libraries that are loaded: a model without a network may not have loaded
        PyTorch.

    Notes
    -----
    A library splits a sum by its threads and by the width of its vectors. Floating-point addition is not associative,
    so the last bits of a model are equal where both are equal.
    """
    processor, features = _read_processor(cpu_info)
    threads, kernels = {}, {}
    for library, count, kernel in _list_thread_pools():
        threads[library], kernels[library] = count, kernel
    return {
        "architecture": platform.machine(),
        "processor": processor,
        "features": features,
        "cores": read_cpu_limit(),
        "threads": threads,
        "kernels": kernels,
        "libraries": dict(_list_releases()),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name in _VARIABLES},
    }


def _read_processor(cpu_info: Path) -> tuple[str, list[str]]:
    """Read the name and the features of the first processor; empty where the kernel does not tell."""
    try:
        lines = cpu_info.read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return "", []
    values = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    words = (values.get("flags") or values.get("features") or "").split()
    return values.get("model name", ""), sorted({word for word in words if _FEATURES.match(word)})


def _list_thread_pools() -> Iterator[tuple[str, int, str]]:
    from threadpoolctl import threadpool_info

    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            yield pool["internal_api"], int(pool["num_threads"]), str(pool.get("architecture", ""))
    # Its own numbers, because its libraries may be linked into it, where nobody else sees them.
    if torch := sys.modules.get("torch"):
        yield "torch", torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()


def _list_releases() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "none"
