"""A registered version: the run that made it, and all that its package was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.lineage.artifacts import TracedArtifact, trace_artifact
from endcap.lineage.source_files import UsedFile, list_used_files
from endcap.registry.version_records import Version
from endcap.runs import Run, find_run, read_specs
from endcap.store import Store, get_content_key

Json = dict[str, Any]


@dataclass(frozen=True)
class VersionLineage:
    """Where a version comes from.

    Attributes
    ----------
    version
        The version.
    run
        The run that registered it; None if the store has no record of it.
    specs
        The resolved specs of that run; None if the store does not have them.
    artifacts
        Its package, then all that this was made of.
    """

    version: Version
    run: Run | None
    specs: Mapping[str, Any] | None
    artifacts: tuple[TracedArtifact, ...]

    def find(self, kind: str) -> TracedArtifact | None:
        """Find the nearest artifact of a kind, such as ``datasets``; None if there is none."""
        return next((artifact for artifact in self.artifacts if artifact.kind == kind), None)

    def list_files(self) -> list[UsedFile]:
        """List the files that the version's data came from; none if the snapshot is gone."""
        snapshot = self.find("snapshots")
        return [] if snapshot is None else list_used_files(snapshot.facts)

    def list_days(self) -> dict[str, str]:
        """List the days of the version's snapshot, each with the key of its rows."""
        snapshot = self.find("snapshots")
        return {} if snapshot is None else {day["day"]: day["key"] for day in snapshot.facts.get("days", [])}

    def list_providers(self) -> dict[str, str]:
        """List the packages whose recipes' scores the model takes, by label, without the store's address."""
        trained = self.find("trained")
        named: dict[str, str] = {} if trained is None else trained.facts.get("providers", {})
        return {label: get_content_key(address) for label, address in named.items()}

    def read_metrics(self) -> dict[str, float]:
        """Read the metrics by which the version was judged; none if its verdict is gone."""
        verdict = self.find("verdicts")
        metrics = {} if verdict is None else verdict.facts.get("metrics", {}).get("challenger", {})
        return {name: value for name, value in metrics.items() if value is not None}

    def describe_code(self) -> dict[str, str]:
        """Return the commit, the image and the release of the run; the version's tags fill in what it lacks."""
        of_run = {} if self.run is None else self.run.document.get("code", {})
        code = {name: str(of_run.get(name) or self.version.tags.get(name, "")) for name in ("commit", "image")}
        return code | {"release": str(of_run.get("version", ""))}

    def to_json(self) -> Json:
        """Return the lineage as JSON values."""
        run = None
        if self.run is not None:
            of_run = {"run": self.run.name, **self.run.document}
            run = {name: value for name, value in of_run.items() if name != "steps" and value is not None}
        return {
            "recommender": self.version.name,
            "version": self.version.version,
            "state": self.version.state,
            "decided": {"by": self.version.by, "when": self.version.when, "why": self.version.why},
            "run": run,
            "code": self.describe_code(),
            "metrics": self.read_metrics(),
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "days": self.list_days(),
            "files": [file.to_json() for file in self.list_files()],
        }


def trace_version(version: Version, store: Store) -> VersionLineage:
    """Trace a version back to the files that its model learnt from.

    Parameters
    ----------
    version
        The version, as the registry lists it.
    store
        The store that holds its package.

    Raises
    ------
    IntegrityError
        If a manifest is damaged.
    """
    name = version.tags.get("run", "")
    run = find_run(store, name) if name else None
    specs = None if run is None else read_specs(store, run)
    return VersionLineage(version, run, specs, tuple(trace_artifact(version.package, store)))
