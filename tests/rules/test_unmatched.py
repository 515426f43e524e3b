"""What of a shop's rules meets no item."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from endcap.rules import Catalogue
from endcap.rules.unmatched import count_unmatched_rules, find_rule_warnings
from endcap.spec.rules import Rules

ITEMS = pa.table(
    {"item": ["a", "b", "c"], "category": ["Food", "Home", None], "stock": pa.array([1.0, None, 0.0], pa.float64())}
)


def rule(**says: Any) -> dict[str, Any]:
    return {"attributes": [{"name": "one", "attribute": "category", **says}]}


@pytest.mark.parametrize(
    ("rules", "missing", "items", "warnings"),
    [
        (rule(never=["Food"]), 0, 1, []),
        (rule(never=["Food", "Toys"]), 1, 1, []),  # a rule may speak of what is sold no more
        (rule(never=["food"]), 1, 0, ["rule_unmatched"]),
        (rule(only=["Toys"]), 1, 0, ["rule_unmatched"]),
        (rule(only=["Food", "Home"]), 0, 2, []),
    ],
)
def test_values_that_no_item_has(rules: dict[str, Any], missing: int, items: int, warnings: list[str]) -> None:
    told = count_unmatched_rules(Catalogue(Rules.model_validate(rules), ITEMS))
    assert (told["attributes"]["one"]["values"]["missing"], told["attributes"]["one"]["items"]) == (missing, items)
    assert [warning["name"] for warning in find_rule_warnings(told)] == warnings


@pytest.mark.parametrize(
    ("ids", "table", "stock", "warnings"),
    [
        (None, None, 2, []),
        (["a", "z"], 2, 1, []),
        (["x", "y"], 3, 0, ["blacklist_unmatched", "item_table_unmatched", "rule_unmatched", "stock_unmatched"]),
        ([], 3, 0, []),  # there is nothing yet to hold them against
    ],
)
def test_the_items_that_can_be_recommended_count(
    ids: list[str] | None, table: int | None, stock: int, warnings: list[str]
) -> None:
    rules = Rules.model_validate({**rule(never=["Food"]), "stock": {}})
    black = rules.model_copy(update={"blacklist": Rules.model_validate(BLACKLIST).blacklist})
    known = None if ids is None else pa.array(ids, pa.string())
    told = count_unmatched_rules(Catalogue(black, ITEMS, frozenset({"a"})), known)
    assert (told.get("table", {}).get("missing"), told["stock"]) == (table, stock)
    assert [warning["name"] for warning in find_rule_warnings(told)] == warnings


BLACKLIST = {"blacklist": {"sources": [{"path": "black.csv"}]}}
