"""Where a cluster's predictors read their packages from after the store has moved.

An InferenceService names a package by its address. Another address is another pod template, and its pods would restart.
So a version that is served keeps its old address while the same files lie there. If they are gone, the new address is
written, since the next pod would find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from endcap.deploy.state import AbSplit, Deployment, Target
from endcap.deploy.transitions import read_target
from endcap.store import get_content_key

Json = dict[str, Any]
T = TypeVar("T", bound=Target)
_ROLES = ("stable", "canary", "previous", "baseline", "shadow")


def keep_served_addresses(
    desired: Deployment, services: Iterable[Json | None], lies_at: Callable[[str], bool]
) -> tuple[Deployment, list[str]]:
    """Keep the addresses that the cluster's predictors have.

    Parameters
    ----------
    desired
        The desired state.
    services
        The recommender's InferenceServices; None for one that does not exist.
    lies_at
        `Store.lies_at`.

    Returns
    -------
    tuple of Deployment and list of str
        The desired state with the cluster's addresses, and a line about each address that is not the store's own.
    """
    addresses = {
        target.version: target.package for service in services if service for target in _list_served_targets(service)
    }
    notes: list[str] = []

    def keep(target: T) -> T:
        address = addresses.get(target.version)
        if address is None or not _is_moved_package(address, target.package) or not lies_at(address):
            return target
        notes.append(
            f"version {target.version} goes on to be read from {address}, so that no pod restarts; "
            f"when that is gone, deploy again: new pods then read {target.package}"
        )
        return target.model_copy(update={"package": address})

    changed: dict[str, Target | AbSplit] = {
        role: keep(target) for role in _ROLES if (target := getattr(desired, role)) is not None
    }
    if desired.ab is not None:
        challengers = tuple(map(keep, desired.ab.challengers))
        changed["ab"] = desired.ab.model_copy(update={"challengers": challengers})
    return desired.model_copy(update=changed), notes


def _is_moved_package(address: str, package: str) -> bool:
    return address != package and get_content_key(address) == get_content_key(package)


def _list_served_targets(service: Json) -> list[Target]:
    spec = service["spec"]
    predictors = [spec.get("predictor"), *(predictor.get("predictor") for predictor in spec.get("canary") or [])]
    return [
        read_target(predictor)
        for predictor in predictors
        if predictor and (predictor.get("model") or {}).get("storageUri")
    ]
