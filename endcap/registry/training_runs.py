"""A training as one run in MLflow: what it is of, its epochs, its end.

The run is found again by the trained model that it makes, so that it is there once however often the step is tried. All
writing is repeatable: what is there already is not written twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from endcap.registry.experiments import ensure_experiment, ensure_run
from endcap.registry.versions import Registry
from endcap.runs.code import describe_code
from endcap.spec.settings import ViewSettings

MAX_BATCH = 1000
"""MLflow's limit on metrics in one call."""
MAX_PARAMETERS = 100
MAX_VALUE = 6000
"""MLflow's limits on parameters in one call, and on the letters of one."""
TRAINED_TAG = "trained"
"""The tag that a run is found by: the trained model, without the place of the store."""
VALIDATION = "validation_next_ndcg_at_20"
Json = Mapping[str, Any]
Values = dict[str, float]


@dataclass(frozen=True)
class TrainingFacts:
    """What the run of a training describes.

    Attributes
    ----------
    settings
        The settings of the training.
    trained
        Kind and key of the trained model.
    dataset
        The dataset's address.
    data
        The dataset's facts; empty if the dataset was removed.
    counts
        The counts of the view (`View.counts`).
    """

    settings: ViewSettings
    trained: str
    dataset: str
    data: Json
    counts: Json

    @property
    def title(self) -> str:
        """The run's title: the recommender, the model and the date up to which there are events."""
        model = self.settings.model
        name = getattr(model, "path", model.name).rpartition(":")[2]
        return " ".join(filter(None, (self.settings.name, name, _format_day(self.data.get("until")))))

    def build_parameters(self) -> dict[str, Any]:
        """Split, seed, shop, the dates of the parts and their numbers of sessions."""
        settings, counts = self.settings, self.counts
        begins = counts.get("from", {})
        named = {
            "recommender": settings.name,
            "shop": settings.shop,
            "seed": settings.seed,
            "split": settings.split.model_dump(mode="json", exclude_none=True),
            "protocol": settings.protocol,
            "exclude": settings.exclude,
            "preprocessing": [step.path for step in settings.preprocessing],
            "data_from": _format_moment(self.data.get("from")),
            "validation_from": _format_moment(begins.get("validation")),
            "test_from": _format_moment(begins.get("test")),
            "data_until": _format_moment(self.data.get("until")),
        }
        sizes = {f"{part}_sessions": counts.get(part, {}).get("sessions") for part in ("train", "validation")}
        return {**named, **sizes, "training_sessions": counts.get("training", {}).get("sessions")}

    def build_tags(self) -> dict[str, str]:
        """What the run is found by, where its data lie, and the code that trains."""
        lineage = {"dataset": self.dataset, "snapshot": self.data.get("snapshot", "")}
        code = {name: value for name, value in describe_code().items() if name != "version"}
        named = {"part": "training", TRAINED_TAG: self.trained, **lineage, **code}
        return {name: value for name, value in named.items() if value}


