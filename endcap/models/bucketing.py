"""Event features and item attributes as whole numbers, each of which has an embedding in a network."""

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
    """Return the number of buckets of each feature in training.

    Parameters
    ----------
    train
        Training sessions.
    names
        Event features.

    Raises
    ------
    UserError
        A feature is missing, or has more than 1,000 buckets.
    """
    counts = {name: int(_read_feature(train, name).max(initial=0)) + 1 for name in names}
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
    """Return each feature's bucket of each event: int64 [e] by feature.

    Values above those of training go to the last bucket.

    Parameters
    ----------
    sessions
        Sessions of e events.
    counts
        What `count_buckets` returned.
    """
    return {name: np.clip(_read_feature(sessions, name), 0, count - 1) for name, count in counts.items()}


def zero_unseen_buckets(weights: Mapping[str, Tensor], train: Sessions, counts: Mapping[str, int]) -> None:
    """Set the embeddings of buckets without a training event to 0, in place. No step changes them.

    Otherwise an event without a type, where all training events have one, would be told apart by a random row.

    Parameters
    ----------
    weights
        Tensors by name, ``feature.<name>`` [buckets, width] among them.
    train
        Training sessions.
    counts
        What `count_buckets` returned.
    """
    for name, values in assign_buckets(train, counts).items():
        weights[f"feature.{name}"][np.bincount(values, minlength=counts[name]) == 0] = 0


def check_item_codes(fitting: Fitting, name: str) -> NDArray[np.int64]:
    """Return an attribute's code of each item: int64 [n_items], -1 where an item has none.

    Raises
    ------
    UserError
        The items do not have the attribute.
    """
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


def _read_feature(sessions: Sessions, name: str) -> NDArray[np.int64]:
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
