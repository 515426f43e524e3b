"""Event features and item attributes as whole numbers that a network has an embedding for each of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from endcap.errors import UserError
from endcap.features.sessions import Sessions
from endcap.models.base import Fitting

_MOST_BUCKETS = 1000


def count_buckets(train: Sessions, names: Sequence[str]) -> dict[str, int]:
    """How many buckets each feature has in training. Raises UserError where a feature is missing or not bucketed."""
    counts = {name: int(_whole(train, name).max(initial=0)) + 1 for name in names}
    for name, count in counts.items():
        if count > _MOST_BUCKETS:
            raise UserError(
                f"model.features: {name!r} has values up to {count - 1}; at most {_MOST_BUCKETS - 1} is allowed: "
                "give it `buckets` in the shop's file",
                code="models.too-many-buckets",
                feature=name,
                found=count,
                limit=_MOST_BUCKETS,
            )
    return counts


def assign_buckets(sessions: Sessions, counts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Each feature's bucket of each event: int64 [e]; values that training did not reach go to its last bucket."""
    return {name: np.clip(_whole(sessions, name), 0, count - 1) for name, count in counts.items()}


def silence_unmet(weights: Mapping[str, Tensor], train: Sessions, counts: Mapping[str, int]) -> None:
    """Make the embeddings of buckets that training has no event of nothing, in place; no step changes them.

    An event that does not say its type, where all of training did, would else be told apart by a random row.
    """
    for name, values in assign_buckets(train, counts).items():
        weights[f"feature.{name}"][np.bincount(values, minlength=counts[name]) == 0] = 0


def check_item_codes(fitting: Fitting, name: str) -> NDArray[np.int64]:
    """An attribute's code of each item: int64 [n_items], -1 unknown. Raises UserError where items do not have it."""
    if name not in fitting.item_features:
        names = list(fitting.item_features)
        raise UserError(
            f"model.item_features names {name!r}, which the items do not have; they have: {', '.join(names) or 'none'}",
            code="models.feature-unknown",
            setting="model.item_features",
            found=name,
            allowed=names,
        )
    return fitting.item_features[name]


def _whole(sessions: Sessions, name: str) -> NDArray[np.int64]:
    if name not in sessions.features:
        declared = list(sessions.features)
        raise UserError(
            f"model.features names {name!r}, which the shop does not declare; declared: "
            f"{', '.join(declared) or 'none'}",
            code="models.feature-unknown",
            setting="model.features",
            found=name,
            allowed=declared,
        )
    return sessions.features[name].astype(np.int64)
