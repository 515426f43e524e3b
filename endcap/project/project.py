"""A shop's data and a recommender in one object: each method runs one step of the pipelines, here and now."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from endcap.errors import EndcapError
from endcap.project.data_methods import DataMethods
from endcap.project.model_methods import ModelMethods
from endcap.project.read_methods import ReadMethods
from endcap.project.release_methods import ReleaseMethods
from endcap.project.results import PipelineRun
from endcap.steps import STEPS, list_parameters

if TYPE_CHECKING:
    from endcap.runs import RunEvent


class Project(DataMethods, ModelMethods, ReleaseMethods, ReadMethods):
    """A recommender with its shop, a store and a registry. `endcap.open` makes it.

    Each method runs one step and returns an object that describes what the step made. A step that has run before with
    the same data, settings and code is not repeated. A method's input is what an earlier step made; by default, it is
    what this project made last. `run` runs a whole pipeline.

    Parameters
    ----------
    store
        Where artifacts lie.
    recommender, shop
        The checked specs. A step raises UserError if it needs a spec that is missing.
    registry
        MLflow's address; empty: a data base in the store.
    online
        The online store's address; empty: as ENDCAP_ONLINE says, else a file in the store; `none`: none.
    run
        The name of the run that the steps are of, for the lineage.
    progress
        Gets each step's lines. None: a bar, on a terminal or in a notebook.
    files
        The files that the specs were read from, for the records of runs.

    Examples
    --------
    >>> project = endcap.open("trial", store=folder, sets=["search=null"])
    >>> snapshot = project.ingest()
    >>> dataset = project.features()
    >>> trained = project.train()
    >>> verdict = project.evaluate()
    >>> verdict.passed
    True
    >>> package = project.refit()
    >>> project.register().number
    '1'
    >>> len(project.rank(items=[], k=3).ids)
    3
    """

    def run(
        self, pipeline: str = "training", *, until: datetime | str | None = None, why: str = "", **parameters: str
    ) -> PipelineRun:
        """Run a whole pipeline on this machine, each step in a process of its own, as `endcap run` does.

        Parameters
        ----------
        pipeline
            `training`, `features` or `recommend`.
        until
            Only events before this moment count; None: all events.
        why
            The reason, for the run's record.
        **parameters
            Further parameters of the pipeline, such as `version` of `recommend`.

        Returns
        -------
        PipelineRun
            The run's record, and what each step made.

        Raises
        ------
        EndcapError
            A step failed; the error has the step's own code.

        Examples
        --------
        >>> ran = project.run("features", why="new events")
        >>> list(ran.results)
        ['ingest', 'features']
        >>> ran.run.state
        'succeeded'
        """
        from endcap.project.local_run import LocalRun
        from endcap.runs import StepEnd, StepFailure, StepProgress, read_run
        from endcap.spec.load import Loaded
        from endcap.sql import is_table

        date = until.isoformat() if isinstance(until, datetime) else until or ""
        loaded = Loaded(self.recommender, self.shop, self._files)
        online = {"online": self._online} if "online" in list_parameters(pipeline) else {}
        arguments = {"logical_date": date, **online, **parameters}
        local = LocalRun.of(
            loaded, pipeline, self.store, registry=self.registry, online_store=self._online, **arguments
        )
        results: dict[str, str] = {}
        faults: list[StepFailure] = []
        with self._show_step(pipeline) as progress:

            def listen(event: RunEvent) -> None:
                if isinstance(event, StepProgress):
                    progress(f"{event.step}: {event.line}")
                elif isinstance(event, StepEnd):
                    results[event.step] = event.result
                    progress(f"{event.step}: {event.summary}")
                elif isinstance(event, StepFailure):
                    faults.append(event)

            try:
                local.start(listen, why=why)
            except EndcapError as error:
                if not faults:
                    raise
                failed = faults[0]
                raise EndcapError(
                    f"step {failed.step} failed: {failed.fault.message}; its log: {local.folder}/{failed.step}.log",
                    code=failed.fault.code,
                    **{**failed.fault.fields, "run": local.name, "step": failed.step},
                ) from error
        self._latest |= {
            STEPS[step].makes: result for step, result in results.items() if step in STEPS and STEPS[step].makes
        }
        self._tables |= {step: result for step, result in results.items() if is_table(result)}
        return PipelineRun(read_run(self.store, local.name), results)
