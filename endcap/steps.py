"""The table of steps: what each step of a pipeline is called, takes, makes and depends on. There is no second list.

The specs' checks, the library's stores of artifacts, the components, the compiled pipelines, the local runner, whoever
follows a run on Kubeflow Pipelines, and the command line read it here. Steps of a user's own come from the spec, and
`endcap.spec.step_order` puts them between these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Pipeline = Literal["training", "features", "recommend"]

PIPELINES: dict[str, str] = {
    "training": "An event log to a judged, registered and deployed ranking model",
    "features": "A shop's events, items and customers to a dataset version",
    "recommend": "Every customer's list by the versions that serve, with the shop's rules applied",
}
"""The pipelines, and what each does."""

_ALL = ("training", "features", "recommend")


@dataclass(frozen=True)
class Step:
    """One step.

    Parameters
    ----------
    name
        In commands, logs, run records and `pipeline.steps` of a spec.
    title
        On Kubeflow Pipelines' pages.
    does
        What the step does, in a line.
    entry
        What makes the step's output: a function by its module and name. The output's key counts its code, with all that
        this needs.
    makes
        The name of the step's output, by which later steps take it; empty: the step makes none.
    kind
        The output's kind of artifact, which the name of its owner follows: `datasets/<shop>`; empty: no artifact.
    owner
        Whose name follows the kind.
    documents
        Specs that the step takes, as documents.
    inputs
        Outputs of earlier steps that the step takes.
    parameters
        Further parameters of the run that the step takes.
    settings
        Keys of the specs that the output depends on; those of the shop begin with `shop.`, and `*` is all of the
        recommender.
    pipelines
        The pipelines that the step is of.
    optional
        Whether a spec may switch the step off.
    needs
        The optional step without which this one cannot run; empty: none.
    retried
        Whether a pod that failed is started again where the spec does not say.
    looked_for
        Whether nothing is left to do where the output is there: a run on this machine then starts no process.
    tables
        Whether the step is also given the outputs of the steps of SQL before it, by these steps' names.
    output
        KFP's name of the output that holds the address.
    """

    name: str
    title: str
    does: str
    entry: str = ""
    makes: str = ""
    kind: str = ""
    owner: Literal["shop", "recommender"] = "recommender"
    documents: tuple[str, ...] = ("recommender",)
    inputs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ("training",)
    optional: bool = False
    needs: str = ""
    retried: bool = True
    looked_for: bool = False
    tables: bool = False
    output: str = field(default="Output", repr=False)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of all that the step is given, beside the store."""
        return (*self.documents, *self.inputs, *self.parameters)

    def folder(self, owner: str) -> str:
        """Where the step's artifacts lie in a store: `datasets/rsc15`."""
        return f"{self.kind}/{owner}"


