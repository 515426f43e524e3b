"""The order of events of one time, the same for every engine.

Events of one time are in the order of, in turn,

1. `sequence`, the number that the shop declares (`events.columns.order`); events without one come first;
2. `row`, the place where the event was read: files by their source and name, then the position in the file. Events of
   tables, which have no place, come first;
3. `tie`, the bytes of session, item and type, which events without a place have.

Events that are equal in all of these differ in nothing that a session shows, so their order does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ibis.expr.types as ir

ORDER = ("sequence", "row", "tie")
_SEPARATOR = "\x01"
"""Less than every character of an id. So the joined texts are in the order of the texts, one after the other."""


def add_tie(rows: ir.Table) -> ir.Table:
    """Add `tie` to rows of a snapshot: a text where `row` is null, else null.

    Engines compare texts by the bytes of UTF-8: DuckDB without a collation, Spark by UTF8_BINARY.
    """
    import ibis

    texts = [rows[name].fill_null("") for name in ("session", "item", "type")]
    return rows.mutate(tie=ibis.ifelse(rows.row.isnull(), ibis.literal(_SEPARATOR).join(texts), None))


def list_order_keys(rows: ir.Table) -> list[Any]:
    """List the keys that sort events of one time."""
    import ibis

    return [ibis.asc(rows[name], nulls_first=True) for name in ORDER]
