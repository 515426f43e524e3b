"""Whole numbers of kept tables, many in one statement: to an engine of other machines a statement has a price."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir


def measure(**values: ir.IntegerScalar) -> dict[str, int]:
    """Compute numbers of tables by name, null as 0. Each is of one table, as in ``events=sessions.events.sum()``."""
    rows = [
        value.cast("int64").name("value").as_table().mutate(name=ibis.literal(name)) for name, value in values.items()
    ]
    return {row["name"]: int(row["value"] or 0) for row in ibis.union(*rows).to_pyarrow().to_pylist()}
