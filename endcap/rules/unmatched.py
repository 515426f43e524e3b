"""Rules that match no item. A blacklist whose ids lost their zeros, for example, bars nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from endcap.rules.catalogue import Catalogue
from endcap.sources.matching import count_unmatched, describe_likely_reason, has_likely_reason

Json = dict[str, Any]


def count_unmatched_rules(catalogue: Catalogue, ids: pa.Array | None = None) -> Json:
    """Count what of the rules matches items.

    Parameters
    ----------
    catalogue
        The shop's rule data.
    ids
        Ids of the items that can be recommended, each once. None: those of the catalogue's item table.

    Returns
    -------
    dict
        JSON values: `items`, the number of items; `table`, the ids of the item table that are not among `ids`
        (`endcap.sources.matching`); `blacklist`, its ids that are no items; `attributes`, for each rule its attribute,
        whether it `allows` or removes, its values that no item has, and the number of items with one of its values;
        `stock`, the number of items with a stock, if there is such a rule.
    """
    rules, table = catalogue.rules, catalogue.items
    items = table["item"] if ids is None else ids
    if ids is not None:
        table = table.filter(pc.is_in(table["item"], value_set=_flatten(ids)))
    counts: Json = {"items": len(items), "attributes": {}}
    if ids is not None and catalogue.items.num_rows:
        counts["table"] = count_unmatched(catalogue.items["item"], ids)
    if rules.blacklist is not None:
        counts["blacklist"] = count_unmatched(pa.array(sorted(catalogue.blacklist), pa.string()), items)
    for rule in rules.attributes:
        column = _read_column(table, rule.attribute, pa.string())
        values = pa.array(list(dict.fromkeys(rule.only if rule.only is not None else rule.never or [])), pa.string())
        counts["attributes"][rule.name] = {
            "attribute": rule.attribute,
            "allows": rule.only is not None,
            "values": count_unmatched(values, pc.unique(column).drop_null()),
            "items": pc.sum(pc.is_in(column, value_set=values)).as_py() or 0,
        }
    if rules.stock is not None:
        counts["stock"] = len(table) - _read_column(table, rules.stock.attribute, pa.float64()).null_count
    return counts


def find_rule_warnings(counts: Mapping[str, Any]) -> list[Json]:
    """Find what a person should check in a result of `count_unmatched_rules`: `name`, numbers and a `text`."""
    warnings = []
    blacklist = counts.get("blacklist")
    missing = 0 if blacklist is None else blacklist["missing"]
    if (
        blacklist is not None
        and missing
        and counts["items"]
        and (missing == blacklist["ids"] or has_likely_reason(blacklist))
    ):
        warnings.append({"name": "blacklist_unmatched", **blacklist, "text": _blacklist_text(blacklist)})
    table = counts.get("table")
    if table is not None and table["missing"] == table["ids"] and counts["items"]:
        reason = describe_likely_reason(table)
        text = f"no id of the item table is an item of the log{reason}. Write its ids as the log has them"
        warnings.append({"name": "item_table_unmatched", **table, "text": text})
    for name, rule in counts["attributes"].items():
        if counts["items"] and not rule["items"]:
            warnings.append({"name": "rule_unmatched", "rule": name, **rule, "text": _rule_text(name, rule)})
    if counts["items"] and counts.get("stock") == 0:
        text = "rules.stock takes nothing away: no item has a stock"
        warnings.append({"name": "stock_unmatched", "text": text})
    return warnings


def _blacklist_text(counts: Json) -> str:
    ids, missing = counts["ids"], counts["missing"]
    summary = f"{missing:,} of its {ids:,} ids match no item" if missing < ids else "none of its ids matches an item"
    reason = describe_likely_reason(counts)
    return f"the blacklist: {summary}{reason}; items that it should bar are shown. Write its ids as the log has them"


def _rule_text(name: str, rule: Json) -> str:
    values, examples = rule["values"], ", ".join(map(repr, rule["values"]["examples"]))
    effect = "allows nothing" if rule["allows"] else "takes nothing away"
    return (
        f"the rule {name!r} {effect}: no item has the {rule['attribute']} {examples}{describe_likely_reason(values)}. "
        "Look at rules.attributes, and whether the item table's ids are those of the log"
    )


def _read_column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    return _flatten(table[name]).cast(kind, safe=False) if name in table.column_names else pa.nulls(len(table), kind)


def _flatten(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