class TrainingRun:
    """The run of a training in MLflow. It is found, or created, when the object is made.

    Each method may raise UserError if the registry refuses the request, and TransientError if it does not answer.

    Parameters
    ----------
    registry
        Where the run is.
    training
        What the run describes.
    begun
        When the training began, epoch milliseconds. A run that exists keeps its own beginning.
    """

    def __init__(self, registry: Registry, training: TrainingFacts, begun: int) -> None:
        """begun: when the training began, epoch ms; a run that is there keeps its own beginning."""
        self._client, self._training = registry.client, training
        self._steps_by_metric: dict[str, set[int]] = {}
        """Steps of metrics that an earlier attempt wrote."""
        where = f"tags.{TRAINED_TAG} = '{training.trained}' and tags.part = 'training'"
        run, self.new = ensure_run(
            registry,
            ensure_experiment(registry, training.settings.name),
            where,
            start_time=begun,
            tags=training.build_tags(),
            run_name=training.title,
        )
        self.id, self.begun, self.status = str(run.info.run_id), int(run.info.start_time), str(run.info.status)
        self._values: Values = dict(run.data.metrics)
        self._parameters: dict[str, str] = dict(run.data.params)

    def begin(self) -> None:
        """Mark the run as running, and log its parameters and its dataset."""
        if self.status != "RUNNING":
            self._client.update_run(self.id, status="RUNNING")
            self.status = "RUNNING"
        self.log_parameters(self._training.build_parameters())
        self.name_dataset(self._training.dataset, self._training.data, "training")

    def log_parameters(self, parameters: Json) -> None:
        """Log parameters. A value in a nested mapping has its path as name, such as ``members.gru4rec.width``.

        MLflow's parameters never change. If a later attempt uses another value, for example after a new search, the tag
        ``now.<name>`` has it.
        """
        from mlflow.entities import Param

        named = {make_metric_name(name): str(value)[:MAX_VALUE] for name, value in flatten(parameters)}
        fresh = {name: value for name, value in named.items() if name not in self._parameters}
        for some in _split_batches([Param(*pair) for pair in fresh.items()], MAX_PARAMETERS):
            self._client.log_batch(self.id, params=some)
        changed = {name: value for name, value in named.items() if self._parameters.get(name, value) != value}
        self._parameters |= fresh
        if changed:
            self.set_tags({f"now.{name}": value for name, value in changed.items()})

    def name_dataset(self, address: str, data: Json, context: Literal["training", "testing"]) -> None:
        """Log a dataset that the run used.

        Parameters
        ----------
        address
            The dataset's address.
        data
            The dataset's facts.
        context
            ``training`` or ``testing``.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        kind, _, digest = address.rpartition("/")
        profile = {name: data[name] for name in ("sessions", "events", "items", "customers", "content") if name in data}
        scheme = "s3" if address.startswith("s3://") else "local"
        dataset = Dataset(
            name="/".join(kind.split("/")[-2:]),
            digest=digest,
            source_type=scheme,
            source=_encode_json({"uri": address}),
            profile=_encode_json(profile),
        )
        tags = [InputTag("mlflow.data.context", context)]
        self._client.log_inputs(self.id, [DatasetInput(dataset, tags)])

    def log_rows(self, rows: Sequence[tuple[Mapping[str, float], int]]) -> None:
        """Log series of metrics.

        Parameters
        ----------
        rows
            Metrics by name, with the time of the measurement in epoch milliseconds. `epoch` is the step of the row.
        """
        from mlflow.entities import Metric

        fresh = {}
        for row, moment in rows:
            step = int(row.get("epoch", 0))
            for name, value in row.items():
                if name != "epoch" and step not in self._read_steps(name):
                    fresh[name, step] = Metric(name, value, moment, step)
        for some in _split_batches(list(fresh.values()), MAX_BATCH):
            self._client.log_batch(self.id, metrics=some)
        for name, step in fresh:
            self._read_steps(name).add(step)

    def log_figures(self, values: Values, moment: int) -> None:
        """Log metrics that are single values.

        A value that the run already has is not written again. moment: epoch milliseconds.
        """
        from mlflow.entities import Metric

        fresh = [Metric(name, value, moment, 0) for name, value in values.items() if self._values.get(name) != value]
        for some in _split_batches(fresh, MAX_BATCH):
            self._client.log_batch(self.id, metrics=some)
        self._values |= values

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])

    def complete(self, facts: Json, ended: int) -> None:
        """Log what the run lacks of the trained model's facts, and end the run.

        Parameters
        ----------
        facts
            The facts of the trained model.
        ended
            When the training ended, epoch milliseconds.
        """
        self.log_parameters(facts.get("model") or {})
        self.log_parameters({"found": facts.get("found") or {}})
        self.log_rows([(name_epoch_metrics(row), ended) for row in facts.get("history", [])])
        if "seconds" in facts:
            self.log_figures({"training_seconds": float(facts["seconds"])}, ended)
        if device := facts.get("device"):
            self.set_tags({"device": device})
        if searched := (facts.get("search") or {}).get("run"):
            self.set_tags({"search_run": searched})
        self.end("FINISHED", ended)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], ended: int) -> None:
        """End the run. ended: epoch milliseconds."""
        self._client.set_terminated(self.id, status, ended)
        self.status = status

    def _read_steps(self, metric: str) -> set[int]:
        if metric not in self._steps_by_metric:
            # A new run has none: the registry is not asked.
            history = [] if self.new else self._client.get_metric_history(self.id, metric)
            self._steps_by_metric[metric] = {int(metric_point.step) for metric_point in history}
        return self._steps_by_metric[metric]


def name_epoch_metrics(row: Mapping[str, float], fit: str = "train") -> Values:
    """Name the metrics of a row of a fit's history as in MLflow.

    Parameters
    ----------
    row
        The row. `epoch` keeps its name.
    fit
        The name of the fit.

    Returns
    -------
    dict
        The values by MLflow's names: the loss as ``train_loss``, that of a blend's member as ``gru4rec/train_loss``.
    """
    return {name if name == "epoch" else _name_epoch_metric(name, fit): value for name, value in row.items()}


def _name_epoch_metric(name: str, fit: str) -> str:
    member, slash, quantity = name.rpartition("/")
    return make_metric_name(f"{member}{slash}{VALIDATION if quantity == 'validation' else f'{fit}_{quantity}'}")


def make_metric_name(metric: str) -> str:
    """Turn a metric's name into one that MLflow allows: ``mrr@20`` gives ``mrr_at_20``."""
    return re.sub(r"[^/\w.\- :]", "_", metric.replace("@", "_at_"))


def flatten(values: Json, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their paths. Values that are None or empty are left out."""
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}.")
        elif value not in (None, "", []):
            yield path, value


def to_epoch_ms(moment: datetime) -> int:
    """Convert a time to epoch milliseconds."""
    return round(moment.timestamp() * 1000)


def _split_batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _encode_json(value: Json) -> str:
    import json

    return json.dumps(value)


def _format_moment(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _format_day(milliseconds: int | None) -> str:
    return "" if milliseconds is None else (_format_moment(milliseconds) or "")[:10]
