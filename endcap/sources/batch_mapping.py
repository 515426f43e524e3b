"""The plan of a batch: a file's plan, less what a glance at the batch's columns makes needless."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pyarrow as pa

from endcap.sources.column_mapping import ColumnMapping
from endcap.sources.sql import quote_name
from endcap.sources.values import ids, times
from endcap.sources.values.glance import GlancedColumn

Outcome = tuple[frozenset[tuple[str, bool]], frozenset[tuple[str, bool]]]


class BatchMapper:
    """Makes the plans of a file's batches: as many as there are outcomes of the glance, which are few."""

    def __init__(self, located: Mapping[str, str], plan_of: Callable[[Mapping[str, str]], ColumnMapping]) -> None:
        """located: where the wanted columns stand; plan_of: the file's plan, given that."""
        self._located, self._plan_of = located, plan_of
        plan = plan_of(located)
        self._words, self._times = ids.list_words(plan.words), plan.times
        self._plans: dict[Outcome, ColumnMapping] = {}

    def plan(self, table: pa.Table) -> tuple[ColumnMapping, pa.Table]:
        """The plan of a batch's table, and the table with the columns of times that the plan takes as they are."""
        plain, known = set(), set()
        for name in table.column_names:
            sql = quote_name(name)
            if sql not in self._located.values():
                continue
            values = table.column(name)
            reading = self._times.get(sql)
            read = None if reading is None else times.read_plain_times(values, reading)
            if read is not None:
                table = table.append_column(_name_milliseconds(name), read[0])
                known.add((name, read[1]))
                continue
            its = ids.read_plain_ids(values, self._words)
            # What is wrong with a time without a value is for SQL to say.
            if its is not None and (reading is None or not its.null_count):
                plain.add((name, not its.null_count))
                table = table.set_column(table.schema.get_field_index(name), name, its)
        outcome = frozenset(plain), frozenset(known)
        if outcome not in self._plans:
            self._plans[outcome] = self._plan_of(self._glanced(*outcome))
        return self._plans[outcome], table

    def _glanced(self, plain: Collection[tuple[str, bool]], known: Collection[tuple[str, bool]]) -> Mapping[str, str]:
        whole, local = dict(plain), dict(known)
        columns: dict[str, str] = {
            quote_name(name): GlancedColumn(
                name,
                plain=name in whole,
                whole=whole.get(name, True),
                milliseconds=_name_milliseconds(name) if name in local else None,
                local=local.get(name, False),
            )
            for name in {*whole, *local}
        }
        return {name: columns.get(sql, sql) for name, sql in self._located.items()}


def _name_milliseconds(name: str) -> str:
    return f"{name}ms"
