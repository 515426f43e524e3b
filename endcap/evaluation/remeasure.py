"""Measures a model as a verdict measured it: for a model that was rebuilt, where the gate has decided long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.evaluation.estimates import CHALLENGER
from endcap.evaluation.judged_models import load_challenger
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.rule_masks import ShopRules
from endcap.features.view import open_view
from endcap.rules import Catalogue
from endcap.spec.gate import P90_MS
from endcap.spec.settings import JudgeSettings
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender


def measure_again(
    recommender: Recommender, dataset: str, trained: str, rules: Catalogue | None, store: Store
) -> dict[str, float | None]:
    """Measure a trained model on the test part, by the queries and the rules of an earlier verdict.

    Parameters
    ----------
    recommender
        The spec that the verdict was asked by.
    dataset, trained
        Addresses of the dataset and of the trained model.
    rules
        The shop's rules as the verdict has them; None: there were none.
    store
        Where both lie.

    Returns
    -------
    dict
        The metrics by name, without the time that a ranking takes.

    Raises
    ------
    DataError
        A file of given candidates cannot be read.
    """
    settings, folder = JudgeSettings.of(recommender), store.fetch(dataset)
    view = open_view(folder, settings)
    shop_rules = None if rules is None else ShopRules.of(rules, folder)
    protocol = EvaluationProtocol(settings, view, folder)
    protocol.measure(CHALLENGER, load_challenger(settings, store.fetch(trained, verify=True), view, folder, shop_rules))
    measured = protocol.compare_results().facts()["metrics"][CHALLENGER]
    return {name: value for name, value in measured.items() if name != P90_MS}
