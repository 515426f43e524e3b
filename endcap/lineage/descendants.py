"""All that was made of a file of a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from endcap.errors import NotFoundError
from endcap.lineage.artifacts import TracedArtifact, read_artifact
from endcap.lineage.source_files import UsedFile, list_used_files
from endcap.registry.factory import find_registry
from endcap.store import Store

Json = dict[str, Any]
SNAPSHOTS = "snapshots"
MADE_OF_SNAPSHOTS = (
    *("datasets", "descriptions", "fits", "trained", "recipes", "verdicts", "refitted", "packages", "baselines"),
    *("reports", "comparisons", "recommendations"),
)
"""Kinds of what is made of snapshots, each after those that it is made of."""
PARALLEL = 16
"""Manifests that are read at once."""


@dataclass(frozen=True)
class FileUse:
    """What was made of a file.

    Attributes
    ----------
    files
        The file as each snapshot read it: it may have had several contents.
    artifacts
        Snapshots that read it, and all that was made of them, older ones first within a kind.
    versions
        Recommender and version of each package among them; None if no registry is known that could say it.
    """

    files: tuple[UsedFile, ...]
    artifacts: tuple[TracedArtifact, ...]
    versions: tuple[tuple[str, str], ...] | None

    def to_json(self) -> Json:
        """Return the use as JSON values."""
        return {
            "files": [file.to_json() for file in self.files],
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "versions": None
            if self.versions is None
            else [{"recommender": name, "version": version} for name, version in self.versions],
        }


def trace_file(name: str, store: Store, registry: str = "") -> FileUse:
    """Find all that was made of a file.

    Parameters
    ----------
    name
        Its path as a snapshot names it, the end of that path, or the SHA-256 of its content.
    store
        The store. The manifests of all its snapshots, and of what is made of snapshots, are read.
    registry
        MLflow's address; empty: that of the store's folder, if it has one.

    Returns
    -------
    FileUse
        What was made of it.

    Raises
    ------
    NotFoundError
        If no snapshot of the store read such a file.
    """
    files: dict[UsedFile, None] = {}
    used: dict[str, TracedArtifact] = {}
    for snapshot in _read_all([SNAPSHOTS], store):
        named = [file for file in list_used_files(snapshot.facts) if file.is_named(name)]
        files |= dict.fromkeys(named)
        if named:
            used[snapshot.address] = snapshot
    if not used:
        raise NotFoundError(
            f"no snapshot in {store.root} was made of a file {name!r}. `endcap lineage RECOMMENDER --json` lists the "
            "files of a version; a path may be shortened to its end, such as log/2026-03-01.csv",
            code="lineage.file-not-found",
            file=name,
            store=store.root,
        )
    results = _find_results(list(_read_all(MADE_OF_SNAPSHOTS, store)), used)
    addresses = [*used, *(artifact.address for artifact in results)]
    return FileUse(tuple(files), (*used.values(), *results), _list_versions(addresses, store, registry))


def _find_results(artifacts: Sequence[TracedArtifact], used: Iterable[str]) -> list[TracedArtifact]:
    """Find what was made of some addresses, in the order given. A trained model may be made of another's package."""
    known, before = set(used), -1
    while len(known) > before:
        before = len(known)
        known |= {
            artifact.address for artifact in artifacts if any(origin.address in known for origin in artifact.origins)
        }
    return [artifact for artifact in artifacts if artifact.address in known]


def _read_all(kinds: Iterable[str], store: Store) -> Iterable[TracedArtifact]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        for kind in kinds:
            addresses = [address for owned in store.list_kinds(kind) for address in store.list(owned)]
            yield from pool.map(lambda address: read_artifact(address, store), addresses)


def _list_versions(addresses: Iterable[str], store: Store, registry: str) -> tuple[tuple[str, str], ...] | None:
    known, packages = find_registry(registry, store), set(addresses)
    if known is None:
        return None
    versions = (version for name in known.list_names() for version in known.list_versions(name))
    return tuple((version.name, version.version) for version in versions if version.package in packages)
