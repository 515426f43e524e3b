"""A recommender's experiment in MLflow as a table."""

from __future__ import annotations

import pandas as pd

from endcap.registry.versions import Registry

_PAGE = 1000


def experiment_frame(registry: Registry, name: str) -> pd.DataFrame:
    """The runs of an experiment, newest first.

    Columns: `run` (MLflow's id), `started` (UTC), `status`, then `param.<name>`, `metric.<name>` (the last value) and
    `tag.<name>`; MLflow's own tags are left out.
    """
    rows = []
    token = None
    while True:
        page = registry.client.search_runs(
            [registry.experiment(name)], max_results=_PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        for run in page:
            parts = {"param": run.data.params, "metric": run.data.metrics, "tag": run.data.tags}
            values = {
                f"{kind}.{key}": value
                for kind, named in parts.items()
                for key, value in named.items()
                if not key.startswith("mlflow.")
            }
            started = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
            rows.append({"run": run.info.run_id, "started": started, "status": run.info.status, **values})
        token = page.token
        if not token:
            return pd.DataFrame(rows)
