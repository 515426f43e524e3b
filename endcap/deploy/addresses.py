"""Where a cluster's predictors read their packages from after the store has moved.

An InferenceService names a package by its address. Another address is another pod template, and its pods would restart.
So a version that is served keeps its old address while the same files lie there. If they are gone, the new address is
written, since the next pod would find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from endcap.deploy.state import Deployment, Target
from endcap.deploy.transitions import read_target
from endcap.deploy.variants import SIDE_ROLES
from endcap.store import get_content_key

Json = dict[str, Any]


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
    changed: dict[str, Target] = {}
    for role in ("stable", "canary", *SIDE_ROLES):
        target: Target | None = getattr(desired, role)
        address = addresses.get(target.version) if target else None
        if target is None or address is None or not _is_moved_package(address, target.package) or not lies_at(address):
            continue
        changed[role] = target.model_copy(update={"package": address})
        notes.append(
            f"version {target.version} goes on to be read from {address}, so that no pod restarts; "
            f"when that is gone, deploy again: new pods then read {target.package}"
        )
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
