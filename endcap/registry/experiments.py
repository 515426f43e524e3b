"""A recommender's experiment in MLflow, its runs, and all of them as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from endcap.registry.connection import lock_registry, retry_lookup
from endcap.registry.relocation import get_artifact_folder
from endcap.registry.versions import Registry

if TYPE_CHECKING:
    import pandas as pd

_PAGE = 1000


def ensure_experiment(registry: Registry, name: str) -> str:
    """Find the experiment of a recommender's runs, or create it.

    Parameters
    ----------
    registry
        Where the experiment is.
    name
        The recommender.

    Returns
    -------
    str
        MLflow's id of the experiment.

    Raises
    ------
    UserError, TransientError
        The registry refuses the request, or does not answer.
    """

    def find_or_create() -> str:
        experiment = registry.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        # Without a location, MLflow would put `mlruns` into the current folder.
        return str(registry.client.create_experiment(name, artifact_location=get_artifact_folder(registry.uri)))

    with lock_registry(registry.uri):
        return retry_lookup(find_or_create)


def ensure_run(registry: Registry, experiment: str, where: str, **new: Any) -> tuple[Any, bool]:
    """Find a run of an experiment, or create one.

    Parameters
    ----------
    registry
        Where the experiment is.
    experiment
        The experiment's id.
    where
        MLflow's filter that finds the run.
    **new
        What MLflow's `create_run` gets if the filter finds no run.

    Returns
    -------
    tuple
        MLflow's run, and whether it is new.

    Raises
    ------
    UserError, TransientError
        The registry refuses the request, or does not answer.
    """

    def find_or_create() -> tuple[Any, bool]:
        runs = list(registry.client.search_runs([experiment], where, max_results=1))
        return (runs[0], False) if runs else (registry.client.create_run(experiment, **new), True)

    with lock_registry(registry.uri):
        return retry_lookup(find_or_create)


def read_experiment_table(registry: Registry, name: str) -> pd.DataFrame:
    """Read the runs of a recommender's experiment, newest first.

    Parameters
    ----------
    registry
        Where the experiment is. The experiment is created if there is none.
    name
        The recommender.

    Returns
    -------
    pandas.DataFrame
        A row for each run. The columns are `run` (MLflow's id), `started` (UTC), `status`, `param.<name>`,
        `metric.<name>` (the last value) and `tag.<name>`. MLflow's own tags are left out.

    Raises
    ------
    UserError, TransientError
        The registry refuses the request, or does not answer.
    """
    import pandas as pd

    experiment = ensure_experiment(registry, name)
    rows = []
    token = None
    while True:
        page = registry.client.search_runs(
            [experiment],
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        for run in page:
            sections = {"param": run.data.params, "metric": run.data.metrics, "tag": run.data.tags}
            values = {
                f"{kind}.{key}": value
                for kind, section in sections.items()
                for key, value in section.items()
                if not key.startswith("mlflow.")
            }
            started = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
            rows.append({"run": run.info.run_id, "started": started, "status": run.info.status, **values})
        token = page.token
        if not token:
            return pd.DataFrame(rows)
