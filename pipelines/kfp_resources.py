"""What Endcap makes in KFP, each once: a pipeline, its versions, an experiment and runs."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kfp_server_api import (
    V2beta1Experiment,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
    V2beta1Run,
    V2beta1RuntimeConfig,
)

from endcap.errors import NotFoundError
from endcap.spec.load import Loaded
from endcap_pipelines.kfp_calls import Listen, NameTakenError, ask_kfp, call_kfp, call_kfp_with_retries
from endcap_pipelines.kfp_client import KfpClient
from endcap_pipelines.package import package

Json = dict[str, Any]
_Made = TypeVar("_Made")


class KfpResources:
    """Pipelines, versions, experiments and runs of one namespace.

    Parameters
    ----------
    client
        KFP's client.
    namespace
        None if KFP serves a single user.
    listen
        Receives an event while KFP is busy or away and is asked again.
    pauses
        Seconds before it is asked again; None: the usual ones.

    Notes
    -----
    A name is unique in its namespace. What has the name already is taken, also if somebody else makes it at the
    same moment.
    """

    def __init__(
        self, client: KfpClient, namespace: str | None, listen: Listen, *, pauses: Sequence[float] | None = None
    ) -> None:
        self._client = client
        self._pauses = pauses
        self._namespace = namespace
        self._within = {"namespace": namespace} if namespace else {}
        self._listen = listen

    def pipeline(self, name: str) -> str:
        """Find or make the pipeline of this name in the namespace; returns its id."""
        api, finding = self._client.pipelines, f"find the pipeline {name}"

        def find() -> str | None:
            try:
                # Not by kfp's `get_pipeline_id`, which names no namespace, and so gets the shared ones alone.
                existing = call_kfp(finding, api.pipeline_service_get_pipeline_by_name, name, **self._within)
            except NotFoundError:
                return None
            return str(existing.pipeline_id)

        def make() -> str:
            body = V2beta1Pipeline(display_name=name, namespace=self._namespace)
            return str(api.pipeline_service_create_pipeline(pipeline=body).pipeline_id)

        return self._settle(f"create the pipeline {name}", find, make)

    def version(self, pipeline_id: str, pipeline: str, loaded: Loaded) -> tuple[V2beta1PipelineVersion, bool]:
        """Find or upload the version with this content; returns it, and whether it is new.

        The workflow gets the run's deadline if KFP keeps it. KFP before 2.17 does not know it, and then silently drops
        every setting of pods. So this reads back what KFP has kept.
        """
        if loaded.recommender.pipeline.deadline is not None:
            version, new = self._uploaded(pipeline_id, package(pipeline, loaded, run_deadline=True))
            if "activeDeadlineSeconds" in _workflow_of(version):
                return version, new
        return self._uploaded(pipeline_id, package(pipeline, loaded))

    def experiment(self, name: str) -> str:
        """Find or make the experiment of this name; returns its id."""
        api = self._client.experiments

        def find() -> str | None:
            existing = api.experiment_service_list_experiments(filter=_named(name), **self._within).experiments
            return str(existing[0].experiment_id) if existing else None

        def make() -> str:
            body = V2beta1Experiment(display_name=name, namespace=self._namespace)
            return str(api.experiment_service_create_experiment(experiment=body).experiment_id)

        return self._settle(f"create the experiment {name}", find, make)

    def run(self, experiment_id: str, name: str, version: V2beta1PipelineVersion, arguments: Json) -> str:
        """Create a run; returns its id. It is created once, even if KFP's answer gets lost."""
        attempts: list[bool] = []

        def find_or_create() -> str:
            if attempts:  # KFP may have made it, although no answer came
                runs = self._client.list_runs(experiment_id=experiment_id, filter=_named(name)).runs
                if runs:
                    return str(runs[0].run_id)
            attempts.append(True)
            return self.create_run(experiment_id, name, version, arguments)

        return call_kfp_with_retries("create the run", find_or_create, listen=self._listen, pauses=self._pauses)

    def create_run(self, experiment_id: str, name: str, version: V2beta1PipelineVersion, arguments: Json) -> str:
        """Create a run by one request; returns its id. Any number of threads may do so."""
        reference = V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
        )
        body = V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_version_reference=reference,
            runtime_config=V2beta1RuntimeConfig(parameters=arguments),
        )
        # Not by kfp's `run_pipeline`, which prints.
        return str(ask_kfp("create the run", self._client.runs.run_service_create_run, run=body).run_id)

    def _uploaded(self, pipeline_id: str, text: str) -> tuple[V2beta1PipelineVersion, bool]:
        meaning = json.dumps(list(yaml.load_all(text, Loader=yaml.CSafeLoader)), sort_keys=True)
        name = f"endcap-{hashlib.sha256(meaning.encode()).hexdigest()[:12]}"

        def find() -> tuple[V2beta1PipelineVersion, bool] | None:
            versions = self._client.list_pipeline_versions(pipeline_id, filter=_named(name)).pipeline_versions
            return (versions[0], False) if versions else None

        def upload() -> tuple[V2beta1PipelineVersion, bool]:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "package.yaml"
                file.write_text(text)
                return self._client.upload_pipeline_version(str(file), name, pipeline_id=pipeline_id), True

        return self._settle("upload the package", find, upload)

    def _settle(self, what: str, find: Callable[[], _Made | None], make: Callable[[], _Made]) -> _Made:
        """Return what `find` finds, else what `make` makes."""

        def find_or_make() -> _Made:
            existing = find()
            if existing is not None:
                return existing
            try:
                return call_kfp(what, make)
            except NameTakenError:  # somebody was faster
                existing = find()
                if existing is None:
                    raise
                return existing

        return call_kfp_with_retries(what, find_or_make, listen=self._listen, pauses=self._pauses)


def _workflow_of(version: V2beta1PipelineVersion) -> Json:
    """Read what KFP has kept of the package's settings for the workflow."""
    kept = (version.pipeline_spec or {}).get("platform_spec") or {}
    workflow: Json = kept.get("platforms", {}).get("kubernetes", {}).get("pipelineConfig", {})
    return workflow


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
