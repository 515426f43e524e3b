"""Item ids and their indices, as models count items."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import orjson
from numpy.typing import NDArray

UNKNOWN = -1


@dataclass(frozen=True)
class Vocabulary:
    """The items of a training part: `ids[i]` is item i. Most events first, equal counts by id."""

    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return dict(zip(self.ids, range(len(self.ids)), strict=True))

    def index(self, item: str) -> int:
        """The item's index, -1 where it is not in the vocabulary."""
        return self._positions.get(item, UNKNOWN)

    def indices(self, items: Sequence[str]) -> NDArray[np.int32]:
        """The index of each item, int32 [len(items)], -1 where it is not in the vocabulary."""
        # Without a step of Python for an item: a ranking looks hundreds up.
        return np.fromiter(map(self._positions.get, items, itertools.repeat(UNKNOWN)), np.int32, len(items))

    def save(self, file: Path) -> None:
        """Write the ids as JSON."""
        file.write_text(json.dumps({"items": self.ids}, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Self:
        """The vocabulary that `save` wrote."""
        return cls(orjson.loads(file.read_bytes())["items"])
