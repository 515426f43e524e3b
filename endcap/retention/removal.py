"""Removes what nobody needs any more, beside runs, decisions and servers that go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from endcap.registry import open_registry
from endcap.registry.decision_hold import hold_name
from endcap.retention.inventory import KINDS, Inventory, StoredArtifact
from endcap.retention.needs import RetentionPolicy, find_recommender_needs
from endcap.retention.plan import RetentionPlan, plan_retention
from endcap.store import Store

_PACKAGES = KINDS.index("packages")


@dataclass(frozen=True)
class Removal:
    """What was removed.

    Attributes
    ----------
    removed
        What was removed, in the order of its removal.
    spared
        What the plan named, and somebody used or needed since.
    """

    removed: tuple[StoredArtifact, ...]
    spared: tuple[StoredArtifact, ...]


def apply_retention(
    store: Store,
    registry: str = "",
    policy: RetentionPolicy | None = None,
    *,
    now: datetime | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Removal:
    """Remove what nobody needs any more. Parameters and errors are those of `plan_retention`.

    Notes
    -----
    Each artifact is removed before what it refers to. So after a kill no artifact of the store lacks what it needs,
    and the next call goes on.

    A package is removed while nobody can decide on its recommender (`Store.hold`), and only if it is still not needed.
    Then a new plan is made: what a spared package refers to stays. The store itself removes nothing that somebody used
    meanwhile (`Store.remove`).
    """
    policy, inventory = policy or RetentionPolicy(), Inventory(store)

    def plan() -> RetentionPlan:
        return plan_retention(store, registry, policy, now=now, inventory=inventory)

    first = plan()
    done = _Removing(store, first.limits.used_since, progress)
    done.remove(artifact for artifact in first.removed if KINDS.index(artifact.kind) < _PACKAGES)
    packages = [artifact for artifact in first.removed if artifact.kind == "packages"]
    for recommender in sorted({package.owner for package in packages}):
        with store.hold(hold_name(recommender)) as hold:
            needs = find_recommender_needs(recommender, store, open_registry(registry, store), policy)
            hold.check()
            done.remove(
                package for package in packages if package.owner == recommender and package.address not in needs
            )
    done.remove(artifact for artifact in plan().removed if KINDS.index(artifact.kind) > _PACKAGES)
    gone = {artifact.address for artifact in done.removed}
    return Removal(tuple(done.removed), tuple(artifact for artifact in first.removed if artifact.address not in gone))


class _Removing:
    """Removes artifacts, and counts what it removed."""

    def __init__(self, store: Store, unused_since: datetime, progress: Callable[[str], None]) -> None:
        self._store, self._unused_since, self._progress = store, unused_since, progress
        self.removed: list[StoredArtifact] = []

    def remove(self, artifacts: Iterable[StoredArtifact]) -> None:
        for artifact in artifacts:
            if self._store.remove(artifact.address, unused_since=self._unused_since):
                self.removed.append(artifact)
                self._progress(f"removed {artifact.name}")
