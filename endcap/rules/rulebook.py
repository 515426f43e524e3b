"""The rules on the items of one model: which items may be shown, which rule removes one, which items have a value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.features.item_attributes import NOT_ATTRIBUTES
from endcap.rules.catalogue import Catalogue
from endcap.spec.rules import BLACKLIST, STOCK, AttributeRule, Rules

UNKNOWN = -1
Bools = NDArray[np.bool_]


class ItemLookup(Protocol):
    """What is needed of a vocabulary: ids by index, and back."""

    @property
    def ids(self) -> Sequence[str]: ...

    def index(self, item: str) -> int:
        """The item's index, or -1."""


class Rulebook:
    """The rules of a catalogue, applied to a vocabulary.

    Parameters
    ----------
    vocabulary
        The model's items.
    items
        The package's own item table: one row for each item, in vocabulary order.
    catalogue
        The published catalogue. Rules alone have no blacklist; stock and attributes come from `items` then.

    Notes
    -----
    The catalogue may hold items that the vocabulary lacks. These are new, and a request may name them as candidates. It
    may lack items that the vocabulary has. The package's attributes apply to these, and they stay shown. If both hold
    an item, the catalogue's row applies, and the package's for attributes that the catalogue lacks.

    An item without a stock is shown. An item without an attribute is neither allowed by a rule `only` nor forbidden by
    a rule `never`; the same holds for an unknown item. A customer's possessions are personal and not known here. The
    ranker leaves them out (`spec.rules.OWNED`).

    Results are computed once and kept. `prepare` computes all of them in advance.
    """

    def __init__(self, vocabulary: ItemLookup, items: pa.Table, catalogue: Catalogue | Rules) -> None:
        """items: the package's own table, a row an item in vocabulary order. told: the rules alone have no blacklist,
        and know of stock and attributes what the package's table says."""
        self.catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue(catalogue)
        self.rules = self.catalogue.rules
        self.n_items = len(vocabulary.ids)
        self._vocabulary = vocabulary
        self._items = items
        self._rows, self._new, self._new_rows = _match_items(vocabulary, self.catalogue.items)
        self._attributes: dict[str, _AttributeIndex] = {}
        self._codes_by_rules: dict[tuple[int, ...], NDArray[np.uint16]] = {}
        self._allowed: dict[tuple[int, ...], Bools] = {}
        self._names = ["", BLACKLIST, STOCK, *(rule.name for rule in self.rules.attributes)]
        self.surfaces = sorted({surface for rule in self.rules.attributes for surface in rule.surfaces or ()})
        """The surfaces that rules name."""
        self._rules_by_surface = {surface: _number_rules(self.rules, surface) for surface in (None, *self.surfaces)}

    @property
    def attributes(self) -> Mapping[str, Collection[str]]:
        """The categorical attributes that a request may name, with their values. They are computed on first use."""
        return _AttributeValues(self, self._categorical())

    def allowed_mask(self, surface: str | None = None) -> Bools:
        """Return whether each item of the vocabulary may be shown on a surface: bool [n_items], read-only."""
        key = self._rules_at(surface)
        mask = self._allowed.get(key)
        if mask is None:
            mask = self._codes(key)[: self.n_items] == 0
            mask.setflags(write=False)
            self._allowed[key] = mask
        return mask

    def find_rule(self, item: str, surface: str | None = None) -> str | None:
        """Return the first rule that removes an item on a surface: `blacklist`, `stock` or an attribute rule's name.

        None: the item may be shown. Items outside the vocabulary are allowed, too.
        """
        if item in self.catalogue.blacklist:
            return BLACKLIST
        place, rule_numbers = self._place(item), self._rules_at(surface)
        if place != UNKNOWN:
            return self._names[self._codes(rule_numbers)[place]] or None
        rules = (self.rules.attributes[number] for number in rule_numbers)
        return next((rule.name for rule in rules if rule.only is not None), None)

    def count_removed(
        self, surface: str | None = None, among: NDArray[np.integer[Any]] | None = None
    ) -> dict[str, int]:
        """Count the vocabulary's items that each rule removes on a surface. An item counts with the first such rule.

        among: vocabulary indices of the items that count. None: all.
        """
        codes = self._codes(self._rules_at(surface))
        counts = np.bincount(codes[: self.n_items] if among is None else codes[among], minlength=len(self._names))
        return {name: int(n) for name, n in zip(self._names[1:], counts[1:], strict=True) if n}

    def find_items(self, attribute: str, values: Collection[str]) -> NDArray[np.int64]:
        """Return the vocabulary's items that have one of the values, ascending, int64.

        Raises KeyError if `attributes` has no such name.
        """
        places = self._attribute(attribute).places(values)
        return places[places < self.n_items] if len(self._new) else places

    def has_value(self, item: str, attribute: str, values: Collection[str]) -> bool:
        """Return whether an item, of the vocabulary or not, has one of the values. Raises KeyError as `find_items`."""
        values_of, place = self._attribute(attribute), self._place(item)
        return place != UNKNOWN and int(values_of.codes[place]) in {values_of.numbers.get(value) for value in values}

    def prepare(self) -> None:
        """Compute what any request may need: the items of every value, and the allowed items of each surface."""
        for name in self.attributes:
            self._attribute(name)
        for surface in self._rules_by_surface:
            self.allowed_mask(surface)

    def _place(self, item: str) -> int:
        """Return an item's index in the vocabulary, a number after those for the catalogue's other items, else -1."""
        index = self._vocabulary.index(item)
        return index if index >= 0 else self._new.get(item, UNKNOWN)

    def _rules_at(self, surface: str | None) -> tuple[int, ...]:
        """Return the numbers of the attribute rules on a surface. They are few different keys for any surfaces."""
        return self._rules_by_surface.get(surface, self._rules_by_surface[None])

    def _codes(self, rule_numbers: tuple[int, ...]) -> NDArray[np.uint16]:
        """Return the number (in `_names`) of the first rule that removes each place, 0 for none: uint16 [places]."""
        codes = self._codes_by_rules.get(rule_numbers)
        if codes is None:
            codes = np.zeros(self.n_items + len(self._new), dtype=np.uint16)
            # The last rule first, so that the first one's number stays.
            for number in reversed(rule_numbers):
                codes[self._find_removed(self.rules.attributes[number])] = number + 3
            if self.rules.stock is not None:
                codes[self._numbers(self.rules.stock.attribute) < self.rules.stock.at_least] = 2
            blacklisted = np.array([self._place(item) for item in self.catalogue.blacklist], dtype=np.int64)
            codes[blacklisted[blacklisted != UNKNOWN]] = 1
            codes.setflags(write=False)
            self._codes_by_rules[rule_numbers] = codes
        return codes

    def _find_removed(self, rule: AttributeRule) -> NDArray[np.int64] | Bools:
        """Return the places that an attribute rule removes."""
        has_attribute = rule.attribute in self._categorical()
        if rule.never is not None:
            return self._attribute(rule.attribute).places(rule.never) if has_attribute else np.array([], dtype=np.int64)
        removed = np.ones(self.n_items + len(self._new), dtype=bool)
        if has_attribute:
            removed[self._attribute(rule.attribute).places(rule.only or [])] = False
        return removed

    def _categorical(self) -> list[str]:
        tables = (self.catalogue.items, self._items)
        kinds = {name: table.schema.field(name).type for table in reversed(tables) for name in table.column_names}
        return [name for name, kind in kinds.items() if pa.types.is_string(kind) and name not in NOT_ATTRIBUTES]

    def _attribute(self, name: str) -> _AttributeIndex:
        index = self._attributes.get(name)
        if index is None:
            if name not in self._categorical():
                raise KeyError(name)
            index = self._attributes[name] = _AttributeIndex.of(self._column(name, pa.string()))
        return index

    def _numbers(self, name: str) -> NDArray[np.float64]:
        """Return a numeric attribute of all places, NaN for places without it."""
        column = self._column(name, pa.float64())
        values: NDArray[np.float64] = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
        return values

    def _column(self, name: str, kind: pa.DataType) -> pa.Array:
        """Return an attribute of all places: from the catalogue, or from the package for what the catalogue lacks."""
        packaged, catalogued = (
            table[name].combine_chunks().cast(kind, safe=False) if name in table.column_names else None
            for table in (self._items, self.catalogue.items)
        )
        if catalogued is None:
            column = pa.nulls(self.n_items, kind) if packaged is None else packaged
            return pa.concat_arrays([column, pa.nulls(len(self._new), kind)])
        column = catalogued.take(self._rows)
        if packaged is not None:
            column = pc.if_else(self._rows.is_null(), packaged, column)
        return pa.concat_arrays([column, catalogued.take(self._new_rows)])


