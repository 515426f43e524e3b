"""What a version is rebuilt from, and what the result is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from endcap.errors import NotFoundError
from endcap.events.snapshot_days import find_units
from endcap.lineage import TracedArtifact, VersionLineage, find_tombstone, trace_version
from endcap.lineage.artifacts import read_artifact
from endcap.registry import Version
from endcap.registry.package import read_info, read_recommender
from endcap.registry.recipe import Recipe
from endcap.spec import Recommender, Shop
from endcap.spec.base import parse_date
from endcap.spec_renames import migrate_spec
from endcap.store import Store, get_content_key

Json = dict[str, Any]


@dataclass(frozen=True)
class Original:
    """A version as its package, its run and the manifests tell.

    Attributes
    ----------
    lineage
        Where it comes from.
    package
        The folder of its package.
    recommender
        The spec in its package.
    shop
        The shop's spec of its run; None if the store has no record of the run.
    until
        The logical date of its run; None: all events counted, or there is no record.
    recipe
        By which settings its model was fitted: those that a search left, and the number of epochs that was chosen.
    snapshot
        Address of the snapshot.
    inputs
        Addresses of all that the snapshot is made of, itself among them.
    dataset, trained, fitted, verdict
        What its run made of the snapshot. The store may not have them any more.
    """

    lineage: VersionLineage
    package: Path
    recommender: Recommender
    shop: Shop | None
    until: datetime | None
    recipe: Recipe
    snapshot: str
    inputs: frozenset[str]
    dataset: TracedArtifact
    trained: TracedArtifact
    fitted: TracedArtifact
    verdict: TracedArtifact

    @property
    def content(self) -> str:
        """The digest of the dataset's rows; empty if nothing tells it."""
        return str(self.dataset.facts.get("content") or self.lineage.version.tags.get("dataset_content", ""))

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics by which the version was judged; empty if the verdict is gone."""
        judged: Mapping[str, float | None] = self.verdict.facts.get("metrics", {}).get("challenger", {})
        return judged


def read_original(version: Version, store: Store) -> Original:
    """Read what a version is rebuilt from.

    Parameters
    ----------
    version
        The version.
    store
        The store that holds its package.

    Raises
    ------
    NotFoundError
        The package or the snapshot is gone (`reproduction.gone`, or `reproduction.forgotten` if it held a customer who
        is forgotten); or the shop's spec is not known, and the dataset is
        gone too (`reproduction.no-spec`).
    UserError
        The package does not tell its recipe, or this release cannot use it.
    IntegrityError
        A manifest or the package is damaged.
    """
    lineage = trace_version(version, store)
    head = lineage.artifacts[0]
    if head.is_gone:
        raise make_gone_error(version, [version.package], store)
    package = store.fetch(head.address, verify=True)
    info, recommender = read_info(package), read_recommender(package)
    snapshot = str(info.get("snapshot") or version.tags.get("snapshot", ""))
    dataset, trained, verdict = (_read_named(info.get(role), store) for role in ("dataset", "trained", "verdict"))
    fitted = _read_named(head.facts.get("fitted"), store)
    inputs = _find_inputs(version, snapshot, store)
    shop, until = _read_shop(lineage)
    if shop is None and dataset.is_gone:
        raise NotFoundError(
            f"{version.name} {version.version}: the store has no record of the shop's spec, by which the dataset is "
            f"made of the snapshot, and the dataset is gone too: {dataset.address}. `endcap run` keeps the specs of "
            "its runs; train the version anew by it",
            code="reproduction.no-spec",
            recommender=version.name,
            version=version.version,
            dataset=dataset.address,
        )
    recipe = Recipe.of(head.address, recommender, store)
    return Original(
        lineage, package, recommender, shop, until, recipe, snapshot, inputs, dataset, trained, fitted, verdict
    )


def make_gone_error(version: Version, gone: list[str], store: Store) -> NotFoundError:
    """Make the error of a version that cannot be rebuilt, because artifacts are gone that it is rebuilt from."""
    named = ", ".join(map(get_content_key, gone))
    if tombstones := [tombstone for address in gone if (tombstone := find_tombstone(store, address)) is not None]:
        return NotFoundError(
            f"{version.name} {version.version} cannot be rebuilt: {named} held a customer who is forgotten, and was "
            f"removed on {tombstones[0].removed[:10]} ({tombstones[0].request}). It must not come back; train a new "
            "version: endcap run",
            code="reproduction.forgotten",
            recommender=version.name,
            version=version.version,
            gone=gone,
            tombstones=[tombstone.to_json() for tombstone in tombstones],
        )
    return NotFoundError(
        f"{version.name} {version.version} cannot be rebuilt: the store does not have {named} any more. Bring it back "
        "from a backup of the store, or train a new version: endcap run",
        code="reproduction.gone",
        recommender=version.name,
        version=version.version,
        gone=gone,
    )


def _read_named(address: str | None, store: Store) -> TracedArtifact:
    """Read an artifact that a package may name; one that it does not name counts as gone."""
    return read_artifact(address, store) if address else TracedArtifact("", "", {}, ())


def _find_inputs(version: Version, snapshot: str, store: Store) -> frozenset[str]:
    """Return the addresses of a snapshot and of all its units. Raises NotFoundError if one is gone."""
    facts = _read_named(snapshot, store).facts
    if not facts:
        raise make_gone_error(version, [snapshot], store)
    units = find_units(dict(facts))
    if gone := sorted(unit for unit in units if read_artifact(unit, store).is_gone):
        raise make_gone_error(version, gone, store)
    return frozenset({snapshot, *units})


def _read_shop(lineage: VersionLineage) -> tuple[Shop | None, datetime | None]:
    document: Json | None = (lineage.specs or {}).get("shop")
    if document is None or lineage.run is None:
        return None, None
    date = str(lineage.run.document.get("data", {}).get("logical_date") or "")
    return Shop.model_validate(migrate_spec(document)), parse_date(date) if date else None
