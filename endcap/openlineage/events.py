"""Events of OpenLineage's specification, version 2-0-2: a step as a run of a job, its artifacts as datasets.

Source: https://openlineage.io/docs/spec/object-model and https://openlineage.io/docs/spec/naming.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from endcap.origins import list_origins
from endcap.steps import STEPS
from endcap.store import get_release

Json = dict[str, Any]
EventType = Literal["START", "COMPLETE", "FAIL"]
NAMESPACE = "endcap"
"""The namespace of jobs, unless OPENLINEAGE_NAMESPACE names another."""
_SPEC = "https://openlineage.io/spec"
_FACETS = {
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "parent": "1-2-0/ParentRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "tags": "1-0-0/TagsRunFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
}
"""The version and the name of each facet's definition."""
_IDS = uuid.UUID("5b1c9f0e-3d8a-4f27-9a53-0c3f5f6f3c11")
"""The namespace of the ids of runs (RFC 9562, version 5): the same run and step have the same id."""


@dataclass(frozen=True)
class StepOfRun:
    """A step of a run.

    Attributes
    ----------
    step
        The step's name.
    run
        The run's name.
    document
        The run's record, as far as it is known.
    namespace
        The namespace of its job.
    """

    step: str
    run: str
    document: Mapping[str, Any]
    namespace: str = NAMESPACE

    @property
    def job(self) -> str:
        """The job's name, the same in each run: whose step it is, and the step."""
        owners = ("shop", "recommender") if _is_of_shop(self.step) else ("recommender", "shop")
        owner = next((str(self.document[name]) for name in owners if self.document.get(name)), "")
        return f"{owner}.{self.step}" if owner else self.step

    @property
    def pipeline(self) -> str:
        """The name of the job that the whole run is."""
        parts = (self.document.get("recommender") or self.document.get("shop"), self.document.get("pipeline"))
        return ".".join(str(part) for part in parts if part) or "run"


def make_event(
    step: StepOfRun,
    kind: EventType,
    *,
    manifest: Mapping[str, Any] | None = None,
    fields: Iterable[Json] = (),
    error: str = "",
    now: datetime | None = None,
) -> Json:
    """Make the event of a step's begin or end.

    Parameters
    ----------
    step
        The step.
    kind
        What happened.
    manifest
        The manifest of the artifact that it made, or found.
    fields
        The columns of that artifact, as `endcap.openlineage.schemas` lists them; none if they are not known.
    error
        Why the step failed.
    now
        When it happened; None: now.
    """
    code = step.document.get("code") or {}
    started = step.document.get("started") or {}
    tags = {"run": step.run, **{name: code.get(name) for name in ("commit", "image")}, "started_by": started.get("by")}
    facets: Json = {
        "parent": _make_facet(
            "parent",
            run={"runId": make_run_id(step.run, "")},
            job={"namespace": step.namespace, "name": step.pipeline},
        ),
        "processing_engine": _make_facet("processing_engine", version=get_release(), name="endcap"),
        "tags": _make_facet(
            "tags", tags=[{"key": key, "value": str(value), "source": "ENDCAP"} for key, value in tags.items() if value]
        ),
    }
    if error:
        facets["errorMessage"] = _make_facet("errorMessage", message=error, programmingLanguage="python")
    return {
        "eventType": kind,
        "eventTime": (now or datetime.now(UTC)).isoformat(timespec="microseconds"),
        "producer": _get_producer(),
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": make_run_id(step.run, step.step), "facets": facets},
        "job": {
            "namespace": step.namespace,
            "name": step.job,
            "facets": {"jobType": _make_facet("jobType", processingType="BATCH", integration="ENDCAP", jobType="STEP")},
        },
        "inputs": [] if manifest is None else _list_inputs(manifest),
        "outputs": [] if manifest is None else [_make_output(manifest, list(fields))],
    }


def make_run_id(run: str, step: str) -> str:
    """Make the id of a run's step; of the whole run, if the step is empty."""
    return str(uuid.uuid5(_IDS, f"{run}/{step}"))


def name_dataset(address: str) -> tuple[str, str]:
    """Return the namespace and the name of what lies at an address, by OpenLineage's rules of naming."""
    scheme, separator, place = address.partition("://")
    if not separator:
        scheme, separator, place = address.partition(":")
        return ("bigquery", place) if scheme == "bigquery" else ("file", address)
    if scheme == "file":
        return "file", place
    host, _, path = place.partition("/")
    return f"{scheme}://{host}", path or "/"


def _list_inputs(manifest: Mapping[str, Any]) -> list[Json]:
    facts = manifest["facts"]
    inputs = [_make_artifact_dataset(origin.address) for origin in list_origins(facts)]
    paths = dict.fromkeys(str(source["path"]) for source in facts.get("sources", ()) if source.get("path"))
    return inputs + [dict(zip(("namespace", "name"), name_dataset(path), strict=True)) for path in paths]


def _make_output(manifest: Mapping[str, Any], fields: list[Json]) -> Json:
    dataset, facts, files = _make_artifact_dataset(manifest["address"]), manifest["facts"], manifest["files"]
    if fields:
        dataset["facets"]["schema"] = _make_facet("schema", fields=fields)
    statistics: Json = {"size": sum(file["bytes"] for file in files.values()), "fileCount": len(files)}
    if isinstance(rows := facts.get("events", facts.get("customers")), int):
        statistics["rowCount"] = rows
    return dataset | {"outputFacets": {"outputStatistics": _make_facet("outputStatistics", **statistics)}}


def _make_artifact_dataset(address: str) -> Json:
    """Name an artifact: its kind is the dataset, which stays, and its key the version."""
    kind, _, key = address.rstrip("/").rpartition("/")
    namespace, name = name_dataset(kind)
    return {"namespace": namespace, "name": name, "facets": {"version": _make_facet("version", datasetVersion=key)}}


def _make_facet(facet: str, /, **values: Any) -> Json:
    version, _, title = _FACETS[facet].partition("/")
    return {
        "_producer": _get_producer(),
        "_schemaURL": f"{_SPEC}/facets/{version}/{title}.json#/$defs/{title}",
        **values,
    }


def _get_producer() -> str:
    return f"urn:endcap:{get_release()}"


def _is_of_shop(step: str) -> bool:
    return step in STEPS and STEPS[step].owner == "shop"
