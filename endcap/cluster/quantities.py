"""Quantities as Kubernetes writes them: `500m` cores, `2Gi` of memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def parse_quantity(text: str | float) -> float:
    """Convert a quantity to a number.

    Parameters
    ----------
    text
        As Kubernetes writes it: `500m`, `1.5Gi`, `1Pi`, `1e3`, or a number.

    Returns
    -------
    float
        Cores, bytes, or pieces.

    Raises
    ------
    ValueError
        `text` is no quantity.

    Notes
    -----
    The Kubernetes client's own function does the work. It is imported here because the client takes half a second to
    import, and most commands read no quantity.
    """
    from kubernetes.utils.quantity import parse_quantity as parse

    try:
        amount = float(parse(text))
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):  # Python's decimals know NaN and Infinity, Kubernetes does not
        raise ValueError(f"{text!r} is no quantity; write one such as 500m, 4 or 16Gi")
    return amount


def add_amounts(*summands: Mapping[str, float]) -> dict[str, float]:
    """Add amounts up, by resource."""
    names = dict.fromkeys(name for amounts in summands for name in amounts)
    return {name: sum(amounts.get(name, 0.0) for amounts in summands) for name in names}


def count_requests(pod: Mapping[str, Any]) -> dict[str, float]:
    """Count what a pod requests, as Kubernetes' scheduler does.

    Parameters
    ----------
    pod
        The Pod object.

    Returns
    -------
    dict
        Cores, bytes or pieces by resource. `pods` is 1.

    Notes
    -----
    Sidecars are init containers that run on beside the containers. A pod needs room for its containers with all
    sidecars, or, if that is more, for an init container with the sidecars that started before it. See "Resource sharing
    within containers" in https://kubernetes.io/docs/concepts/workloads/pods/init-containers/.
    """
    spec = pod["spec"]
    sidecars: dict[str, float] = {}
    start_up: dict[str, float] = {}
    for container in spec.get("initContainers") or []:
        running = add_amounts(sidecars, _parse_requests(container))
        if container.get("restartPolicy") == "Always":
            sidecars = running
        start_up = _larger(start_up, running)
    together = add_amounts(sidecars, *(_parse_requests(container) for container in spec["containers"]))
    overhead = {name: parse_quantity(amount) for name, amount in (spec.get("overhead") or {}).items()}
    return add_amounts(_larger(start_up, together), overhead, {"pods": 1.0})


def describe_amount(resource: str, amount: float) -> str:
    """Describe an amount of a resource to a person: `1.5 cpu`, `2 Gi of memory`, `1 nvidia.com/gpu`."""
    if resource == "memory":
        return f"{amount / 2**30:.3g} Gi of memory" if amount >= 2**30 else f"{amount / 2**20:.3g} Mi of memory"
    return f"{round(amount, 3):g} {resource}"


def _parse_requests(container: Mapping[str, Any]) -> dict[str, float]:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: parse_quantity(amount) for name, amount in requests.items()}


def _larger(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: max(first.get(name, 0.0), second.get(name, 0.0)) for name in {**first, **second}}
