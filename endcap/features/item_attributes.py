"""Item attributes as numbers that models can embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.spec.model import ModelSpec
from endcap.spec.side_features import list_feature_names

MOST_VALUES = 1000
"""Numbers for a categorical attribute. If there are more values, the rarest share the last number."""
BANDS = 10
"""Bands for a numeric attribute, each with about as many items."""
UNKNOWN = -1
COUNTED = ("events", "first_seen")
NOT_ATTRIBUTES = ("item", "title", *COUNTED)
Codes = NDArray[np.int64]


def encode_attributes(items: pa.Table, names: Sequence[str]) -> dict[str, Codes]:
    """Encode each attribute of the items as numbers from 0: int64 [n_items], -1 if an item has none.

    A text becomes its value's rank by number of items, equal counts by value. A number becomes its quantile band.
    Values and bands are those of the given items: give those of the training part alone.

    Raises
    ------
    DataError
        If the table lacks an attribute.
    """
    codes = {}
    for name in names:
        if name not in items.column_names or name in NOT_ATTRIBUTES:
            known = [column for column in items.column_names if column not in NOT_ATTRIBUTES]
            raise DataError(
                f"item_features: the items have no attribute {name!r}; they have: {', '.join(known) or 'none'}. "
                "Name it in the shop's `items` and run again, or leave it out of the model",
                code="features.attribute-unknown",
                found=name,
                allowed=known,
            )
        column = items[name].combine_chunks()
        numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        codes[name] = _encode_bands(column) if numeric else _encode_categories(column)
    return codes


def encode_item_features(items: pa.Table | None, spec: ModelSpec) -> Mapping[str, Codes]:
    """Encode the attributes that a model's spec names, or the members of a blend. None: no items are known."""
    names = list_feature_names({(): spec}, "item_features").values()
    return encode_attributes(pa.table({}) if items is None else items, list(dict.fromkeys(names)))


def select_attributes(items: pa.Table) -> pa.Table:
    """Return the items' ids and the shop's attributes, without counts of a log that may reach beyond a fit's."""
    return items.drop_columns([name for name in COUNTED if name in items.column_names])


def _encode_categories(column: pa.Array) -> Codes:
    encoded = column.cast(pa.string()).dictionary_encode()
    numbers: Codes = encoded.indices.fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    known = numbers != UNKNOWN
    counts = np.bincount(numbers[known], minlength=len(encoded.dictionary))
    by_value = pc.sort_indices(encoded.dictionary).to_numpy()
    order = by_value[np.argsort(-counts[by_value], kind="stable")]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.minimum(np.arange(len(order)), MOST_VALUES - 1)
    numbers[known] = place[numbers[known]]
    return numbers


def _encode_bands(column: pa.Array) -> Codes:
    numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    known = np.isfinite(numbers)
    bands = np.full(len(numbers), UNKNOWN, dtype=np.int64)
    if known.any():
        edges = np.quantile(numbers[known], np.arange(1, BANDS) / BANDS)
        # Where many items have one value, some bands are empty: the others are counted.
        _, bands[known] = np.unique(np.searchsorted(edges, numbers[known], side="right"), return_inverse=True)
    return bands
