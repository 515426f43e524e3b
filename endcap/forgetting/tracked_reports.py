"""The copies of reports in MLflow: a report quotes a bad row of each kind."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from endcap.forgetting.scan import CustomerScan
from endcap.registry import Registry
from endcap.report.publish import REPORT_FILE
from endcap.retention import StoredArtifact
from endcap.store import Store


def find_tracked_reports(
    artifacts: Collection[StoredArtifact], registry: Registry, store: Store, scan: CustomerScan
) -> list[str]:
    """Find MLflow's ids of the runs whose report names a customer.

    Parameters
    ----------
    artifacts
        A shop's artifacts, whose verdicts name the runs.
    registry, store
        MLflow, and the store of the artifacts.
    scan
        Whom to look for.
    """
    return [run for run in _list_runs(artifacts, store) if (file := _fetch(registry, run)) and scan.is_in_text(file)]


def hide_in_tracked_reports(registry: Registry, runs: Collection[str], scan: CustomerScan) -> None:
    """Take customers out of the reports of runs. Each is replaced by one with another word in their place."""
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            content = _fetch(registry, run)
            if content is not None:
                (Path(folder) / REPORT_FILE).write_bytes(scan.hide_in_text(content))
                registry.client.log_artifact(run, str(Path(folder) / REPORT_FILE))


def _list_runs(artifacts: Collection[StoredArtifact], store: Store) -> Iterator[str]:
    for artifact in artifacts:
        if artifact.kind == "verdicts" and artifact.contents is not None:
            run = store.manifest(artifact.address)["facts"].get("mlflow_run")
            if run:
                yield str(run)


def _fetch(registry: Registry, run: str) -> bytes | None:
    """Fetch a run's report; None if there is none."""
    if REPORT_FILE not in {file.path for file in registry.client.list_artifacts(run)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(registry.client.download_artifacts(run, REPORT_FILE, folder)).read_bytes()
