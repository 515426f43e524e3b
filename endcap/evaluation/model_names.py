"""The models of a verdict by their labels."""

from __future__ import annotations

from typing import Any

from endcap.errors import UserError
from endcap.evaluation.estimates import CHALLENGER, CHAMPION
from endcap.evaluation.judged_models import JudgedChampion
from endcap.registry.package import is_package, read_recommender
from endcap.registry.recipe import read_recipe_facts
from endcap.spec.model_summary import summarize_model
from endcap.spec.settings import JudgeSettings
from endcap.store import Store

Json = dict[str, Any]


def name_models(
    settings: JudgeSettings, trained: str, champion: JudgedChampion | None, store: Store
) -> dict[str, Json]:
    """Return each model of a verdict as a document, by its label, with the settings that a search found."""
    challenger = summarize_model(read_model(trained, store))
    known = {CHALLENGER: challenger}
    known |= {f"{CHALLENGER}/{label}": member for label, member in challenger.get("members", {}).items()}
    if champion is not None and champion.competitor is not None:
        version = champion.champion.version
        known[CHAMPION] = {**summarize_model(read_model(version.package, store)), "version": version.version}
    return known | {spec.name: summarize_model(spec) for spec in settings.compared}


def read_model(address: str, store: Store) -> Json:
    """Return the model of a trained model, of a package, or of a fitted recipe, as a document."""
    folder = store.fetch(address)
    if not is_package(folder):
        return dict(store.manifest(address)["facts"]["model"])
    try:
        return dict(read_recipe_facts(address, store)["model"])
    except UserError:  # of an earlier release, without its training
        return read_recommender(folder).model.model_dump(mode="json")
