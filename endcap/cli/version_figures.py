"""A recommender's registered versions with their metrics, and the judged models that were not registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from endcap.errors import EndcapError
from endcap.runs import list_runs
from endcap.steps import STEPS
from endcap.store import Store, get_content_key
from endcap.store.schemas import report_malformed
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.deploy.state import Pin
    from endcap.registry import Registry, Version

METRICS = ("hr", "mrr", "ndcg")
"""The metrics of a line, at the largest cutoff."""
RUNS = 100
"""How many of the latest runs are searched for recommenders without a version."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """The figures of a verdict."""

    verdict: str
    outcome: str
    """The gate's decision: passed, failed or undecided."""
    model: str
    metrics: Mapping[str, float]
    """All metrics of the model."""
    cutoff: int
    why: str
    judged: datetime | None
    """When the model was judged, in UTC."""

    @classmethod
    def of(cls, verdict: str, store: Store) -> Figures | None:
        """Read the figures of a verdict; None if it is not in this store."""
        try:
            manifest = store.manifest(verdict)
        except EndcapError:  # it is in another store, or was deleted
            return None
        with report_malformed("verdicts", verdict):
            return cls._of_facts(verdict, manifest)

    @classmethod
    def _of_facts(cls, verdict: str, manifest: Json) -> Figures:
        from endcap.evaluation.verdict_text import describe_verdict, read_decision
        from endcap.project.metric_tables import find_deepest_cutoff
        from endcap.spec.model_summary import describe_model

        facts = manifest["facts"]
        metrics = facts.get("metrics", {}).get("challenger", {})
        model = describe_model(facts.get("models", {}).get("challenger") or {"name": ""})
        judged = datetime.fromisoformat(str(manifest["created"])).astimezone(UTC)
        return cls(
            verdict,
            read_decision(facts),
            model,
            metrics,
            find_deepest_cutoff(facts) if metrics else 0,
            describe_verdict(facts),
            judged,
        )

    def list_shown(self) -> list[float | None]:
        """List the metrics that a line shows; None for those that were not measured."""
        return [self.metrics.get(f"{name}@{self.cutoff}") for name in METRICS]


@dataclass(frozen=True)
class VersionHistory:
    """A recommender's versions, oldest first, with their figures; and the judged models without a version."""

    recommender: str
    versions: Sequence[tuple[Version, Figures | None]]
    tries: Sequence[Figures]
    """The models that the gate refused or did not decide on, oldest first."""
    pin: Pin | None
    """Who keeps what is served as it is; None: nobody."""

    def to_json(self) -> Json:
        versions = []
        for version, figures in self.versions:
            model, metrics = (figures.model, figures.metrics) if figures else (None, {})
            versions.append({**asdict(version), "model": model, "metrics": metrics})
        return {
            "recommender": self.recommender,
            "pin": None if self.pin is None else self.pin.model_dump(mode="json"),
            "versions": versions,
            "tries": [asdict(figures) for figures in self.tries],
        }

    def __str__(self) -> str:
        every = [figures for _, figures in self.versions if figures] + list(self.tries)
        cutoff = f"@{max(figures.cutoff for figures in every)}" if every else ""
        names = [f"{name}{cutoff}" for name in METRICS]
        rows: list[list[Any]] = []
        for version, figures in self.versions:
            state = " and ".join(version.aliases) or version.state  # an alias says that it is approved
            values = figures.list_shown() if figures else [None] * len(METRICS)
            created = datetime.fromtimestamp(version.created / 1000, UTC)
            rows.append([version.version, figures.model if figures else "", *values, state, _format_day(created)])
        rows += [
            ["-", tried.model, *tried.list_shown(), f"gate {tried.outcome}", _format_day(tried.judged)]
            for tried in self.tries
        ]
        return format_text_table(["version", "model", *names, "state", "made"], rows)


def read_version_history(recommender: str, registry: Registry | None, store: Store) -> VersionHistory:
    """Read the history of one recommender. registry: None if there is none."""
    from endcap.deploy import find_state

    versions = registry.list_versions(recommender) if registry else []
    state = find_state(recommender, store)
    registered = {get_content_key(version.tags["verdict"]) for version in versions if version.tags.get("verdict")}
    addresses = store.list(STEPS["evaluate"].folder(recommender))
    unregistered = [Figures.of(address, store) for address in addresses if get_content_key(address) not in registered]
    return VersionHistory(
        recommender,
        [(version, _read_figures(version, store)) for version in versions],
        [figures for figures in unregistered if figures is not None and figures.outcome != "passed"],
        None if state is None else state.pin,
    )


def list_recommenders(registry: Registry | None, store: Store) -> list[str]:
    """List the recommenders that have versions or were run."""
    known = {run.recommender for run in list_runs(store, limit=RUNS) if run.recommender}
    return sorted(known | set(registry.list_names() if registry else []))


def explain_tries(tries: Iterable[Figures]) -> list[str]:
    """Say why each model was not registered, with its verdict: two lines for each."""
    return [
        line
        for figures in tries
        for line in (f"  - {figures.model}: {figures.why}", f"    {'verdict':<11} {figures.verdict}")
    ]


def _read_figures(version: Version, store: Store) -> Figures | None:
    verdict = version.tags.get("verdict")
    return Figures.of(verdict, store) if verdict else None


def _format_day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"
