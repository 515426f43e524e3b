"""Several trained models side by side on the same test sessions: figures, without a gate and without a registry."""

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
from endcap.models.custom import find_own_modules
from endcap.registry.package import RULES
from endcap.rules import Catalogue
from endcap.spec.model import ModelSpec
from endcap.spec.model_summary import summarize_model
from endcap.spec.settings import JudgeSettings
from endcap.spec.shop import Shop
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

Json = dict[str, Any]
Progress = Callable[[str], None]
REPORT = "report.json"
ENTRY = "endcap.evaluation.compare:compare"
"""The code that makes a comparison; a comparison's key depends on it."""


@dataclass(frozen=True)
class ComparedModel:
    """A trained model with its label, its recommender and its address."""

    label: str
    recommender: Recommender
    trained: str


def _build_kind(name: str) -> str:
    """Return the kind under which a store keeps a recommender's comparisons."""
    return f"comparisons/{name}"


def compare(
    models: Sequence[ComparedModel],
    dataset: str,
    store: Store,
    *,
    shop: Shop | None = None,
    progress: Progress = lambda line: None,
) -> str:
    """Measure models on the test sessions of the first model's view, or find the comparison.

    All models get the same queries under the same rules, and are resampled together. The first model is the one that
    the others are compared with. The first recommender's baselines are fitted on the training part and measured too.

    Parameters
    ----------
    models
        One or more; the first is the reference.
    dataset
        Address of the dataset that all were trained on.
    shop
        The shop whose rules hold for all models; None: there are no rules.
    progress
        Takes a line at a time.

    Returns
    -------
    str
        The comparison's address.

    Raises
    ------
    IntegrityError
        If a model was trained on another view of the data.
    """
    settings = [JudgeSettings.of(model.recommender) for model in models]
    common = settings[0]
    rules = read_shop_rules(shop, progress)
    files = digest_given_files(common.evaluation) + ([] if rules is None else [rules.version])
    code_files = {
        path for model in settings for path in find_own_modules(model.model, *model.preprocessing, *model.baselines)
    }
    question = {name: value for name, value in common.key().items() if name not in ("model", "preprocessing", "gate")}
    trained = [[model.label, get_content_key(model.trained)] for model in models]
    key = fingerprint(question, get_content_key(dataset), trained, fingerprint_code(ENTRY, *sorted(code_files)), *files)
    address = store.find(_build_kind(common.name), key)
    if address is not None:
        return address
    with store.publish(_build_kind(common.name), key) as draft:
        facts, report = _ComparisonRun(models, settings, dataset, rules, store, progress).build()
        about = {"dataset": dataset, "snapshot": store.manifest(dataset)["facts"]["snapshot"]}
        draft.facts |= {**about, "trained": {model.label: model.trained for model in models}, **facts}
        (draft.path / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        if rules is not None:
            (draft.path / RULES).write_text(json.dumps(rules.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    return draft.address


class _ComparisonRun:
    """Measures the models of one comparison."""

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
        self._shop_rules = None if known is None else ShopRules.of(known, self._folder)
        self._protocol = EvaluationProtocol(self._common, self._view, self._folder)
        self._models = {model.label: summarize_model(read_model(model.trained, store)) for model in contestants}
        self._baselines = self._beside()

    def build(self) -> tuple[Json, Json]:
        """Return the facts, and what the report is made of."""
        view, common, first = self._view, self._common, self._contestants[0].label
        samples, shop_rules = SampleSessions(view, common.seed), self._shop_rules
        weakened, warnings = collect_warnings(common, view, self._folder, self._protocol, shop_rules)
        for warning in warnings:
            self._tell(f"warning: {warning}")
        mask = None if shop_rules is None else shop_rules.build_mask(view.vocabulary, view.items)
        ready = {
            model.label: partial(self._competitor, model, settings)
            for model, settings in zip(self._contestants, self._settings, strict=True)
        }
        unfitted = {
            label: partial(fit_baseline, spec, common, view, mask, self._tell)
            for label, spec in self._baselines.items()
        }
        self._protocol.measure_all(ready, unfitted, samples, self._tell)
        self._tell(f"resampling {len(view.test):,} sessions {common.evaluation.bootstrap:,} times")
        results = self._protocol.compare_results(first)
        labels = list(results.metrics)
        facts = {
            "labels": labels,
            "models": self._models,
            "differences": reverse_differences(results),
            **results.facts(),
            **count_queries(common, view, self._protocol.predictions),
            "items": len(view.vocabulary),
            "counts": view.counts,
            "confidence": common.evaluation.confidence,
            "warnings": warnings,
            **weakened,
        }
        return facts, {"table": results.table(), "samples": samples.to_json(labels[:2])}

    def _beside(self) -> dict[str, ModelSpec]:
        """Return the baselines by label. A baseline that is compared itself is not fitted again."""
        labels = [model.label for model in self._contestants]
        beside = {}
        for spec in self._common.compared:
            if summarize_model(spec) not in self._models.values():
                label = f"{spec.name} (baseline)" if spec.name in labels else spec.name
                beside[label] = spec
        self._models |= {label: summarize_model(spec) for label, spec in beside.items()}
        return beside

    def _competitor(self, model: ComparedModel, settings: JudgeSettings) -> EvaluatedModel:
        folder = self._store.fetch(model.trained, verify=True)
        return load_challenger(settings, folder, self._view, self._folder, self._shop_rules)


def reverse_differences(results: ModelResults) -> dict[str, dict[str, list[float | None]]]:
    """Return each other model's difference from the reference: [estimate, lower, upper] by model and metric."""
    return {
        name: {metric: _reverse(estimate) for metric, estimate in comparison.difference.items()}
        for name, comparison in results.comparisons.items()
    }


def _reverse(estimate: Estimate) -> list[float | None]:
    """Return an estimate with its sign changed."""
    return [-estimate.value, *(None if end is None else -end for end in (estimate.upper, estimate.lower))]
