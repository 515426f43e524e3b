"""A whole pipeline on this machine, by the runner that the pipelines' package brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from endcap.errors import NotFoundError, UserError
from endcap.online import ONLINE
from endcap.processes import share_variables
from endcap.runs import Run, RunEvent, Start, make_run_name, read_specs
from endcap.runs.logs import find_logs_folder
from endcap.runs.record import RUNNING
from endcap.spec.load import Loaded, dump_specs, load_documents
from endcap.spec.step_order import order_steps
from endcap.steps import list_parameters
from endcap.store import Store


@dataclass(frozen=True)
class LocalRun:
    """A run of a pipeline on this machine, each step in a process of its own. Nothing happens before `start`.

    Attributes
    ----------
    name
        The run's name.
    pipeline
        The pipeline's name.
    loaded
        The specs.
    store
        The store.
    arguments
        The pipeline's parameters, by name.
    online_store
        The online store's address, which the steps get by an environment variable; empty: that of this process.
    """

    name: str
    pipeline: str
    loaded: Loaded
    store: Store
    arguments: dict[str, Any] = field(repr=False)
    online_store: str = field(default="", repr=False)

    @classmethod
    def of(
        cls,
        loaded: Loaded,
        pipeline: str,
        store: Store,
        *,
        registry: str = "",
        online_store: str = "",
        **parameters: str,
    ) -> LocalRun:
        """A run with a name that no other has.

        Parameters
        ----------
        pipeline
            `training`, `features` or `recommend`.
        registry
            MLflow's address; empty: a data base in the store.
        online_store
            Its address, `none` for none; empty: as ENDCAP_ONLINE says, else a file in the store.
        **parameters
            Further parameters of the pipeline, such as `logical_date`; those that are left out are empty.

        Raises
        ------
        UserError
            Where the pipeline needs a registry and the store can hold none, or its address is malformed.
        """
        names = list_parameters(pipeline)
        if "registry" in names:
            from endcap.registry import check_address, get_default_uri

            # Said now, not by a later step: a malformed address, or a store that has no registry of its own.
            if registry:
                check_address(registry)
            else:
                get_default_uri(store)
        values = {**dump_specs(loaded), "store": store.root, "registry": registry, **parameters}
        arguments = dict.fromkeys(names, "") | {name: values[name] for name in values if name in names}
        return cls(make_run_name(loaded.recommender.name), pipeline, loaded, store, arguments, online_store)

    @property
    def folder(self) -> Path:
        """The folder of the run's logs."""
        return find_logs_folder(self.store) / self.name

    @property
    def steps(self) -> list[str]:
        """The names of the steps that are switched on, in their order."""
        return order_steps(self.pipeline, self.loaded.recommender.pipeline)

    def start(
        self,
        listen: Callable[[RunEvent], None],
        *,
        how: str = "",
        why: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Run all steps.

        Parameters
        ----------
        listen
            Called with each event of a step.
        how, why, data
            How, why and for which data the run was started, for its record: see `Start`.

        Raises
        ------
        EndcapError
            A step failed, or the run was interrupted.
        """
        runner: Callable[..., None] = entry_points(group="endcap.runner")["local"].load()
        date = self.arguments.get("logical_date", "")
        start = Start.of(self.loaded, self.pipeline, how=how, why=why, logical_date=date, data=data)
        with share_online_address(self.online_store):
            runner(self.loaded, self.pipeline, self.arguments, self.folder, listen, start=start)


def restore_specs(store: Store, run: Run) -> Loaded:
    """Return the specs of an earlier run, as its record has them.

    Raises
    ------
    UserError
        The run goes on (`project.run-not-ended`).
    NotFoundError
        The store does not have its specs (`project.run-without-specs`).
    """
    if run.state == RUNNING:
        raise UserError(
            f"{run.name} goes on. Wait for its end, or end it: endcap runs end {run.name}",
            code="project.run-not-ended",
            run=run.name,
        )
    documents = read_specs(store, run)
    if documents is None or "recommender" not in documents or not run.pipeline:
        raise NotFoundError(
            f"{store.root} does not have the specs of {run.name}, so it cannot be run again. Run its "
            "spec: endcap run SPEC",
            code="project.run-without-specs",
            run=run.name,
        )
    return load_documents(documents["recommender"], documents["shop"])


def share_online_address(address: str) -> AbstractContextManager[None]:
    """Pass the online store's address to processes that start in a block; an empty address changes nothing."""
    return share_variables({ONLINE: address} if address else {})
