"""Dictionaries of ids merged into one: by the ids themselves, so that no two are taken for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from endcap.features.daily.arrays import Codes


@dataclass(frozen=True)
class MergedIds:
    """ids: each once, strings. places: of each of the dictionaries, int32: the place of its ids in `ids`."""

    ids: pa.Array
    places: list[Codes]


def merge_ids(dictionaries: Sequence[pa.Array]) -> MergedIds:
    """Merge dictionaries. Ids are in the order in which they first come."""
    merged = pa.chunked_array(dictionaries, pa.string()).dictionary_encode()
    chunks = merged.chunks  # without those of empty dictionaries
    ids = chunks[-1].dictionary if chunks else pa.array([], pa.string())
    places = [chunk.indices.to_numpy().astype(np.int32, copy=False) for chunk in chunks]
    cuts = np.cumsum([len(dictionary) for dictionary in dictionaries])
    return MergedIds(ids, np.split(np.concatenate([np.zeros(0, np.int32), *places]), cuts[:-1]))
