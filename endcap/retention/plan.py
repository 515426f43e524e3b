"""A plan: what stays and why, and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.registry import Registry
from endcap.retention.inventory import KINDS, Inventory, StoredArtifact
from endcap.retention.needs import Need, RetentionPolicy, RunLimits, find_needs, limit_by_runs, require_registry
from endcap.store import Store

Json = dict[str, Any]
_DESCRIBING = ("descriptions", "recipes", "baselines", "reports")
"""Kinds that stay if all that they were made of stays."""


@dataclass(frozen=True)
class RetentionPlan:
    """What stays and what goes.

    Attributes
    ----------
    kept
        The artifacts that stay, each with its reason.
    removed
        Those that nobody needs, each before what it refers to.
    missing
        Addresses that are needed, and that the store does not have.
    limits
        Since when what was used stays, and the runs that go on.
    """

    kept: Mapping[str, tuple[StoredArtifact, Need]]
    removed: Sequence[StoredArtifact]
    missing: Mapping[str, Need]
    limits: RunLimits

    def to_json(self) -> Json:
        """Return the plan as JSON values."""
        return {
            "used_since": self.limits.used_since.isoformat(),
            "running": list(self.limits.running),
            "lost_runs": list(self.limits.lost),
            "kept": [_describe(artifact) | {"need": need.to_json()} for artifact, need in self.kept.values()],
            "removed": [_describe(artifact) for artifact in self.removed],
            "missing": [{"address": address, "need": need.to_json()} for address, need in self.missing.items()],
        }


def plan_retention(
    store: Store,
    registry: str = "",
    policy: RetentionPolicy | None = None,
    *,
    now: datetime | None = None,
    inventory: Inventory | None = None,
) -> RetentionPlan:
    """Find what nobody needs any more. Nothing is changed.

    Parameters
    ----------
    store
        The store. One manifest of each artifact and one record of each run are read.
    registry
        MLflow's address; empty: that of the store's folder.
    policy
        What stays; None: the usual.
    now
        The present; None: the clock's.
    inventory
        What was read of the store before.

    Raises
    ------
    UserError
        If the registry is not known (``retention.no-registry``), or does not know what is deployed
        (``retention.other-registry``).
    TransientError
        If the registry does not answer.
    IntegrityError
        If a manifest is damaged: what it refers to is not known then.
    """
    policy, now = policy or RetentionPolicy(), now or datetime.now(UTC)
    # First the runs: what begins later uses what it finds, and so it is young.
    limits = limit_by_runs(store, policy, now)
    artifacts = (inventory or Inventory(store)).list_artifacts()
    opened: Registry = require_registry(registry, store, artifacts.values())
    needs = find_needs(artifacts.values(), store, opened, policy)
    missing = {address: need for address, need in needs.items() if address not in artifacts}
    kept = {address: need for address, need in needs.items() if address in artifacts}
    for artifact in artifacts.values():
        if artifact.used >= limits.used_since:
            kept.setdefault(artifact.address, Need("recently-used", f"{artifact.used:%Y-%m-%d %H:%M}"))
    _add_references(kept, artifacts)
    _add_coded_days(kept, artifacts.values())
    for kind in _DESCRIBING:
        for artifact in artifacts.values():
            if (
                artifact.kind == kind
                and artifact.references
                and all(address in kept for address in artifact.references)
            ):
                kept.setdefault(artifact.address, Need("describes", artifacts[artifact.references[0]].name))
    removed = [artifact for artifact in artifacts.values() if artifact.address not in kept]
    removed.sort(key=lambda artifact: KINDS.index(artifact.kind))
    return RetentionPlan(
        {address: (artifacts[address], need) for address, need in kept.items()}, removed, missing, limits
    )


def _add_references(kept: dict[str, Need], artifacts: Mapping[str, StoredArtifact]) -> None:
    """Add all that kept artifacts refer to, as far as the store has it."""
    waiting = list(kept)
    while waiting:
        artifact = artifacts[waiting.pop()]
        for address in artifact.references:
            if address in artifacts and address not in kept:
                kept[address] = Need("referred-to", artifact.name)
                waiting.append(address)


def _add_coded_days(kept: dict[str, Need], artifacts: Iterable[StoredArtifact]) -> None:
    """Add the coded days of each shop's newest snapshot, of each day the one that was used last."""
    listed = list(artifacts)
    newest_days = {
        (artifact.owner, day): artifact
        for artifact in listed
        if artifact.kind == "snapshots" and artifact.address in kept and kept[artifact.address].code == "newest-data"
        for day in artifact.days
    }
    last: dict[tuple[str, str], StoredArtifact] = {}
    for artifact in listed:
        for day in artifact.days if artifact.kind == "coded" else ():
            place = (artifact.owner, day)
            if place in newest_days and (place not in last or artifact.used > last[place].used):
                last[place] = artifact
    for place, artifact in last.items():
        kept.setdefault(artifact.address, Need("referred-to", newest_days[place].name))


def _describe(artifact: StoredArtifact) -> Json:
    return {"address": artifact.address, "bytes": artifact.bytes, "used": artifact.used.isoformat()}