@dataclass(frozen=True)
class _AttributeIndex:
    """numbers: each value's number. codes: each place's, -1 for none. order: places by code, those of code c at
    edges[c]:edges[c + 1], ascending."""

    numbers: dict[str, int]
    codes: NDArray[np.int32]
    order: NDArray[np.int32]
    edges: NDArray[np.int64]

    @classmethod
    def of(cls, column: pa.Array) -> _AttributeIndex:
        encoded = column.dictionary_encode()
        codes = encoded.indices.fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int32)
        order = np.argsort(codes, kind="stable").astype(np.int32)
        edges = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
        numbers = {value: number for number, value in enumerate(encoded.dictionary.to_pylist())}
        return cls(numbers, codes, order, edges)

    def places(self, values: Collection[str]) -> NDArray[np.int64]:
        """The places with one of the values, ascending."""
        numbers = sorted({number for value in values if (number := self.numbers.get(value)) is not None})
        pieces = [self.order[self.edges[number] : self.edges[number + 1]] for number in numbers]
        if len(pieces) == 1:
            return pieces[0].astype(np.int64)
        return np.sort(np.concatenate([*pieces, np.array([], dtype=np.int32)]).astype(np.int64))


class _AttributeValues(Mapping[str, Collection[str]]):
    """Attributes and their values, which are read on first use."""

    def __init__(self, book: Rulebook, names: list[str]) -> None:
        self._book, self._names = book, names

    def __getitem__(self, name: str) -> Collection[str]:
        return self._book._attribute(name).numbers.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _number_rules(rules: Rules, surface: str | None) -> tuple[int, ...]:
    numbered = enumerate(rules.attributes)
    return tuple(number for number, rule in numbered if rule.surfaces is None or surface in rule.surfaces)


def _match_items(vocabulary: ItemLookup, items: pa.Table) -> tuple[pa.Array, dict[str, int], pa.Array]:
    """Return the catalogue's row of each vocabulary item (null: none), and places and rows of its other items."""
    ids, catalogued = pa.array(vocabulary.ids, pa.string()), items["item"].combine_chunks()
    index = pc.index_in(catalogued, value_set=ids).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    matching, new = np.flatnonzero(index != UNKNOWN), np.flatnonzero(index == UNKNOWN)
    rows = np.full(len(ids), UNKNOWN, dtype=np.int64)
    rows[index[matching]] = matching
    names = catalogued.take(pa.array(new)).to_pylist()
    places = {item: len(ids) + number for number, item in enumerate(names)}
    return pa.array(rows, mask=rows == UNKNOWN), places, pa.array(new)
