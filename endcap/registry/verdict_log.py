"""What a verdict and a registration add to the run of a training in MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from endcap.registry.training_log import log_missing
from endcap.registry.training_runs import make_metric_name
from endcap.registry.version_records import Version
from endcap.registry.versions import Registry
from endcap.spec.settings import JudgeSettings
from endcap.store import Store

CHALLENGER = "challenger"
VERSION_TAG = "version"
"""The tag of a run that says which version was made of it."""
Json = Mapping[str, Any]


def log_verdict(
    settings: JudgeSettings, trained: Json, verdict: Json, store: Store, registry: Registry, *, key: str
) -> str:
    """Add a verdict's figures to the MLflow run of the training that it judges.

    The judged model's metrics have their own names (`mrr@20` as `mrr_at_20`). Those of the other models follow the
    model's name (`popularity/mrr_at_20`). The tag `gate` is the gate's outcome; the tag `verdict` lists the conditions.
    A run that the train step could not write is written now. A later verdict on the same model replaces the earlier.

    Parameters
    ----------
    settings
        The settings of the evaluation.
    trained
        The manifest of the trained model.
    verdict
        The facts of the verdict.
    store
        The store that holds the datasets.
    registry
        Where the run is.
    key
        The verdict's key.

    Returns
    -------
    str
        MLflow's id of the run.

    Raises
    ------
    UserError, TransientError
        The registry refuses the values, or does not answer.
    """
    run = log_missing(settings, trained, store, registry)
    if verdict["dataset"] != trained["facts"]["dataset"]:
        run.name_dataset(verdict["dataset"], store.manifest(verdict["dataset"])["facts"], "testing")
    figures = {
        make_metric_name(name if model == CHALLENGER else f"{model}/{name}"): float(value)
        for model, values in verdict["metrics"].items()
        for name, value in values.items()
    }
    sizes = {f"test_{name}": float(verdict[name]) for name in ("sessions", "predictions") if name in verdict}
    run.log_figures({**figures, **sizes}, time.time_ns() // 1_000_000)
    run.set_tags({"gate": verdict["outcome"], "verdict": _summarise_verdict(verdict), "verdict_key": key})
    return run.id


def link_version(registry: Registry, run: str, version: Version) -> None:
    """Log in a run which version was made from it. The version has a link to the run already."""
    registry.client.set_tag(run, VERSION_TAG, version.version)


def _summarise_verdict(verdict: Json) -> str:
    """Write a line for each reason why the gate is undecided, then one for each condition."""
    lines = [f"undecided: {reason}" for reason in verdict["evidence"]["lacking"]]
    lines += [
        f"{'passed' if condition['passed'] else 'failed'}: {condition['text']}" for condition in verdict["conditions"]
    ]
    return "\n".join(lines) or "the gate has no conditions"
