"""What the models of a verdict are, by their labels."""

from __future__ import annotations

from typing import Any

from endcap.errors import NotFoundError
from endcap.evaluation.competitors import Champion
from endcap.evaluation.gate import CHALLENGER, CHAMPION
from endcap.spec.naming import named
from endcap.spec.settings import JudgeSettings
from endcap.store import Store

Json = dict[str, Any]


def models_named(settings: JudgeSettings, trained: str, champion: Champion | None, store: Store) -> dict[str, Json]:
    """What each model of a verdict is, by its label: as a search found it where there was one."""
    challenger = named(store.manifest(trained)["facts"].get("model") or settings.model)
    known = {CHALLENGER: challenger}
    known |= {f"{CHALLENGER}/{label}": member for label, member in challenger.get("members", {}).items()}
    if champion is not None:
        known[CHAMPION] = {**_of_champion(champion, store), "version": champion.version.version}
    return known | {spec.name: named(spec) for spec in settings.compared}


def _of_champion(champion: Champion, store: Store) -> Json:
    try:
        found = store.manifest(champion.package.info["trained"])["facts"]["model"]
    except (KeyError, NotFoundError):
        return named(champion.package.recommender.model)
    return named(found)
