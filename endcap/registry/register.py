"""A judged package becomes a version."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from endcap.errors import UserError
from endcap.registry.package import IMAGE
from endcap.registry.versions import Registry, open_registry
from endcap.runs.code import commit
from endcap.spec.recommender import Recommender
from endcap.spec.settings import JudgeSettings
from endcap.store import Store, fingerprint

IMAGES = ("image", "train_image", "refit_image")
"""Tags that name what a version was registered, trained and refitted in."""
MAX_BATCH = 1000
"""MLflow's limit on metrics in one call."""


def register(
    recommender: Recommender,
    package: str,
    verdict: str,
    store: Store,
    registry_uri: str | None = None,
    *,
    run: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Make a version of a package that passed the gate, and return its number.

    With `approval: gate` it is approved at once, and becomes the challenger, or the champion where there is none;
    with `approval: person` it is pending, without an alias, until someone approves it. The same package again is the
    same version. Its tags name the image that registered it, and those that trained and refitted the model, however
    long ago that was. Raises UserError where the gate failed, or was undecided.
    """
    facts = store.manifest(verdict)["facts"]
    if facts.get("outcome") == "undecided":
        lacking = facts["evidence"]["lacking"]
        raise UserError(
            f"{package} is not registered: its gate is undecided ({'; '.join(lacking)})",
            code="registry.gate-undecided",
            package=package,
            verdict=verdict,
            lacking=lacking,
        )
    if not facts["passed"]:
        failed = [one["text"] for one in facts["conditions"] if not one["passed"]]
        raise UserError(
            f"{package} is not registered: its gate failed ({', '.join(failed)})",
            code="registry.gate-failed",
            package=package,
            verdict=verdict,
            conditions=failed,
        )
    tags = {
        "dataset": facts["dataset"],
        "snapshot": facts.get("snapshot", ""),
        "spec": fingerprint(recommender.model_dump(mode="json")),
        "commit": commit(),
        **_images(package, store),
        "run": run,
        "verdict": verdict,
    }
    if moving := sorted({one for name, one in tags.items() if name in IMAGES and one and "@sha256:" not in one}):
        progress(f"warning: the lineage names {', '.join(moving)} by a tag, which can be moved; name images by digest")
    by_gate = recommender.approval == "gate"
    why = "; ".join(one["text"] for one in facts["conditions"]) or "the gate has no conditions"
    registry = open_registry(registry_uri, store)
    version = registry.add(
        recommender.name,
        package,
        "approved" if by_gate else "pending",
        f"passed: {why}" if by_gate else f"passed the gate ({why}), waits for a person",
        tags,
        facts.get("mlflow_run"),
    )
    return version.version


def describe(name: str, version: str, store: Store, registry_uri: str | None = None) -> str:
    """One line on a version: its state, who decided, its aliases."""
    one = open_registry(registry_uri, store).version(name, version)
    if one.state == "pending":
        return f"{name} version {version}, pending: `endcap registry approve {name} {version}` lets it go on"
    aliases = f", {' and '.join(one.aliases)}" if one.aliases else ""
    return f"{name} version {version}, {one.state} by {one.by}{aliases}"


def log_run(
    settings: JudgeSettings, trained: dict[str, Any], verdict: dict[str, Any], registry: Registry, *, key: str
) -> str:
    """Log a judged training as an MLflow run, in the experiment of the recommender's name; returns the run's id.

    Parameters are the model's; metrics are the judged ones (`mrr@20` as `mrr_at_20`), and the training's history an
    epoch; the tag `verdict` tells what became of each condition. `key` names the verdict, so that logging it again
    finds the run, and finishes it where a kill left it half done.
    """
    from mlflow.entities import Metric, Param

    client = registry.client
    experiment = registry.experiment(settings.name)
    known = client.search_runs([experiment], f"tags.verdict_key = '{key}'")
    finished = [run for run in known if run.info.status == "FINISHED"]
    if finished:
        return str(finished[0].info.run_id)
    tags = {
        "verdict_key": key,
        "dataset": verdict["dataset"],
        "snapshot": verdict.get("snapshot", ""),
        "gate": verdict["outcome"],
        "verdict": _told(verdict),
    }
    if searched := (trained.get("search") or {}).get("run"):
        tags["search_run"] = searched
    run = known[0] if known else client.create_run(experiment, tags=tags, run_name=settings.model.name)
    run_id = str(run.info.run_id)
    # The run's own time: MLflow keeps a value once that is logged again with the same time.
    now = run.info.start_time
    metrics = [Metric(metric_name(name), value, now, 0) for name, value in verdict["metrics"]["challenger"].items()]
    for row in trained.get("history", []):
        step = int(row.get("epoch", 0))
        metrics += [
            Metric(metric_name(f"train_{name}"), value, now, step) for name, value in row.items() if name != "epoch"
        ]
    parameters = trained.get("model") or settings.model.model_dump(mode="json")
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in parameters.items()],
    )
    for batch in (metrics[start : start + MAX_BATCH] for start in range(0, len(metrics), MAX_BATCH)):
        client.log_batch(run_id, metrics=batch)
    client.set_terminated(run_id)
    return run_id


def _images(package: str, store: Store) -> dict[str, str]:
    """The image of each step that made a version; empty where a model was made outside of images."""
    made_of = store.manifest(package)["facts"]

    def image(address: str | None) -> str:
        environment: Mapping[str, str] = store.manifest(address)["facts"].get("environment", {}) if address else {}
        return environment.get("image", "")

    of_each = (os.environ.get(IMAGE, ""), image(made_of.get("trained")), image(made_of.get("fitted")))
    return dict(zip(IMAGES, of_each, strict=True))


def _told(verdict: dict[str, Any]) -> str:
    """A line a condition, after what is missing to decide."""
    lines = [f"undecided: {one}" for one in verdict["evidence"]["lacking"]]
    lines += [f"{'passed' if one['passed'] else 'failed'}: {one['text']}" for one in verdict["conditions"]]
    return "\n".join(lines) or "the gate has no conditions"


def metric_name(metric: str) -> str:
    """As MLflow allows it: letters, digits and _-.:/ and spaces; `mrr@20` becomes `mrr_at_20`."""
    return re.sub(r"[^/\w.\- :]", "_", metric.replace("@", "_at_"))
