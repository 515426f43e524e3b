"""The shop's rules in a verdict: the same for every model, so that none gains by showing what it may not show."""

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
from endcap.features.dataset_files import OWNED_FILE
from endcap.features.item_attributes import NOT_ATTRIBUTES
from endcap.features.sessions import Ints
from endcap.features.split import MILLISECOND
from endcap.features.view import View
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.rules import Catalogue, Rulebook
from endcap.spec.rules import OWNED as OWNED_RULE
from endcap.spec.shop import Shop

MANY = 0.01
"""If the rules hide this share of the targets or more, a warning says so."""


@dataclass(frozen=True)
class Ownership:
    """What customers own and since when, in a dataset's numbers.

    `items` (int32) and `times` (int64, epoch ms) are ordered by customer: customer c has offsets[c]:offsets[c + 1].
    `keep` is the time in ms after which an item is shown again; None: never.
    """

    items: NDArray[np.int32]
    times: Ints
    offsets: Ints
    keep: int | None

    @classmethod
    def read(cls, dataset: Path, keep: int | None) -> Self:
        """Read a dataset's folder. Raises DataError if the dataset was made without the rule."""
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

    def find_owned_at(self, customers: NDArray[np.int32], moments: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """Find what each customer owns at its moment: rows of `customers`, and items. Unknown customers (-1) own
        nothing."""
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

    `taken` (int64) are items that nobody is shown. `owned` is what customers own; None: there is no such rule. `to_own`
    (int32) is the model's index of each item of the dataset, -1 if it has none.
    """

    taken: Ints
    owned: Ownership | None
    to_own: NDArray[np.int32]

    def hide(self, scores: NDArray[np.float32], customers: NDArray[np.int32], begun: Ints) -> None:
        """Set the scores [n, items] of what may not be listed to -inf, in place.

        What a customer owns is what the customer owned when the session or basket began: `begun`, int64 [n], epoch ms.
        """
        scores[:, self.taken] = -np.inf
        if self.owned is not None:
            rows, items = self.find_owned(customers, begun)
            scores[rows, items] = -np.inf

    def find_owned(self, customers: NDArray[np.int32], begun: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """Find which customers own which of the model's items at a moment of each: rows, items."""
        assert self.owned is not None
        rows, items = self.owned.find_owned_at(customers, begun)
        own = self.to_own[items]
        return rows[own != UNKNOWN], own[own != UNKNOWN]


@dataclass(frozen=True)
class ShopRules:
    """A shop's rules and blacklist as of today, with its dataset's item table."""

    catalogue: Catalogue
    owned: Ownership | None

    @classmethod
    def of(cls, known: Catalogue, dataset: Path) -> Self:
        """Combine rules with a dataset's folder, whose item table says what is in stock."""
        table = pq.read_table(dataset / "items.parquet", partitioning=None)
        attributes = [name for name in table.column_names if name == "item" or name not in NOT_ATTRIBUTES]
        rule, owned = known.rules.owned, None
        if rule is not None:
            owned = Ownership.read(dataset, None if rule.keep is None else rule.keep // MILLISECOND)
        return cls(Catalogue(known.rules, table.select(attributes), known.blacklist, known.read_time), owned)

    def build_mask(self, vocabulary: Vocabulary, items: pa.Table) -> RuleMask:
        """Build what a model may not list. `items` is its own item table, in the order of its vocabulary."""
        book = Rulebook(vocabulary, items, self.catalogue)
        to_own = vocabulary.indices(self.catalogue.items["item"].to_pylist())
        return RuleMask(np.flatnonzero(~book.allowed_mask()), self.owned, to_own)

    def count_hidden(self, view: View) -> dict[str, dict[str, int]]:
        """Count by rule how many `items` of the view's vocabulary it hides, and how many `targets`, which no model can
        then find.

        What several rules hide counts for the first of them.
        """
        book = Rulebook(view.vocabulary, view.items, self.catalogue)
        predictions = view.predictions("test")
        owners, targets = predictions.owner, predictions.targets
        hit = book.count_removed(among=targets)
        if self.owned is not None:
            rows, items = self.build_mask(view.vocabulary, view.items).find_owned(
                predictions.sessions.customers, predictions.begun
            )
            # A pair of session and item as one number.
            pairs, size = rows * book.n_items + items, book.n_items
            left = book.allowed_mask()[targets]
            hit[OWNED_RULE] = int(np.isin(owners[left] * size + targets[left], pairs).sum())
        return {"items": book.count_removed(), "targets": hit}


def read_shop_rules(shop: Shop | None, progress: Callable[[str], None]) -> Catalogue | None:
    """Read a shop's rules with the blacklist as it is now; None if there is no shop. Raises DataError."""
    if shop is None:
        return None
    from endcap.rules.read import read_rules

    return read_rules(shop, progress)


def warn_of_rules(facts: dict[str, dict[str, int]], targets: int) -> str:
    """Return a sentence if the rules hide many of the targets, else an empty text."""
    hidden = {name: count for name, count in facts["targets"].items() if count}
    total = sum(hidden.values())
    if total < MANY * targets:
        return ""
    counts = ", ".join(f"{name} {count:,}" for name, count in hidden.items())
    return (
        f"the shop's rules take away {total:,} of {targets:,} next items ({counts}), which are misses for every "
        "model alike: stock and blacklist are those of today, not of the days of the test"
    )
