"""Quantities as Kubernetes writes them: `500m` cores, `2Gi` of memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_UNITS = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    **{letter: 1000.0 ** (power + 1) for power, letter in enumerate("kMGTPE")},
    **{f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(n|u|m|k|[KMGTPE]i|[MGTPE])?")


def quantity(text: str | float) -> float:
    """A quantity as a number: cores, bytes, pieces. Raises ValueError where it is none."""
    parts = _QUANTITY.fullmatch(str(text))
    if parts is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(parts[1]) * _UNITS[parts[2] or ""]


def total(*added: Mapping[str, float]) -> dict[str, float]:
    """Amounts by resource, added up."""
    names = dict.fromkeys(name for amounts in added for name in amounts)
    return {name: sum(amounts.get(name, 0.0) for amounts in added) for name in names}


def requested(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod asks for, as the scheduler counts it, by resource; `pods` is 1.

    Its containers and those init containers that run on beside them; or, where that is more, an init container with
    those that were started before it.
    """
    spec = pod["spec"]
    before: dict[str, float] = {}
    most: dict[str, float] = {}
    for container in spec.get("initContainers") or []:
        asked = _asked(container)
        peak = total(before, asked)
        if container.get("restartPolicy") == "Always":
            before = peak
        most = _larger(most, peak)
    together = total(before, *(_asked(container) for container in spec["containers"]))
    overhead = {name: quantity(amount) for name, amount in (spec.get("overhead") or {}).items()}
    return total(_larger(most, together), overhead, {"pods": 1.0})


def in_words(resource: str, amount: float) -> str:
    """An amount of a resource for a person: `1.5 cpu`, `2 Gi of memory`, `1 nvidia.com/gpu`."""
    if resource == "memory":
        return f"{amount / 2**30:.3g} Gi of memory" if amount >= 2**30 else f"{amount / 2**20:.3g} Mi of memory"
    return f"{round(amount, 3):g} {resource}"


def _asked(container: Mapping[str, Any]) -> dict[str, float]:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: quantity(amount) for name, amount in requests.items()}


def _larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}
