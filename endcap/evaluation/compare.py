"""Several trained models side by side on the same test sessions: no gate, and nothing comes of it but figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from endcap.evaluation.estimates import Estimate
from endcap.evaluation.given_candidates import digest_given_files
from endcap.evaluation.judged_models import fit_baseline, load_challenger
from endcap.evaluation.model_names import read_model
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.query_counts import count_queries
from endcap.evaluation.results import ModelResults
from endcap.evaluation.rule_masks import ShopRules, read_shop_rules
from endcap.evaluation.samples import SampleSessions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.evaluation.verdict_warnings import collect_warnings
from endcap.features.view import View, open_view
from endcap.models.custom import own_code
from endcap.registry.package import RULES
from endcap.rules import Catalogue
from endcap.spec.model import ModelSpec
from endcap.spec.naming import named
from endcap.spec.settings import JudgeSettings
from endcap.spec.shop import Shop
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

Json = dict[str, Any]
Progress = Callable[[str], None]
REPORT = "report.json"
ENTRY = "endcap.evaluation.compare:compare"
"""What makes a comparison, for its key."""


@dataclass(frozen=True)
class ComparedModel:
    """A model that was trained as its recommender says. trained: the model's address."""

    label: str
    recommender: Recommender
    trained: str


def _build_kind(name: str) -> str:
    """Where a recommender's comparisons lie in a store, by its name."""
    return f"comparisons/{name}"


def compare(
    models: Sequence[ComparedModel],
    dataset: str,
    store: Store,
    *,
    shop: Shop | None = None,
    progress: Progress = lambda line: None,
) -> str:
    """Measure models on the test sessions of the first one's view, or find the comparison; returns its address.

    All are asked the same, by the same rules, and resampled together; the first is the one that others are held
    against. The first's baselines, fitted on the training part, stand beside them. shop: see `judge`. Raises
    IntegrityError where a model was trained on another view of the data.
    """
    settings = [JudgeSettings.of(model.recommender) for model in models]
    common = settings[0]
    rules = read_shop_rules(shop, progress)
    files = digest_given_files(common.evaluation) + ([] if rules is None else [rules.version])
    code_files = {path for model in settings for path in own_code(model.model, *model.preprocessing, *model.baselines)}
    question = {name: value for name, value in common.key().items() if name not in ("model", "preprocessing", "gate")}
    trained = [[model.label, get_content_key(model.trained)] for model in models]
    key = fingerprint(question, get_content_key(dataset), trained, fingerprint_code(ENTRY, *sorted(code_files)), *files)
    address = store.find(_build_kind(common.name), key)
    if address is not None:
        return address
    with store.publish(_build_kind(common.name), key) as draft:
        facts, report = _ComparisonRun(models, settings, dataset, rules, store, progress).made()
        about = {"dataset": dataset, "snapshot": store.manifest(dataset)["facts"]["snapshot"]}
        draft.facts |= {**about, "trained": {model.label: model.trained for model in models}, **facts}
        (draft.path / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        if rules is not None:
            (draft.path / RULES).write_text(json.dumps(rules.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    return draft.address


class _ComparisonRun:
    def __init__(
        self,
        contestants: Sequence[ComparedModel],
        settings: Sequence[JudgeSettings],
        dataset: str,
        known: Catalogue | None,
        store: Store,
        progress: Progress,
    ) -> None:
        self._contestants, self._settings, self._common = contestants, settings, settings[0]
        self._store, self._tell, self._folder = store, progress, store.fetch(dataset)
        self._view: View = open_view(self._folder, self._common)
        self._house = None if known is None else ShopRules.of(known, self._folder)
        self._examination = EvaluationProtocol(self._common, self._view, self._folder)
        self._models = {model.label: named(read_model(model.trained, store)) for model in contestants}
        self._baselines = self._beside()

    def made(self) -> tuple[Json, Json]:
        """Facts, and what the report is made of."""
        view, common, first = self._view, self._common, self._contestants[0].label
        samples, house = SampleSessions(view, common.seed), self._house
        weakened, warnings = collect_warnings(common, view, self._folder, self._examination, house)
        for warning in warnings:
            self._tell(f"warning: {warning}")
        barred = None if house is None else house.on(view.vocabulary, view.items)
        ready = {
            model.label: partial(self._competitor, model, settings)
            for model, settings in zip(self._contestants, self._settings, strict=True)
        }
        unfitted = {
            label: partial(fit_baseline, spec, common, view, barred, self._tell)
            for label, spec in self._baselines.items()
        }
        self._examination.examine_all(ready, unfitted, samples, self._tell)
        self._tell(f"resampling {len(view.test):,} sessions {common.evaluation.bootstrap:,} times")
        contest = self._examination.contest(first)
        labels = list(contest.metrics)
        facts = {
            "labels": labels,
            "models": self._models,
            "differences": reverse_differences(contest),
            **contest.facts(),
            **count_queries(common, view, self._examination.predictions),
            "items": len(view.vocabulary),
            "counts": view.counts,
            "confidence": common.evaluation.confidence,
            "warnings": warnings,
            **weakened,
        }
        return facts, {"table": contest.table(), "samples": samples.to_json(labels[:2])}

    def _beside(self) -> dict[str, ModelSpec]:
        """The baselines by label; one that is compared itself is not fitted again."""
        labels = [model.label for model in self._contestants]
        beside = {}
        for spec in self._common.compared:
            if named(spec) not in self._models.values():
                label = f"{spec.name} (baseline)" if spec.name in labels else spec.name
                beside[label] = spec
        self._models |= {label: named(spec) for label, spec in beside.items()}
        return beside

    def _competitor(self, model: ComparedModel, settings: JudgeSettings) -> EvaluatedModel:
        folder = self._store.fetch(model.trained, verify=True)
        return load_challenger(settings, folder, self._view, self._folder, self._house)


def reverse_differences(results: ModelResults) -> dict[str, dict[str, list[float | None]]]:
    """Of each other model from the one that it is held against: [estimate, lower, upper] by model and metric."""
    return {
        name: {metric: _reverse(estimate) for metric, estimate in comparison.difference.items()}
        for name, comparison in results.comparisons.items()
    }


def _reverse(estimate: Estimate) -> list[float | None]:
    """A difference the other way about."""
    return [-estimate.value, *(None if end is None else -end for end in (estimate.upper, estimate.lower))]
