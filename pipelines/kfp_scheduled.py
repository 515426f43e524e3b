"""KFP as a scheduler uses it: it asks once, and decides itself when to ask again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_server_api import V2beta1PipelineVersion, V2beta1Run

from endcap.errors import EndcapError, NotFoundError, UserError
from endcap.schedules.kfp_runs import ListedRun
from endcap.spec.load import Loaded
from endcap_pipelines.kfp_calls import ask_kfp
from endcap_pipelines.kfp_client import KfpClient
from endcap_pipelines.kfp_resources import KfpResources

NAMES_AT_ONCE = 50
"""So many names go into one request, because they are a part of its address."""


@dataclass(frozen=True)
class PreparedPipeline:
    """What a run is created from."""

    version: V2beta1PipelineVersion
    experiment: str


class ScheduledKfp:
    """See `endcap.schedules.kfp_runs.RunServer`.

    Parameters
    ----------
    client
        KFP's client.
    namespace
        None if KFP serves a single user.
    """

    def __init__(self, client: KfpClient, namespace: str | None) -> None:
        self._client, self._namespace = client, namespace
        self._records = KfpResources(client, namespace, lambda event: None, pauses=())

    def prepare(self, loaded: Loaded, pipeline: str) -> PreparedPipeline:
        """Find or upload the pipeline and its version, and find or make the recommender's experiment."""
        name = loaded.recommender.name
        version, _ = self._records.version(self._records.pipeline(f"endcap-{pipeline}-{name}"), pipeline, loaded)
        return PreparedPipeline(version, self._records.experiment(name))

    def create(self, prepared: PreparedPipeline, arguments: Mapping[str, Any], name: str) -> str:
        """Create a run by one request; returns its id."""
        return self._records.create_run(prepared.experiment, name, prepared.version, dict(arguments))

    def find_named(self, names: Sequence[str]) -> list[ListedRun]:
        """Find all runs that have one of these names, in any experiment."""
        runs: list[ListedRun] = []
        for first in range(0, len(names), NAMES_AT_ONCE):
            some = list(names[first : first + NAMES_AT_ONCE])
            predicate = {"operation": "IN", "key": "display_name", "stringValues": {"values": some}}
            query, token = json.dumps({"predicates": [predicate]}), ""
            while True:
                page = ask_kfp(
                    "list runs",
                    self._client.list_runs,
                    page_token=token,
                    page_size=2 * NAMES_AT_ONCE,
                    namespace=self._namespace,
                    filter=query,
                )
                runs += [_describe(run) for run in page.runs or []]
                token = page.next_page_token or ""
                if not token:
                    break
        return runs

    def read(self, run: str) -> ListedRun | None:
        """Read a run; None if there is none."""
        try:
            return _describe(ask_kfp(f"find the run {run}", self._client.get_run, run))
        except NotFoundError:
            return None

    def end(self, run: str) -> None:
        """Ask for a run's end."""
        ask_kfp(f"end the run {run}", self._client.terminate_run, run)

    def is_lasting(self, error: EndcapError) -> bool:
        """Tell whether an error would come again: KFP refuses the run itself, or there is no package of the spec.

        A login can be renewed, a proxy's page goes, and what KFP lost is uploaded again.
        """
        is_of_way = error.code.startswith(("kfp.", "cluster.")) and error.code != "kfp.refused"
        return isinstance(error, UserError) and not is_of_way


def _describe(run: V2beta1Run) -> ListedRun:
    return ListedRun(str(run.run_id), str(run.display_name), str(run.state), run.created_at)
