"""The changes of a new catalogue, in numbers that a person checks before shoppers see them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.rules.catalogue import Catalogue


@dataclass(frozen=True)
class CountChange:
    """How many ids there are now, and how many were added and removed. Fields are the keys of `--json` output."""

    now: int
    came: int
    went: int

    @classmethod
    def between(cls, before: Set[str], after: Set[str]) -> CountChange:
        return cls(len(after), len(after - before), len(before - after))


@dataclass(frozen=True)
class CatalogueChanges:
    """items: those of the item table. other_values: how many of them stayed and have another price, stock, category …
    out_of_stock: by the rule, none without one. rules: whether the rules themselves are others."""

    items: CountChange
    other_values: int
    blacklisted: CountChange
    out_of_stock: CountChange
    rules: bool

    @classmethod
    def between(cls, before: Catalogue | None, after: Catalogue) -> CatalogueChanges:
        """Compare two catalogues. before: None if nothing was published."""
        old = before or Catalogue(after.rules)
        stayed = pc.is_in(after.items["item"], value_set=old.items["item"].combine_chunks())
        count = pc.sum(stayed).as_py() or 0
        return cls(
            CountChange(len(after.items), len(after.items) - count, len(old.items) - count),
            _count_changed_values(old.items, after.items.filter(stayed)),
            CountChange.between(old.blacklist, after.blacklist),
            CountChange.between(_find_out_of_stock(old), _find_out_of_stock(after)),
            old.rules != after.rules,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _find_out_of_stock(catalogue: Catalogue) -> Set[str]:
    rule, items = catalogue.rules.stock, catalogue.items
    if rule is None or rule.attribute not in items.column_names:
        return frozenset()
    return frozenset(items["item"].filter(pc.less(items[rule.attribute], rule.at_least)).to_pylist())


def _count_changed_values(before: pa.Table, after: pa.Table) -> int:
    """Count items with a value that changed. All items of `after` must be in `before`."""
    old = before.take(pc.index_in(after["item"], value_set=before["item"].combine_chunks()))
    differs = np.zeros(len(after), dtype=bool)
    for name in {*before.column_names, *after.column_names} - {"item"}:
        old_value, new_value = (
            table[name].cast(pa.string()) if name in table.column_names else pa.nulls(len(after), pa.string())
            for table in (old, after)
        )
        unequal = pc.fill_null(pc.not_equal(old_value, new_value), True)  # but where both say nothing
        both_silent = pc.and_(pc.is_null(old_value), pc.is_null(new_value))
        differs |= pc.and_not(unequal, both_silent).to_numpy()
    return int(differs.sum())
