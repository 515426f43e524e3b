"""Where a cluster's predictors read their packages from, after the store was moved.

An InferenceService names a package by an address, and another address is another template, whose pods start anew. So a
version that is served goes on to be read from where it was, as long as the same files lie there: no pod restarts
because the store has another name. Once they are gone, the address of now is written, or the next pod would find
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from endcap.deploy.state import Deployment, Target
from endcap.deploy.transitions import read_target
from endcap.store import get_content_key

Json = dict[str, Any]


def keep_served_addresses(
    desired: Deployment, services: Iterable[Json | None], lies_at: Callable[[str], bool]
) -> tuple[Deployment, list[str]]:
    """The desired state with the addresses that the cluster has, and a line on each that is not the store's own.

    services: the InferenceServices of the recommender that are there. lies_at: of the store, `Store.lies_at`.
    """
    addresses = {
        target.version: target.package for service in services if service for target in _list_served_targets(service)
    }
    notes: list[str] = []
    changed: dict[str, Target] = {}
    for role in ("stable", "canary", "shadow"):
        target: Target | None = getattr(desired, role)
        address = addresses.get(target.version) if target else None
        if target is None or address is None or not _is_moved_package(address, target.package) or not lies_at(address):
            continue
        changed[role] = target.model_copy(update={"package": address})
        notes.append(
            f"version {target.version} goes on to be read from {address}, so that no pod starts anew; "
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
