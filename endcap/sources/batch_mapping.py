"""The mapping of one batch: its file's mapping without what a quick pass over the columns makes needless."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pyarrow as pa

from endcap.sources.column_mapping import ColumnMapping
from endcap.sources.sql import quote_name
from endcap.sources.values import ids, times
from endcap.sources.values.glance import GlancedColumn

Outcome = tuple[frozenset[tuple[str, bool]], frozenset[tuple[str, bool]]]


class BatchMapper:
    """Make the mappings of a file's batches. There are as many as outcomes of the quick pass, which are few."""

    def __init__(self, located: Mapping[str, str], make_mapping: Callable[[Mapping[str, str]], ColumnMapping]) -> None:
        """located: SQL of each requested column. make_mapping: makes the file's mapping from it."""
        self._located, self._plan_of = located, make_mapping
        mapping = make_mapping(located)
        self._words, self._times = ids.list_words(mapping.words), mapping.times
        self._mappings: dict[Outcome, ColumnMapping] = {}

    def map_batch(self, table: pa.Table) -> tuple[ColumnMapping, pa.Table]:
        """Return the mapping of a batch's table, and the table with columns for times that were read already."""
        plain, read_times = set(), set()
        for name in table.column_names:
            sql = quote_name(name)
            if sql not in self._located.values():
                continue
            values = table.column(name)
            time_format = self._times.get(sql)
            times_read = None if time_format is None else times.read_plain_times(values, time_format)
            if times_read is not None:
                table = table.append_column(_name_milliseconds(name), times_read[0])
                read_times.add((name, times_read[1]))
                continue
            plain_ids = ids.read_plain_ids(values, self._words)
            # What is wrong with a time without a value is for SQL to say.
            if plain_ids is not None and (time_format is None or not plain_ids.null_count):
                plain.add((name, not plain_ids.null_count))
                table = table.set_column(table.schema.get_field_index(name), name, plain_ids)
        outcome = frozenset(plain), frozenset(read_times)
        if outcome not in self._mappings:
            self._mappings[outcome] = self._plan_of(self._list_columns(*outcome))
        return self._mappings[outcome], table

    def _list_columns(
        self, plain: Collection[tuple[str, bool]], read_times: Collection[tuple[str, bool]]
    ) -> Mapping[str, str]:
        without_null, local = dict(plain), dict(read_times)
        columns: dict[str, str] = {
            quote_name(name): GlancedColumn(
                name,
                plain=name in without_null,
                whole=without_null.get(name, True),
                milliseconds=_name_milliseconds(name) if name in local else None,
                local=local.get(name, False),
            )
            for name in {*without_null, *local}
        }
        return {name: columns.get(sql, sql) for name, sql in self._located.items()}


def _name_milliseconds(name: str) -> str:
    return f"{name}ms"
