"""A package that ranks by popularity alone, made of another package: what a baseline arm and the kill switch serve."""

from __future__ import annotations

from typing import Any

import numpy as np

from endcap.models.base import ModelState
from endcap.models.popularity import Popularity
from endcap.registry import package_files
from endcap.registry.package import (
    FEATURES,
    ITEMS,
    RULES,
    VOCABULARY,
    read_declarations,
    read_info,
    read_recommender,
    write_package,
)
from endcap.rules import Catalogue
from endcap.spec.model import PopularitySpec
from endcap.spec.recommender import Recommender
from endcap.spec.training import TrainingSpec
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

ENTRY = "endcap.registry.popularity_package:pack_popularity"


def pack_popularity(package: str, store: Store) -> str:
    """Make the popularity package of another package: the same items, rules and settings of serving.

    Parameters
    ----------
    package
        The package's address. Its model is not read, so it may be broken.
    store
        Where both lie.

    Returns
    -------
    str
        Address of the popularity package. A second call finds the first one's.

    Raises
    ------
    NotFoundError, IntegrityError, UserError
        The package is not in the store, is damaged, or has another format.

    Notes
    -----
    Neither dataset nor registry is needed: a package's vocabulary has the items with the most events first, which is
    also the order of the gateway's list. An item's score is the number of items from it to the end.
    """
    kind = f"baselines/{get_content_key(package).split('/')[1]}"
    key = fingerprint(get_content_key(package), fingerprint_code(ENTRY))
    if address := store.find(kind, key):
        return address
    folder = store.fetch(package)
    info, recommender = read_info(folder), read_recommender(folder)
    with package_files.report_damage(folder):
        vocabulary = package_files.read_vocabulary(folder, VOCABULARY)
        items = package_files.read_table(folder, ITEMS, "item")
        package_files.check_order(items, vocabulary.ids)
        features = package_files.read_json_file(folder, FEATURES, package_files.FEATURES_ADAPTER)
        declared = read_declarations(features)
        has_rules = (folder / RULES).is_file()
        rules = Catalogue.from_json(package_files.read_json_file(folder, RULES)) if has_rules else None
    model = Popularity(PopularitySpec())
    model.n_items = len(vocabulary)
    model.set_state(ModelState({"counts": np.arange(len(vocabulary), 0, -1, dtype=np.int64)}))
    lineage: dict[str, Any] = {name: info[name] for name in ("dataset", "snapshot") if name in info}
    with store.publish(kind, key) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=vocabulary,
            items=items,
            recommender=_strip_model(recommender),
            shop_features=declared,
            event_types=features["event_types"],
            session_gap=features.get("session_gap_ms"),
            fitted_until=info.get("fitted_until"),
            house_rules=rules,
            pseudonyms=info.get("pseudonyms"),
            lineage={**lineage, "ranks_by_popularity": package},
        )
        draft.facts |= {"recommender": recommender.name, **lineage, "package": package}
    return draft.address


def _strip_model(recommender: Recommender) -> Recommender:
    """Return the spec with popularity in place of its model, so that serving needs nothing of the model's."""
    without = {"model": PopularitySpec(), "preprocessing": [], "search": None}
    return recommender.model_copy(update={**without, "training": TrainingSpec()})
