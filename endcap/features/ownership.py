"""What customers own: the events that make an item a customer's, in a dataset's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ibis.expr.types as ir

from endcap.features.engines.table_engine import TableEngine


def write_ownership(
    engine: TableEngine,
    types: Sequence[str],
    files: list[Path],
    end: int,
    items: ir.Table,
    customers: ir.Table,
    file: Path,
) -> int:
    """Write the events of these types before `end` (epoch ms) in a snapshot's files, and return the number of rows.

    Events of both parts count, however old: what was bought before the shop's window is owned too. Items and customers
    that the dataset lacks are left out, because no ranking meets them.
    """
    rows = engine.read(files)
    bought = rows.filter(rows.type.isin(types), rows.time < end, rows.customer.notnull())
    bought = bought.select("time", owner="customer", product="item")
    owned = bought.join(items.select(product="id", item="number"), "product").join(
        customers.select(owner="id", customer="number"), "owner"
    )
    kept = engine.keep(owned.select("customer", "item", "time").distinct().order_by("customer", "item", "time"))
    engine.write(kept, file)
    count = engine.count(kept)
    engine.drop(kept)
    return count
