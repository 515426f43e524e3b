"""What customers own, in a dataset's numbers; and that nothing else of a dataset knows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import DataError
from endcap.features import build
from endcap.features.dataset_files import OWNED_FILE
from endcap.store import Store
from tests.features.logs import DAY, MONDAY, event, shop, snapshot, table, words
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("engine")
COLUMNS = {"session": "session", "customer": "customer", "type": "type"}


def make_shop(types: list[str] | None, **keys: Any) -> Any:
    events = {"sources": [{"path": "events.csv"}], "columns": COLUMNS, "types": types}
    return shop(**{"events": events, **keys})


OWNING = make_shop(["view"], rules={"owned": {"types": ["buy", "gift"]}})
WEDNESDAY = datetime(2024, 6, 5, tzinfo=UTC)


def viewed(session: str, items: str, time: int, customer: str | None = None) -> list[dict[str, Any]]:
    return [event(session, item, time + place, customer) | {"type": "view"} for place, item in enumerate(items)]


def bought(item: str, time: int, customer: str | None, kind: str = "buy") -> dict[str, Any]:
    return event("till", item, time, customer) | {"type": kind}


VIEWS = [*viewed("s1", "abc", 0, "ann"), *viewed("s2", "ab", 10, "bob"), *viewed("s3", "ba", DAY)]


def ids(folder: Path) -> list[tuple[str, str, int]]:
    customers, items = ([row[name] for row in table(folder, f"{name}s")] for name in ("customer", "item"))
    rows = table(folder, OWNED_FILE.removesuffix(".parquet"))
    return [(customers[row["customer"]], items[row["item"]], row["time"] - MONDAY) for row in rows]


def test_each_event_that_makes_an_item_a_customers_is_there_and_none_is_learnt_from(store: Store) -> None:
    buys = [
        bought("c", 30, "bob", "gift"),
        bought("a", 20, "ann"),
        bought("a", 40, "ann"),
        bought("a", 40, "ann"),
        bought("a", 2 * DAY, "bob"),  # not before the date
        bought("a", 20, None),  # nobody's
        bought("x", 20, "ann"),  # no item of the dataset
        bought("a", 20, "eve"),  # no customer of the dataset
    ]
    folder = store.fetch(build(OWNING, snapshot(store, [*VIEWS, *buys]), store, until=WEDNESDAY))
    assert ids(folder) == [("ann", "a", 20), ("ann", "a", 40), ("bob", "c", 30)]
    assert store.manifest(f"file://{folder}")["facts"]["owned"] == 3
    assert words(folder) == {"ann|s1": "abc", "bob|s2": "ab", "|s3": "ba"}


def test_what_was_bought_before_the_window_is_owned(store: Store) -> None:
    rows = [*VIEWS, bought("a", 0, "ann"), *viewed("s4", "ab", 9 * DAY, "ann")]
    folder = store.fetch(build(OWNING.model_copy(update={"window": timedelta(days=1)}), snapshot(store, rows), store))
    assert words(folder) == {"ann|s4": "ab"}
    assert ids(folder) == [("ann", "a", 0)]


def test_nothing_else_of_a_dataset_depends_on_the_rule(store: Store) -> None:
    rows = [*VIEWS, bought("a", 20, "ann"), bought("b", 21, "ann")]
    owning, plain = (
        store.fetch(build(chosen, snapshot(store, kept), store, until=WEDNESDAY))
        for chosen, kept in ((OWNING, rows), (make_shop(["view"]), VIEWS))
    )
    names = {file.name for file in plain.glob("*.parquet")}
    assert {file.name for file in owning.glob("*.parquet")} == {*names, OWNED_FILE}
    assert all((owning / name).read_bytes() == (plain / name).read_bytes() for name in names)
    of_all = store.fetch(
        build(make_shop(None, rules=OWNING.rules.model_dump(mode="json")), snapshot(store, rows), store)
    )
    assert "ann|till" in words(of_all)  # learnt from, where all types are
    assert ids(of_all) == ids(owning) == [("ann", "a", 20), ("ann", "b", 21)]


def test_a_log_of_purchases_alone_says_why_nothing_is_left(store: Store) -> None:
    with refused(DataError, "features.none-left", rows=0, dropped={}):
        build(OWNING, snapshot(store, [bought("a", 0, "ann")]), store)