STEPS = {
    step.name: step
    for step in (
        Step(
            name="ingest",
            title="Ingest",
            does="checks every event, item and customer, and writes a snapshot",
            entry="endcap.events.ingestion:ingest",
            makes="snapshot",
            kind="snapshots",
            owner="shop",
            looked_for=True,
            tables=True,
            documents=("shop",),
            parameters=("logical_date", "trigger"),
            settings=("shop.events", "shop.items", "shop.customers", "shop.sessions.by"),
            pipelines=_ALL,
        ),
        Step(
            name="features",
            title="Features",
            does="makes sessions, the item table and event features of a snapshot: a dataset",
            entry="endcap.features.dataset:build",
            makes="dataset",
            kind="datasets",
            owner="shop",
            looked_for=True,
            documents=("shop",),
            inputs=("snapshot",),
            parameters=("logical_date",),
            settings=(
                "shop.sessions",
                "shop.filters",
                "shop.window",
                "shop.features",
                "shop.rules.owned.types",
                "shop.events.types",
            ),
            pipelines=_ALL,
        ),
        Step(
            name="train",
            title="Train",
            does="finds the model's settings and fits the model on the training part",
            entry="endcap.training.train:train",
            makes="trained",
            kind="trained",
            looked_for=True,
            inputs=("dataset",),
            parameters=("registry",),
            settings=(
                "preprocessing",
                "model",
                "search",
                "split",
                "exclude",
                "refit",
                "seed",
                "evaluation.protocol",
                "evaluation.order",
                "evaluation.basket",
                "training.workers",
            ),
        ),
        Step(
            name="evaluate",
            title="Evaluate and gate",
            does="compares the model with the champion and the baselines, and decides by the gate",
            entry="endcap.evaluation.judge:judge",
            makes="verdict",
            kind="verdicts",
            looked_for=True,
            documents=("recommender", "shop"),
            inputs=("dataset", "trained"),
            parameters=("registry",),
            settings=(
                "preprocessing",
                "model",
                "split",
                "seed",
                "exclude",
                "baselines",
                "evaluation",
                "gate",
                "shop.rules",
            ),
            output="verdict",
        ),
        Step(
            name="refit",
            title="Refit on all data",
            does="fits the winner on all data and writes its package",
            entry="endcap.training.refit:refit",
            makes="package",
            kind="packages",
            looked_for=True,
            inputs=("verdict",),
            settings=("*",),
        ),
        Step(
            name="register",
            title="Register",
            does="makes a version of the package in the registry",
            makes="version",
            inputs=("package", "verdict"),
            parameters=("registry",),
            settings=("approval",),
            optional=True,
        ),
        Step(
            name="deploy",
            title="Deploy",
            does="writes which versions should serve, and makes a cluster follow",
            inputs=("version",),
            parameters=("registry", "namespace"),
            settings=("serving",),
            optional=True,
            needs="register",
            # It asks a busy API server again itself and waits for pods for `ready_within`. What fails then, a right
            # that is missing or a model that does not start, would fail again after as long a wait.
            retried=False,
        ),
        Step(
            name="recommend",
            title="Recommend",
            does="makes every customer's list by the versions that serve, and publishes the lists",
            entry="endcap.batch.recommend:recommend",
            makes="recommendations",
            kind="recommendations",
            documents=("recommender", "shop"),
            inputs=("dataset",),
            parameters=("registry", "online", "version", "customers"),
            settings=("batch.k", "batch.partition_size", "batch.active_within", "shop.rules"),
            pipelines=("recommend",),
        ),
    )
}
"""Endcap's own steps by name, in their order."""

RECIPE = "endcap.training.recipes:fit_recipe"
"""What makes the second output of the train step: the champion's recipe on the training part, as an artifact of its own
kind, whose key counts this entry's code."""

REPORT = Step(
    name="report",
    title="Report",
    does="writes how the run ended, however it ended",
    documents=("recommender", "shop"),
    parameters=("logical_date",),
    pipelines=_ALL,
)
"""The exit handler of each pipeline: no spec addresses it, and nothing follows it."""

SQL = Step(
    name="sql",
    title="SQL",
    does="runs a SELECT over files and tables, and keeps its rows as a table",
    entry="endcap.sql.run:run_sql",
    makes="table",
    kind="tables",
    owner="shop",
    looked_for=True,
    documents=("shop",),
    inputs=("snapshot", "dataset"),
    parameters=("logical_date", "trigger"),
    pipelines=_ALL,
    tables=True,
)
"""Each step of a spec that has `sql`: it stands where the spec puts it, under its own name."""


def list_steps(pipeline: str) -> tuple[Step, ...]:
    """List the steps of a pipeline in their order, without the report."""
    return tuple(step for step in STEPS.values() if pipeline in step.pipelines)


def list_parameters(pipeline: str) -> tuple[str, ...]:
    """List the names of a pipeline's parameters: the specs, the store, then those that its steps take."""
    steps = list_steps(pipeline)
    documents = _drop_repeats(document for step in steps for document in step.documents)
    return (*documents, "store", *_drop_repeats(name for step in steps for name in step.parameters))


def get_step_title(name: str) -> str:
    """Return a step's title; the name of a custom step."""
    step = REPORT if name == REPORT.name else STEPS.get(name)
    return name if step is None else step.title


def get_previous_step(name: str) -> str:
    """Return the step before this one in the order of the table. Raises KeyError for the first."""
    names = list(STEPS)
    place = names.index(name)
    if not place:
        raise KeyError(name)
    return names[place - 1]


def _drop_repeats(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
