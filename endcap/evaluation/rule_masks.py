"""The shop's rules in a verdict: the same for every model, so that none gains by showing what it never may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.features.item_attributes import NOT_ATTRIBUTES
from endcap.features.ownership import OWNED_FILE
from endcap.features.sessions import Ints
from endcap.features.view import View
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.features.window import MILLISECOND
from endcap.rules import Catalogue, Rulebook
from endcap.spec.rules import OWNED as OWNED_RULE
from endcap.spec.shop import Shop

MANY = 0.01
"""The share of the next items that the rules may take away before it is said."""


@dataclass(frozen=True)
class Ownership:
    """What customers came to own, and when; all by a dataset's numbers.

    items: int32, times: int64 (epoch ms), both by customer; customer c has offsets[c]:offsets[c + 1]. keep: ms after
    which an item is no longer hidden, None for good.
    """

    items: NDArray[np.int32]
    times: Ints
    offsets: Ints
    keep: int | None

    @classmethod
    def read(cls, dataset: Path, keep: int | None) -> Self:
        """Of a dataset's folder. Raises DataError where it was made without the rule."""
        if not (dataset / OWNED_FILE).is_file():
            raise DataError(
                "rules.owned: the dataset does not tell what customers own, for it was made without this rule; run the "
                "features step again with the shop as it is now",
                code="evaluation.owned-unknown",
                dataset=str(dataset),
            )
        table = pq.read_table(dataset / OWNED_FILE, partitioning=None)
        customers = pq.read_metadata(dataset / "customers.parquet").num_rows
        counts = np.bincount(table["customer"].to_numpy(), minlength=customers)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(table["item"].to_numpy(), table["time"].to_numpy(), offsets, keep)

    def at(self, customers: NDArray[np.int32], moments: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """What each of the customers (-1: unknown, who owns nothing) owns at its moment: rows of `customers`, items."""
        known = np.flatnonzero(customers != UNKNOWN)
        begins = self.offsets[:-1][customers[known]]
        counts = self.offsets[1:][customers[known]] - begins
        rows = np.repeat(known, counts)
        places = np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts)
        ages = moments[rows] - self.times[places]
        owned = (ages > 0) if self.keep is None else (ages > 0) & (ages <= self.keep)
        return rows[owned], self.items[places[owned]]


@dataclass(frozen=True)
class RuleMask:
    """What one model may not list, in its own vocabulary.

    taken: int64, items that nobody is shown. owned: what customers own, None where that is no rule; to_own: int32, the
    model's index of each item of the dataset, -1 where it has none.
    """

    taken: Ints
    owned: Ownership | None
    to_own: NDArray[np.int32]

    def hide(self, scores: NDArray[np.float32], customers: NDArray[np.int32], begun: Ints) -> None:
        """Set the scores [n, items] of what may not be listed for each customer to -inf, in place.

        begun: int64 [n], epoch ms: what a customer owns is what the customer owned when that session or basket began.
        """
        scores[:, self.taken] = -np.inf
        if self.owned is not None:
            rows, items = self.owned_by(customers, begun)
            scores[rows, items] = -np.inf

    def owned_by(self, customers: NDArray[np.int32], begun: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """Which of the customers own which of the model's items at a moment of each: rows, items."""
        assert self.owned is not None
        rows, items = self.owned.at(customers, begun)
        own = self.to_own[items]
        return rows[own != UNKNOWN], own[own != UNKNOWN]


@dataclass(frozen=True)
class ShopRules:
    """A shop's rules, its dataset's item table and its blacklist, as of the dataset and of today."""

    catalogue: Catalogue
    owned: Ownership | None

    @classmethod
    def of(cls, known: Catalogue, dataset: Path) -> Self:
        """known: the rules and the blacklist. dataset: the folder whose item table says what is in stock."""
        table = pq.read_table(dataset / "items.parquet", partitioning=None)
        attributes = [name for name in table.column_names if name == "item" or name not in NOT_ATTRIBUTES]
        rule, owned = known.rules.owned, None
        if rule is not None:
            owned = Ownership.read(dataset, None if rule.keep is None else rule.keep // MILLISECOND)
        return cls(Catalogue(known.rules, table.select(attributes), known.blacklist, known.made), owned)

    def on(self, vocabulary: Vocabulary, items: pa.Table) -> RuleMask:
        """What a model may not list. items: its own table, in the order of the vocabulary."""
        book = Rulebook(vocabulary, items, self.catalogue)
        to_own = vocabulary.indices(self.catalogue.items["item"].to_pylist())
        return RuleMask(np.flatnonzero(~book.allowed_mask()), self.owned, to_own)

    def facts(self, view: View) -> dict[str, dict[str, int]]:
        """By rule, how many `items` of the view's vocabulary it takes away, and how many `targets`, which no model can
        find: next items of the test. What several rules take away counts with the first."""
        book = Rulebook(view.vocabulary, view.items, self.catalogue)
        predictions = view.predictions("test")
        owners, targets = predictions.owner, predictions.targets
        hit = book.count_removed(among=targets)
        if self.owned is not None:
            rows, items = self.on(view.vocabulary, view.items).owned_by(
                predictions.sessions.customers, predictions.begun
            )
            # A pair of session and item as one number.
            pairs, size = rows * book.n_items + items, book.n_items
            left = book.allowed_mask()[targets]
            hit[OWNED_RULE] = int(np.isin(owners[left] * size + targets[left], pairs).sum())
        return {"items": book.count_removed(), "targets": hit}


def read_shop_rules(shop: Shop | None, progress: Callable[[str], None]) -> Catalogue | None:
    """A shop's rules with the blacklist as it is now, None where there are none. Raises DataError."""
    if shop is None:
        return None
    from endcap.rules.read import read_rules

    return read_rules(shop, progress)


def warn_of_rules(facts: dict[str, dict[str, int]], targets: int) -> str:
    """A sentence where the rules take many of the targets away, else none."""
    hidden = {name: count for name, count in facts["targets"].items() if count}
    total = sum(hidden.values())
    if total < MANY * targets:
        return ""
    counts = ", ".join(f"{name} {count:,}" for name, count in hidden.items())
    return (
        f"the shop's rules take away {total:,} of {targets:,} next items ({counts}), which are misses for every "
        "model alike: stock and blacklist are those of today, not of the days of the test"
    )
