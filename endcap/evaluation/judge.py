"""A verdict: a trained model beside the champion and the baselines on the same test sessions, and the gate's
decision."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from endcap.evaluation.estimates import CHALLENGER, CHAMPION
from endcap.evaluation.evidence import find_missing_evidence
from endcap.evaluation.gate import ConditionOutcome, decide_conditions, decide_gate, find_best_baseline
from endcap.evaluation.given_candidates import digest_given_files
from endcap.evaluation.judged_models import Champion, JudgedChampion, fit_baseline, load_challenger, load_champion
from endcap.evaluation.model_names import name_models
from endcap.evaluation.protocol import EvaluationProtocol, Ready
from endcap.evaluation.query_counts import count_queries
from endcap.evaluation.results import ModelResults
from endcap.evaluation.rule_masks import ShopRules, read_shop_rules
from endcap.evaluation.samples import SampleSessions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.evaluation.verdict_text import explain_unjudged
from endcap.evaluation.verdict_warnings import collect_warnings
from endcap.features.view import View, open_view
from endcap.machine import describe_machine
from endcap.models.custom import find_own_modules
from endcap.registry import Version, log_verdict, open_registry
from endcap.registry.package import RULES
from endcap.rules import Catalogue
from endcap.spec.settings import JudgeSettings
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

Json = dict[str, Any]
Progress = Callable[[str], None]
REPORT = "report.json"


def judge(
    recommender: Recommender,
    dataset: str,
    trained: str,
    store: Store,
    registry_uri: str | None = None,
    *,
    shop: Shop | None = None,
    progress: Progress = lambda line: None,
) -> str:
    """Judge a trained model by the gate of its spec, or find the verdict.

    The same queries go to the model, to the members of a blend, to the champion, and to each baseline, which is fitted
    on the view's training part. The champion is judged by its package. If its package has seen the test, its recipe is
    judged, which the train step has fitted.

    Parameters
    ----------
    recommender
        The spec.
    dataset
        Address of the dataset.
    trained
        Address of a trained model, of a package, or of a package's recipe that was fitted again.
    store, registry_uri
        Where artifacts and versions are.
    shop
        The shop whose rules hold for all models; its blacklist is read now. None: there are no rules.
    progress
        Takes a line at a time.

    Returns
    -------
    str
        The verdict's address. If the champion was made of this very model under the same rules, it is the verdict that
        made it champion.
    """
    settings = JudgeSettings.of(recommender)
    kind = STEPS["evaluate"].folder(settings.name)
    registry = open_registry(registry_uri, store)
    code_files = find_own_modules(settings.model, *settings.preprocessing, *settings.baselines)
    code = fingerprint_code(STEPS["evaluate"].entry, *code_files)
    rules = read_shop_rules(shop, progress)
    files = digest_given_files(settings.evaluation) + ([] if rules is None else [rules.version])
    question = fingerprint(settings.key(), get_content_key(dataset), get_content_key(trained), code, *files)
    version = registry.find_champion(settings.name)
    if version is not None and (earlier := _find_verdict(version, question, store)):
        return earlier
    champion = None if version is None else Champion.of(version, recommender, dataset, store)
    key = fingerprint(question, None if champion is None else champion.key(store))
    address = store.find(kind, key)
    if address is not None:
        return address
    with store.publish(kind, key) as draft:
        facts, report = _judge(settings, dataset, trained, champion, rules, store, progress)
        about = {"question": question, "dataset": dataset, "trained": trained, "machine": describe_machine()}
        draft.facts |= {**about, "snapshot": store.manifest(dataset)["facts"]["snapshot"], **facts}
        if get_content_key(trained).startswith(STEPS["train"].kind):  # what is no training has no run
            judged = store.manifest(trained)
            draft.facts["mlflow_run"] = log_verdict(settings, judged, draft.facts, store, registry, key=key)
        (draft.path / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        if rules is not None:
            (draft.path / RULES).write_text(json.dumps(rules.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    return draft.address


def _judge(
    settings: JudgeSettings,
    dataset: str,
    trained: str,
    champion: Champion | None,
    rules: Catalogue | None,
    store: Store,
    progress: Progress,
) -> tuple[Json, Json]:
    folder = store.fetch(dataset)
    view = open_view(folder, settings)
    shop_rules = None if rules is None else ShopRules.of(rules, folder)
    mask = None if shop_rules is None else shop_rules.build_mask(view.vocabulary, view.items)
    protocol = EvaluationProtocol(settings, view, folder)
    weakened, warnings = collect_warnings(settings, view, folder, protocol, shop_rules)
    champion_verdict = None if champion is None else load_champion(champion, view, folder, store, shop_rules)
    warnings += (
        [] if champion_verdict is None or champion_verdict.judged else [explain_unjudged(champion_verdict.facts())]
    )
    for warning in warnings:
        progress(f"warning: {warning}")
    challenger = load_challenger(settings, store.fetch(trained, verify=True), view, folder, shop_rules)
    competitors = {CHALLENGER: challenger}
    for label, member in challenger.model.members().items():
        competitors[f"{CHALLENGER}/{label}"] = replace(challenger, model=member)
    if champion_verdict is not None and champion_verdict.competitor is not None:
        competitors[CHAMPION] = champion_verdict.competitor
    samples = SampleSessions(view, settings.seed)
    ready = {name: _wrap(competitor) for name, competitor in competitors.items()}
    unfitted: dict[str, Ready] = {
        spec.name: partial(fit_baseline, spec, settings, view, mask, progress) for spec in settings.compared
    }
    protocol.measure_all(ready, unfitted, samples, progress)
    progress(f"resampling {len(view.test):,} sessions {settings.evaluation.bootstrap:,} times")
    results = protocol.compare_results()
    baselines = [spec.name for spec in settings.compared]
    unjudged = (
        (champion_verdict.reason or "") if champion_verdict is not None and champion_verdict.judged is None else ""
    )
    outcomes = decide_conditions(
        settings.gate.conditions, results.metrics, results.comparisons, baselines, unjudged=unjudged
    )
    queries = count_queries(settings, view, protocol.predictions)
    facts = _build_facts(settings, outcomes, results, champion_verdict, view, queries, warnings)
    compared = [CHALLENGER, _select_opponent(settings, results)]
    report = {"table": results.table(), "samples": samples.to_json(compared)}
    models = name_models(settings, trained, champion_verdict, store)
    return {**facts, **weakened, "confidence": settings.evaluation.confidence, "models": models}, report


def _wrap(competitor: EvaluatedModel) -> Ready:
    return lambda: competitor


def _select_opponent(settings: JudgeSettings, results: ModelResults) -> str:
    """Select the model that samples show beside the challenger: the champion, else the best baseline."""
    if CHAMPION in results.metrics:
        return CHAMPION
    metric = f"mrr@{max(settings.evaluation.cutoffs)}"
    return find_best_baseline(metric, results.metrics, [spec.name for spec in settings.compared])


def _build_facts(
    settings: JudgeSettings,
    outcomes: Sequence[ConditionOutcome],
    results: ModelResults,
    champion: JudgedChampion | None,
    view: View,
    queries: Json,
    warnings: list[str],
) -> Json:
    evidence = settings.gate.evidence
    missing = find_missing_evidence(evidence, queries["sessions"], outcomes, settings.split)
    outcome = decide_gate(outcomes, missing)
    return {
        "outcome": outcome,
        "passed": outcome == "passed",
        "conditions": [outcome.to_json() for outcome in outcomes],
        "evidence": {"sessions": evidence.min_sessions, "half_width": evidence.max_half_width, "lacking": missing},
        **results.facts(),
        **queries,
        "items": len(view.vocabulary),
        "counts": view.counts,
        "champion": None if champion is None else champion.facts(),
        "warnings": warnings,
    }


def _find_verdict(version: Version, question: str, store: Store) -> str | None:
    """Find the verdict that a version came from, if it answered the same question."""
    kind, _, key = get_content_key(version.tags.get("verdict", "")).rpartition("/")
    address = store.find(kind, key) if kind else None
    if address is None or store.manifest(address)["facts"].get("question") != question:
        return None
    return address
