"""Pseudonyms in place of customers' and sessions' ids, from the moment at which a row is read.

What a shop with `events.pseudonyms` keeps of its rows, bad ones among them, holds no id of a customer or a session.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from endcap.pseudonyms import PATTERN, Pseudonymiser, require_pseudonymiser
from endcap.sources.column_mapping import ColumnMapping
from endcap.sources.formats.rows import RejectedText
from endcap.sources.sql import quote_name
from endcap.spec.shop import Shop

OWNERS = ("customer", "session")
"""Columns of events, and of a table of customers, whose ids become pseudonyms."""
_COLUMN = re.compile('"(§[0-9]+)"')
"""A column of a batch (`column_name`) in SQL."""
OF_ANOTHER_KEY = "is a pseudonym of another key: give the key that wrote it, or the log with plain ids"


def find_pseudonymiser(shop: Shop) -> Pseudonymiser | None:
    """Make the pseudonymiser of a shop with `events.pseudonyms`; None for others.

    Raises
    ------
    UserError
        If the variable with the key is not set (`pseudonyms.key-missing`), or the key is too short.
    """
    return require_pseudonymiser(f"the shop {shop.name} has events.pseudonyms") if shop.events.pseudonyms else None


def find_key_id(shop: Shop) -> str | None:
    """Return the id of a shop's key, which all keys of artifacts cover that hold its rows; None without pseudonyms.

    Raises as `find_pseudonymiser` does.
    """
    pseudonymiser = find_pseudonymiser(shop)
    return None if pseudonymiser is None else pseudonymiser.key_id


@dataclass(frozen=True)
class RowPseudonyms:
    """Puts pseudonyms into what a loader reads. pseudonymiser: makes them."""

    pseudonymiser: Pseudonymiser

    def map_owners(self, rows: pa.Table) -> pa.Table:
        """Return rows with pseudonyms in the columns of `OWNERS`."""
        for name in OWNERS:
            place = rows.schema.get_field_index(name)
            if place >= 0:
                rows = rows.set_column(place, name, map_ids(self.pseudonymiser, rows[name]))
        return rows

    def reject_foreign(self, results: Mapping[str, Any], left: Any, reasons: Any) -> Any:
        """Return the reasons of bad rows, with those whose owner is a pseudonym of another key.

        results: columns of a batch's rows. left, reasons: null for rows that are not left out, and that are good.
        """
        for name in OWNERS:
            column = results.get(name)
            if column is None or not pa.types.is_string(column.type):
                continue
            texts = pc.unique(column).drop_null()
            likely = texts.filter(pc.match_substring_regex(texts, PATTERN)).to_pylist()
            foreign = [text for text in likely if not self.pseudonymiser.recognise(text)]
            if foreign:
                is_foreign = pc.is_in(column, pa.array(foreign, pa.string()))
                is_new = pc.and_(is_foreign, pc.and_(pc.is_null(left), pc.is_null(reasons)))
                reasons = pc.if_else(is_new, f"{name} {OF_ANOTHER_KEY}", reasons)
        return reasons

    def hide_rejects(self, rejects: Iterable[RejectedText]) -> list[RejectedText]:
        """Replace texts that are no rows: nobody knows which part is an id."""
        return [replace(rejected, text=self.pseudonymiser.pseudonymise(rejected.text)) for rejected in rejects]

    def hide_raw(self, batch: pa.Table, mapping: ColumnMapping, read: Collection[int]) -> pa.Table:
        """Return a batch's raw values as they may be kept.

        Parameters
        ----------
        batch
            The values.
        mapping
            What becomes of them. Values of which an owner's id is made are replaced.
        read
            The places of columns that the mapping reads. Of others nobody knows what they hold, and they become null.
        """
        for place, name in enumerate(batch.column_names):
            if _shows_owner(mapping, quote_name(name)):
                values = map_ids(self.pseudonymiser, batch.column(place))
            elif place in read:
                continue
            else:
                values = pa.nulls(batch.num_rows, batch.column(place).type)
            batch = batch.set_column(place, name, values)
        return batch

    def hide_values(self, mapping: ColumnMapping, sql: str, values: Iterable[str | None]) -> list[str | None]:
        """Replace values if their SQL shows an owner's id."""
        if not _shows_owner(mapping, sql):
            return list(values)
        return [None if value is None else self.pseudonymiser.pseudonymise(value) for value in values]


def _shows_owner(mapping: ColumnMapping, sql: str) -> bool:
    """Return whether SQL reads a column of which an owner's id is made."""
    columns = set(_COLUMN.findall(sql))
    return any(columns.intersection(_COLUMN.findall(mapping.select.get(name, ""))) for name in OWNERS)


def find_row_pseudonyms(shop: Shop) -> RowPseudonyms | None:
    """Return what a loader of the shop's rows needs; None without pseudonyms. Raises as `find_pseudonymiser` does."""
    pseudonymiser = find_pseudonymiser(shop)
    return None if pseudonymiser is None else RowPseudonyms(pseudonymiser)


def map_ids(pseudonymiser: Pseudonymiser, column: Any) -> Any:
    """Return a column of texts with pseudonyms in place of ids; null stays. Each id of it is hashed once."""
    if not pa.types.is_string(column.type):
        return column  # a column without a value
    encoded = pc.dictionary_encode(column)
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    known: dict[str, str] = {}
    mapped = []
    for chunk in chunks:
        for text in chunk.dictionary.to_pylist():
            if text not in known:
                known[text] = pseudonymiser.pseudonymise(text)
        texts = pa.array([known[text] for text in chunk.dictionary.to_pylist()], pa.string())
        mapped.append(texts.take(chunk.indices))
    return pa.chunked_array(mapped, pa.string()) if isinstance(column, pa.ChunkedArray) else mapped[0]
